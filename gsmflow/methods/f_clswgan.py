"""f-CLSWGAN: a Wasserstein GAN of features whose rows a seen classifier can classify.

Xian et al., "Feature Generating Networks for Zero-Shot Learning", CVPR 2018, after several public
re-implementations. A generator synthesizes features from noise and semantics. It is trained against
a critic with a gradient penalty, and so that a softmax classifier of the seen classes, which was
trained on real rows beforehand, recognises the class of what it synthesizes. The final classifiers
are trained on real rows of seen classes and synthesized rows of unseen ones.

What other methods add to the loss of the generator are settings, at 0 by default:

- ``cycle_weight``: a linear regression, trained beforehand, finds the semantics again (cycle-WGAN,
  Felix et al., ECCV 2018).
- ``centre_weight``: the mean of a class's rows is near the centre of the real ones (GAZSL, Zhu et
  al., CVPR 2018; LsrGAN, too).
- ``soul_class_weight``, ``soul_row_weight``: means of a class and single rows are near one of the
  centres into which K-means divides the class (LisGAN, Li et al., CVPR 2019).
- ``relation_weight``: the cosines of a class's mean and the centres of seen classes are those of
  their semantics, for seen and for unseen classes (LsrGAN, Vyas et al., ECCV 2020).

Differences from the published code:

- The number of epochs is fixed, and the last one counts; the published figures are the best over
  all epochs on the test rows.
- The rows of all critic steps before a step of the generator are synthesized at once.
- The final classifier starts with Xavier's weights.
- cycle-WGAN, GAZSL, LisGAN and LsrGAN have networks and classifiers of their own beside these
  losses; here everything else stays that of f-CLSWGAN.
- LisGAN's loss of class means takes a part of the seen classes in each step, drawn anew. Its second
  stage, which learns from test rows, is left out.
- In LsrGAN's published code, the relation loss has no gradient, so that a weight of 0 is what was
  run. Here it has one. Unseen classes are drawn uniformly, not with their frequency among the test
  rows, in the same step as the seen ones, and from the first step on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Batch, Losses
from gsmflow.learning.feed import Scaled, class_means
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.k_means import sub_centres
from gsmflow.methods.layers import dense, draw_weights
from gsmflow.methods.losses import (
    batch_class_means,
    centre_loss,
    nearest_squared_distance,
    relation_loss,
)
from gsmflow.methods.seen_softmax import SeenSoftmaxConfig, fit_seen_softmax
from gsmflow.methods.synthesizing import any_of
from gsmflow.methods.wgan import (
    GAN_TRAINING,
    NEGATIVE_FEATURES,
    SHORT_TRAINING,
    FeatureGAN,
    WGANConfig,
    published_samples,
    weighted_sum,
)

__all__ = ["FCLSWGAN", "METHOD", "FCLSWGANConfig", "LinearRegressor"]

# The training of cycle-WGAN's regression.
_REGRESSION = TrainingConfig(
    epochs=40, batch_size=64, learning_rate=1e-4, weight_decay=0.0, lr_decay=1.0
)


@dataclass(frozen=True)
class FCLSWGANConfig(WGANConfig, SeenSoftmaxConfig):
    """The settings of an `FCLSWGAN`; defaults are the published ones."""

    classification_weight: Annotated[float, Range(min=0)] = 0.01
    """Weight (beta) of the seen classifier's loss on synthesized rows; 0 leaves it out (f-WGAN)."""
    cycle_weight: Annotated[float, Range(min=0)] = 0.0
    """Weight of the squared distance between regressed and true semantics (cycle-WGAN: 0.01)."""
    centre_weight: Annotated[float, Range(min=0)] = 0.0
    """Weight of the distance of class means from the centres (GAZSL: 5; LsrGAN: 1)."""
    soul_class_weight: Annotated[float, Range(min=0)] = 0.0
    """Weight of the squared distance of class means from the nearest centre within the class
    (LisGAN: 0.001 to 0.3)."""
    soul_row_weight: Annotated[float, Range(min=0)] = 0.0
    """Weight of the same of single rows (LisGAN: 0.00003 to 0.03)."""
    soul_centres: Annotated[int, Range(min=1)] = 3
    """Centres of each seen class in both of these losses."""
    soul_rows: Annotated[int, Range(min=1)] = 20
    """Rows that are synthesized for each class mean of the loss of class means."""
    soul_classes: Annotated[int, Range(min=1)] = 16
    """Seen classes in a step's loss of class means, drawn anew for each step; all of them in the
    published code."""
    relation_weight: Annotated[float, Range(min=0)] = 0.0
    """Weight of the relations between classes, for seen and unseen classes (LsrGAN: 10 to 20)."""
    relation_margin: Annotated[float, Range(min=0)] = 0.1
    """By how much a cosine of features may differ from that of semantics (LsrGAN: 0.15 on AWA1 and
    AWA2)."""
    relation_neighbours: Annotated[int, Range(min=1)] = 20
    """Seen classes, those with the most similar semantics, that a class is compared with."""

    @property
    def uses_centres(self) -> bool:
        """Whether the loss has the centres of the seen classes."""
        return self.centre_weight > 0 or self.relation_weight > 0

    @property
    def uses_souls(self) -> bool:
        """Whether the loss has several centres of each seen class."""
        return self.soul_class_weight > 0 or self.soul_row_weight > 0


class LinearRegressor(nn.Module):
    """A linear map from features to semantics, trained by their mean squared distance.

    Parameters
    ----------
    semantics
        The semantics of every class, ``(classes, a)``.
    feature_dim
        ``d``.
    generator
        Source of the initial weights.
    """

    semantics: Tensor

    def __init__(
        self, semantics: Tensor, feature_dim: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.register_buffer("semantics", semantics)
        self.map = dense(feature_dim, semantics.shape[1])
        draw_weights(self, "xavier", generator)

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The mean squared distance of regressed semantics of ``(n, d)`` rows from the true."""
        squares = (self.map(features) - self.semantics[labels]).square().sum(dim=1)
        return Losses(squares.mean(), {"regression": squares.mean()})


def _fit_regressor(scaled: Scaled, semantics: Tensor, generators: Generators) -> LinearRegressor:
    """The trained regression, on the CPU."""
    feed = scaled.feed
    regressor = LinearRegressor(semantics, feed.feature_dim, generators.on_cpu("regressor"))
    regressor.to(feed.labels.device)
    random = generators.on_device("regressor steps")
    Trainer(regressor, feed, _REGRESSION, random, graphs=scaled.graphs).run()
    return regressor.cpu()


class FCLSWGAN(FeatureGAN):
    """The networks, and the classifier and centres of the seen classes that the loss needs."""

    config_class = FCLSWGANConfig
    fitted_names = (
        "seen_weight",
        "seen_bias",
        "regressor_weight",
        "regressor_bias",
        "centres",
        "souls",
    )
    config: FCLSWGANConfig
    seen_weight: Tensor
    seen_bias: Tensor
    regressor_weight: Tensor
    regressor_bias: Tensor
    centres: Tensor
    souls: Tensor
    neighbours: Tensor
    similarities: Tensor

    def __init__(
        self,
        config: FCLSWGANConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        if config.relation_weight > 0:
            similarities, neighbours = self._nearest_seen_classes()
            self.register_buffer("similarities", similarities, persistent=False)
            self.register_buffer("neighbours", neighbours, persistent=False)

    @classmethod
    def fitted_tensors(
        cls, scaled: Scaled, config: FCLSWGANConfig, generators: Generators
    ) -> dict[str, Tensor]:
        """What the losses with a weight need: see the names."""
        feed = scaled.feed
        seen = scaled.on_device(scaled.problem.seen_classes)
        tensors: dict[str, Tensor] = {}
        if config.classification_weight > 0:
            softmax = fit_seen_softmax(scaled, config, generators)
            tensors |= {"seen_weight": softmax.weight, "seen_bias": softmax.bias}
        if config.cycle_weight > 0:
            semantics = cls.semantics_of(scaled.problem, config)
            linear = _fit_regressor(scaled, semantics, generators).map
            tensors["regressor_weight"] = linear.weight.detach()
            tensors["regressor_bias"] = linear.bias.detach()
        if config.uses_centres:
            tensors["centres"] = class_means(feed, seen)
        if config.uses_souls:
            random = generators.on_cpu("soul samples")
            tensors["souls"] = sub_centres(feed, seen, config.soul_centres, random)
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def generator_loss(self, batch: Batch, random: BatchRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """The adversarial loss, and those with a weight.

        Parameters
        ----------
        batch
            A batch whose classes are synthesized; its features are not used.
        random
            Source of noise and classes.
        """
        config, labels = self.config, batch.labels
        semantics = self.semantics[labels]
        columns = torch.searchsorted(self.seen_classes, labels)
        made = self.synthesized(self.noise_for(semantics, random), semantics)
        weighted = {"adversarial": (1.0, -self.critic(made, semantics).mean())}
        if config.classification_weight > 0:
            logits = functional.linear(made, self.seen_weight, self.seen_bias)
            loss = functional.cross_entropy(at_least_float32(logits), columns)
            weighted["classification"] = config.classification_weight, loss
        if config.cycle_weight > 0:
            regressed = functional.linear(made, self.regressor_weight, self.regressor_bias)
            loss = (at_least_float32(regressed) - semantics).square().sum(dim=1).mean()
            weighted["cycle"] = config.cycle_weight, loss
        if config.centre_weight > 0:
            loss = centre_loss(made, labels, self.centres[columns], len(self.seen_classes))
            weighted["centres"] = config.centre_weight, loss
        if config.soul_row_weight > 0:
            loss = nearest_squared_distance(made, self.souls[columns]).mean()
            weighted["soul rows"] = config.soul_row_weight, loss
        if config.soul_class_weight > 0:
            weighted["soul classes"] = config.soul_class_weight, self._soul_class_loss(random)
        if config.relation_weight > 0:
            loss = self._relation_loss(made, labels) + self._unseen_relation_loss(labels, random)
            weighted["relations"] = config.relation_weight, loss
        return weighted_sum(weighted)

    def _soul_class_loss(self, random: BatchRandom) -> Tensor:
        """The squared distance of means of synthesized rows from the nearest centre of the class.

        A mean over random seen classes, which estimates that over all of them.
        """
        seen, rows = len(self.seen_classes), self.config.soul_rows
        columns = random.subset(min(self.config.soul_classes, seen), seen)
        semantics = self.semantics[self.seen_classes[columns]].repeat_interleave(rows, dim=0)
        made = self.synthesized(self.noise_for(semantics, random), semantics)
        means = made.reshape(len(columns), rows, -1).mean(dim=1)
        return nearest_squared_distance(means, self.souls[columns]).mean()

    def _nearest_seen_classes(self) -> tuple[Tensor, Tensor]:
        """Cosines of the semantics of each class's nearest seen classes, and which they are.

        Both are ``(classes, k)``. A class is not its own neighbour.
        """
        seen = self.seen_classes
        directions = functional.normalize(self.semantics)
        cosines = directions @ directions[seen].T
        cosines[seen, torch.arange(len(seen), device=seen.device)] = -torch.inf
        count = min(self.config.relation_neighbours, len(seen) - 1)
        similarities, neighbours = cosines.topk(count, dim=1)
        return similarities, neighbours

    def _relation_loss(self, made: Tensor, labels: Tensor) -> Tensor:
        """The relation loss of synthesized rows ``(n, d)``, a sum over their classes."""
        means, weights = batch_class_means(made, labels)
        losses = relation_loss(
            means,
            self.centres,
            self.neighbours[labels],
            self.similarities[labels],
            self.config.relation_margin,
        )
        return (weights * losses).sum()

    def _unseen_relation_loss(self, labels: Tensor, random: BatchRandom) -> Tensor:
        """The relation loss of as many rows of unseen classes, which are drawn uniformly."""
        classes = any_of(self.unseen_classes, len(labels), random)
        semantics = self.semantics[classes]
        made = self.synthesized(self.noise_for(semantics, random), semantics)
        return self._relation_loss(made, classes)


def _published(
    rate: float, epochs: int, samples: int, classification_weight: float = 0.01
) -> dict[str, Any]:
    return {
        "learning_rate": rate,
        "epochs": epochs,
        "classification_weight": classification_weight,
        **published_samples(samples),
    }


# aPY's settings are LisGAN's; those of the digit pairs were chosen on their validation classes.
_PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "": GAN_TRAINING,
    "AWA1/classic": NEGATIVE_FEATURES,
    "AWA1": _published(1e-5, 30, 1800),
    "AWA2": _published(1e-5, 30, 1800),
    "CUB": _published(1e-4, 56, 300),
    "SUN": _published(2e-4, 40, 400),
    "FLO": _published(1e-4, 80, 1200, classification_weight=0.1),
    "APY": _published(1e-5, 50, 1800),
    "DIGITS": {
        "feature_scaling": "none",  # pixels are in [0, 1]
        "hidden": 256,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "epochs": 8,
        "samples_per_class": 200,
        "classification_weight": 0.1,
        "seen_lr": 1e-2,
        "seen_epochs": 10,
        "classifier_lr": 1e-2,
        "classifier_batch_size": 256,
        "classifier_epochs": 5,
    },
}

METHOD = Method(
    name="f-clswgan",
    label="f-CLSWGAN",
    paper="Xian et al., CVPR 2018; after public re-implementations",
    kind="generative",
    config=FCLSWGANConfig,
    model=FCLSWGAN,
    published=_PUBLISHED,
    short={"": SHORT_TRAINING, "AWA1": {"fast_epochs": 3}, "AWA2": {"fast_epochs": 3}},
    variants={
        "no-classification": {"classification_weight": 0.0},
        "cycle-wgan": {"cycle_weight": 0.01},
        "centre-loss": {"centre_weight": 5.0},
        "soul-samples": {"soul_class_weight": 1e-2, "soul_row_weight": 1e-3},
        "relations": {"relation_weight": 20.0, "centre_weight": 1.0},
        "relations-as-run": {"centre_weight": 1.0},
    },
    search={
        "hidden": TimesOneOf((0.25, 0.5, 1)),
        "penalty_weight": Times(0.1, 10),
        "classification_weight": Times(0.1, 10),
        "samples_per_class": Times(0.25, 2),
    },
)
