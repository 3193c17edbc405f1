from itertools import combinations

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.methods.class_similarities import (
    distances_by_median,
    relative_distances,
    similarities,
)

SEMANTICS = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def test_distances_are_between_unit_vectors_and_their_median_is_one() -> None:
    distances = relative_distances(SEMANTICS)
    assert np.median([distances[pair] for pair in combinations(range(7), 2)]) == pytest.approx(1)
    unit = SEMANTICS / np.linalg.norm(SEMANTICS, axis=1, keepdims=True)
    ratio = np.linalg.norm(unit[1] - unit[4]) / np.linalg.norm(unit[2] - unit[3])
    assert distances[1, 4] / distances[2, 3] == pytest.approx(ratio, rel=1e-5)
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(np.diagonal(distances), 0)


@pytest.mark.parametrize("most", [[[1.0]] * 5, [[1, 2, 3]] * 4 + [[0, 1, 0]]])
def test_semantics_of_one_direction_are_refused(most: list[list[float]]) -> None:
    """A single positive attribute, for example, tells no directions apart."""
    semantics = np.array(most, np.float32) * np.arange(1, 6, dtype=np.float32)[:, None]
    with pytest.raises(InputError, match=r"^semantics: found the same direction in most"):
        relative_distances(semantics)


def test_equal_vectors_have_no_distance() -> None:
    np.testing.assert_array_equal(distances_by_median(np.ones((4, 3))), 0)


@pytest.mark.parametrize("sharpness", [0.0, 0.03, 2.0, 1e6])
def test_similarities_of_a_class_have_the_sum_one(sharpness: float) -> None:
    distances, classes = relative_distances(SEMANTICS), np.array([0, 2, 5])
    found = similarities(distances, classes, sharpness)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    for c in range(7):
        with np.errstate(under="ignore"):
            logs = -sharpness * distances[c, classes] ** 2
            expected = np.exp(logs - logs.max())
        np.testing.assert_allclose(found[c], expected / expected.sum(), rtol=1e-9, atol=1e-300)
