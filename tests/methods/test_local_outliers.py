"""LoOP against loops over the definitions of its paper."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.methods import local_outliers
from gsmflow.methods.local_outliers import fit_local_outliers

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(30, 3)) * np.repeat([0.3, 2.0], 15)[:, None]
ROWS = np.concatenate([RNG.normal(size=(10, 3)), [[9.0, 9.0, 9.0]], [[0.0, 0.0, 0.1]]])


def neighbours(x: NDArray[Any], others: list[int], k: int) -> list[int]:
    return sorted(others, key=lambda i: float(np.linalg.norm(POINTS[i] - x)))[:k]


def probabilistic_distance(x: NDArray[Any], context: list[int], extent: float) -> float:
    return extent * math.sqrt(sum(np.sum((POINTS[i] - x) ** 2) for i in context) / len(context))


def plof(x: NDArray[Any], others: list[int], k: int, extent: float) -> float:
    context = neighbours(x, others, k)
    expected = 0.0
    for i in context:
        rest = [j for j in range(len(POINTS)) if j != i]
        expected += probabilistic_distance(POINTS[i], neighbours(POINTS[i], rest, k), extent)
    return probabilistic_distance(x, context, extent) / (expected / len(context)) - 1


def loop(x: NDArray[Any], k: int, extent: float) -> float:
    everyone = list(range(len(POINTS)))
    squares = [plof(POINTS[i], [j for j in everyone if j != i], k, extent) ** 2 for i in everyone]
    normaliser = extent * math.sqrt(sum(squares) / len(squares))
    return max(0.0, math.erf(plof(x, everyone, k, extent) / (normaliser * math.sqrt(2))))


@pytest.mark.parametrize(("k", "extent"), [(1, 1.0), (5, 3.0), (29, 2.0)])
def test_probabilities_equal_the_definitions(
    k: int, extent: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_outliers, "_CHUNK", 7)
    fitted, rows = fit_local_outliers(torch.from_numpy(POINTS), k), torch.from_numpy(ROWS)
    expected = np.array([loop(x, k, extent) for x in ROWS])
    np.testing.assert_allclose(fitted.probabilities(rows, extent).numpy(), expected, atol=1e-9)
    outlier, inlier = fitted.log_probabilities(rows, extent)
    positive = expected > 0
    np.testing.assert_allclose(outlier.exp().numpy()[positive], expected[positive], atol=1e-9)
    np.testing.assert_allclose(inlier.exp().numpy(), 1 - expected, atol=1e-9)
    assert torch.isfinite(outlier).all()
    assert torch.isfinite(inlier).all()


def test_more_neighbours_than_other_points_are_all_other_points() -> None:
    points, rows = torch.from_numpy(POINTS), torch.from_numpy(ROWS)
    many, all_others = (fit_local_outliers(points, k).factors(rows) for k in (500, 29))
    torch.testing.assert_close(many, all_others)


def test_equal_points_have_finite_factors() -> None:
    points = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.5]])
    fitted = fit_local_outliers(points, 2)
    assert torch.isfinite(fitted.factors(torch.tensor([[0.0], [0.2], [9.0]]))).all()
    coinciding = fit_local_outliers(torch.zeros(4, 2), 2)
    assert torch.equal(coinciding.probabilities(torch.ones(1, 2), 3.0), torch.zeros(1))


def test_a_single_point_is_refused() -> None:
    with pytest.raises(InputError, match="found 1 training rows, expected at least 2"):
        fit_local_outliers(torch.zeros(1, 2), 3)
