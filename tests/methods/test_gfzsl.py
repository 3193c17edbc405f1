from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.kernel_ridge import KernelRidge as ReferenceRidge

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.methods.gfzsl import GFZSL, GFZSLConfig, KernelRidge
from tests.builders import generators, make_dataset, scaled_of

CONFIG = GFZSLConfig(mean_ridge=0.1, variance_ridge=20.0)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def moments(problem: Problem) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and variance of each seen class, ``(seen, d)`` each, in double precision."""
    rows = [
        problem.train.features[problem.train.labels == c].astype(np.float64)
        for c in problem.seen_classes
    ]
    return np.stack([r.mean(axis=0) for r in rows]), np.stack([r.var(axis=0) for r in rows])


def reference(problem: Problem, targets: NDArray[Any], ridge: float) -> NDArray[Any]:
    """Predicted targets of all classes, by scikit-learn."""
    model = ReferenceRidge(alpha=ridge, kernel="polynomial", degree=2, gamma=1, coef0=1)
    semantics = problem.semantics.astype(np.float64)
    return np.asarray(model.fit(semantics[problem.seen_classes], targets).predict(semantics))


@pytest.mark.parametrize("ridge", [1e-2, 1.0, 1e8])
def test_regression_is_kernel_ridge_with_the_published_kernel(
    problem: Problem, ridge: float
) -> None:
    means, _ = moments(problem)
    found = KernelRidge(problem.semantics, problem.seen_classes).predict(means, ridge)
    expected = reference(problem, means, ridge)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("added", [0.05, 0.3])
def test_scores_are_log_densities_of_diagonal_gaussians(problem: Problem, added: float) -> None:
    config = replace(CONFIG, added_variance=added)
    model = GFZSL.for_problem(scaled_of(problem), config, generators(0))
    means, variances = moments(problem)
    all_means = reference(problem, means, 0.1)
    all_variances = np.exp(reference(problem, np.log(variances + 1e-6), 20.0))
    all_means[problem.seen_classes] = means
    all_variances[problem.seen_classes] = variances
    deviations = np.sqrt(all_variances + added)
    features = make_dataset(seed=8).features
    expected = norm.logpdf(features[:, None], all_means, deviations).sum(axis=2)
    constant = features.shape[1] * np.log(2 * np.pi) / 2
    gzsl, zsl = model.class_scores(torch.from_numpy(features))
    np.testing.assert_allclose(gzsl - constant, expected[:, problem.classes], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        zsl - constant, expected[:, problem.unseen_classes], rtol=1e-4, atol=1e-3
    )


def test_one_row_a_class_leaves_the_scores_finite(problem: Problem) -> None:
    rows = np.unique(problem.train.labels, return_index=True)[1]
    few = replace(problem, train=problem.train.select(rows))
    model = GFZSL.for_problem(scaled_of(few), CONFIG, generators(0))
    gzsl, _ = model.class_scores(torch.from_numpy(problem.train.features))
    assert np.isfinite(gzsl).all()


def test_ridges_are_chosen_among_the_candidates_and_the_same_again() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    scaled = scaled_of(training_problem(dataset, "validation"), "standardised")
    held_out = open_held_out(dataset, "validation")
    choice = GFZSL.choose(scaled, held_out, GFZSLConfig(), generators(0))
    assert choice == GFZSL.choose(scaled, held_out, GFZSLConfig(), generators(1))
    for found in choice.values():
        assert found["mean_ridge"] in GFZSL.candidates["mean_ridge"]
        assert found["variance_ridge"] in GFZSL.candidates["variance_ridge"]
