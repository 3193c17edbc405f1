"""The comparator of pairs against all pairs, and its initial weights."""

import pytest
import torch

from gsmflow.methods.pair_comparator import PairComparator
from tests.builders import seeded


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_scores_are_those_of_all_joined_pairs(slope: float) -> None:
    comparator = PairComparator(5, 3, 16, slope).double()
    comparator.draw_weights(seeded(0))
    rows = torch.randn(7, 5, generator=seeded(1), dtype=torch.float64).requires_grad_()
    semantics = torch.randn(4, 3, generator=seeded(2), dtype=torch.float64).requires_grad_()
    weight = torch.cat([comparator.rows.weight, comparator.semantics.weight], dim=1)
    pairs = torch.stack([torch.cat([row, c]) for row in rows for c in semantics])
    before = pairs @ weight.T + comparator.rows.bias
    hidden = torch.where(before > 0, before, slope * before)
    expected = (hidden @ comparator.score.weight.T + comparator.score.bias).view(7, 4)
    found = comparator(rows, semantics)
    torch.testing.assert_close(found, expected)
    inputs = [rows, semantics, *comparator.parameters()]
    ours, theirs = (torch.autograd.grad(t.square().sum(), inputs) for t in (found, expected))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


def test_weights_start_as_those_of_one_layer_of_the_joined_input() -> None:
    comparator = PairComparator(300, 100, 400)
    comparator.draw_weights(seeded(0))
    for layer in (comparator.rows, comparator.semantics, comparator.score):
        for parameter in layer.parameters():
            assert parameter.abs().max() <= 1 / 20
    for layer in (comparator.rows, comparator.semantics):
        assert layer.weight.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
