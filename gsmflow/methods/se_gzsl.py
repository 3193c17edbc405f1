"""SE-GZSL: a variational autoencoder whose decoder gets feedback from a regressor of the semantics.

Kumar Verma et al., "Generalized Zero-Shot Learning via Synthesized Examples", CVPR 2018, after the
paper's description. The encoder maps features to a Gaussian over latents, without their semantics;
the decoder maps latents and semantics to features, and a regressor features to semantics. Each step
has two parts:

- The regressor learns from real rows and from rows that are synthesized for seen and unseen
  classes.
- The autoencoder learns from real rows. Besides, it synthesizes rows of seen and unseen classes, of
  which only the semantics are used: the regressor is to find their semantics in them, they are to
  be decoded again from their own latents, and these latents are to be those that they were made of,
  which keeps latents free of semantics.

At first, the autoencoder is trained without this feedback.

Differences from the paper, as far as it is known:

- The sizes, the weights of the losses and the number of epochs are not the paper's.
- The decoder's Gaussian has a variance of 1, so features are centred and brought to a mean variance
  of 1, and semantics to one mean length.
- A softmax replaces the linear support vector machine; it learns from real rows of seen classes.
- A synthesized row that is to be regenerated is a fixed target.
- The regressor learns from real rows from the start. The last partial batch of an epoch is left
  out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Batch, Losses, Optimizer, ParameterGroup
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.gaussian_encoder import GaussianEncoder
from gsmflow.methods.layers import draw_weights, perceptron
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.synthesizing import SynthesizingModel, any_of
from gsmflow.methods.vae import gaussian_kl, reparameterise, squared_errors

__all__ = ["METHOD", "SEGZSL", "SEGZSLConfig"]


@dataclass(frozen=True)
class SEGZSLConfig:
    """The settings of a `SEGZSL`."""

    latent_dim: Annotated[int, Range(min=1)] = 100
    """Length of the latent vectors."""
    encoder_hidden: Annotated[int, Range(min=1)] = 1024
    """Units of both hidden layers of the encoder."""
    decoder_hidden: Annotated[int, Range(min=1)] = 1024
    """Hidden units of the decoder."""
    regressor_hidden: Annotated[int, Range(min=1)] = 512
    """Hidden units of the regressor."""
    pretraining: Annotated[float, Range(min=0, max=1)] = 0.3
    """Share of the epochs at the start in which the autoencoder gets no feedback."""
    kl_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight of the KL divergence beside the squared error, both sums over dimensions."""
    regression_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight of synthesized rows, beside real ones, in the regressor's loss."""
    feedback_weight: Annotated[float, Range(min=0)] = 0.2
    """Weight of the regressor's error on synthesized rows in the autoencoder's loss."""
    regeneration_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight of the error of synthesized rows that are decoded again from their own latents."""
    latent_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight of the distance of these latents from those that the rows were made of."""
    samples_per_class: Annotated[int, Range(min=1)] = 300
    """Synthesized features per unseen class."""
    semantics_scaling: SemanticsScalingName = "norm"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 20.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


class SEGZSL(SynthesizingModel):
    """The encoder, the decoder and the regressor.

    Weights and biases start uniformly distributed within ``1 / sqrt(inputs)``. Parameters as
    `ClassModel` has them.
    """

    config_class = SEGZSLConfig
    config: SEGZSLConfig
    feedback: Tensor

    def __init__(
        self,
        config: SEGZSLConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        a, k, hidden = self.semantics.shape[1], config.latent_dim, config.encoder_hidden
        self.encoder_network = GaussianEncoder(feature_dim, (hidden, hidden), k)
        self.decoder = perceptron((k + a, config.decoder_hidden, feature_dim))
        self.regressor = perceptron((feature_dim, config.regressor_hidden, a))
        # Whether there is feedback, 0 or 1: a tensor, which a recorded step can read.
        self.register_buffer("feedback", torch.zeros(()), persistent=False)
        draw_weights(self, "torch", generator)

    @property
    def noise_dim(self) -> int:
        """Length of the latent vectors."""
        return self.config.latent_dim

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)``, decoded from latents ``(n, k)``, semantics ``(n, a)``."""
        return at_least_float32(self.decoder(torch.cat([noise, semantics], dim=1)))

    def warm_up(self, done: float) -> None:
        """Begin with the feedback once the share of the pretraining is done."""
        self.feedback.fill_(float(done >= self.config.pretraining))

    def batches_per_step(self) -> int:
        """One batch, for both parts of a step."""
        return 1

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of the regressor and of the autoencoder."""
        autoencoder = (*self.encoder_network.parameters(), *self.decoder.parameters())
        return {
            "regressor": ParameterGroup(list(self.regressor.parameters())),
            "autoencoder": ParameterGroup(autoencoder),
        }

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """A step of the regressor, then one of the autoencoder; see `StepTrained`."""
        batch = next(batches)
        regression = self.regressor_loss(batch, random)
        optimizers["regressor"].minimize(regression.total)
        reconstruction = self.autoencoder_loss(batch, random)
        optimizers["autoencoder"].minimize(reconstruction.total)
        return regression.parts | reconstruction.parts

    def regressor_loss(self, batch: Batch, random: BatchRandom) -> Losses:
        """The error of the regressor on real rows, plus the weighted one on synthesized rows."""
        features, labels = batch
        with torch.no_grad():
            _, semantics, made = self._synthesized_of_any_class(len(labels), random)
        parts = {
            "regression": self._regression_error(features, self.semantics[labels]),
            "synthesized_regression": self._regression_error(made, semantics),
        }
        weight = self.feedback * self.config.regression_weight
        return Losses(parts["regression"] + weight * parts["synthesized_regression"], parts)

    def autoencoder_loss(self, batch: Batch, random: BatchRandom) -> Losses:
        """The loss of the autoencoder on real rows, plus the weighted feedback."""
        features, labels = batch
        mean, log_variance = self.encoder_network(features)
        latents = reparameterise(mean, log_variance, random)
        decoded = self.synthesized(latents, self.semantics[labels])
        parts = {
            "reconstruction": squared_errors(decoded, features).mean(),
            "kl": gaussian_kl(mean, log_variance).mean(),
        }
        noise, semantics, made = self._synthesized_of_any_class(len(labels), random)
        found, _ = self.encoder_network(made)
        again = self.synthesized(found, semantics)
        parts |= {
            "feedback": self._regression_error(made, semantics),
            # The rows are targets here; the decoder that made them learns from their codes alone.
            "regeneration": squared_errors(again, made.detach()).mean(),
            "latents": squared_errors(found, noise).mean(),
        }
        feedback = (
            self.config.feedback_weight * parts["feedback"]
            + self.config.regeneration_weight * parts["regeneration"]
            + self.config.latent_weight * parts["latents"]
        )
        total = parts["reconstruction"] + self.config.kl_weight * parts["kl"]
        return Losses(total + self.feedback * feedback, parts)

    def _synthesized_of_any_class(
        self, count: int, random: BatchRandom
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, the semantics of seen and unseen classes, and rows decoded from both."""
        classes = any_of(torch.cat([self.seen_classes, self.unseen_classes]), count, random)
        semantics, noise = self.semantics[classes], self.noise_for(classes, random)
        return noise, semantics, self.synthesized(noise, semantics)

    def _regression_error(self, features: Tensor, semantics: Tensor) -> Tensor:
        """Mean squared distance of the regressor's output from semantics ``(n, a)``."""
        return squared_errors(self.regressor(features), semantics).mean()


_NO_FEEDBACK: dict[str, Any] = {
    "feedback_weight": 0.0,
    "regeneration_weight": 0.0,
    "latent_weight": 0.0,
}

METHOD = Method(
    name="se-gzsl",
    label="SE-GZSL",
    paper="Kumar Verma et al., CVPR 2018; after the paper's description",
    kind="generative",
    config=SEGZSLConfig,
    model=SEGZSL,
    published={
        "": {
            "feature_scaling": "centred",
            "epochs": 100,
            "batch_size": 50,
            "learning_rate": 1e-3,
            "lr_decay": 1.0,
            "weight_decay": 0.0,
            "precision": "fp32",
            "classifier_lr": 1e-3,
            "classifier_batch_size": 300,
            "classifier_epochs": 25,
        },
        "DIGITS": {
            "latent_dim": 32,
            "encoder_hidden": 256,
            "decoder_hidden": 256,
            "regressor_hidden": 128,
            "epochs": 8,
            "batch_size": 128,
            "semantics_norm": 4.0,
            "samples_per_class": 100,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 100,
            "classifier_epochs": 8,
        },
    },
    short={"": {"schedule": "fast", "precision": "auto"}, "AWA1": {"fast_epochs": 4}},
    variants={
        "no-feedback": {"feedback_weight": 0.0},
        "no-regeneration": {"regeneration_weight": 0.0},
        "no-latents": {"latent_weight": 0.0},
        "vae": _NO_FEEDBACK,
    },
    search={
        "latent_dim": TimesOneOf((0.5, 1, 2)),
        "kl_weight": Times(0.01, 10),
        "regression_weight": Times(0.1, 10),
        "feedback_weight": Times(0.1, 10),
        "regeneration_weight": Times(0.1, 10),
        "latent_weight": Times(0.1, 10),
        "semantics_norm": Times(0.25, 4, when=("semantics_scaling", "norm")),
        "samples_per_class": Times(0.25, 2),
    },
)
