"""Denormal numbers are 0 in the context alone, where the processor can do so."""

import pytest
import torch

from gsmflow.core.denormals import flushing_denormals

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor does not flush denormal numbers"
)


def product() -> float:
    return float(torch.full((1,), 1e-20) * torch.full((1,), 1e-20))


def test_products_below_the_smallest_normal_number_are_zero_inside_alone() -> None:
    assert product() == pytest.approx(1e-40, rel=1e-4)
    with flushing_denormals():
        assert product() == 0
        with flushing_denormals():
            assert product() == 0
        assert product() == 0
    assert product() > 0


def test_moments_without_gradients_end_at_zero() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight], fused=True)
    with flushing_denormals():
        for step in range(1000):
            adam.zero_grad()
            (weight * (step == 0)).sum().backward()
            adam.step()
    # Otherwise they end at 5.6e-45, which times 0.9 is rounded to itself.
    assert not adam.state[weight]["exp_avg"].any()
