"""What variational autoencoders share: diagonal Gaussian posteriors, their latents and KL."""

import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom

__all__ = ["as_float32", "gaussian_kl", "reparameterise", "squared_errors"]


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
    return (as_float32(decoded) - target).square().sum(dim=1)


def as_float32(values: Tensor) -> Tensor:
    """Values in float32 or float64: bf16 is too coarse for sums of thousands of them."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
