"""K-means against scikit-learn, and against all divisions of a few rows."""

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.k_means import k_means, sub_centres
from tests.builders import seeded


def inertia(rows: Tensor, centres: Tensor) -> float:
    """The sum of squared distances from the nearest centre, by loops."""
    return sum(
        min(float((row - centre).square().sum()) for centre in centres.to(rows)) for row in rows
    )


def make_rows(n: int, seed: int, d: int = 4) -> Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_centres_are_the_best_of_all_divisions(seed: int) -> None:
    rows, k = make_rows(8, seed, d=2), 3
    best = np.inf
    for labels in product(range(k), repeat=len(rows)):
        chosen = torch.tensor(labels)
        parts = [rows[chosen == c] for c in range(k) if (chosen == c).any()]
        best = min(best, sum(float((p - p.mean(0)).square().sum()) for p in parts))
    assert inertia(rows, k_means(rows, k, seeded(0))) == pytest.approx(best)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_centres_are_as_good_as_scikit_learns(k: int) -> None:
    means = 3 * make_rows(5, 1)
    rows = means.repeat(20, 1) + make_rows(100, 2)
    expected = KMeans(k, n_init=10, random_state=0).fit(rows.numpy()).inertia_
    found = k_means(rows, k, seeded(0))
    assert inertia(rows, found) <= 1.02 * expected
    again = KMeans(k, init=found.numpy(), n_init=1).fit(rows.numpy())
    assert again.inertia_ == pytest.approx(inertia(rows, found))  # it has converged


def test_centres_repeat() -> None:
    rows = make_rows(60, 0)
    assert torch.equal(k_means(rows, 3, seeded(1)), k_means(rows, 3, seeded(1)))


@pytest.mark.parametrize("n", [1, 2, 6])
def test_fewer_different_rows_than_centres_are_the_centres(n: int) -> None:
    rows = make_rows(2, 0)[torch.arange(n) % 2]
    found = k_means(rows, 3, seeded(0))
    assert found.shape == (3, 4)
    assert inertia(rows, found) == pytest.approx(0, abs=1e-12)
    assert inertia(found, rows) == pytest.approx(0, abs=1e-12)


def test_each_class_has_the_centres_of_its_own_rows() -> None:
    labels = torch.tensor([5, 2] * 15)
    rows = make_rows(30, 0).float() + 10 * labels[:, None]
    found = sub_centres(MemoryFeed(rows, labels), torch.tensor([2, 5]), 3, seeded(0))
    assert found.shape == (2, 3, 4)
    assert found.dtype == torch.float32
    for centres, label in zip(found, (2, 5), strict=True):
        own = rows[labels == label]
        expected = KMeans(3, n_init=20, random_state=0).fit(own.numpy()).inertia_
        assert inertia(own, centres) <= 1.05 * expected
