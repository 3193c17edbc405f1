"""ALE with cross-entropy: the bilinear score of ALE, trained as a softmax over the seen classes.

``loss = -log softmax_c(F(x, c))`` at the own class, with a bias on the features' side,
``F(x, c) = (x'W + b') s_c``. Optimizer and epochs are those of public re-implementations of ALE
(Akata et al., TPAMI 2016), which train with Adam on features as they are. The weights' initial
distribution is not theirs, but that of the other bilinear methods.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.learning.method import Method
from gsmflow.methods.bilinear import Bilinear

__all__ = ["ALECE", "METHOD", "ALECEConfig"]


@dataclass(frozen=True)
class ALECEConfig:
    """The settings of an `ALECE`: it has none beside those of the training."""


class ALECE(Bilinear):
    """A bilinear score with a bias, and cross-entropy; parameters as `Bilinear` has them."""

    config_class = ALECEConfig
    has_bias = True

    def row_losses(self, scores: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
        """The loss of each row, ``(n,)``; see `Bilinear.row_losses`."""
        return functional.cross_entropy(scores, columns, reduction="none")


METHOD = Method(
    name="ale-ce",
    label="ALE, cross-entropy",
    paper="Akata et al., TPAMI 2016, with cross-entropy; after public re-implementations",
    kind="compatibility",
    config=ALECEConfig,
    model=ALECE,
    published={
        "": {
            "feature_scaling": "none",
            "epochs": 60,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "weight_decay": 1e-4,
            "lr_decay": 1.0,
        },
        "SUN": {"epochs": 40, "weight_decay": 5e-4},
        "CUB": {"epochs": 80},
        "AWA1": {"epochs": 15},
        "AWA2": {"epochs": 15},
        "APY": {"weight_decay": 1e-3},
        "DIGITS": {"epochs": 20, "batch_size": 256, "learning_rate": 1e-2},
    },
)
