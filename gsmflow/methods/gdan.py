"""GDAN: a conditional autoencoder, a regressor and a discriminator that teach each other.

Huang et al., "Generative Dual Adversarial Network for Generalized Zero-Shot Learning", CVPR 2019.
The encoder maps features to a Gaussian over latents, without their semantics; the decoder maps
latents and semantics to features, and a regressor features to semantics. A discriminator tells
pairs of a row and its semantics from pairs of a decoded row and its semantics, of a row and
regressed semantics, and of a row and the semantics of another class. Autoencoder and regressor are
to deceive it, and to invert each other: semantics -> features -> semantics, and features ->
semantics -> features. The autoencoder is trained alone at first.

Differences from the published code:

- It learns from all training rows. The published code takes the rows of ``train_loc``, which has
  rows of seen classes that are tested, and none of the validation classes: so its accuracies of
  seen classes are about the share of them that it has rows of.
- The noise of the latents is normal. The published code draws it uniformly from [0, 1).
- The softmax of all methods classifies, trained on real seen and synthesized unseen rows, instead
  of the nearest neighbour among them.
- The last epoch counts, not one that is chosen by hand.
- Discriminator and regressor learn from the start, the regressor from real rows alone at first.
- The regressor ends without ReLU, so that semantics may be negative. A row's latents are the same
  for both of its decodings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Batch, Losses, Optimizer, ParameterGroup, check_two_seen
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.gaussian_encoder import GaussianEncoder
from gsmflow.methods.layers import draw_weights, perceptron
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.synthesizing import SynthesizingModel, any_of
from gsmflow.methods.vae import gaussian_kl, reparameterise, squared_errors

__all__ = ["GDAN", "METHOD", "GDANConfig"]

_BETAS = (0.8, 0.999)


@dataclass(frozen=True)
class GDANConfig:
    """The settings of a `GDAN`; defaults are the published ones where the datasets agree."""

    latent_dim: Annotated[int, Range(min=1)] = 100
    """Length of the latent vectors."""
    encoder_hidden: Annotated[int, Range(min=1)] = 1200
    """Units of the encoder's first hidden layer."""
    encoder_second_hidden: Annotated[int, Range(min=1)] = 600
    """Units of the encoder's second hidden layer."""
    encoder_dropout: Annotated[float, Range(min=0, max=0.99)] = 0.3
    """Share of the first hidden layer's units that are dropped in training."""
    decoder_hidden: Annotated[int, Range(min=1)] = 600
    """Hidden units of the decoder."""
    decoder_relu: bool = True
    """Whether the decoder ends with ReLU; off for features that may be negative."""
    discriminator_hidden: Annotated[int, Range(min=1)] = 800
    """Hidden units of the discriminator."""
    regressor_hidden: Annotated[int, Range(min=1)] = 512
    """Hidden units of the regressor."""
    pretraining: Annotated[float, Range(min=0, max=1)] = 0.5
    """Share of the epochs at the start in which the autoencoder is trained alone."""
    cycle_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight (theta 1) of both cycles between features and semantics."""
    regression_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight (theta 2) of the regressor's error on real rows."""
    dual_weight: Annotated[float, Range(min=0)] = 0.1
    """Weight (theta 3) of rows with regressed semantics in what the discriminator tells apart."""
    samples_per_class: Annotated[int, Range(min=1)] = 500
    """Synthesized features per unseen class."""
    semantics_scaling: SemanticsScalingName = "none"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 1.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""


class GDAN(SynthesizingModel):
    """The autoencoder, the regressor and the discriminator.

    Weights and biases start uniformly distributed within ``1 / sqrt(inputs)``. Parameters as
    `ClassModel` has them.
    """

    config_class = GDANConfig
    config: GDANConfig
    joint: Tensor

    def __init__(
        self,
        config: GDANConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        d, a, k = feature_dim, self.semantics.shape[1], config.latent_dim
        hidden = config.encoder_hidden, config.encoder_second_hidden
        self.encoder_network = GaussianEncoder(d, hidden, k, config.encoder_dropout)
        self.decoder = perceptron(
            (k + a, config.decoder_hidden, d), relu_output=config.decoder_relu
        )
        self.regressor = perceptron((d, config.regressor_hidden, a))
        self.discriminator = perceptron((d + a, config.discriminator_hidden, 1))
        # Whether the networks are trained together, 0 or 1: a tensor, for a recorded step.
        self.register_buffer("joint", torch.zeros(()), persistent=False)
        draw_weights(self, "torch", generator)

    @classmethod
    def for_problem(cls, scaled: Scaled, config: GDANConfig, generators: Generators) -> "GDAN":
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            If there is one seen class, so that no row has another one.
        """
        purpose = "rows can be paired with the semantics of another class"
        check_two_seen(scaled.problem, purpose)
        return super().for_problem(scaled, config, generators)

    @property
    def noise_dim(self) -> int:
        """Length of the latent vectors."""
        return self.config.latent_dim

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)``, decoded from latents ``(n, k)``, semantics ``(n, a)``."""
        return at_least_float32(self.decoder(torch.cat([noise, semantics], dim=1)))

    def warm_up(self, done: float) -> None:
        """Begin to train the networks together once the share of the pretraining is done."""
        self.joint.fill_(float(done >= self.config.pretraining))

    def batches_per_step(self) -> int:
        """One batch for the discriminator, one for the other networks."""
        return 2

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of the discriminator, and of autoencoder and regressor."""
        networks = (self.encoder_network, self.decoder, self.regressor)
        generator = [p for network in networks for p in network.parameters()]
        return {
            "discriminator": ParameterGroup(list(self.discriminator.parameters()), _BETAS),
            "generator": ParameterGroup(generator, _BETAS),
        }

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """A step of the discriminator, then one of the other networks; see `StepTrained`."""
        discrimination = self.discriminator_loss(next(batches), random)
        optimizers["discriminator"].minimize(discrimination)
        generation = self.generator_loss(next(batches), random)
        optimizers["generator"].minimize(generation.total)
        return {"discriminator": discrimination, **generation.parts}

    def discriminator_loss(self, batch: Batch, random: BatchRandom) -> Tensor:
        """Squared distances of the scores of true pairs from 1, and of all others from 0."""
        features, labels = batch
        semantics = self.semantics[labels]
        with torch.no_grad():
            mean, log_variance = self.encoder_network(features, random)
            latents = reparameterise(mean, log_variance, random)
            decoded = self.synthesized(latents, semantics)
            regressed = at_least_float32(self.regressor(features))
        others = self.semantics[self.other_classes(labels, random)]
        return (
            self._distance(1.0, features, semantics)
            + self._distance(0.0, decoded, semantics)
            + self.config.dual_weight * self._distance(0.0, features, regressed)
            + self._distance(0.0, features, others)
        )

    def generator_loss(self, batch: Batch, random: BatchRandom) -> Losses:
        """The loss of autoencoder and regressor; in the pretraining, of each alone."""
        features, labels = batch
        semantics = self.semantics[labels]
        mean, log_variance = self.encoder_network(features, random)
        latents = reparameterise(mean, log_variance, random)
        decoded = self.synthesized(latents, semantics)
        regressed = at_least_float32(self.regressor(features))
        semantics_again = at_least_float32(self.regressor(decoded))
        features_again = self.synthesized(latents, regressed)
        parts = {
            "reconstruction": squared_errors(decoded, features).mean() / 2,
            "kl": gaussian_kl(mean, log_variance).mean(),
            "regression": functional.mse_loss(regressed, semantics),
            "cycle": functional.mse_loss(semantics_again, semantics)
            + functional.mse_loss(features_again, features),
            "adversarial": self._distance(1.0, decoded, semantics),
            "dual": self._distance(1.0, features, regressed),
        }
        alone = parts["reconstruction"] + parts["kl"]
        together = (
            parts["adversarial"]
            + self.config.cycle_weight * parts["cycle"]
            + self.config.dual_weight * parts["dual"]
        )
        total = alone + self.config.regression_weight * parts["regression"] + self.joint * together
        return Losses(total, parts)

    def other_classes(self, labels: Tensor, random: BatchRandom) -> Tensor:
        """A seen class other than its own for each label, ``(n,)``, with equal probabilities."""
        seen = self.seen_classes
        shifts = any_of(torch.arange(1, len(seen), device=seen.device), len(labels), random)
        return seen[(torch.searchsorted(seen, labels) + shifts) % len(seen)]

    def _distance(self, target: float, features: Tensor, semantics: Tensor) -> Tensor:
        """Mean squared distance of the discriminator's scores of pairs from a target."""
        scores = at_least_float32(self.discriminator(torch.cat([features, semantics], dim=1)))
        return (scores - target).square().mean()


METHOD = Method(
    name="gdan",
    label="GDAN (all training rows, normal noise)",
    paper="Huang et al., CVPR 2019; after the published code, without its rows of test_seen",
    kind="generative",
    config=GDANConfig,
    model=GDAN,
    published={
        "": {
            "feature_scaling": "none",
            "epochs": 1000,
            "batch_size": 128,
            "batches": "drawn",
            "learning_rate": 1e-5,
            "lr_decay": 1.0,
            "weight_decay": 0.01,
            "precision": "fp32",
            "classifier_lr": 1e-3,
            "classifier_batch_size": 500,
            "classifier_epochs": 25,
        },
        # The epochs of the pretraining and 500 others.
        "AWA2": {
            "epochs": 650,
            "pretraining": 150 / 650,
            "batch_size": 256,
            "encoder_hidden": 1024,
            "encoder_second_hidden": 512,
            "decoder_hidden": 512,
        },
        "CUB": {"epochs": 1170, "pretraining": 670 / 1170},
        "SUN": {"epochs": 820, "pretraining": 320 / 820},
        "APY": {"epochs": 1090, "pretraining": 590 / 1090},
        "AWA1/classic": {"feature_scaling": "centred", "decoder_relu": False},
        # Pixels vary so little that as they are, latents say nothing.
        "DIGITS": {
            "feature_scaling": "centred",
            "latent_dim": 32,
            "encoder_hidden": 256,
            "encoder_second_hidden": 128,
            "encoder_dropout": 0.0,
            "decoder_hidden": 256,
            "decoder_relu": False,
            "discriminator_hidden": 128,
            "regressor_hidden": 128,
            "epochs": 10,
            "pretraining": 0.3,
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
            "samples_per_class": 100,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 100,
            "classifier_epochs": 8,
        },
    },
    short={
        "": {
            "schedule": "fast",
            "fast_epochs": 40,
            "fast_learning_rate": 3e-4,
            "precision": "auto",
            "semantics_scaling": "norm",
            "semantics_norm": 5.0,
        },
        "AWA1": {"fast_epochs": 12},
        "AWA2": {"fast_epochs": 12},
    },
    variants={
        "no-regressor": {"cycle_weight": 0.0, "regression_weight": 0.0, "dual_weight": 0.0},
        "no-dual": {"dual_weight": 0.0},
        "cvae": {"pretraining": 1.0},
    },
    search={
        "latent_dim": TimesOneOf((0.5, 1, 2)),
        "decoder_relu": OneOf((True, False)),
        "cycle_weight": Times(0.1, 10),
        "regression_weight": Times(0.1, 10),
        "dual_weight": Times(0.1, 10),
        "samples_per_class": Times(0.25, 2),
    },
)
