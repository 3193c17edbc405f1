"""EXEM against scikit-learn's principal components and the optimality of its regression."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.svm import NuSVR

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.class_similarities import relative_distances
from gsmflow.methods.exem import EXEM, EXEMConfig, ExemplarDistance, predict_exemplars
from tests.builders import generators, make_dataset, scaled_of

SETTINGS = {"svr_c": 2.0, "svr_nu": 0.5, "svr_gamma": 0.5}


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def projected(problem: Problem, p: int) -> tuple[PCA, NDArray[Any], NDArray[Any]]:
    """Principal components, and the mean and the deviation of each seen class's rows there."""
    pca = PCA(p, svd_solver="full").fit(problem.train.features.astype(np.float64))
    rows = pca.transform(problem.train.features)
    groups = [rows[problem.train.labels == c] for c in problem.seen_classes]
    means, deviations = (np.stack([getattr(g, f)(axis=0) for g in groups]) for f in ("mean", "std"))
    return pca, means, deviations


@pytest.mark.parametrize("p", [2, 500])
@pytest.mark.parametrize("distance", ["standardised", "euclidean"])
def test_scores_are_distances_from_exemplars(
    problem: Problem, distance: ExemplarDistance, p: int
) -> None:
    config = EXEMConfig(exemplar_dim=p, exemplar_distance=distance, **SETTINGS)
    model = EXEM.for_problem(scaled_of(problem), config, generators(0))
    pca, means, deviations = projected(problem, min(p, problem.train.features.shape[1]))
    spread = deviations.mean(axis=0) if distance == "standardised" else 1
    distances = relative_distances(problem.semantics)
    exemplars = predict_exemplars(means, distances, problem.seen_classes, SETTINGS)
    features = make_dataset(seed=8).features
    # An axis may point the other way, and the regression stops within a tolerance.
    gaps = (pca.transform(features)[:, None] - exemplars) / spread
    expected = -np.linalg.norm(gaps, axis=-1)
    gzsl, zsl = model.class_scores(torch.from_numpy(features))
    np.testing.assert_allclose(gzsl, expected[:, problem.classes], rtol=0.02)
    np.testing.assert_allclose(zsl, expected[:, problem.unseen_classes], rtol=0.02)


@pytest.mark.parametrize(
    "changes", [{}, {"svr_nu": 0.25}, {"svr_gamma": 2.0}, {"svr_c": 0.3, "svr_nu": 1.0}]
)
def test_exemplars_are_those_of_a_nu_svr_with_a_gaussian_kernel(
    problem: Problem, changes: dict[str, float]
) -> None:
    """scikit-learn computes the kernel of the same classes itself, from their unit semantics."""
    settings = SETTINGS | changes
    _, means, _ = projected(problem, 2)
    unit = problem.semantics / np.linalg.norm(problem.semantics, axis=1, keepdims=True)
    median = np.median([np.linalg.norm(a - b) for a, b in combinations(unit, 2)])
    found = predict_exemplars(
        means, relative_distances(problem.semantics), problem.seen_classes, settings
    )
    for targets, predicted in zip(means.T, found.T, strict=True):
        svr = NuSVR(
            C=settings["svr_c"],
            nu=settings["svr_nu"],
            gamma=settings["svr_gamma"] / median**2,
            tol=1e-6,
        )
        expected = svr.fit(unit[problem.seen_classes], targets).predict(unit)
        np.testing.assert_allclose(predicted, expected, atol=5e-3 * np.ptp(targets))


def test_support_vectors_of_wide_bounds_leave_exemplars_as_they_are(problem: Problem) -> None:
    _, means, _ = projected(problem, 3)
    wide = {"svr_c": 1e6, "svr_nu": 1.0, "svr_gamma": 4.0}
    seen = problem.seen_classes
    found = predict_exemplars(means, relative_distances(problem.semantics), seen, wide)
    np.testing.assert_allclose(found[seen], means, atol=0.01)


def test_components_without_variance_are_left_out(problem: Problem) -> None:
    scaled = scaled_of(problem)
    features = torch.from_numpy(problem.train.features)
    features[:, 2] = features[:, 1]
    scaled = replace(scaled, feed=MemoryFeed(features, scaled.feed.labels))
    model = EXEM.for_problem(scaled, EXEMConfig(**SETTINGS), generators(0))
    assert model.state_dict()["exemplars"].shape[-1] == features.shape[1] - 1
    assert np.isfinite(model.class_scores(features)[0]).all()


def test_settings_are_chosen_and_the_same_again() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    scaled = scaled_of(training_problem(dataset, "validation"), "l2")
    held_out, config = open_held_out(dataset, "validation"), EXEMConfig(svr_nu=0.5)
    choice = EXEM.choose(scaled, held_out, config, generators(0))
    assert choice == EXEM.choose(scaled, held_out, config, generators(0))
    assert {found["svr_nu"] for found in choice.values()} == {0.5}
    for name in ("svr_c", "svr_gamma"):
        assert {found[name] for found in choice.values()} <= set(EXEM.candidates[name])


def test_without_validation_classes_settings_must_be_set(problem: Problem) -> None:
    with pytest.raises(InputError, match="svr_c, svr_nu, svr_gamma: found no value"):
        EXEM.for_problem(scaled_of(problem), EXEMConfig(), generators(0))
