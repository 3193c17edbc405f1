"""Wasserstein GANs of features under the condition of semantics, with a gradient penalty.

A generator maps noise and the semantics of a class to features. A critic scores features under the
semantics; the mean score of real features minus that of synthesized ones, maximised by the critic,
estimates their Wasserstein distance, and the generator minimises it. A penalty holds the length of
the critic's gradient near 1 between real and synthesized features (Gulrajani et al., "Improved
Training of Wasserstein GANs", NeurIPS 2017).

Both networks have one hidden layer. The gradient of the critic ``w . lrelu(W x + V a + b)`` with
respect to ``x`` is then ``W' (s * w)``, where ``s`` are the slopes of the leaky ReLU, constant
almost everywhere. The penalty is thus an ordinary function of ``W`` and ``w``, whose gradient needs
no second pass of automatic differentiation.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.core.settings import Range
from gsmflow.learning.contract import Batch, Optimizer, ParameterGroup
from gsmflow.methods.layers import dense, draw_weights
from gsmflow.methods.positioning import SemanticsScalingName
from gsmflow.methods.synthesizing import SynthesizingModel

__all__ = [
    "GAN_BETAS",
    "GAN_TRAINING",
    "NEGATIVE_FEATURES",
    "SHORT_TRAINING",
    "ConditionalCritic",
    "ConditionalGenerator",
    "CriticLosses",
    "FeatureGAN",
    "OutputName",
    "WGANConfig",
    "adapt_penalty_weight",
    "critic_losses",
    "leaky_relu",
    "published_samples",
    "weighted_sum",
]

OutputName: TypeAlias = Literal["relu", "sigmoid", "none"]

GAN_BETAS = (0.5, 0.999)
"""Adam's decay rates for the networks of these methods."""

GAN_TRAINING: Mapping[str, Any] = {
    "feature_scaling": "minmax",
    "batch_size": 64,
    "batches": "drawn",
    "lr_decay": 1.0,
    "weight_decay": 0.0,
    "precision": "fp32",
    "classifier_lr": 1e-3,
    "classifier_epochs": 25,
}
"""Settings that the published code of these methods has for every dataset."""

NEGATIVE_FEATURES: Mapping[str, Any] = {"feature_scaling": "centred", "output": "none"}
"""Settings for principal components, whose spread has a meaning that min-max scaling removes."""

SHORT_TRAINING: Mapping[str, Any] = {
    "schedule": "fast",
    "fast_epochs": 10,
    "fast_learning_rate": 1e-3,
    "precision": "auto",
    "hidden": 1024,
    "semantics_scaling": "norm",
    "semantics_norm": 5.0,
}
"""Settings of these methods' ``--preset short``, chosen on FLO's validation classes. With longer
semantics the networks learn from them sooner."""

_SLOPE = 0.2
# An adaptive penalty weight rises or falls by this factor where the penalty leaves these bounds.
_ADAPTATION = 1.1
_PENALTY_BOUNDS = (1.001, 1.05)
_WEIGHT_BOUNDS = (1e-6, 1e6)


def leaky_relu(values: Tensor) -> Tensor:
    """Leaky ReLU with the slope of these methods, 0.2."""
    return functional.leaky_relu(values, _SLOPE)


class ConditionalGenerator(nn.Module):
    """From noise and semantics to features, with one hidden layer.

    Parameters
    ----------
    noise_dim, semantics_dim, hidden, feature_dim
        Sizes.
    output
        What follows the last layer: ``"relu"``, ``"sigmoid"`` or ``"none"``.
    """

    def __init__(
        self,
        noise_dim: int,
        semantics_dim: int,
        hidden: int,
        feature_dim: int,
        output: OutputName,
    ) -> None:
        super().__init__()
        self.output = output
        # The first layer, split, so that a class's share of it can be computed once for many rows.
        self.noise = dense(noise_dim, hidden)
        self.semantics = dense(semantics_dim, hidden, bias=False)
        self.features = dense(hidden, feature_dim)

    @property
    def noise_dim(self) -> int:
        """Length of the noise."""
        return int(self.noise.in_features)

    def hidden(self, noise: Tensor, of_semantics: Tensor) -> Tensor:
        """Hidden units ``(n, h)`` of noise ``(n, k)`` and what `semantics` gave, ``(n, h)``."""
        return leaky_relu(self.noise(noise) + of_semantics)

    def logits(self, hidden: Tensor) -> Tensor:
        """What the output's function is applied to, ``(n, d)``, of hidden units ``(n, h)``."""
        return at_least_float32(self.features(hidden))

    def activated(self, logits: Tensor) -> Tensor:
        """Features ``(n, d)`` of what `logits` gave."""
        if self.output == "none":
            return logits
        return torch.relu(logits) if self.output == "relu" else torch.sigmoid(logits)

    def forward(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Features ``(n, d)`` of noise ``(n, k)`` and semantics ``(n, a)``."""
        return self.activated(self.logits(self.hidden(noise, self.semantics(semantics))))


class ConditionalCritic(nn.Module):
    """A score of features under semantics, with one hidden layer.

    Parameters
    ----------
    feature_dim, semantics_dim, hidden
        Sizes.
    """

    def __init__(self, feature_dim: int, semantics_dim: int, hidden: int) -> None:
        super().__init__()
        # Apart, since the penalty is of the gradient with respect to the features alone.
        self.features = dense(feature_dim, hidden)
        self.semantics = dense(semantics_dim, hidden, bias=False)
        self.score = dense(hidden, 1)

    def forward(self, features: Tensor, semantics: Tensor) -> Tensor:
        """Scores ``(n,)`` of features ``(n, d)`` under semantics ``(n, a)``."""
        before = self.features(features) + self.semantics(semantics)
        return at_least_float32(self.score(leaky_relu(before)).squeeze(1))

    def gradients(self, before: Tensor) -> Tensor:
        """The gradients of scores with respect to features, ``(n, d)``.

        Parameters
        ----------
        before
            What the leaky ReLU is applied to, ``(n, h)``.
        """
        weight = self.score.weight
        # With the (h, h) products of W, it would cost more unless a batch had more rows than units.
        of_hidden = torch.where(before.detach() > 0, weight, _SLOPE * weight)
        return functional.linear(of_hidden, self.features.weight.T)


class CriticLosses(NamedTuple):
    """What a critic minimises, scalars.

    Attributes
    ----------
    distance
        Mean score of synthesized rows minus that of real rows.
    penalty
        Mean of ``(||gradient|| - 1)^2``, unweighted.
    """

    distance: Tensor
    penalty: Tensor


def critic_losses(
    critic: ConditionalCritic,
    real: Tensor,
    synthesized: Tensor,
    semantics: Tensor,
    shares: Tensor,
) -> CriticLosses:
    """The losses of a critic, whose gradients reach its parameters.

    Parameters
    ----------
    critic
        The critic.
    real, synthesized
        Features ``(n, d)``, of the same class row by row.
    semantics
        The semantics of that class, ``(n, a)``.
    shares
        Share of the real row in the point where the gradient is penalised, ``(n,)`` in [0, 1].
    """
    of_features = critic.features(torch.cat([real, synthesized])).unflatten(0, (2, len(real)))
    before = of_features + critic.semantics(semantics)
    scores = at_least_float32(critic.score(leaky_relu(before)).squeeze(2)).mean(dim=1)
    # Up to the leaky ReLU, the critic is linear: no further product for the points between.
    of_real, of_synthesized = at_least_float32(before.detach()).unbind()
    between = torch.lerp(of_synthesized, of_real, shares[:, None].to(of_real))
    lengths = torch.linalg.vector_norm(at_least_float32(critic.gradients(between)), dim=1)
    return CriticLosses(scores[1] - scores[0], (lengths - 1).square().mean())


def adapt_penalty_weight(weight: Tensor, penalty: Tensor) -> None:
    """Change an adaptive weight, in place, towards penalties of about 1, gradients of about 2.

    Parameters
    ----------
    weight
        The weight, a scalar; it stays between 1e-6 and 1e6.
    penalty
        The mean penalty of the last steps of the critic, a scalar.
    """
    low, high = _PENALTY_BOUNDS
    falling = torch.where(penalty < low, 1 / _ADAPTATION, 1.0)
    weight.mul_(torch.where(penalty > high, _ADAPTATION, falling)).clamp_(*_WEIGHT_BOUNDS)


@dataclass(frozen=True)
class WGANConfig:
    """The settings that the Wasserstein GANs of features share."""

    hidden: Annotated[int, Range(min=1)] = 4096
    """Hidden units of the generator and of the critic."""
    noise_dim: Annotated[int | None, Range(min=1)] = None
    """Length of the generator's noise; None: that of the semantics."""
    critic_steps: Annotated[int, Range(min=1)] = 5
    """Steps of the critic, each on another batch, before each step of the generator."""
    penalty_weight: Annotated[float, Range(min=0)] = 10.0
    """Weight (lambda) of the gradient penalty, at the start if it is adaptive."""
    adaptive_penalty: bool = False
    """Whether the weight of the gradient penalty rises or falls by a tenth after each step, so that
    the critic's gradients get a length of about 2."""
    samples_per_class: Annotated[int, Range(min=1)] = 300
    """Synthesized features per unseen class."""
    semantics_scaling: SemanticsScalingName = "none"
    """Scale of the semantics: norm (one factor, to semantics-norm), standardised, or none."""
    semantics_norm: Annotated[float, Range(above=0)] = 1.0
    """Mean length of the seen classes' semantics under --semantics-scaling norm."""
    output: OutputName = "relu"
    """What follows the generator's last layer: relu or sigmoid, or none for features that may be
    negative."""


class FeatureGAN(SynthesizingModel):
    """A generator and its critic; a method has a subclass with the loss of its generator.

    Dense weights start normally distributed with deviation 0.02, biases at 0. Parameters as
    `ClassModel` has them.
    """

    config: WGANConfig
    penalty_weight: Tensor

    def __init__(
        self,
        config: WGANConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        a, hidden = self.semantics.shape[1], config.hidden
        self.register_buffer("penalty_weight", torch.tensor(float(config.penalty_weight)))
        noise_dim = config.noise_dim or a
        self.generator = ConditionalGenerator(noise_dim, a, hidden, feature_dim, config.output)
        self.critic = ConditionalCritic(feature_dim, a, hidden)
        self.make_layers()
        draw_weights(self, "normal", generator)

    def make_layers(self) -> None:
        """Make the other networks of a method, before the weights of all are drawn."""

    @property
    def noise_dim(self) -> int:
        """Length of the generator's noise."""
        return self.generator.noise_dim

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)`` of noise ``(n, k)`` and semantics ``(n, a)``."""
        made: Tensor = self.generator(noise, semantics)
        return made

    def batches_per_step(self) -> int:
        """One batch for each step of the critic."""
        return self.config.critic_steps

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of the critic and of the generator."""
        return {
            name: ParameterGroup(list(module.parameters()), betas=GAN_BETAS)
            for name, module in (("critic", self.critic), ("generator", self.generator))
        }

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """Train the critic on each batch, then the generator on the last; see `StepTrained`."""
        rows = list(batches)
        losses = self.train_critic(rows, random, optimizers["critic"])
        loss, parts = self.generator_loss(rows[-1], random)
        optimizers["generator"].minimize(loss)
        return {**losses._asdict(), **parts}

    def train_critic(
        self, batches: list[Batch], random: BatchRandom, optimizer: Optimizer
    ) -> CriticLosses:
        """One step of the critic on each batch; gives the means of its losses.

        The generator stays as it is, so all rows are synthesized at once, without gradients.
        """
        features = torch.cat([batch.features for batch in batches])
        semantics = self.semantics[torch.cat([batch.labels for batch in batches])]
        with torch.no_grad():
            synthesized = self.rows_for_critic(features, semantics, random)
        found = []
        for batch, made, conditions in zip(
            batches,
            synthesized.chunk(len(batches)),
            semantics.chunk(len(batches)),
            strict=True,
        ):
            found.append(self.step_critic(batch, made, conditions, random, optimizer))
        return self.after_critic(found)

    def rows_for_critic(self, features: Tensor, semantics: Tensor, random: BatchRandom) -> Tensor:
        """Synthesized rows ``(n, d)`` that the critic sees beside real ones of equal semantics."""
        return self.synthesized(self.noise_for(semantics, random), semantics)

    def critic_loss(self, losses: CriticLosses, batch: Batch) -> Tensor:
        """What the critic's optimizer minimises on a batch of real rows, a scalar."""
        return losses.distance + self.penalty_weight * losses.penalty

    def step_critic(
        self,
        batch: Batch,
        synthesized: Tensor,
        semantics: Tensor,
        random: BatchRandom,
        optimizer: Optimizer,
    ) -> CriticLosses:
        """One step of the critic on a batch and synthesized rows; gives its losses, detached."""
        shares = random.uniform(len(synthesized))
        losses = critic_losses(self.critic, batch.features, synthesized, semantics, shares)
        optimizer.minimize(self.critic_loss(losses, batch))
        return CriticLosses(losses.distance.detach(), losses.penalty.detach())

    def after_critic(self, losses: list[CriticLosses]) -> CriticLosses:
        """The mean losses of a step's critic steps; an adaptive penalty weight is adapted."""
        distances, penalties = zip(*losses, strict=True)
        means = CriticLosses(torch.stack(distances).mean(), torch.stack(penalties).mean())
        if self.config.adaptive_penalty:
            adapt_penalty_weight(self.penalty_weight, means.penalty)
        return means

    @abstractmethod
    def generator_loss(self, batch: Batch, random: BatchRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the generator for the classes of a batch, and its parts for the log."""


def weighted_sum(
    weighted: Mapping[str, tuple[float, Tensor]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of losses with weights, and the losses by name for the log."""
    total = torch.stack([weight * loss for weight, loss in weighted.values()]).sum()
    return total, {name: loss for name, (_, loss) in weighted.items()}


def published_samples(count: int) -> dict[str, Any]:
    """Settings with so many synthesized rows of each unseen class.

    The classifier's batches have the same size, as in the code of this family.
    """
    return {"samples_per_class": count, "classifier_batch_size": count}
