"""The relation network and the rows that it changes, against loops over pairs and autograd."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gsmflow.core.rng import BatchRandom
from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.relation_augmentation import (
    RelationNet,
    augmented_feed,
    mean_entropy,
    relation_loss,
)
from tests.builders import seeded
from tests.methods.gradients import assert_gradients

D, A, HIDDEN = 5, 3, 7
CLASSES = torch.tensor([1, 4, 6, 9])
# Class 6 has no row.
LABELS = torch.tensor([9, 1, 1, 4, 9, 9, 1])
COLUMNS = torch.tensor([3, 0, 0, 1, 3, 3, 0])


def make_relation(hidden: int = HIDDEN) -> RelationNet:
    semantics = torch.randn(4, A, generator=seeded(1))
    return RelationNet(D, semantics, CLASSES, hidden, seeded(2)).double()


def make_rows(n: int = len(LABELS)) -> Tensor:
    return torch.randn(n, D, generator=seeded(3), dtype=torch.float64)


def of_pairs(relation: RelationNet, features: Tensor) -> list[list[Tensor]]:
    """Relations by torch's own layers, of one pair of a row and a class at a time."""
    first, second = nn.Linear(D + A, HIDDEN).double(), nn.Linear(HIDDEN, 1).double()
    weights = torch.cat([relation.of_features, relation.of_semantics], dim=1)
    values = weights, relation.bias, relation.output[None], relation.output_bias
    parameters = first.weight, first.bias, second.weight, second.bias
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value.detach().clone()
    return [
        [second(first(torch.cat([x, s])).relu()).sigmoid()[0] for s in relation.semantics]
        for x in features
    ]


def looped_losses(relations: list[list[Tensor]], columns: list[int]) -> tuple[Tensor, Tensor]:
    """The relation loss and the mean entropy, over the classes that occur."""
    occurring = sorted(set(columns))
    errors = [
        (row[c] - float(c == own)) ** 2
        for row, own in zip(relations, columns, strict=True)
        for c in occurring
    ]
    entropies = []
    for row in relations:
        total = sum(row[c].exp() for c in occurring)
        shares = [row[c].exp() / total for c in occurring]
        entropies.append(-sum(share * share.log() for share in shares))
    return torch.stack(errors).mean(), torch.stack(entropies).mean()  # type: ignore[arg-type]


def test_relations_are_those_of_concatenated_pairs() -> None:
    relation, rows = make_relation(), make_rows()
    found = relation(rows)
    expected = torch.stack([torch.stack(row) for row in of_pairs(relation, rows)])
    torch.testing.assert_close(found, expected)


def test_losses_equal_loops_over_the_classes_that_occur() -> None:
    relation, rows = make_relation(), make_rows()
    pairs = of_pairs(relation, rows)
    error, entropy = looped_losses(pairs, COLUMNS.tolist())
    found = relation(rows)
    assert relation.columns(LABELS).tolist() == COLUMNS.tolist()
    torch.testing.assert_close(relation_loss(found, COLUMNS), error)
    torch.testing.assert_close(mean_entropy(found, COLUMNS), entropy)
    loss = relation.loss(rows, LABELS, BatchRandom(seeded(0)))
    torch.testing.assert_close(loss.total, error)


def test_entropy_of_equal_relations_is_that_of_the_uniform_distribution() -> None:
    found = mean_entropy(torch.full((7, 4), 0.3), COLUMNS)
    assert found.item() == pytest.approx(math.log(3))


def test_gradients_equal_finite_differences() -> None:
    relation, rows = make_relation(), make_rows()

    def loss() -> Tensor:
        relations = relation(rows)
        return relation_loss(relations, COLUMNS) - 0.5 * mean_entropy(relations, COLUMNS)

    assert_gradients(relation, loss, step=1e-6, relative=1e-4, absolute=1e-8)


def test_initial_weights_are_those_of_torch() -> None:
    relation = RelationNet(40, torch.zeros(4, 24), CLASSES, 400, seeded(0))
    # A uniform distribution has a standard deviation of its bound over the square root of 3.
    for weights, inputs in (
        (relation.of_features, 64),
        (relation.of_semantics, 64),
        (relation.bias, 64),
        (relation.output, 400),
    ):
        assert weights.abs().max().item() <= inputs**-0.5
        assert weights.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.1)
    assert relation.output_bias.abs().item() <= 400**-0.5


SETTINGS: dict[str, Any] = {"batch_size": 4, "steps": 3, "rate": 2.0, "entropy_weight": 0.7}


@pytest.mark.parametrize("batch_size", [4, 7, 50])
def test_changed_rows_equal_plain_gradient_steps(batch_size: int) -> None:
    relation = make_relation().float().frozen()
    rows = make_rows().float()
    settings = {**SETTINGS, "batch_size": batch_size}
    feed = augmented_feed(relation, MemoryFeed(rows, LABELS), seeded(5), **settings)
    size = min(batch_size, 7)
    order = torch.randperm(7, generator=seeded(5)).tolist()
    expected: dict[int, Tensor] = {}
    for start in range(0, 7, size):
        batch = order[start : start + size]
        batch = batch if len(batch) == size else order[-size:]
        x = rows[batch].double()
        columns = [int(COLUMNS[row]) for row in batch]
        for _ in range(3):
            x = x.detach().requires_grad_()
            error, entropy = looped_losses(of_pairs(relation.double(), x), columns)
            (error - 0.7 * entropy).backward()
            assert x.grad is not None
            x = x.detach() - 2.0 * x.grad
        relation.float()
        expected |= dict(zip(batch, x, strict=True))
    changed = torch.stack([expected[row] for row in range(7)])
    torch.testing.assert_close(feed.values.double(), changed, rtol=1e-4, atol=1e-5)
    taken = feed.take(torch.tensor([2, 0]))
    torch.testing.assert_close(taken[:, :D], rows[[2, 0]])
    torch.testing.assert_close(taken[:, D:], feed.values[[2, 0]])
    assert feed.feature_dim == 2 * D
    assert torch.equal(feed.labels, LABELS)


@pytest.mark.parametrize(("weight", "raised"), [(0.0, False), (50.0, True)])
def test_steps_lower_the_loss_or_raise_the_entropy(weight: float, raised: bool) -> None:
    relation = make_relation(40).float().frozen()
    rows = MemoryFeed(make_rows().float(), LABELS)
    settings = {**SETTINGS, "batch_size": 7, "steps": 10, "entropy_weight": weight}
    changed = augmented_feed(relation, rows, seeded(5), **settings).values
    before, after = relation(rows.features), relation(changed)
    if raised:
        assert mean_entropy(after, COLUMNS) > mean_entropy(before, COLUMNS)
    else:
        assert relation_loss(after, COLUMNS) < relation_loss(before, COLUMNS)
