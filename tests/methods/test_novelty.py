"""Novelty against distances that are computed with scipy, class by class."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from sklearn.linear_model import Ridge

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, training_problem
from gsmflow.methods.novelty import fit_novelty
from tests.builders import make_dataset, scaled_of

DATASET = check_dataset(make_dataset())


def shrunk_inverse(covariance: np.ndarray) -> np.ndarray:
    d = len(covariance)
    return np.linalg.inv(0.9 * covariance + 0.1 * np.trace(covariance) / d * np.eye(d))


def means_of(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Means of the seen classes, and those that scikit-learn's ridge regression predicts."""
    rows, labels = problem.train.features.astype(np.float64), problem.train.labels
    means = np.stack([rows[labels == c].mean(axis=0) for c in problem.seen_classes])
    seen, unseen = (problem.semantics[c] for c in (problem.seen_classes, problem.unseen_classes))
    centred = seen - seen.mean(axis=0)
    scale = np.sqrt(np.square(centred).sum(axis=1).mean())
    ridge = Ridge(alpha=0.1).fit(centred / scale, means)
    return means, ridge.predict((unseen - seen.mean(axis=0)) / scale)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_number_is_the_difference_of_two_mahalanobis_distances(split: str) -> None:
    problem = training_problem(DATASET, "test" if split == "test" else "validation")
    rows, labels = problem.train.features.astype(np.float64), problem.train.labels
    means, predicted = means_of(problem)
    within = np.mean(
        [np.cov(rows[labels == c], rowvar=False, bias=True) for c in problem.seen_classes], axis=0
    )
    of_all = within + np.cov(means, rowvar=False, bias=True)
    inverse, background = shrunk_inverse(within), shrunk_inverse(of_all)

    def number(row: np.ndarray, classes: np.ndarray) -> float:
        nearest = min(mahalanobis(row, mean, inverse) ** 2 for mean in classes)
        return float(nearest - mahalanobis(row, means.mean(axis=0), background) ** 2)

    novelty = fit_novelty(scaled_of(problem))
    features = DATASET.features[::7]
    every, of_seen = novelty.numbers(features)
    both = np.concatenate([means, predicted])
    np.testing.assert_allclose(every, [number(row, both) for row in features], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        of_seen, [number(row, means) for row in features], rtol=1e-3, atol=1e-3
    )


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_number_grows_without_bounds_in_every_direction(seed: int) -> None:
    novelty = fit_novelty(scaled_of(training_problem(DATASET, "test")))
    direction = np.random.default_rng(seed).normal(size=6)
    steps = np.array([[100.0], [200.0], [400.0]]) * direction / np.linalg.norm(direction)
    numbers, _ = novelty.numbers(steps.astype(np.float32))
    assert (np.diff(numbers) > 0).all()
    assert numbers[0] > novelty.numbers(DATASET.features)[0].max()


def test_one_row_of_each_class_or_one_class_will_do() -> None:
    problem = training_problem(DATASET, "test")
    first = np.unique(problem.train.labels, return_index=True)[1]
    alone = problem.train.labels == problem.seen_classes[0]
    for rows, classes in (
        (first, problem.seen_classes),
        (np.flatnonzero(alone), problem.seen_classes[:1]),
    ):
        train = problem.train.select(rows)
        novelty = fit_novelty(scaled_of(replace(problem, train=train, seen_classes=classes)))
        every, of_seen = novelty.numbers(DATASET.features)
        assert np.isfinite(every).all()
        assert (every <= of_seen).all()
