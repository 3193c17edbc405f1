"""ALE, a bilinear score trained with a rank-weighted loss (Akata et al., CVPR 2013, TPAMI 2016).

``loss = beta_r / r sum over c != y of max(0, m + F(x, c) - F(x, y))``, where ``r`` is the number of
classes within the margin and ``beta_r = 1 + 1/2 + ... + 1/r``. The paper draws classes until one is
within the margin, and estimates the rank from the number of draws (``--sampled-ranks``); the exact
rank costs nothing, since a batch has the scores of all classes. The paper trains with SGD and early
stopping, here Adam trains for a fixed number of epochs; the settings of the training were chosen on
the validation classes of FLO and CUB.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times
from gsmflow.methods.bilinear import (
    RANKING_SETTINGS,
    Bilinear,
    hinges,
    rank_weighted_hinge,
    sampled_rank_hinge,
)

__all__ = ["ALE", "METHOD", "ALEConfig"]


@dataclass(frozen=True)
class ALEConfig:
    """The settings of an `ALE`."""

    margin: Annotated[float, Range(above=0)] = 1.0
    """Margin by which the own class is to score above every other."""
    sampled_ranks: bool = False
    """Whether the rank is estimated from a random search for a class within the margin, which is
    then the only one in the row's loss (published)."""


class ALE(Bilinear):
    """A bilinear score and the rank-weighted hinges; parameters as `Bilinear` has them."""

    config_class = ALEConfig
    config: ALEConfig

    def row_losses(self, scores: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
        """The loss of each row, ``(n,)``; see `Bilinear.row_losses`."""
        violations = hinges(scores, columns, self.config.margin)
        if self.config.sampled_ranks:
            return sampled_rank_hinge(violations, draws)
        return rank_weighted_hinge(violations)


METHOD = Method(
    name="ale",
    label="ALE",
    paper="Akata et al., TPAMI 2016; after the paper's description",
    kind="compatibility",
    config=ALEConfig,
    model=ALE,
    published={
        "": RANKING_SETTINGS,
    },
    variants={"sampled-ranks": {"sampled_ranks": True}},
    search={"margin": Times(0.1, 10)},
)
