"""Training steps by hand, in plain torch, on copies of a model's parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gsmflow.learning.contract import Optimizer, StepTrained

RATE = 1e-2
GAN_BETAS = 0.5, 0.999


class PlainAdam:
    """An optimizer of a model's training step, at one learning rate."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], betas: tuple[float, float], factor: float
    ) -> None:
        self.parameters = parameters
        self.adam = torch.optim.Adam(parameters, RATE * factor, betas=betas)

    def minimize(self, loss: Tensor) -> None:
        self.step(torch.autograd.grad(loss, self.parameters, allow_unused=True))

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()


def optimizers_of(model: StepTrained) -> dict[str, Optimizer]:
    """An optimizer for each group of a model's parameters."""
    return {
        name: PlainAdam(group.parameters, group.betas, group.learning_rate_factor)
        for name, group in model.parameter_groups().items()
    }


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def weighted_errors(found: Tensor, semantics: Tensor) -> Tensor:
    """The weighted absolute errors of semantics, of which those of a class have length 1."""
    errors = found - semantics / semantics.norm(dim=1, keepdim=True)
    weights = errors.square() / errors.norm(dim=1, keepdim=True)
    losses: Tensor = (weights * errors.abs()).sum(dim=1)
    return losses.mean()


class VAEGANByHand:
    """The parameters of an f-VAEGAN or of a method that adds to it, and what is made of them.

    Attributes
    ----------
    parameters
        Copies of the model's parameters by name.
    penalty_weight
        Weight of the gradient penalty, adapted.
    """

    def __init__(self, model: nn.Module, penalty_weight: float = 10.0) -> None:
        copies = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.parameters = {name: copy.requires_grad_() for name, copy in copies.items()}
        self.penalty_weight = penalty_weight

    def adam(
        self, network: str, betas: tuple[float, float] = GAN_BETAS, factor: float = 1.0
    ) -> torch.optim.Adam:
        """Adam for the parameters whose names begin with a network's."""
        chosen = [p for name, p in self.parameters.items() if name.split(".")[0] == network]
        return torch.optim.Adam(chosen, RATE * factor, betas=betas)

    def descend(self, loss: Tensor, *adams: torch.optim.Adam) -> None:
        """A step of some optimizers on a loss, whose gradients they alone use."""
        for parameter in self.parameters.values():
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for adam in adams:
            adam.step()

    def layer(self, name: str, x: Tensor) -> Tensor:
        return x @ self.parameters[f"{name}.weight"].T + self.parameters[f"{name}.bias"]

    def posterior(self, features: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations of the latents."""
        hidden = torch.cat([features, semantics], dim=1)
        for name in ("first", "second"):
            hidden = leaky(self.layer(f"encoder_network.{name}", hidden))
        log_variance = self.layer("encoder_network.log_variance", hidden)
        return self.layer("encoder_network.mean", hidden), (log_variance / 2).exp()

    def units(self, latents: Tensor, semantics: Tensor) -> Tensor:
        """The generator's hidden units."""
        of_semantics = semantics @ self.parameters["generator.semantics.weight"].T
        return leaky(self.layer("generator.noise", latents) + of_semantics)

    def rows(self, units: Tensor) -> Tensor:
        """Features of the generator's hidden units."""
        return 1 / (1 + (-self.layer("generator.features", units)).exp())

    def score(self, features: Tensor, semantics: Tensor) -> Tensor:
        """The critic's scores."""
        of_semantics = semantics @ self.parameters["critic.semantics.weight"].T
        hidden = leaky(self.layer("critic.features", features) + of_semantics)
        return self.layer("critic.score", hidden)[:, 0]

    def critic_losses(
        self, real: Tensor, made: Tensor, semantics: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Distance and penalty, from a second derivative."""
        made = made.detach()
        distance = self.score(made, semantics).mean() - self.score(real, semantics).mean()
        between = (shares[:, None] * real + (1 - shares[:, None]) * made).requires_grad_()
        scores = self.score(between, semantics).sum()
        (slopes,) = torch.autograd.grad(scores, between, create_graph=True)
        return distance, (slopes.norm(dim=1) - 1).square().mean()

    def adapt(self, penalties: list[float]) -> None:
        """Adapt the weight of the penalty after some steps of the critic."""
        mean = sum(penalties) / len(penalties)
        assert not 1.0 < mean < 1.06, "the weight would stay"
        self.penalty_weight *= 1.1 if mean > 1.05 else 1 / 1.1


def cross_entropy(decoded: Tensor, features: Tensor) -> Tensor:
    """Minus the log-likelihood of rows in [0, 1], a sum over dimensions and a mean over rows."""
    likelihood = features * decoded.log() + (1 - features) * (1 - decoded).log()
    return -likelihood.sum(dim=1).mean()


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """The KL divergence from the standard normal distribution, a mean over rows."""
    per_number = (mean.square() + deviation.square() - 1) / 2 - deviation.log()
    return per_number.sum(dim=1).mean()


def assert_equal_parameters(model: nn.Module, expected: dict[str, Tensor]) -> None:
    """A model has the expected parameters, up to rounding in fp64."""
    found = dict(model.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        difference = (parameter - expected[name]).abs().max().item()
        assert difference < 1e-7, name
