"""The model, for the ``train_*.py`` recipes: ``GSMFlow``, which lives in `gsmflow.model`."""

from gsmflow.methods.gsmflow import GSMFlow

__all__ = ["GSMFlow"]
