"""The plain baseline of f-CLSWGAN: its training step as research code writes it.

Every result equals the package's up to rounding (``tests/benchmarks/test_plain_gan.py``), but the
code is slow on purpose. In each step of the critic, real rows, synthesized rows and those between
them have a pass each through the critic, and the gradient penalty is differentiated through the
gradient's own graph. Rows are gathered one by one, noise is drawn on the host, and Adam is torch's
default.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import IntArray
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.f_clswgan import FCLSWGAN, FCLSWGANConfig
from gsmflow.methods.wgan import GAN_BETAS

__all__ = ["PlainGAN", "PlainGANTrainer", "plain_gan_copy"]

_Floats: TypeAlias = NDArray[np.floating[Any]]


class PlainGAN(nn.Module):
    """Generator and critic on concatenated inputs, and the frozen classifier of seen classes.

    `plain_gan_copy` makes it.

    Parameters
    ----------
    config
        Settings of the package's model.
    noise_dim, semantics_dim, feature_dim, seen
        Sizes.
    """

    def __init__(
        self,
        config: FCLSWGANConfig,
        *,
        noise_dim: int,
        semantics_dim: int,
        feature_dim: int,
        seen: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.noise_dim = noise_dim
        self.generator = nn.Sequential(
            nn.Linear(noise_dim + semantics_dim, config.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden, feature_dim),
            nn.ReLU(),
        )
        self.critic = nn.Sequential(
            nn.Linear(feature_dim + semantics_dim, config.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden, 1),
        )
        self.classifier = nn.Linear(feature_dim, seen)
        for parameter in self.classifier.parameters():
            parameter.requires_grad_(False)


def plain_gan_copy(model: FCLSWGAN) -> PlainGAN:
    """Copy a model's weights into a plain one: the same functions, on the same device."""
    # Torch's layers draw initial weights, which are overwritten below.
    with torch.random.fork_rng(devices=[]):
        plain = PlainGAN(
            model.config,
            noise_dim=model.generator.noise_dim,
            semantics_dim=model.semantics.shape[1],
            feature_dim=model.feature_dim,
            seen=len(model.seen_classes),
        ).to(model.semantics)
    generator, critic = model.generator, model.critic
    for theirs, inputs, semantics, output in (
        (plain.generator, generator.noise, generator.semantics, generator.features),
        (plain.critic, critic.features, critic.semantics, critic.score),
    ):
        weight = torch.cat([inputs.weight.detach(), semantics.weight.detach()], dim=1)
        theirs[0].load_state_dict({"weight": weight, "bias": inputs.bias.detach()})
        theirs[2].load_state_dict(output.state_dict())
    plain.classifier.load_state_dict({"weight": model.seen_weight, "bias": model.seen_bias})
    return plain


class PlainGANTrainer:
    """The training loop, one step at a time.

    Parameters
    ----------
    model
        Trained in place, with the settings of ``model.config``.
    features, labels
        All scaled training rows on the host, ``(n, d)`` and ``(n,)``.
    semantics
        The semantics of every class, ``(classes, a)``.
    seen_classes
        Ascending class numbers, ``(seen,)``.
    config
        Settings of the training.
    generator
        A CPU generator for batches and noise.
    """

    def __init__(
        self,
        model: PlainGAN,
        features: _Floats,
        labels: IntArray,
        semantics: _Floats,
        seen_classes: IntArray,
        config: TrainingConfig,
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self._features, self._labels = features, labels
        self._semantics, self._seen = semantics, seen_classes
        self._generator = generator
        self._batch_size = config.batch_size
        self._critic_adam, self._generator_adam = (
            torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=GAN_BETAS)
            for network in (model.critic, model.generator)
        )
        self._batches = self._draw_rows()

    def step(self) -> dict[str, Tensor]:
        """The critic's steps and the generator's; gives the parts of the loss, detached."""
        critic_steps = self.model.config.critic_steps
        for parameter in self.model.critic.parameters():
            parameter.requires_grad_(True)
        found = []
        for _ in range(critic_steps):
            rows = next(self._batches)
            found.append(self._step_critic(rows))
        for parameter in self.model.critic.parameters():
            parameter.requires_grad_(False)
        distance, penalty = (sum(values) / critic_steps for values in zip(*found, strict=True))
        critic = {"distance": torch.as_tensor(distance), "penalty": torch.as_tensor(penalty)}
        return critic | self._step_generator(rows)

    def _draw_rows(self) -> Iterator[IntArray]:
        """Yield batches of one permutation after another; an incomplete last batch is dropped."""
        n, size = len(self._labels), self._batch_size
        while True:
            order = torch.randperm(n, generator=self._generator).numpy()
            for start in range(0, max(n - size, 0) + 1, size):
                yield order[start : start + size]

    def _noise(self, count: int) -> Tensor:
        shape = (count, self.model.noise_dim)
        return self._to_device(torch.randn(shape, generator=self._generator).numpy())

    def _shares(self, count: int) -> Tensor:
        return self._to_device(torch.rand((count, 1), generator=self._generator).numpy())

    def _to_device(self, values: _Floats) -> Tensor:
        return torch.from_numpy(values).to(self.model.classifier.weight)

    def _gather_semantics(self, rows: IntArray) -> Tensor:
        return self._to_device(np.array([self._semantics[self._labels[i]] for i in rows]))

    def _step_critic(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        critic = self.model.critic
        real = self._to_device(np.array([self._features[i] for i in rows]))
        semantics = self._gather_semantics(rows)
        self._critic_adam.zero_grad()
        of_real = critic(torch.cat([real, semantics], dim=1)).mean()
        (-of_real).backward()
        noise = self._noise(len(rows))
        made = self.model.generator(torch.cat([noise, semantics], dim=1))
        of_made = critic(torch.cat([made.detach(), semantics], dim=1)).mean()
        of_made.backward()
        shares = self._shares(len(rows))
        between = (shares * real + (1 - shares) * made.detach()).requires_grad_()
        scores = critic(torch.cat([between, semantics], dim=1))
        (gradient,) = torch.autograd.grad(
            scores, between, torch.ones_like(scores), create_graph=True, retain_graph=True
        )
        penalty = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
        (self.model.config.penalty_weight * penalty).backward()
        self._critic_adam.step()
        return (of_made - of_real).detach(), penalty.detach()

    def _step_generator(self, rows: IntArray) -> dict[str, Tensor]:
        model = self.model
        semantics = self._gather_semantics(rows)
        targets = torch.from_numpy(np.searchsorted(self._seen, self._labels[rows]))
        self._generator_adam.zero_grad()
        made = model.generator(torch.cat([self._noise(len(rows)), semantics], dim=1))
        adversarial = -model.critic(torch.cat([made, semantics], dim=1)).mean()
        logits = model.classifier(made)
        classification = nn.functional.cross_entropy(logits, targets.to(logits.device))
        total = adversarial + model.config.classification_weight * classification
        total.backward()
        self._generator_adam.step()
        return {"adversarial": adversarial.detach(), "classification": classification.detach()}
