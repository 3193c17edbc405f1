"""Ridge prototypes against scikit-learn's regression and plain numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.mean_regression import MeanRegression, shrink, within_class_covariances

RNG = np.random.default_rng(0)
SEMANTICS = RNG.normal(size=(12, 5)).astype(np.float32) * [3, 1, 1, 0.5, 0.1]
SEMANTICS = SEMANTICS.astype(np.float32)
CLASSES = np.array([0, 2, 3, 5, 6, 8, 9, 11])
MEANS = RNG.normal(size=(8, 7))


def whitened(power: float) -> np.ndarray:
    """The semantics in their principal directions, divided by powers of their deviations."""
    pca = PCA().fit(SEMANTICS[CLASSES].astype(np.float64))
    spread = np.sqrt(pca.explained_variance_)
    turned = pca.transform(SEMANTICS.astype(np.float64)) / spread**power
    length = np.sqrt(np.square(turned[CLASSES]).sum(axis=1).mean())
    return np.asarray(turned / length)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_prediction_equals_regression_on_whitened_semantics(power: float, ridge: float) -> None:
    regression = MeanRegression(MEANS, SEMANTICS, CLASSES, power)
    turned = whitened(power)
    expected = Ridge(alpha=ridge).fit(turned[CLASSES], MEANS).predict(turned)
    np.testing.assert_allclose(regression.predict(ridge), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("few", [2, 1000])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_cross_fitted_mean_of_a_class_does_not_use_the_class(
    power: float, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.methods.mean_regression._FEW_CLASSES", few)
    found = MeanRegression(MEANS, SEMANTICS, CLASSES, power).cross_fitted(0.3)
    turned = whitened(power)[CLASSES]
    for i in range(len(CLASSES)):
        others = np.delete(np.arange(len(CLASSES)), i)
        model = Ridge(alpha=0.3).fit(turned[others], MEANS[others])
        np.testing.assert_allclose(found[i], model.predict(turned[i : i + 1])[0], rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_full_whitening_is_invariant_to_linear_maps_of_semantics(seed: int) -> None:
    change = np.random.default_rng(seed).normal(size=(5, 5)) + 3 * np.eye(5)
    other = (SEMANTICS.astype(np.float64) @ change).astype(np.float32)
    ours, theirs = (
        MeanRegression(MEANS, semantics, CLASSES, 1.0) for semantics in (SEMANTICS, other)
    )
    np.testing.assert_allclose(ours.predict(0.5), theirs.predict(0.5), atol=1e-2)


def test_equal_semantics_predict_the_overall_mean() -> None:
    regression = MeanRegression(MEANS, np.ones((12, 5), dtype=np.float32), CLASSES, 0.25)
    np.testing.assert_allclose(regression.predict(0.1), np.tile(MEANS.mean(axis=0), (12, 1)))


def test_error_covariance_equals_that_of_the_cross_fitted_means() -> None:
    regression = MeanRegression(MEANS, SEMANTICS, CLASSES)
    errors = MEANS - regression.cross_fitted(0.2)
    expected = sum(np.outer(error, error) for error in errors) / len(errors)
    np.testing.assert_allclose(regression.error_covariance(0.2), expected)


def test_covariances_are_summed_by_group() -> None:
    labels = np.repeat([1, 4, 6, 7], [5, 3, 4, 6])
    features = RNG.normal(size=(len(labels), 3)).astype(np.float32)
    feed = MemoryFeed(torch.from_numpy(features), torch.from_numpy(labels))
    classes, groups = torch.tensor([1, 4, 6, 7]), torch.tensor([0, 1, 0, 1])
    means = np.stack([features[labels == c].mean(axis=0) for c in (1, 4, 6, 7)])
    found = within_class_covariances(feed, classes, torch.from_numpy(means), groups)
    for group, group_classes in enumerate(([1, 6], [4, 7])):
        expected = sum(np.cov(features[labels == c].T, bias=True) for c in group_classes)
        np.testing.assert_allclose(found[group], expected, rtol=1e-4, atol=1e-6)


def test_shrinking_leaves_the_diagonal() -> None:
    covariance = np.array([[4.0, 2.0], [2.0, 3.0]])
    np.testing.assert_array_equal(shrink(covariance, 0.25), [[4.0, 1.5], [1.5, 3.0]])
    np.testing.assert_array_equal(shrink(covariance, 1.0), np.diag([4.0, 3.0]))
