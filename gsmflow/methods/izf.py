"""IZF: an invertible network from features to semantics and noise.

Shen et al., "Invertible Zero-Shot Recognition Flows", ECCV 2020, after the paper's description and
the constants of a public re-implementation. An invertible network maps a row to numbers of two
kinds: as many as the semantics have, which are to be normal around the semantics of its class, and
standard normal noise. Its inverse maps the semantics of any class and noise to features. Three
losses are minimised:

- the negative log-likelihood of a row under its class;
- the distances of the centre of each class, which is the inverse of its semantics with noise 0,
  from the mean of its rows in the batch;
- minus the maximum mean discrepancy of the batch's rows from rows that are synthesized for unseen
  classes, which moves these away from seen rows. It needs the unseen classes' semantics and none
  of their rows.

Differences from the descriptions:

- The coupling blocks are those of GSMFlow: both halves change in a block, and their log-scales are
  bounded by 0.636 atan.
- Dimensions are permuted at random. Their scales and shifts start at the identity, not at the
  statistics of the first batch: the features are standardised.
- The semantics are brought to one mean length. At length 1, classes would be nearer to each other
  than their rows' standard deviation of 1.
- Gradients are not clipped. The number of epochs is fixed; the last partial batch is left out.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gsmflow.core.errors import InputError
from gsmflow.core.precision import autocast
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import Losses
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.mean_discrepancy import inverse_multiquadric, mean_discrepancy
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.synthesizing import SynthesizingModel, any_of

__all__ = ["IZF", "METHOD", "BatchClasses", "IZFConfig", "classes_of_batch"]


@dataclass(frozen=True)
class IZFConfig:
    """The settings of an `IZF`."""

    blocks: Annotated[int, Range(min=1)] = 5
    """Number of blocks."""
    hidden: Annotated[int | None, Range(min=1)] = None
    """Hidden units of each coupling subnet; None: as many as feature dimensions."""
    flow_weight: Annotated[float, Range(min=0)] = 2.0
    """Weight of the negative log-likelihood of a row, in nats."""
    centre_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight of the distances of the classes' centres from the means of their rows, summed over the
    classes of a batch."""
    discrepancy_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight of the discrepancy of synthesized unseen rows from seen rows, which is to be large."""
    samples_per_class: Annotated[int, Range(min=1)] = 300
    """Synthesized features per unseen class."""
    semantics_scaling: SemanticsScalingName = "norm"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 20.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


@dataclass(frozen=True, eq=False)
class BatchClasses:
    """The classes of a batch, in a number that does not depend on the labels.

    Attributes
    ----------
    classes
        Classes, ``(k,)``; some may be absent from the batch or occur several times.
    means
        The mean of the batch's rows of each, ``(k, d)``; 0 for a class without rows.
    weights
        ``(k,)``: a sum over ``k`` with these weights is one over the distinct classes of the batch.
    """

    classes: Tensor
    means: Tensor
    weights: Tensor


def classes_of_batch(features: Tensor, labels: Tensor, seen_classes: Tensor) -> BatchClasses:
    """The classes of a batch: all seen classes, or the class of each row if these are fewer.

    Parameters
    ----------
    features, labels
        Rows ``(n, d)`` and their classes ``(n,)``.
    seen_classes
        Distinct classes, ``(seen,)``.
    """
    of_rows = len(labels) < len(seen_classes)
    classes = labels if of_rows else seen_classes
    same = (classes[:, None] == labels).to(features.dtype)
    counts = same.sum(dim=1)
    # A sum of bf16 products would be too coarse for distances from a mean.
    with autocast("fp32", features.device):
        means = same @ features / counts.clamp_min(1)[:, None]
    weights = 1 / counts if of_rows else (counts > 0).to(features.dtype)
    return BatchClasses(classes, means, weights)


class IZF(SynthesizingModel):
    """The invertible network. Parameters as `ClassModel` has them."""

    config_class = IZFConfig
    config: IZFConfig

    def __init__(
        self,
        config: IZFConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        # FrEIA takes a second to import. Code that only reads the settings should not wait for it.
        from gsmflow.methods.invertible_flow import InvertibleFlow

        self.flow = InvertibleFlow(
            feature_dim,
            blocks=config.blocks,
            hidden=config.hidden or feature_dim,
            generator=generator,
        )

    @classmethod
    def check_problem(cls, problem: Problem) -> None:
        """Raise `InputError` if the semantics have more dimensions than the features."""
        a, d = problem.semantics.shape[1], problem.train.feature_dim
        if a > d:
            raise InputError(
                f"semantics: found {a} dimensions, expected at most the {d} of the features, which "
                "an invertible network maps to them"
            )

    @classmethod
    def for_problem(cls, scaled: Scaled, config: IZFConfig, generators: Generators) -> "IZF":
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            As `check_problem`.
        """
        cls.check_problem(scaled.problem)
        return super().for_problem(scaled, config, generators)

    @property
    def noise_dim(self) -> int:
        """Length of the noise: what the semantics leave of the feature dimensions."""
        return self.feature_dim - self.semantics.shape[1]

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)`` of noise ``(n, d - a)`` and semantics ``(n, a)``."""
        return self.flow.inverse(torch.cat([semantics, noise], dim=1))

    def centres(self, classes: Tensor) -> Tensor:
        """Scaled features ``(k, d)`` of classes ``(k,)`` with noise 0."""
        semantics = self.semantics[classes]
        return self.synthesized(semantics.new_zeros(len(classes), self.noise_dim), semantics)

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The weighted sum of the three losses.

        Processes that share a batch each take the classes of their own rows.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Source of the unseen classes and of the noise of synthesized rows.
        """
        batch = classes_of_batch(features, labels, self.seen_classes)
        distances = torch.linalg.vector_norm(self.centres(batch.classes) - batch.means, dim=1)
        unseen = any_of(self.unseen_classes, len(labels), draws)
        made = self.synthesized(self.noise_for(unseen, draws), self.semantics[unseen])
        kernel = inverse_multiquadric(2 * self.feature_dim)
        parts = {
            "likelihood": -self._log_density(features, labels).mean(),
            "centres": (batch.weights * distances).sum(),
            "discrepancy": mean_discrepancy(features, made, kernel),
        }
        total = (
            self.config.flow_weight * parts["likelihood"]
            + self.config.centre_weight * parts["centres"]
            - self.config.discrepancy_weight * parts["discrepancy"]
        )
        return Losses(total, parts)

    @torch.no_grad()
    def log_prob(self, features: Tensor, classes: Tensor) -> Tensor:
        """Exact log-density ``log p(x | class)`` in nats, ``(n,)``, of features ``(n, d)``."""
        return self._log_density(features, classes)

    def _log_density(self, features: Tensor, classes: Tensor) -> Tensor:
        """The log-density, ``(n,)``, of features ``(n, d)`` under classes ``(n,)``."""
        z, log_det = self.flow(features)
        of_semantics, noise = z.split([self.semantics.shape[1], self.noise_dim], dim=1)
        squares = (of_semantics - self.semantics[classes]).square().sum(dim=1)
        squares = squares + noise.square().sum(dim=1)
        density: Tensor = log_det - (squares + self.feature_dim * math.log(2 * math.pi)) / 2
        return density


METHOD = Method(
    name="izf",
    label="IZF",
    paper="Shen et al., ECCV 2020; after the paper's description",
    kind="generative",
    config=IZFConfig,
    model=IZF,
    published={
        "": {
            "feature_scaling": "standardised",
            "epochs": 60,
            "batch_size": 256,
            "learning_rate": 3e-4,
            "lr_decay": 0.8,
            "lr_decay_every": 15,
            "lr_decay_clock": "epochs",
            "weight_decay": 1e-2,
            "classifier_lr": 1e-3,
            "classifier_batch_size": 300,
            "classifier_epochs": 25,
        },
        "DIGITS": {
            "feature_scaling": "centred",
            "blocks": 3,
            "hidden": 256,
            "semantics_norm": 20.0,
            "epochs": 6,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "samples_per_class": 100,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 100,
            "classifier_epochs": 8,
        },
    },
    short={"": {"schedule": "fast", "hidden": 512}},
    variants={
        "no-centres": {"centre_weight": 0.0},
        "no-discrepancy": {"discrepancy_weight": 0.0},
        "flow-alone": {"centre_weight": 0.0, "discrepancy_weight": 0.0},
    },
    search={
        "blocks": TimesOneOf((0.6, 1, 1.4)),
        "centre_weight": Times(0.1, 10),
        "discrepancy_weight": Times(0.1, 10),
        "semantics_norm": Times(0.25, 4, when=("semantics_scaling", "norm")),
        "samples_per_class": Times(0.25, 2),
    },
)
