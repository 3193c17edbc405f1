"""The unconditional flow against autograd's Jacobian and its own inverse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gsmflow.methods.invertible_flow import DimensionScaling, InvertibleFlow, Permutation
from tests.builders import seeded

PARTS: dict[str, Callable[[], Any]] = {
    "scaling": lambda: DimensionScaling([(5,)]),
    "permutation": lambda: Permutation([(5,)], generator=seeded(1)),
}


def rows(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 5, generator=seeded(0), dtype=torch.float64)


def away_from_start(module: Any) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=seeded(2))
    return module.double()


@pytest.mark.parametrize("name", PARTS)
def test_parts_have_the_log_determinant_of_autograd_and_their_inverse(name: str) -> None:
    part = away_from_start(PARTS[name]())
    (z,), log_det = part([rows()])
    (x,), inverse_log_det = part([z], rev=True)
    torch.testing.assert_close(x, rows())
    torch.testing.assert_close(inverse_log_det, -log_det)
    for row, value in zip(rows(), log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: part([r[None]])[0][0][0], row)
        torch.testing.assert_close(value, jacobian.slogdet().logabsdet)


def test_flow_has_the_log_determinant_of_autograd_and_its_inverse() -> None:
    flow = away_from_start(InvertibleFlow(5, blocks=3, hidden=8, generator=seeded(0)))
    z, log_det = flow(rows())
    torch.testing.assert_close(flow.inverse(z), rows())
    assert log_det.abs().min() > 0.01
    for row, value in zip(rows(), log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: flow(r[None])[0][0], row)
        torch.testing.assert_close(value, jacobian.slogdet().logabsdet)


def test_blocks_have_orders_of_their_own_and_all_dimensions() -> None:
    flow = InvertibleFlow(40, blocks=3, hidden=8, generator=seeded(0))
    orders = [part.order for part in flow.inn if isinstance(part, Permutation)]
    assert len(orders) == 3
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(40))
    assert not torch.equal(orders[0], orders[1])


def test_flow_starts_near_a_permutation_without_the_global_generator() -> None:
    before = torch.get_rng_state()
    flow = InvertibleFlow(5, blocks=2, hidden=8, generator=seeded(0)).double()
    assert torch.equal(torch.get_rng_state(), before)
    z, log_det = flow(rows())
    assert log_det.abs().max() < 0.3
    torch.testing.assert_close(z.sort().values, rows().sort().values, rtol=0, atol=0.2)
