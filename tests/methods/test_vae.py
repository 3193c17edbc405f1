"""The KL divergence and the latents of diagonal Gaussians against torch.distributions."""

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from gsmflow.core.rng import BatchRandom
from gsmflow.methods.vae import gaussian_kl, reparameterise, squared_errors
from tests.builders import seeded


def gaussians(n: int = 20, k: int = 4) -> tuple[Tensor, Tensor]:
    mean, log_variance = torch.randn(2, n, k, generator=seeded(0), dtype=torch.float64)
    return mean, log_variance


def test_kl_equals_torch_distributions() -> None:
    mean, log_variance = gaussians()
    posterior = Independent(Normal(mean, log_variance.exp().sqrt()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), kl_divergence(posterior, prior))


def test_gradient_of_the_kl_equals_finite_differences() -> None:
    assert torch.autograd.gradcheck(gaussian_kl, [t.requires_grad_() for t in gaussians(3)])


def test_latents_are_distributed_as_their_posterior() -> None:
    mean, log_variance = (t[:2].repeat_interleave(50_000, dim=0) for t in gaussians())
    latents = reparameterise(mean, log_variance, BatchRandom(seeded(1))).view(2, -1, 4)
    posterior = Normal(mean[::50_000], log_variance[::50_000].exp().sqrt())
    torch.testing.assert_close(latents.mean(dim=1), posterior.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(latents.std(dim=1), posterior.stddev, rtol=0.02, atol=0)
    # Neither rows nor elements share their noise.
    for of_row in latents:
        correlation = torch.corrcoef(of_row.T)
        expected = torch.eye(4, dtype=torch.float64)
        torch.testing.assert_close(correlation, expected, rtol=0, atol=0.03)
    assert len(torch.unique(latents)) == latents.numel()


def test_gradients_of_latents_are_the_pathwise_derivatives() -> None:
    mean, log_variance = (t.requires_grad_() for t in gaussians(5))
    posterior = Normal(mean, log_variance.exp().sqrt())
    noise = torch.randn(5, 4, generator=seeded(2), dtype=torch.float64)
    expected = posterior.loc + posterior.scale * noise
    found = reparameterise(mean, log_variance, BatchRandom(seeded(2)))
    torch.testing.assert_close(found, expected)
    for other, own in zip(
        torch.autograd.grad(expected.square().sum(), (mean, log_variance)),
        torch.autograd.grad(found.square().sum(), (mean, log_variance)),
        strict=True,
    ):
        torch.testing.assert_close(own, other)


def test_squared_errors_are_sums_over_a_row_and_not_in_bf16() -> None:
    decoded, target = torch.randn(2, 3, 700, generator=seeded(0))
    expected = [
        sum((a - b) ** 2 for a, b in zip(*rows, strict=True))
        for rows in zip(decoded.tolist(), target.tolist(), strict=True)
    ]
    torch.testing.assert_close(squared_errors(decoded, target), torch.tensor(expected))
    assert squared_errors(decoded.bfloat16(), target).dtype == torch.float32
