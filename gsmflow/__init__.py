"""Generalized zero-shot learning with GSMFlow.

The estimators are loaded when one of them is asked for, with torch and scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsmflow.estimators import (
        CADAVAEClassifier,
        GSMFlowClassifier,
        PrototypeDiscriminantClassifier,
    )

__all__ = ["CADAVAEClassifier", "GSMFlowClassifier", "PrototypeDiscriminantClassifier"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gsmflow.estimators"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
