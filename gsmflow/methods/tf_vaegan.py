"""TF-VAEGAN: f-VAEGAN with a decoder of semantics, which corrects what the generator synthesizes.

Narayan et al., "Latent Embedding Feedback and Discriminative Features for Zero-Shot
Classification", ECCV 2020, after the published code. A network decodes the semantics from features.
It serves three times:

- as a loss: the semantics of synthesized rows are to be those of their class;
- as feedback: what its hidden layer says of synthesized rows is mapped by a further network, and
  added to the hidden units of the generator, which then synthesizes the rows once more;
- as features: the classifiers see the features, the decoded semantics and the hidden layer.

Without feedback and with a decoder weight of 0, it is f-VAEGAN.

Differences from the published code, beside those of f-VAEGAN:

- An epoch has two passes over the rows, one without and one with feedback. Here they alternate step
  by step, so that all steps are equal, and the log has the losses of those with feedback.
- In steps whose critic sees rows from normal noise, the feedback for these rows is computed from
  them; in the published code, from the reconstructed rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import (
    Batch,
    ClassifierRows,
    Optimizer,
    ParameterGroup,
    RowsRequest,
    minimize_together,
)
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.encoded_rows import encoded_rows
from gsmflow.methods.f_vaegan import (
    FVAEGAN,
    Decode,
    FVAEGANConfig,
    published_settings,
)
from gsmflow.methods.layers import dense
from gsmflow.methods.losses import weighted_l1
from gsmflow.methods.wgan import (
    GAN_BETAS,
    GAN_TRAINING,
    NEGATIVE_FEATURES,
    SHORT_TRAINING,
    leaky_relu,
)

__all__ = [
    "METHOD",
    "TFVAEGAN",
    "DecodedFeatures",
    "Feedback",
    "SemanticDecoder",
    "TFVAEGANConfig",
]


@dataclass(frozen=True)
class TFVAEGANConfig(FVAEGANConfig):
    """The settings of a `TFVAEGAN`."""

    decoder_weight: Annotated[float, Range(min=0)] = 0.01
    """Weight (r) of the decoded semantics' loss; 0 leaves out the decoder, and with it feedback and
    decoded features (f-VAEGAN)."""
    decoder_frozen: bool = False
    """Whether the decoder learns from real rows alone."""
    decoder_rate_factor: Annotated[float, Range(above=0)] = 1.0
    """The decoder's learning rate, as a multiple of the others'."""
    feedback_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight (a1) of the feedback in training; 0 leaves it out."""
    feedback_weight_in_synthesis: Annotated[float, Range(min=0)] = 1.0
    """The same (a2) for the rows of the classifiers."""
    feedback_rate_factor: Annotated[float, Range(above=0)] = 0.1
    """The learning rate of the feedback's network, as a multiple of the others'."""
    decoded_features: bool = True
    """Whether the classifiers also see the decoded semantics and the decoder's hidden layer."""

    @property
    def uses_decoder(self) -> bool:
        """Whether there is a decoder of semantics."""
        return self.decoder_weight > 0

    @property
    def uses_feedback(self) -> bool:
        """Whether there is feedback."""
        return self.uses_decoder and self.feedback_weight > 0


class SemanticDecoder(nn.Module):
    """From features to semantics of length 1, by a hidden layer.

    Parameters
    ----------
    feature_dim, hidden, semantics_dim
        Sizes.
    """

    def __init__(self, feature_dim: int, hidden: int, semantics_dim: int) -> None:
        super().__init__()
        self.first = dense(feature_dim, hidden)
        self.second = dense(hidden, semantics_dim)

    def hidden(self, features: Tensor) -> Tensor:
        """Hidden units ``(n, h)`` of features ``(n, d)``."""
        return leaky_relu(self.first(features))

    def decode(self, hidden: Tensor) -> Tensor:
        """Semantics ``(n, a)`` of hidden units ``(n, h)``."""
        return functional.normalize(at_least_float32(self.second(hidden)))

    def forward(self, features: Tensor) -> Tensor:
        """Semantics ``(n, a)`` of features ``(n, d)``."""
        return self.decode(self.hidden(features))


class Feedback(nn.Module):
    """From the decoder's hidden units to what is added to the generator's.

    Parameters
    ----------
    hidden
        Units of both, and of the layer between.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = dense(hidden, hidden), dense(hidden, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """Corrections ``(n, h)`` for hidden units ``(n, h)``."""
        return leaky_relu(self.second(leaky_relu(self.first(hidden))))


class DecodedFeatures(nn.Module):
    """From features to the features, the decoded semantics and the decoder's hidden units.

    Parameters
    ----------
    decoder
        The decoder.
    """

    def __init__(self, decoder: SemanticDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Tensor) -> Tensor:
        """``(n, d + a + h)`` of features ``(n, d)``."""
        hidden = self.decoder.hidden(features)
        return torch.cat([features, self.decoder.decode(hidden), hidden.to(features)], dim=1)


class TFVAEGAN(FVAEGAN):
    """f-VAEGAN's networks, the decoder of semantics and the feedback's network.

    Parameters as `ClassModel` has them.
    """

    config_class = TFVAEGANConfig
    config: TFVAEGANConfig

    def make_layers(self) -> None:
        """Make the encoder, the decoder of semantics and the feedback's network."""
        super().make_layers()
        hidden = self.config.hidden
        if self.config.uses_decoder:
            self.decoder = SemanticDecoder(self.feature_dim, hidden, self.semantics.shape[1])
        if self.config.uses_feedback:
            self.feedback = Feedback(hidden)

    def batches_per_step(self) -> int:
        """One batch for each step of the critic, without feedback and with it."""
        return super().batches_per_step() * (1 + self.config.uses_feedback)

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of all networks."""
        config, groups = self.config, dict(super().parameter_groups())
        if config.uses_decoder:
            parameters = list(self.decoder.parameters())
            groups["decoder"] = ParameterGroup(parameters, GAN_BETAS, config.decoder_rate_factor)
        if config.uses_feedback:
            parameters = list(self.feedback.parameters())
            groups["feedback"] = ParameterGroup(parameters, GAN_BETAS, config.feedback_rate_factor)
        return groups

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """Train all networks without feedback, then with it on other batches; see `StepTrained`."""
        if not self.config.uses_decoder:
            return super().training_step(batches, random, optimizers)
        rows, steps = list(batches), self.config.critic_steps
        learning = ["generator", "encoder", *["decoder"] * (not self.config.decoder_frozen)]
        parts = self._train(rows[:steps], random, optimizers, self.logits, learning)
        if self.config.uses_feedback:
            learning.append("feedback")
            parts = self._train(rows[steps:], random, optimizers, self.fed_back_logits, learning)
        return parts

    def _train(
        self,
        batches: list[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
        decode: Decode,
        learning: list[str],
    ) -> dict[str, Tensor]:
        """Decoder and critic on each batch, then the networks that are ``learning`` on the last."""
        found = []
        for batch in batches:
            semantics = self.semantics[batch.labels]
            decoded = self._decoder_loss(batch.features, semantics)
            optimizers["decoder"].minimize(self.config.decoder_weight * decoded)
            with torch.no_grad():
                latents = self.latents_for(batch.features, semantics, random)
                made = self.generator.activated(decode(latents, semantics))
            critic = self.step_critic(batch, made, semantics, random, optimizers["critic"])
            found.append(critic)
        critic = self.after_critic(found)
        losses = self.vae_gan_losses(batches[-1], random, decode)
        cycle = self._decoder_loss(losses.made, losses.semantics)
        total = losses.total + self.config.decoder_weight * cycle
        minimize_together(total, [optimizers[name] for name in learning])
        added = {"decoder": decoded.detach(), "cycle": cycle}
        return {**critic._asdict(), **losses.parts, **added}

    def _decoder_loss(self, features: Tensor, semantics: Tensor) -> Tensor:
        """How far decoded semantics are from those of the classes at length 1, a scalar."""
        return weighted_l1(self.decoder(features), functional.normalize(semantics)).mean()

    def fed_back_logits(
        self, latents: Tensor, semantics: Tensor, weight: float | None = None
    ) -> Tensor:
        """What the output's function takes, ``(n, d)``, with feedback from a first synthesis.

        Parameters
        ----------
        latents, semantics
            ``(n, k)`` and ``(n, a)``.
        weight
            Of the feedback; None: that of the training.
        """
        weight = self.config.feedback_weight if weight is None else weight
        hidden = self.generator.hidden(latents, self.generator.semantics(semantics))
        # Cut off by detaching: after a pass without gradients, autocast would keep bf16 copies of
        # the weights that have none.
        first = self.generator.activated(self.generator.logits(hidden)).detach()
        correction = self.feedback(self.decoder.hidden(first).detach())
        return self.generator.logits(hidden + weight * correction)

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)`` of noise ``(n, k)`` and semantics ``(n, a)``."""
        if not self.config.uses_feedback:
            return super().synthesized(noise, semantics)
        weight = self.config.feedback_weight_in_synthesis
        return self.generator.activated(self.fed_back_logits(noise, semantics, weight))

    @property
    def encoder(self) -> nn.Module:
        """From scaled features to what the classifiers see."""
        if self.config.uses_decoder and self.config.decoded_features:
            return DecodedFeatures(self.decoder)
        return nn.Identity()

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Encoded real seen rows and synthesized unseen rows, streamed if there are many."""
        return encoded_rows(request, self, self.encoder)


def _decoder(
    weight: float,
    rate_factor: float,
    feedback: tuple[float, float],
    feedback_rate_factor: float,
    *,
    frozen: bool = False,
) -> dict[str, Any]:
    return {
        "decoder_weight": weight,
        "decoder_rate_factor": rate_factor,
        "decoder_frozen": frozen,
        "feedback_weight": feedback[0],
        "feedback_weight_in_synthesis": feedback[1],
        "feedback_rate_factor": feedback_rate_factor,
    }


_AWA = published_settings(1e-5, 120, 1800) | _decoder(0.1, 10.0, (0.01, 0.01), 10.0, frozen=True)
_FLO = published_settings(1e-4, 500, 1200, encoded_noise=False)
_FLO |= _decoder(0.01, 1.0, (0.5, 0.5), 0.1)
# The published factors there are of a learning rate of 1e-5, that of a short training is 1e-3.
_SHORT_AWA = {"fast_epochs": 2, "decoder_rate_factor": 1.0, "feedback_rate_factor": 0.1}

METHOD = Method(
    name="tf-vaegan",
    label="TF-VAEGAN",
    paper="Narayan et al., ECCV 2020; after the published code",
    kind="generative",
    config=TFVAEGANConfig,
    model=TFVAEGAN,
    published={
        "": GAN_TRAINING,
        "AWA1/classic": NEGATIVE_FEATURES,
        "AWA1": _AWA,
        "AWA2": _AWA,
        "CUB": published_settings(1e-4, 300, 300) | _decoder(0.01, 1.0, (1.0, 1.0), 0.1),
        "SUN": published_settings(1e-3, 400, 400, weight=1.0)
        | _decoder(0.01, 0.1, (0.1, 0.01), 0.1)
        | {"classifier_lr": 5e-4},
        "FLO": _FLO,
        "APY": _FLO,
        "DIGITS": {
            "feature_scaling": "none",  # pixels are in [0, 1]
            "hidden": 256,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "epochs": 3,
            "samples_per_class": 200,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 256,
            "classifier_epochs": 5,
        },
    },
    short={
        "": {**SHORT_TRAINING, "hidden": 512, "fast_epochs": 6},
        "AWA1": _SHORT_AWA,
        "AWA2": _SHORT_AWA,
    },
    variants={
        "no-feedback": {"feedback_weight": 0.0},
        "features-alone": {"decoded_features": False},
        "f-vaegan": {"decoder_weight": 0.0},
    },
    search={
        "hidden": TimesOneOf((0.25, 0.5, 1)),
        "adversarial_weight": Times(0.1, 10),
        "encoded_noise": OneOf((True, False)),
        "decoder_weight": Times(0.1, 10),
        "feedback_weight": Times(0.1, 10),
        "feedback_weight_in_synthesis": Times(0.1, 10),
        "samples_per_class": Times(0.25, 2),
    },
)
