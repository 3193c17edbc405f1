"""The comparator of pairs against a network on all pairs, one beside the other."""

import pytest
import torch
from torch import Tensor, nn

from gsmflow.methods import pair_comparator
from gsmflow.methods.pair_comparator import PairComparator
from tests.builders import seeded


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def make_comparator(slope: float = 0.2) -> PairComparator:
    network = PairComparator(4, 3, 7, slope).double()
    for i, parameter in enumerate(network.parameters()):
        parameter.data = normal(*parameter.shape, seed=i)
    return network


def all_pairs(network: PairComparator, rows: Tensor, semantics: Tensor) -> Tensor:
    """The same network on ``(n * k)`` concatenated pairs."""
    pairs = torch.cat(
        [rows.repeat_interleave(len(semantics), dim=0), semantics.repeat(len(rows), 1)], dim=1
    )
    weight = torch.cat([network.rows.weight, network.semantics.weight], dim=1)
    hidden = pairs @ weight.T + network.rows.bias
    hidden = nn.functional.leaky_relu(hidden, network.slope)
    scores = hidden @ network.score.weight.T + network.score.bias
    return scores.reshape(len(rows), len(semantics))


@pytest.mark.parametrize("slope", [0.2, 0.0])
@pytest.mark.parametrize("at_once", [1, 5 * 7 * 2, 2**25])
def test_scores_and_gradients_equal_those_of_all_pairs(
    slope: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_comparator, "_AT_ONCE", at_once)
    network = make_comparator(slope)
    rows, semantics = normal(5, 4, seed=10), normal(6, 3, seed=11)
    targets = [rows.requires_grad_(), semantics.requires_grad_(), *network.parameters()]
    factors = normal(5, 6, seed=12)
    found, expected = network(rows, semantics), all_pairs(network, rows, semantics)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad((x * factors).sum(), targets) for x in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_equal_finite_differences() -> None:
    network = make_comparator()
    inputs = normal(3, 4, seed=10).requires_grad_(), normal(2, 3, seed=11).requires_grad_()
    assert torch.autograd.gradcheck(network, inputs)


def test_scores_in_bf16_are_near_those_in_fp32() -> None:
    network = make_comparator().float()
    rows, semantics = normal(50, 4, seed=10).float(), normal(6, 3, seed=11).float()
    expected = network(rows, semantics)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(rows, semantics)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.02 * expected.std()
