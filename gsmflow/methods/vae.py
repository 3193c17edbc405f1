"""What variational autoencoders share: diagonal Gaussian posteriors, their latents and KL."""

from torch import Tensor

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom

__all__ = ["gaussian_kl", "reparameterise", "squared_errors"]


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(mean, variance) || N(0, I))`` in nats, ``(n,)``, of diagonal Gaussians ``(n, k)``."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


def reparameterise(mean: Tensor, log_variance: Tensor, draws: BatchRandom) -> Tensor:
    """Latents ``(n, k)`` drawn from diagonal Gaussians ``(n, k)``: ``mean + deviation * noise``.

    The noise has a number of its own for each row and element.
    """
    return mean + (log_variance / 2).exp() * draws.normal(mean)


def squared_errors(decoded: Tensor, target: Tensor) -> Tensor:
    """Squared distance ``(n,)`` of each decoded row from its target, ``(n, d)`` both."""
    return (at_least_float32(decoded) - target).square().sum(dim=1)
