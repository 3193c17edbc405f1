"""DeViSE, a bilinear score trained with the sum of all hinges (Frome et al., NeurIPS 2013).

``loss = sum over c != y of max(0, m + F(x, c) - F(x, y))``. The paper stops the sum at the first
class above 0 in a random order (``--first-violation``). It trains with SGD, here Adam does; its
deep network below the map is not trained here, since features are given. Scaling and margin for
ResNet-101 features are those of a public re-implementation; the other settings of the training were
chosen on the validation classes of FLO and CUB.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times
from gsmflow.methods.bilinear import RANKING_SETTINGS, Bilinear, hinges, sampled_hinge, summed_hinge

__all__ = ["METHOD", "DeViSE", "DeViSEConfig"]


@dataclass(frozen=True)
class DeViSEConfig:
    """The settings of a `DeViSE`."""

    margin: Annotated[float, Range(above=0)] = 1.0
    """Margin by which the own class is to score above every other."""
    first_violation: bool = False
    """Whether a row's loss has only one of the classes within the margin, drawn at random."""


class DeViSE(Bilinear):
    """A bilinear score and the sum of all hinges; parameters as `Bilinear` has them."""

    config_class = DeViSEConfig
    config: DeViSEConfig

    def row_losses(self, scores: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
        """The loss of each row, ``(n,)``; see `Bilinear.row_losses`."""
        violations = hinges(scores, columns, self.config.margin)
        if self.config.first_violation:
            return sampled_hinge(violations, draws)
        return summed_hinge(violations)


METHOD = Method(
    name="devise",
    label="DeViSE",
    paper="Frome et al., NeurIPS 2013; after the paper's description",
    kind="compatibility",
    config=DeViSEConfig,
    model=DeViSE,
    published={
        "": RANKING_SETTINGS,
        "SUN/res101": {"feature_scaling": "none", "margin": 3.0, "learning_rate": 1e-3},
        "AWA1/res101": {"feature_scaling": "standardised", "margin": 200.0, "learning_rate": 1e-3},
        "AWA2/res101": {"feature_scaling": "standardised", "margin": 150.0, "learning_rate": 1e-3},
    },
    variants={"first-violation": {"first_violation": True}},
    search={"margin": Times(0.1, 10)},
)
