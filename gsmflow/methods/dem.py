"""DEM: a network from semantics to class prototypes, trained with the squared error.

Zhang et al., "Learning a Deep Embedding Model for Zero-Shot Learning", CVPR 2017. Two layers with
ReLU map the semantics of a class to the space of the features, where the nearest prototype answers.
With prototypes in the space of the features, rather than rows in that of the semantics, fewer
prototypes become hubs. The penalty on the parameters is Adam's: a weight decay of ``rho`` is the
gradient of ``rho / 2`` times the sum of squares.

Differences from the published code:

- It trains for up to a million steps and prints the test accuracies after every thousand. Here the
  number of epochs is fixed, and the last epoch is evaluated.
- It reads attributes as they were collected, on each dataset's own scale. Here each class has the
  length that the dataset's file gives it, which is mostly 1, and one factor brings the mean length
  to that of the published code.
- The last partial batch of an epoch is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import Losses
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.layers import dense
from gsmflow.methods.positioning import SemanticsScalingName, scaled_semantics
from gsmflow.methods.semantic_model import SemanticModel

__all__ = ["DEM", "METHOD", "DEMConfig", "SimilarityName"]

SimilarityName: TypeAlias = Literal["euclidean", "cosine"]

# Standard deviation of the initial weights, which are cut at twice of it, and the initial biases.
_INITIAL = 0.1


@dataclass(frozen=True)
class DEMConfig:
    """The settings of a `DEM`."""

    hidden: Annotated[int, Range(min=1)] = 1600
    """Units of the hidden layer."""
    output_relu: bool = True
    """Whether prototypes end with ReLU, as published; off for features that may be negative."""
    similarity: SimilarityName = "euclidean"
    """Which prototype is the nearest: by its distance, or by its angle."""
    semantics_scaling: SemanticsScalingName = "norm"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 5.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


class DEM(SemanticModel):
    """The network, and the classes that it predicts prototypes of.

    Initial weights are normal with standard deviation 0.1, cut at 0.2; biases are 0.1. Parameters
    as `SemanticModel` has them.
    """

    config_class = DEMConfig
    config: DEMConfig

    def __init__(
        self,
        config: DEMConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        self.hidden = dense(self.semantics.shape[1], config.hidden)
        self.output = dense(config.hidden, feature_dim)
        for layer in (self.hidden, self.output):
            nn.init.trunc_normal_(
                layer.weight, std=_INITIAL, a=-2 * _INITIAL, b=2 * _INITIAL, generator=generator
            )
            nn.init.constant_(layer.bias, _INITIAL)

    @classmethod
    def semantics_of(cls, problem: Problem, config: DEMConfig) -> Tensor:
        """The semantics ``(classes, a)``, scaled as the settings ask."""
        return torch.tensor(scaled_semantics(problem, config))

    def prototypes(self, classes: Tensor) -> Tensor:
        """Prototypes ``(k, d)`` of classes ``(k,)``."""
        hidden = torch.relu(self.hidden(self.semantics[classes]))
        prototypes: Tensor = self.output(hidden)
        return torch.relu(prototypes) if self.config.output_relu else prototypes

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The mean squared error of the prototypes of rows ``(n, d)`` of seen classes ``(n,)``."""
        # A prototype for each class, rather than for each row, is much less work.
        columns = torch.searchsorted(self.seen_classes, labels)
        prototypes = self.prototypes(self.seen_classes)[columns]
        error = functional.mse_loss(prototypes.to(features), features)
        return Losses(error, {"squared_error": error})

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """Cosine similarities of the prototypes, or negative distances, ``(n, k)``.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        classes
            ``(k,)``.
        """
        prototypes = self.prototypes(classes)
        if self.config.similarity == "cosine":
            return functional.normalize(features) @ functional.normalize(prototypes).T
        return -torch.cdist(features, prototypes)


# The settings of the published code. It does not fix the number of steps; the epochs here have
# about 30 000. The norm is the mean length of the raw attributes. It has no settings for FLO and
# for digit pairs: those of FLO, and those of the features named here, were chosen on the validation
# classes. Features that may be negative are standardised and have prototypes without ReLU; on the
# class scores of CUB, positive prototypes are better even so.
_CHOSEN: Mapping[str, Any] = {
    "epochs": 15,
    "hidden": 1600,
    "learning_rate": 1e-4,
    "batch_size": 64,
    "weight_decay": 1e-5,
}

METHOD = Method(
    name="dem",
    label="DEM",
    paper="Zhang et al., CVPR 2017; after the published code",
    kind="compatibility",
    config=DEMConfig,
    model=DEM,
    published={
        "": {
            "feature_scaling": "none",
            "epochs": 100,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "lr_decay": 1.0,
            "weight_decay": 1e-3,
            "precision": "fp32",
        },
        "AWA1": {"semantics_norm": 296.0},
        "AWA2": {"semantics_norm": 296.0},
        "SUN": {"semantics_norm": 1.8, "weight_decay": 1e-5, "epochs": 200},
        "APY": {"semantics_norm": 2.0, "weight_decay": 1e-4, "epochs": 300},
        "CUB": {
            "semantics_norm": 412.0,
            "epochs": 400,
            "hidden": 1200,
            "similarity": "cosine",
            "learning_rate": 1e-5,
            "batch_size": 100,
            "weight_decay": 1e-2,
        },
        "AWA1/classic": {
            **_CHOSEN,
            "feature_scaling": "standardised",
            "output_relu": False,
            "semantics_norm": 0.3,
            "epochs": 10,
        },
        "CUB/vgg_fc7": {**_CHOSEN, "semantics_norm": 5.0},
        "CUB/resnet_logits": {**_CHOSEN, "semantics_norm": 1.0},
        "FLO": {
            **_CHOSEN,
            "feature_scaling": "standardised",
            "output_relu": False,
            "similarity": "cosine",
            "semantics_norm": 1.0,
            "epochs": 25,
        },
        "DIGITS": {
            "hidden": 256,
            "epochs": 30,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "weight_decay": 1e-5,
        },
    },
    variants={
        "cosine": {"similarity": "cosine"},
        "unscaled": {"semantics_scaling": "none"},
    },
    search={
        "hidden": TimesOneOf((0.5, 1, 2)),
        "similarity": OneOf(("euclidean", "cosine")),
        "semantics_norm": Times(0.25, 4, when=("semantics_scaling", "norm")),
    },
)
