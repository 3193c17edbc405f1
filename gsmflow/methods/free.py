"""FREE: f-VAEGAN whose classifiers see features that are refined with the help of the semantics.

Chen et al., "FREE: Feature Refinement for Generalized Zero-Shot Learning", ICCV 2021, after the
published code. A refinement network maps features to a Gaussian in the space of the semantics, from
which refined semantics are drawn. It learns that the Gaussian's means gather at a centre for each
class, nearer than at another class's by a margin, and that the refined semantics are those of the
class at length 1, of which a sigmoid can reach those from 0 to 1; the generator learns the latter
of its rows, too. The classifiers see the features, the network's hidden layer and the refined
semantics.

Differences from the published code, beside those of f-VAEGAN:

- The centres' gradients are those of one step; in the published code they add up over the training.
- The other class of the margin is a random one, never the row's own, on all datasets; for AWA1,
  AWA2 and APY the published code takes that of the nearest centre.
- The refinement network has the learning rate of the other networks; in the published code 1e-4,
  and on AWA1 and AWA2 it does not learn in the steps of the generator.
- The classifiers see refined semantics of the Gaussian's mean; in the published code, of a random
  draw.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.learning.contract import (
    Batch,
    ClassifierRows,
    Optimizer,
    ParameterGroup,
    RowsRequest,
    check_two_seen,
    minimize_together,
)
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.encoded_rows import encoded_rows
from gsmflow.methods.f_vaegan import (
    FVAEGAN,
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

__all__ = ["FREE", "METHOD", "FREEConfig", "RefinementNetwork", "margin_loss"]


@dataclass(frozen=True)
class FREEConfig(FVAEGANConfig):
    """The settings of a `FREE`."""

    critic_steps: Annotated[int, Range(min=1)] = 1
    """Steps of the critic, each on another batch, before each step of the generator."""
    refinement_weight: Annotated[float, Range(min=0)] = 1e-3
    """Weight (r) of the refined semantics' loss, for real and for synthesized rows."""
    centre_weight: Annotated[float, Range(min=0)] = 0.5
    """Weight of the loss of the centres."""
    centre_margin: Annotated[float, Range(min=0)] = 50.0
    """By how much a row is to be nearer to its own centre, as weighted squared distances."""
    centre_balance: Annotated[float, Range(min=0, max=1)] = 0.5
    """Weight of the squared distance from the own centre; that from another one has the rest."""


class RefinementNetwork(nn.Module):
    """From features to a diagonal Gaussian in the space of the semantics, by a hidden layer.

    Parameters
    ----------
    feature_dim, hidden, semantics_dim
        Sizes.
    """

    def __init__(self, feature_dim: int, hidden: int, semantics_dim: int) -> None:
        super().__init__()
        self.first = dense(feature_dim, hidden)
        self.second = dense(hidden, 2 * semantics_dim)

    def hidden(self, features: Tensor) -> Tensor:
        """Hidden units ``(n, h)`` of features ``(n, d)``."""
        return leaky_relu(self.first(features))

    def gaussian(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations, ``(n, a)`` each, of hidden units ``(n, h)``."""
        mean, spread = at_least_float32(self.second(hidden)).chunk(2, dim=1)
        return mean, torch.sigmoid(spread)

    def forward(self, features: Tensor) -> Tensor:
        """Features, hidden units and refined semantics, ``(n, d + h + a)``, of ``(n, d)``."""
        hidden = self.hidden(features)
        semantics = torch.sigmoid(self.gaussian(hidden)[0])
        return torch.cat([features, hidden.to(features), semantics.to(features)], dim=1)


def margin_loss(
    means: Tensor, own: Tensor, other: Tensor, *, margin: float, balance: float
) -> Tensor:
    """``[margin + w ||u - own||^2 - (1 - w) ||u - other||^2]_+``, a mean over rows ``u``, a scalar.

    Parameters
    ----------
    means
        Rows ``(n, a)``.
    own, other
        The centre of each row's class, and that of another class, ``(n, a)``.
    margin, balance
        The margin, ``>= 0``, and ``w``, in [0, 1].
    """
    near = (means - own).square().sum(dim=1)
    far = (means - other).square().sum(dim=1)
    return torch.relu(margin + balance * near - (1 - balance) * far).mean()


class FREE(FVAEGAN):
    """f-VAEGAN's networks, the refinement network and the centres ``(seen, a)``.

    The centres start normally distributed. Parameters as `ClassModel` has them.
    """

    config_class = FREEConfig
    config: FREEConfig

    def __init__(
        self,
        config: FREEConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        shape = len(self.seen_classes), self.semantics.shape[1]
        self.centres = nn.Parameter(nn.init.normal_(torch.empty(shape), generator=generator))

    def make_layers(self) -> None:
        """Make the encoder and the refinement network."""
        super().make_layers()
        a = self.semantics.shape[1]
        self.refinement = RefinementNetwork(self.feature_dim, self.config.hidden, a)

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The optimizers of all networks and of the centres."""
        added = {"refinement": list(self.refinement.parameters()), "centres": [self.centres]}
        groups = {name: ParameterGroup(values, GAN_BETAS) for name, values in added.items()}
        return {**super().parameter_groups(), **groups}

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """Refinement, centres and critic on each batch, then the generator; see `StepTrained`."""
        rows, found = list(batches), []
        for batch in rows:
            loss, of_real = self.refinement_loss(batch, random)
            minimize_together(loss, [optimizers["refinement"], optimizers["centres"]])
            semantics = self.semantics[batch.labels]
            with torch.no_grad():
                made = self.rows_for_critic(batch.features, semantics, random)
            critic = self.step_critic(batch, made, semantics, random, optimizers["critic"])
            found.append(critic)
        critic = self.after_critic(found)
        losses = self.vae_gan_losses(rows[-1], random, self.logits)
        cycle = self._refined_loss(losses.made, losses.semantics, random)[0]
        total = losses.total + self.config.refinement_weight * cycle
        learning = ("generator", "encoder", "refinement")
        minimize_together(total, [optimizers[name] for name in learning])
        return {**critic._asdict(), **losses.parts, **of_real, "cycle": cycle}

    def refinement_loss(
        self, batch: Batch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the refinement network and the centres on real rows, and its parts.

        Parameters
        ----------
        batch
            Scaled features ``(n, d)`` and classes ``(n,)``.
        random
            Source of the Gaussian's noise and of the other classes.
        """
        config, columns = self.config, torch.searchsorted(self.seen_classes, batch.labels)
        refined, means = self._refined_loss(batch.features, self.semantics[batch.labels], random)
        others = self._other_columns(columns, random)
        centres = margin_loss(
            means,
            self.centres[columns],
            self.centres[others],
            margin=config.centre_margin,
            balance=config.centre_balance,
        )
        total = config.centre_weight * centres + config.refinement_weight * refined
        return total, {"centres": centres.detach(), "refinement": refined.detach()}

    def _refined_loss(
        self, features: Tensor, semantics: Tensor, random: BatchRandom
    ) -> tuple[Tensor, Tensor]:
        """How far refined semantics are from the classes' at length 1, and the means ``(n, a)``."""
        mean, deviation = self.refinement.gaussian(self.refinement.hidden(features))
        drawn = torch.sigmoid(mean + deviation * random.normal(mean))
        return weighted_l1(drawn, functional.normalize(semantics)).mean(), mean

    def _other_columns(self, columns: Tensor, random: BatchRandom) -> Tensor:
        """Another seen class for each of ``(n,)``, all of them equally likely."""
        seen = len(self.seen_classes)
        steps = (random.uniform(len(columns)) * (seen - 1)).long().clamp_max(seen - 2)
        return (columns + 1 + steps) % seen

    @classmethod
    def for_problem(cls, scaled: Scaled, config: FREEConfig, generators: Generators) -> "FREE":
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            If there is one seen class, so that no row has another one's centre.
        """
        check_two_seen(scaled.problem, "rows can be nearer to one centre than to another")
        return super().for_problem(scaled, config, generators)

    @property
    def encoder(self) -> nn.Module:
        """The refinement network, whose features, hidden units and semantics classifiers see."""
        return self.refinement

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Refined real seen rows and synthesized unseen rows, streamed if there are many."""
        return encoded_rows(request, self, self.encoder)


def _centres(
    margin: float, balance: float, refinement: float, *, critic_steps: int = 1, batch: int = 64
) -> dict[str, Any]:
    return {
        "centre_margin": margin,
        "centre_balance": balance,
        "refinement_weight": refinement,
        "critic_steps": critic_steps,
        "batch_size": batch,
    }


# An epoch of the published code has two passes over the rows: here, two epochs.
METHOD = Method(
    name="free",
    label="FREE",
    paper="Chen et al., ICCV 2021; after the published code",
    kind="generative",
    config=FREEConfig,
    model=FREE,
    published={
        "": GAN_TRAINING,
        "AWA1/classic": NEGATIVE_FEATURES,
        "AWA1": published_settings(1e-5, 600, 4600) | _centres(50.0, 0.1, 1e-3),
        "AWA2": published_settings(1e-5, 800, 4600) | _centres(50.0, 0.5, 1e-3),
        "CUB": published_settings(1e-4, 1000, 700) | _centres(200.0, 0.8, 1e-3),
        "SUN": published_settings(2e-4, 1200, 300, weight=1.0)
        | _centres(120.0, 0.8, 0.1, batch=512)
        | {"classifier_lr": 5e-4},
        "FLO": published_settings(1e-4, 1000, 2400, encoded_noise=False)
        | _centres(200.0, 0.8, 1e-3, critic_steps=5, batch=256),
        "APY": published_settings(1e-5, 800, 400, encoded_noise=False) | _centres(50.0, 0.5, 1e-3),
        "DIGITS": {
            "feature_scaling": "none",  # pixels are in [0, 1]
            "hidden": 256,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "epochs": 10,
            "samples_per_class": 200,
            "classifier_lr": 1e-2,
            "classifier_batch_size": 256,
            "classifier_epochs": 5,
        },
    },
    short={
        "": {**SHORT_TRAINING, "batch_size": 64, "fast_epochs": 8},
        "AWA1": {"fast_epochs": 4},
        "AWA2": {"fast_epochs": 4},
    },
    variants={"no-centres": {"centre_weight": 0.0}, "no-cycle": {"refinement_weight": 0.0}},
    search={
        "hidden": TimesOneOf((0.25, 0.5, 1)),
        "adversarial_weight": Times(0.1, 10),
        "encoded_noise": OneOf((True, False)),
        "refinement_weight": Times(0.1, 10),
        "centre_margin": Times(0.3, 3),
        "samples_per_class": Times(0.25, 2),
    },
)
