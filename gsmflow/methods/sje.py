"""SJE, a bilinear score trained with the largest hinge (Akata et al., CVPR 2015).

``loss = max over c != y of max(0, m + F(x, c) - F(x, y))``. The paper trains with SGD, here Adam
does; its sum over several semantics of each class is left out. Scaling and margin for ResNet-101
features are those of a public re-implementation; the other settings of the training were chosen on
the validation classes of FLO and CUB.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times
from gsmflow.methods.bilinear import RANKING_SETTINGS, Bilinear, hinges, largest_hinge

__all__ = ["METHOD", "SJE", "SJEConfig"]


@dataclass(frozen=True)
class SJEConfig:
    """The settings of an `SJE`."""

    margin: Annotated[float, Range(above=0)] = 1.0
    """Margin by which the own class is to score above every other."""


class SJE(Bilinear):
    """A bilinear score and the largest hinge; parameters as `Bilinear` has them."""

    config_class = SJEConfig
    config: SJEConfig

    def row_losses(self, scores: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
        """The loss of each row, ``(n,)``; see `Bilinear.row_losses`."""
        return largest_hinge(hinges(scores, columns, self.config.margin))


METHOD = Method(
    name="sje",
    label="SJE",
    paper="Akata et al., CVPR 2015; after the paper's description",
    kind="compatibility",
    config=SJEConfig,
    model=SJE,
    published={
        "": RANKING_SETTINGS,
        "SUN/res101": {"feature_scaling": "standardised", "margin": 2.0, "learning_rate": 3e-4},
        "CUB/res101": {"feature_scaling": "standardised", "margin": 4.0, "learning_rate": 3e-4},
        "AWA1/res101": {"margin": 2.5},
        "AWA2/res101": {"margin": 2.5},
        "APY/res101": {"feature_scaling": "none", "margin": 1.5, "learning_rate": 3e-4},
    },
    search={"margin": Times(0.1, 10)},
)
