"""The gate `likelihood`: a row of low density under the seen classes is taken for unseen.

The density is that of a model with the run's settings, trained on four fifths of the training rows.
"""

from dataclasses import dataclass
from typing import Annotated

from gsmflow.core.settings import Range
from gsmflow.methods.gates.base import GateKind

__all__ = ["GATE", "LikelihoodConfig"]


@dataclass(frozen=True)
class LikelihoodConfig:
    """The settings of the gate `likelihood`."""

    share: Annotated[float, Range(above=0, max=1)] = 0.95
    """Share of held-out seen rows that the gate's threshold accepts."""


GATE = GateKind("likelihood", LikelihoodConfig)
