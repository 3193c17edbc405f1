"""f-VAEGAN: a variational autoencoder and a Wasserstein GAN of features that share their decoder.

Xian et al., "f-VAEGAN-D2: A Feature Generating Framework for Any-Shot Learning", CVPR 2019, after
public re-implementations, with the settings of TF-VAEGAN's published code without its additions. An
encoder maps features and semantics to a Gaussian over latents. The decoder reconstructs the
features from latents and semantics, and it is the generator of a GAN under the same semantics. The
final classifiers are trained on real rows of seen classes and synthesized rows of unseen ones.

Differences from the published code:

- The second critic, of unlabelled rows of unseen classes (D2), is left out: the method is
  inductive.
- The number of epochs is fixed, and the last one counts; the published figures are the best over
  all epochs on the test rows.
- The reconstruction is computed from what the sigmoid is applied to, so that no logarithm of 0
  occurs, and its target is held in [0, 1].
- The rows of all critic steps before a step of the generator are synthesized at once.
- The final classifier starts with Xavier's weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Batch, Optimizer, ParameterGroup, minimize_together
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.layers import dense
from gsmflow.methods.vae import gaussian_kl, reparameterise
from gsmflow.methods.wgan import (
    GAN_TRAINING,
    NEGATIVE_FEATURES,
    SHORT_TRAINING,
    CriticLosses,
    FeatureGAN,
    OutputName,
    WGANConfig,
    leaky_relu,
    published_samples,
)

__all__ = [
    "FVAEGAN",
    "METHOD",
    "Decode",
    "FVAEGANConfig",
    "LatentEncoder",
    "VAEGANLosses",
    "published_settings",
]

Decode: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From latents ``(n, k)`` and semantics ``(n, a)`` to what the output's function takes."""


@dataclass(frozen=True)
class FVAEGANConfig(WGANConfig):
    """The settings of an `FVAEGAN`."""

    adaptive_penalty: bool = True
    """Whether the weight of the gradient penalty rises or falls by a tenth after each step, so that
    the critic's gradients get a length of about 2."""
    critic_weight: Annotated[float, Range(above=0)] = 10.0
    """Factor (gamma_D) on the whole loss of the critic."""
    adversarial_weight: Annotated[float, Range(min=0)] = 10.0
    """Weight (gamma_G) of the critic's score beside the autoencoder's loss."""
    encoded_noise: bool = True
    """Whether the rows that the critic sees are reconstructed from encoded latents of real rows;
    off: from standard normal noise."""
    output: OutputName = "sigmoid"
    """What follows the generator's last layer; with sigmoid rows are reconstructed by
    cross-entropy, else by half the squared distance."""


class LatentEncoder(nn.Module):
    """From features and semantics to a diagonal Gaussian over latents, by two hidden layers.

    Parameters
    ----------
    feature_dim, semantics_dim, hidden, latent_dim
        Sizes; the second hidden layer has twice ``latent_dim`` units.
    """

    def __init__(self, feature_dim: int, semantics_dim: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.first = dense(feature_dim + semantics_dim, hidden)
        self.second = dense(hidden, 2 * latent_dim)
        self.mean = dense(2 * latent_dim, latent_dim)
        self.log_variance = dense(2 * latent_dim, latent_dim)

    def forward(self, features: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances, ``(n, k)`` each, of ``(n, d)`` and ``(n, a)``."""
        hidden = leaky_relu(self.first(torch.cat([features, semantics], dim=1)))
        hidden = leaky_relu(self.second(hidden))
        return at_least_float32(self.mean(hidden)), at_least_float32(self.log_variance(hidden))


class VAEGANLosses(NamedTuple):
    """The loss of encoder and generator.

    Attributes
    ----------
    total
        To minimise, a scalar.
    parts
        For the log, scalars.
    made
        The rows that the critic scored, ``(n, d)``, with gradients.
    semantics
        Their semantics, ``(n, a)``.
    """

    total: Tensor
    parts: dict[str, Tensor]
    made: Tensor
    semantics: Tensor


class FVAEGAN(FeatureGAN):
    """The generator, its critic and the encoder. Parameters as `ClassModel` has them."""

    config_class: ClassVar[type[Any]] = FVAEGANConfig
    config: FVAEGANConfig

    def make_layers(self) -> None:
        """Make the encoder."""
        a = self.semantics.shape[1]
        self.encoder_network = LatentEncoder(
            self.feature_dim, a, self.config.hidden, self.noise_dim
        )

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of the critic, of the generator, and of the encoder with other decays."""
        encoder = ParameterGroup(list(self.encoder_network.parameters()))
        return {**super().parameter_groups(), "encoder": encoder}

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """Train the critic on each batch, then the autoencoder on the last; see `StepTrained`."""
        rows = list(batches)
        critic = self.train_critic(rows, random, optimizers["critic"])
        losses = self.vae_gan_losses(rows[-1], random, self.logits)
        minimize_together(losses.total, [optimizers["generator"], optimizers["encoder"]])
        return {**critic._asdict(), **losses.parts}

    def generator_loss(self, batch: Batch, random: BatchRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of encoder and generator on a batch, and its parts for the log."""
        losses = self.vae_gan_losses(batch, random, self.logits)
        return losses.total, losses.parts

    def critic_loss(self, losses: CriticLosses, batch: Batch) -> Tensor:
        """What the critic's optimizer minimises on a batch of real rows, a scalar."""
        return self.config.critic_weight * super().critic_loss(losses, batch)

    def rows_for_critic(self, features: Tensor, semantics: Tensor, random: BatchRandom) -> Tensor:
        """Rows ``(n, d)``, decoded from latents of real rows or from noise."""
        latents = self.latents_for(features, semantics, random)
        return self.generator.activated(self.logits(latents, semantics))

    def latents_for(self, features: Tensor, semantics: Tensor, random: BatchRandom) -> Tensor:
        """Latents ``(n, k)`` of the rows that the critic sees beside real rows ``(n, d)``."""
        if not self.config.encoded_noise:
            return self.noise_for(semantics, random)
        mean, log_variance = self.encoder_network(features, semantics)
        return reparameterise(mean, log_variance, random)

    def logits(self, latents: Tensor, semantics: Tensor) -> Tensor:
        """What the output's function is applied to, ``(n, d)``; a `Decode`."""
        hidden = self.generator.hidden(latents, self.generator.semantics(semantics))
        return self.generator.logits(hidden)

    def vae_gan_losses(self, batch: Batch, random: BatchRandom, decode: Decode) -> VAEGANLosses:
        """Reconstruction, KL divergence and the weighted adversarial loss of a batch.

        Parameters
        ----------
        batch
            Scaled features ``(n, d)`` and classes ``(n,)``.
        random
            Source of the latents' noise.
        decode
            The decoder up to its output's function.
        """
        semantics = self.semantics[batch.labels]
        mean, log_variance = self.encoder_network(batch.features, semantics)
        decoded = decode(reparameterise(mean, log_variance, random), semantics)
        reconstruction = self._reconstruction_loss(decoded, batch.features)
        if not self.config.encoded_noise:
            made = decode(self.noise_for(semantics, random), semantics)
        else:
            made = decoded
        made = self.generator.activated(made)
        parts = {
            "reconstruction": reconstruction,
            "kl": gaussian_kl(mean, log_variance).mean(),
            "adversarial": -self.critic(made, semantics).mean(),
        }
        autoencoder = parts["reconstruction"] + parts["kl"]
        total = autoencoder + self.config.adversarial_weight * parts["adversarial"]
        return VAEGANLosses(total, parts, made, semantics)

    def _reconstruction_loss(self, decoded: Tensor, features: Tensor) -> Tensor:
        """Minus the log-likelihood of features ``(n, d)``, up to a constant; a mean over rows."""
        if self.config.output == "sigmoid":
            losses = functional.binary_cross_entropy_with_logits(
                decoded, features.clamp(0, 1), reduction="none"
            )
        else:
            losses = (self.generator.activated(decoded) - features).square() / 2
        return losses.sum(dim=1).mean()


def published_settings(
    rate: float, epochs: int, samples: int, *, weight: float = 10.0, encoded_noise: bool = True
) -> dict[str, Any]:
    """The settings that both methods have for a dataset.

    Parameters
    ----------
    rate, epochs, samples
        Learning rate, epochs, and rows synthesized of each unseen class.
    weight
        Of the critic's loss, and of the adversarial one.
    encoded_noise
        See `FVAEGANConfig`.
    """
    return {
        "learning_rate": rate,
        "epochs": epochs,
        "critic_weight": weight,
        "adversarial_weight": weight,
        "encoded_noise": encoded_noise,
        **published_samples(samples),
    }


METHOD = Method(
    name="f-vaegan",
    label="f-VAEGAN",
    paper="Xian et al., CVPR 2019; inductive, after public re-implementations",
    kind="generative",
    config=FVAEGANConfig,
    model=FVAEGAN,
    published={
        "": GAN_TRAINING,
        "AWA1/classic": NEGATIVE_FEATURES,
        "AWA1": published_settings(1e-5, 120, 1800),
        "AWA2": published_settings(1e-5, 120, 1800),
        "CUB": published_settings(1e-4, 300, 300),
        "SUN": published_settings(1e-3, 400, 400, weight=1.0) | {"classifier_lr": 5e-4},
        "FLO": published_settings(1e-4, 500, 1200, encoded_noise=False),
        "APY": published_settings(1e-4, 500, 1200, encoded_noise=False),
        "DIGITS": {
            "feature_scaling": "none",  # pixels are in [0, 1]
            "hidden": 256,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "epochs": 8,
            "samples_per_class": 200,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 256,
            "classifier_epochs": 5,
        },
    },
    short={"": SHORT_TRAINING, "AWA1": {"fast_epochs": 3}, "AWA2": {"fast_epochs": 3}},
    variants={"normal-noise": {"encoded_noise": False}, "no-critic": {"adversarial_weight": 0.0}},
    search={
        "hidden": TimesOneOf((0.25, 0.5, 1)),
        "adversarial_weight": Times(0.1, 10),
        "encoded_noise": OneOf((True, False)),
        "samples_per_class": Times(0.25, 2),
    },
)
