"""Losses of synthesized features against loops over classes and pairs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.methods.losses import (
    batch_class_means,
    centre_loss,
    contrastive_loss,
    nearest_squared_distance,
    relation_loss,
    weighted_l1,
)
from tests.builders import seeded

LABELS = torch.tensor([4, 1, 4, 7, 1, 4])
CLASSES = (1, 4, 7)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def means_by_class(rows: Tensor) -> dict[int, NDArray[np.float64]]:
    return {c: rows[c == LABELS].detach().numpy().mean(axis=0) for c in CLASSES}


def cosine(u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))


def test_class_means_of_a_batch_stand_at_each_row_of_the_class() -> None:
    rows = normal(6, 3, seed=0)
    means, weights = batch_class_means(rows, LABELS)
    expected = means_by_class(rows)
    for mean, weight, label in zip(means, weights, LABELS.tolist(), strict=True):
        np.testing.assert_allclose(mean.numpy(), expected[label])
        assert weight.item() == pytest.approx(1 / int((label == LABELS).sum()))
    assert weights.sum().item() == pytest.approx(len(CLASSES))


def test_class_means_do_not_use_bf16_products() -> None:
    rows = normal(6, 3, seed=0).float()
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = batch_class_means(rows, LABELS)
    assert torch.equal(found, batch_class_means(rows, LABELS)[0])


def test_centre_loss_equals_a_loop_over_the_classes_of_the_batch() -> None:
    rows, centres = normal(6, 3, seed=0), normal(8, 3, seed=1)
    found = centre_loss(rows, LABELS, centres[LABELS], 10)
    means = means_by_class(rows)
    lengths = [np.linalg.norm(means[c] - centres[c].numpy()) for c in CLASSES]
    assert found.item() == pytest.approx(sum(lengths) / 10)
    rows.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: centre_loss(x, LABELS, centres[LABELS], 10), rows)


def test_nearest_distance_equals_a_loop() -> None:
    points, centres = normal(5, 3, seed=0), normal(5, 4, 3, seed=1)
    found = nearest_squared_distance(points, centres)
    for value, point, own in zip(found, points, centres, strict=True):
        expected = min(float(((point - centre) ** 2).sum()) for centre in own)
        assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_relation_loss_equals_a_loop(margin: float) -> None:
    means, centres = normal(4, 3, seed=0), normal(6, 3, seed=1)
    neighbours = torch.tensor([[0, 1], [5, 2], [3, 3], [4, 0]])
    similarities = torch.rand(4, 2, generator=seeded(2), dtype=torch.float64)
    found = relation_loss(means, centres, neighbours, similarities, margin)
    for i, value in enumerate(found.tolist()):
        terms = []
        for k, s in zip(neighbours[i].tolist(), similarities[i].tolist(), strict=True):
            x = cosine(means[i].numpy(), centres[k].numpy())
            terms.append(max(0.0, x - s - margin) ** 2 + max(0.0, s - margin - x) ** 2)
        assert value == pytest.approx(np.mean(terms))


def test_relation_loss_has_a_gradient() -> None:
    means, centres = normal(4, 3, seed=0).requires_grad_(), normal(6, 3, seed=1)
    neighbours = torch.tensor([[0, 1], [5, 2], [3, 2], [4, 0]])
    similarities = torch.full((4, 2), 0.9, dtype=torch.float64)
    arguments = (centres, neighbours, similarities, 0.1)
    (gradient,) = torch.autograd.grad(relation_loss(means, *arguments).sum(), means)
    assert gradient.norm() > 0.01
    assert torch.autograd.gradcheck(lambda x: relation_loss(x, *arguments), means)
    # A step along it brings the cosines closer to the similarities.
    after = relation_loss(means - 0.1 * gradient, *arguments)
    assert after.sum() < relation_loss(means, *arguments).sum()


def test_weighted_l1_weighs_each_error_with_its_share_of_the_length() -> None:
    predicted, target = normal(4, 3, seed=0).requires_grad_(), normal(4, 3, seed=1)
    found = weighted_l1(predicted, target)
    for value, errors in zip(found, (predicted - target).detach(), strict=True):
        weights = errors.square() / errors.norm()
        assert value.item() == pytest.approx(float((weights * errors.abs()).sum()))
    assert torch.autograd.gradcheck(weighted_l1, (predicted, target))
    same = target.clone().requires_grad_()
    exact = weighted_l1(same, target)
    assert exact.tolist() == [0.0] * 4
    (gradient,) = torch.autograd.grad(exact.sum(), same)
    assert torch.isfinite(gradient).all()


def looped_contrast(directions: Tensor, labels: Tensor, temperature: float) -> float:
    per_row = []
    for i, (u, label) in enumerate(zip(directions, labels, strict=True)):
        others = [j for j in range(len(labels)) if j != i]
        shares = {j: np.exp(float(u @ directions[j]) / temperature) for j in others}
        own = [j for j in others if labels[j] == label]
        if own:
            total = sum(shares.values())
            per_row.append(np.mean([-np.log(shares[j] / total) for j in own]))
    return float(np.mean(per_row))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_leaves_out_rows_that_are_alone(temperature: float) -> None:
    directions = torch.nn.functional.normalize(normal(6, 3, seed=0))
    assert (LABELS == 7).sum() == 1
    found = contrastive_loss(directions, LABELS, temperature)
    assert found.item() == pytest.approx(looped_contrast(directions, LABELS, temperature))
    # The row that is alone still pushes the others away.
    moved = directions.clone()
    moved[3] = directions[0]
    assert contrastive_loss(moved, LABELS, temperature) > found


def test_contrast_of_rows_that_are_all_alone_is_zero() -> None:
    directions = torch.nn.functional.normalize(normal(4, 3, seed=0)).requires_grad_()
    loss = contrastive_loss(directions, torch.arange(4), 0.1)
    (gradient,) = torch.autograd.grad(loss, directions)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_contrast_has_the_gradient_of_differences_and_draws_a_class_together() -> None:
    directions = normal(6, 3, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: contrastive_loss(torch.nn.functional.normalize(x), LABELS, 0.5), directions
    )
    together = torch.nn.functional.normalize(normal(8, 3, seed=1))[LABELS]
    assert contrastive_loss(together, LABELS, 0.1) < contrastive_loss(
        torch.nn.functional.normalize(directions), LABELS, 0.1
    )
