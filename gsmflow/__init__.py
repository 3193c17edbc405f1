"""Generalized zero-shot learning: methods, one protocol, runs that can be reproduced.

The estimators and `load` are imported when one of them is asked for, with torch. Importing the
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
    from gsmflow.runs.load import load

limit_spinning()

__all__ = [
    "CADAVAEClassifier",
    "GSMFlowClassifier",
    "PrototypeDiscriminantClassifier",
    "ZeroShotClassifier",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "gsmflow.runs.load" if name == "load" else "gsmflow.estimators"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
