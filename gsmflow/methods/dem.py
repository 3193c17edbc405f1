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

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.arrays import FloatArray
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import Losses, with_tensors
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.positioning import SemanticsScalingName, scaled_semantics

__all__ = ["DEM", "METHOD", "DEMConfig", "SimilarityName"]

SimilarityName: TypeAlias = Literal["euclidean", "cosine"]

_BUFFERS = ("semantics", "seen_classes", "unseen_classes")
# Standard deviation of the initial weights, which are cut at twice of it, and the initial biases.
_INITIAL = 0.1


@dataclass(frozen=True)
class DEMConfig:
    """The settings of a `DEM`."""

    hidden: Annotated[int, Range(min=1)] = 1600
    """Units of the hidden layer."""
    similarity: SimilarityName = "euclidean"
    """Which prototype is the nearest: by its distance, or by its angle."""
    semantics_scaling: SemanticsScalingName = "norm"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 5.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


class DEM(nn.Module):
    """The network, and the classes that it predicts prototypes of.

    Initial weights are normal with standard deviation 0.1, cut at 0.2; biases are 0.1.

    Parameters
    ----------
    config
        Settings.
    feature_dim
        ``d``.
    generator
        Source of the initial weights.
    buffers
        Scaled ``semantics`` of every class, ``(classes, a)``; ``seen_classes`` and
        ``unseen_classes``.
    """

    semantics: Tensor
    seen_classes: Tensor
    unseen_classes: Tensor

    def __init__(
        self,
        config: DEMConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__()
        self.config = config
        for name in _BUFFERS:
            self.register_buffer(name, buffers[name])
        # Making a layer draws from torch's global generator; the fork leaves that unchanged.
        with torch.random.fork_rng(devices=[]):
            self.hidden = nn.Linear(self.semantics.shape[1], config.hidden)
            self.output = nn.Linear(config.hidden, feature_dim)
        for layer in (self.hidden, self.output):
            nn.init.trunc_normal_(
                layer.weight, std=_INITIAL, a=-2 * _INITIAL, b=2 * _INITIAL, generator=generator
            )
            nn.init.constant_(layer.bias, _INITIAL)

    @classmethod
    def for_problem(cls, scaled: Scaled, config: DEMConfig, generators: Generators) -> "DEM":
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has."""
        generator = generators.on_cpu("initial weights")
        return cls(config, scaled.feed.feature_dim, generator, **_buffers(scaled.problem, config))

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "DEM":
        """A model from what `describe` and ``state_dict`` gave."""
        config = DEMConfig(**description["config"])
        model = cls(
            config, description["feature_dim"], None, **{name: tensors[name] for name in _BUFFERS}
        )
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {
            "model": "DEM",
            "config": asdict(self.config),
            "feature_dim": self.output.out_features,
        }

    def with_classes(self, problem: Problem) -> "DEM":
        """The same network, with the semantics of a problem's new unseen classes; on the CPU."""
        return with_tensors(self, _buffers(problem, self.config))

    def prototypes(self, classes: Tensor) -> Tensor:
        """Prototypes ``(k, d)`` of classes ``(k,)``."""
        hidden = torch.relu(self.hidden(self.semantics[classes]))
        return torch.relu(self.output(hidden))

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The mean squared error of the prototypes, over all rows and dimensions.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Not used.
        """
        # A prototype for each class, rather than for each row, is much less work.
        columns = torch.searchsorted(self.seen_classes, labels)
        prototypes = self.prototypes(self.seen_classes)[columns]
        error = functional.mse_loss(prototypes.to(features), features)
        return Losses(error, {"squared_error": error})

    @torch.no_grad()
    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features.

        A score is the cosine similarity of the prototype, or its negative distance.
        """
        prototypes = self.prototypes(torch.cat([self.seen_classes, self.unseen_classes]))
        if self.config.similarity == "cosine":
            scores = functional.normalize(features) @ functional.normalize(prototypes).T
        else:
            scores = -torch.cdist(features, prototypes)
        found = scores.cpu().numpy()
        return found, found[:, len(self.seen_classes) :]


def _buffers(problem: Problem, config: DEMConfig) -> dict[str, Tensor]:
    """The buffers of a `DEM` for a problem, by name."""
    return {
        "semantics": torch.tensor(scaled_semantics(problem, config)),
        "seen_classes": torch.tensor(problem.seen_classes),
        "unseen_classes": torch.tensor(problem.unseen_classes),
    }


# The settings of the published code. It does not fix the number of steps; the epochs here have
# about 30 000. The norm is the mean length of the raw attributes. It has no settings for FLO
# and for digit pairs.
METHOD = Method(
    name="dem",
    label="DEM",
    paper="Zhang et al., CVPR 2017; after the published code",
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
