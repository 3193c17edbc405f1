"""CE-GZSL: a generative method whose classifiers work in a contrastively learned embedding.

Han et al., "Contrastive Embedding for Generalized Zero-Shot Learning", CVPR 2021, after the
published code. A Wasserstein GAN synthesizes features, as f-CLSWGAN's does. With its critic, an
embedding of features is trained by two contrasts:

- of rows: in a space of directions, rows of a class are nearer to each other than to other rows;
- of classes: a network that compares a row's embedding with semantics gives the row's own class the
  highest score among the seen ones.

The generator learns from both, too. The final classifiers are trained on embedded rows.

Differences from the published code:

- The comparing network's gradients are those of one step; in the published code they add up over
  an epoch.
- The number of epochs is fixed, and the last one counts; the published figures are the best over
  all epochs on the test rows.
- The rows of all critic steps before a step of the generator are synthesized at once.
- The final classifier starts with Xavier's weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Batch, ClassifierRows, ParameterGroup, RowsRequest
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.encoded_rows import encoded_rows
from gsmflow.methods.layers import dense
from gsmflow.methods.losses import contrastive_loss
from gsmflow.methods.pair_comparator import PairComparator
from gsmflow.methods.wgan import (
    GAN_BETAS,
    GAN_TRAINING,
    NEGATIVE_FEATURES,
    SHORT_TRAINING,
    CriticLosses,
    FeatureGAN,
    WGANConfig,
    published_samples,
    weighted_sum,
)

__all__ = ["CEGZSL", "METHOD", "CEGZSLConfig", "Embedding"]


@dataclass(frozen=True)
class CEGZSLConfig(WGANConfig):
    """The settings of a `CEGZSL`; defaults are the published ones."""

    embedding_dim: Annotated[int, Range(min=1)] = 2048
    """Length of the embedding, which the classifiers see."""
    direction_dim: Annotated[int, Range(min=1)] = 512
    """Length of the directions that rows are compared by."""
    comparator_hidden: Annotated[int, Range(min=1)] = 2048
    """Hidden units of the network that compares embedded rows with semantics."""
    row_weight: Annotated[float, Range(min=0)] = 1e-3
    """Weight of the contrast of rows in the generator's loss; 0 leaves out this contrast, in the
    embedding's loss as well."""
    row_temperature: Annotated[float, Range(above=0)] = 0.1
    """Temperature of the contrast of rows."""
    class_weight: Annotated[float, Range(min=0)] = 1e-3
    """Weight of the contrast of classes in the generator's loss; 0 leaves out this contrast, in the
    embedding's loss as well."""
    class_temperature: Annotated[float, Range(above=0)] = 0.1
    """Temperature of the contrast of classes."""


class Embedding(nn.Module):
    """From features to embeddings, and on to directions.

    Parameters
    ----------
    feature_dim, embedding_dim, direction_dim
        Sizes.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, direction_dim: int) -> None:
        super().__init__()
        self.first = dense(feature_dim, embedding_dim)
        self.second = dense(embedding_dim, direction_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings ``(n, r)`` of features ``(n, d)``."""
        return at_least_float32(torch.relu(self.first(features)))

    def directions(self, embeddings: Tensor) -> Tensor:
        """Rows of length 1, ``(n, k)``, of embeddings ``(n, r)``."""
        return functional.normalize(at_least_float32(self.second(embeddings)))


class CEGZSL(FeatureGAN):
    """The GAN's networks, the embedding and the comparing network.

    Parameters as `ClassModel` has them.
    """

    config_class = CEGZSLConfig
    config: CEGZSLConfig

    def make_layers(self) -> None:
        """Make the embedding and the comparing network."""
        config, a = self.config, self.semantics.shape[1]
        r = config.embedding_dim
        self.embedding = Embedding(self.feature_dim, r, config.direction_dim)
        self.comparator = PairComparator(r, a, config.comparator_hidden, slope=0.2)

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of the generator, and of the critic with embedding and comparator."""
        networks = (self.critic, self.embedding, self.comparator)
        parameters = [p for network in networks for p in network.parameters()]
        critic = ParameterGroup(parameters, betas=GAN_BETAS)
        return {**super().parameter_groups(), "critic": critic}

    def critic_loss(self, losses: CriticLosses, batch: Batch) -> Tensor:
        """The losses of the critic and, on real rows, of the embedding, a scalar."""
        embeddings = self.embedding(batch.features)
        loss = super().critic_loss(losses, batch)
        if self.config.row_weight > 0:
            loss = loss + self._row_contrast(self.embedding.directions(embeddings), batch.labels)
        if self.config.class_weight > 0:
            loss = loss + self._class_contrast(embeddings, batch.labels)
        return loss

    def generator_loss(self, batch: Batch, random: BatchRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """The adversarial loss and the contrasts of synthesized rows, among real ones.

        Parameters
        ----------
        batch
            Real features ``(n, d)``, and the classes ``(n,)`` that are synthesized.
        random
            Source of noise.
        """
        config, labels = self.config, batch.labels
        semantics = self.semantics[labels]
        made = self.synthesized(self.noise_for(semantics, random), semantics)
        embeddings = self.embedding(made)
        weighted = {"adversarial": (1.0, -self.critic(made, semantics).mean())}
        if config.row_weight > 0:
            real = self.embedding.directions(self.embedding(batch.features)).detach()
            directions = torch.cat([self.embedding.directions(embeddings), real])
            loss = self._row_contrast(directions, labels.repeat(2))
            weighted["rows"] = config.row_weight, loss
        if config.class_weight > 0:
            weighted["classes"] = config.class_weight, self._class_contrast(embeddings, labels)
        return weighted_sum(weighted)

    def _row_contrast(self, directions: Tensor, labels: Tensor) -> Tensor:
        """The contrast of rows, from directions ``(n, k)`` and classes ``(n,)``."""
        return contrastive_loss(directions, labels, self.config.row_temperature)

    def _class_contrast(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy of embedded rows ``(n, r)`` among the seen classes."""
        scores = self.comparator(embeddings, self.semantics[self.seen_classes])
        columns = torch.searchsorted(self.seen_classes, labels)
        return functional.cross_entropy(scores / self.config.class_temperature, columns)

    @property
    def encoder(self) -> nn.Module:
        """The embedding, which the classifiers see."""
        return self.embedding

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Embedded real seen rows and synthesized unseen rows, streamed if there are many."""
        return encoded_rows(request, self, self.encoder)


METHOD = Method(
    name="ce-gzsl",
    label="CE-GZSL",
    paper="Han et al., CVPR 2021; after the published code, numbers of samples after the paper's "
    "description",
    kind="generative",
    config=CEGZSLConfig,
    model=CEGZSL,
    published={
        "": {
            **GAN_TRAINING,
            "epochs": 2000,
            "batch_size": 2048,
            "learning_rate": 1e-4,
            "lr_decay": 0.99,
            "lr_decay_every": 100,
            "lr_decay_clock": "epochs",
        },
        "AWA1/classic": NEGATIVE_FEATURES,
        "AWA1": published_samples(1800),
        "AWA2": published_samples(2400),
        "CUB": published_samples(300),
        "SUN": published_samples(100),
        "FLO": published_samples(600),
        "DIGITS": {
            "feature_scaling": "none",  # pixels are in [0, 1]
            "hidden": 128,
            "embedding_dim": 128,
            "direction_dim": 32,
            "comparator_hidden": 32,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "epochs": 4,
            "row_weight": 0.01,
            "class_weight": 0.1,
            "samples_per_class": 200,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 256,
            "classifier_epochs": 5,
        },
    },
    short={
        "": {
            **SHORT_TRAINING,
            "batch_size": 64,
            "embedding_dim": 512,
            "direction_dim": 128,
            "comparator_hidden": 256,
        },
        "AWA1": {"fast_epochs": 3},
        "AWA2": {"fast_epochs": 3},
    },
    variants={
        "no-row-contrast": {"row_weight": 0.0},
        "no-class-contrast": {"class_weight": 0.0},
    },
    search={
        "hidden": TimesOneOf((0.25, 0.5, 1)),
        "embedding_dim": TimesOneOf((0.5, 1)),
        "row_weight": Times(0.1, 10),
        "row_temperature": Times(0.3, 3),
        "class_weight": Times(0.1, 10),
        "class_temperature": Times(0.3, 3),
        "samples_per_class": Times(0.25, 2),
    },
)
