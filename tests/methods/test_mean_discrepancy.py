"""The maximum mean discrepancy against loops, finite differences and its expectation."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gsmflow.methods.mean_discrepancy import (
    gaussian_kernel,
    inverse_multiquadric,
    mean_discrepancy,
)
from tests.builders import seeded

KERNEL = gaussian_kernel(1.0)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def looped_discrepancy(u: NDArray[Any], v: NDArray[Any], s: float) -> float:
    def mean(left: NDArray[Any], right: NDArray[Any], *, distinct: bool) -> float:
        values = [
            np.exp(-s * np.sum((x - y) ** 2))
            for i, x in enumerate(left)
            for j, y in enumerate(right)
            if not (distinct and i == j)
        ]
        return float(np.mean(values))

    both = mean(u, u, distinct=True) + mean(v, v, distinct=True)
    return both - 2 * mean(u, v, distinct=False)


@pytest.mark.parametrize("sharpness", [0.1, 3.0])
def test_discrepancy_equals_a_double_loop(sharpness: float) -> None:
    u, v = normal(8, 3, seed=0), normal(5, 3, seed=1) + 0.5
    expected = looped_discrepancy(u.numpy(), v.numpy(), sharpness)
    assert mean_discrepancy(u, v, gaussian_kernel(sharpness)).item() == pytest.approx(expected)
    found = mean_discrepancy(u.float(), v.float(), gaussian_kernel(sharpness)).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_discrepancy_of_one_distribution_is_zero_on_average() -> None:
    u, v = normal(400, 30, 2, seed=0), normal(400, 12, 2, seed=1)
    same = [mean_discrepancy(x, y, KERNEL).item() for x, y in zip(u, v, strict=True)]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 3 * error
    other = [mean_discrepancy(x, y + 1, KERNEL).item() for x, y in zip(u, v, strict=True)]
    assert np.mean(other) > 20 * error


def test_discrepancy_is_finite_for_single_rows_and_has_the_gradient_of_differences() -> None:
    u, v = normal(1, 3, seed=0).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    assert torch.isfinite(mean_discrepancy(u, v[:1], KERNEL))
    pair = (torch.cat([u, u + 0.3]).detach().requires_grad_(), v)
    assert torch.autograd.gradcheck(lambda a, b: mean_discrepancy(a, b, KERNEL), pair)


def test_discrepancy_does_not_use_bf16_products() -> None:
    u, v = normal(8, 3, seed=0).float(), normal(5, 3, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = mean_discrepancy(u, v, KERNEL)
    assert torch.equal(found, mean_discrepancy(u, v, KERNEL))


def test_inverse_multiquadric_equals_a_double_loop() -> None:
    u, v = normal(6, 3, seed=0), normal(4, 3, seed=1)

    def mean(left: torch.Tensor, right: torch.Tensor, *, distinct: bool) -> float:
        values = [
            6 / (6 + float((x - y).square().sum()))
            for i, x in enumerate(left)
            for j, y in enumerate(right)
            if not (distinct and i == j)
        ]
        return float(np.mean(values))

    expected = (
        mean(u, u, distinct=True) + mean(v, v, distinct=True) - 2 * mean(u, v, distinct=False)
    )
    found = mean_discrepancy(u, v, inverse_multiquadric(6.0))
    assert found.item() == pytest.approx(expected)
