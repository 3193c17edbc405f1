"""CVAE-ZSL: a variational autoencoder of features under the condition of their semantics.

Mishra et al., "A Generative Model for Zero Shot Learning Using Conditional Variational
Autoencoders", CVPR Workshops 2018, after the paper's description and the constants of a public
re-implementation. The encoder maps features and semantics to a Gaussian over latents, the decoder
latents and semantics to features. Features of any class are decoded from standard normal latents.
The classifiers are trained on synthesized rows alone: those of seen classes are synthesized too, so
that seen and unseen classes are equally hard.

Differences from the descriptions:

- A softmax replaces the linear support vector machine.
- The re-implementation's own weights of the KL divergence, 1e-5 or less with features of length 1,
  and its smaller noise are left out: features are as they are, with a weight of 1, as in the paper.
- The number of epochs is fixed; the last partial batch of an epoch is left out.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import ClassifierRows, Losses, RowsByEpoch, RowsRequest
from gsmflow.learning.feed import Feed, MemoryFeed, join
from gsmflow.learning.method import Method
from gsmflow.learning.sampling import synthesize
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.gaussian_encoder import GaussianEncoder
from gsmflow.methods.layers import draw_weights, perceptron
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.synthesizing import SynthesizingModel
from gsmflow.methods.vae import gaussian_kl, reparameterise, squared_errors

__all__ = ["CVAEZSL", "METHOD", "CVAEZSLConfig"]


@dataclass(frozen=True)
class CVAEZSLConfig:
    """The settings of a `CVAEZSL`."""

    latent_dim: Annotated[int | None, Range(min=1)] = None
    """Length of the latent vectors; None: that of the semantics."""
    encoder_hidden: Annotated[int | None, Range(min=1)] = None
    """Units of both hidden layers of the encoder; None: half of the feature dimensions."""
    encoder_dropout: Annotated[float, Range(min=0, max=0.99)] = 0.7
    """Share of the first hidden layer's units that are dropped in training."""
    decoder_hidden: Annotated[int, Range(min=1)] = 1024
    """Hidden units of the decoder."""
    kl_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight of the KL divergence beside the squared error, both sums over dimensions."""
    synthesized_seen: bool = True
    """Whether the rows of seen classes that the classifier learns from are synthesized as well, as
    many as --samples-per-class of each; off: real rows."""
    samples_per_class: Annotated[int, Range(min=1)] = 400
    """Synthesized features per class."""
    semantics_scaling: SemanticsScalingName = "none"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 1.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


class CVAEZSL(SynthesizingModel):
    """The encoder and the decoder.

    Weights start in Xavier's uniform distribution, biases at 0. Parameters as `ClassModel` has
    them.
    """

    config_class = CVAEZSLConfig
    config: CVAEZSLConfig

    def __init__(
        self,
        config: CVAEZSLConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        a, hidden = self.semantics.shape[1], config.encoder_hidden or max(1, feature_dim // 2)
        self.encoder_network = GaussianEncoder(
            feature_dim + a, (hidden, hidden), self.noise_dim, config.encoder_dropout
        )
        self.decoder = perceptron((self.noise_dim + a, config.decoder_hidden, feature_dim))
        draw_weights(self, "xavier", generator)

    @property
    def noise_dim(self) -> int:
        """Length of the latent vectors."""
        return self.config.latent_dim or self.semantics.shape[1]

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)``, decoded from latents ``(n, k)``, semantics ``(n, a)``."""
        decoded: Tensor = self.decoder(torch.cat([noise, semantics], dim=1))
        return decoded

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The squared error of the decoded features plus the weighted KL divergence, per row.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Source of the dropped units and of the latents' noise.
        """
        semantics = self.semantics[labels]
        inputs = torch.cat([features, semantics], dim=1)
        mean, log_variance = self.encoder_network(inputs, draws)
        decoded = self.synthesized(reparameterise(mean, log_variance, draws), semantics)
        parts = {
            "reconstruction": squared_errors(decoded, features).mean(),
            "kl": gaussian_kl(mean, log_variance).mean(),
        }
        return Losses(parts["reconstruction"] + self.config.kl_weight * parts["kl"], parts)

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Synthesized rows of all classes, or of the unseen ones beside real seen rows.

        Where the requested memory does not hold all synthesized rows, as many as it holds are drawn
        anew for each epoch. Real rows of unseen classes are added to the synthesized ones; where
        none are synthesized, the seen rows are real as well.
        """
        if not (self.config.synthesized_seen and request.synthesizes):
            return super().classifier_rows(request)
        held = request.capacity_bytes // (
            4 * self.feature_dim * len(request.scaled.problem.classes)
        )
        unseen = request.samples_per_class
        seen = request.samples_per_seen_class or unseen

        def zsl_rows() -> Feed:
            rows = self._drawn(request, self.unseen_classes, min(held, unseen))
            return rows if request.real_unseen is None else join(request.real_unseen, rows)

        def gzsl_rows() -> Feed:
            return join(self._drawn(request, self.seen_classes, min(held, seen)), zsl_rows())

        if held < max(seen, unseen):
            return RowsByEpoch(gzsl_rows, zsl_rows)
        gzsl, zsl = gzsl_rows(), zsl_rows()
        return RowsByEpoch(lambda: gzsl, lambda: zsl)

    def _drawn(self, request: RowsRequest, classes: Tensor, count: int) -> MemoryFeed:
        """``count`` synthesized rows of each class, at least one."""
        features, labels = synthesize(
            self, classes, max(1, count), request.generator, precision=request.precision
        )
        return MemoryFeed(at_least_float32(features), labels)


METHOD = Method(
    name="cvae",
    label="CVAE-ZSL",
    paper="Mishra et al., CVPR Workshops 2018; after the paper's description",
    kind="generative",
    config=CVAEZSLConfig,
    model=CVAEZSL,
    published={
        "": {
            "feature_scaling": "none",
            "epochs": 30,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "lr_decay": 1.0,
            "weight_decay": 0.0,
            "precision": "fp32",
            "classifier_lr": 1e-3,
            "classifier_batch_size": 400,
            "classifier_epochs": 25,
        },
        "CUB": {"samples_per_class": 300, "classifier_batch_size": 300},
        "SUN": {
            "epochs": 80,
            "batch_size": 256,
            "samples_per_class": 300,
            "classifier_batch_size": 300,
        },
        "AWA1/classic": {"feature_scaling": "centred"},
        "DIGITS": {
            "epochs": 15,
            "batch_size": 128,
            "encoder_hidden": 256,
            "encoder_dropout": 0.2,
            "decoder_hidden": 256,
            # Pixels vary so little that with more, latents say nothing.
            "kl_weight": 0.1,
            "samples_per_class": 100,
            "classifier_lr": 5e-3,
            "classifier_batch_size": 100,
            "classifier_epochs": 8,
        },
    },
    variants={"real-seen": {"synthesized_seen": False}},
    search={
        "decoder_hidden": TimesOneOf((0.5, 1, 2)),
        "kl_weight": Times(0.01, 10),
        "synthesized_seen": OneOf((True, False)),
        "samples_per_class": Times(0.25, 2),
    },
)
