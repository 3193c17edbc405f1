"""Measurements of the package against a plain baseline."""

import gsmflow  # noqa: F401  before torch, as in every run (gsmflow.core.threads)
