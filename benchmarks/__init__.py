"""Measurements of the package against a plain baseline."""
