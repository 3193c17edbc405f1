"""Generalized zero-shot learning: methods, one protocol, runs that can be reproduced.

The estimators are loaded when one of them is asked for, with torch and scikit-learn. Importing the
package before torch keeps its threads from crawling beside another program
(`gsmflow.core.threads`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gsmflow.core.threads import limit_spinning

if TYPE_CHECKING:
    from gsmflow.estimators import (
        CADAVAEClassifier,
        GSMFlowClassifier,
        PrototypeDiscriminantClassifier,
        ZeroShotClassifier,
    )

limit_spinning()

__all__ = [
    "CADAVAEClassifier",
    "GSMFlowClassifier",
    "PrototypeDiscriminantClassifier",
    "ZeroShotClassifier",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gsmflow.estimators"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
