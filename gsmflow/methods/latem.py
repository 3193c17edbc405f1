"""LATEM, the largest of several bilinear scores, and a random class (Xian et al., CVPR 2016).

``F(x, c) = max_k x'W_k s_c`` and ``loss = max(0, m + F(x, c) - F(x, y))`` for one ``c != y`` that
is drawn anew for each row. Only the maps with the largest score of ``c`` and of ``y`` learn from a
row. The published code trains with SGD, row by row on standardised features; here Adam trains in
batches on unit features, which was better on the validation classes of FLO and CUB, as were two
maps. The pruning of maps is left out.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.bilinear import RANKING_SETTINGS, Bilinear, hinges, random_class_hinge

__all__ = ["LATEM", "METHOD", "LATEMConfig"]


@dataclass(frozen=True)
class LATEMConfig:
    """The settings of a `LATEM`."""

    maps: Annotated[int, Range(min=1)] = 2
    """Number of bilinear maps (K in the paper, which chooses from 2 to 10)."""
    margin: Annotated[float, Range(above=0)] = 1.0
    """Margin by which the own class is to score above the drawn one."""


class LATEM(Bilinear):
    """Several bilinear maps and the hinge of a random class; parameters as `Bilinear` has them."""

    config_class = LATEMConfig
    config: LATEMConfig

    @classmethod
    def map_count(cls, config: LATEMConfig) -> int:
        """The number of maps of the settings."""
        return config.maps

    def row_losses(self, scores: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
        """The loss of each row, ``(n,)``; see `Bilinear.row_losses`."""
        violations = hinges(scores, columns, self.config.margin)
        return random_class_hinge(violations, columns, draws)


METHOD = Method(
    name="latem",
    label="LATEM",
    paper="Xian et al., CVPR 2016; after the published code",
    kind="compatibility",
    config=LATEMConfig,
    model=LATEM,
    published={
        "": {**RANKING_SETTINGS, "learning_rate": 3e-2},
    },
    variants={"one-map": {"maps": 1}},
    # From K = 2: the paper's 2, 4, 6, 8 and 10.
    search={"maps": TimesOneOf((1, 2, 3, 4, 5)), "margin": Times(0.1, 10)},
)
