from itertools import combinations

import numpy as np
import pytest

from gsmflow.methods.class_similarities import relative_distances, similarities

SEMANTICS = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def test_distances_are_between_unit_vectors_and_their_median_is_one() -> None:
    distances = relative_distances(SEMANTICS)
    assert np.median([distances[pair] for pair in combinations(range(7), 2)]) == pytest.approx(1)
    unit = SEMANTICS / np.linalg.norm(SEMANTICS, axis=1, keepdims=True)
    ratio = np.linalg.norm(unit[1] - unit[4]) / np.linalg.norm(unit[2] - unit[3])
    assert distances[1, 4] / distances[2, 3] == pytest.approx(ratio, rel=1e-5)
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(np.diagonal(distances), 0)


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
