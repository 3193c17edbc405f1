"""Discriminants against scipy's Gaussian densities and cosines."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gsmflow.methods.linear_discriminant import discriminant

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(4, 4))
COVARIANCE = ROOT @ ROOT.T + 0.5 * np.eye(4)
MEANS = RNG.normal(size=(3, 4))
CENTRE = MEANS.mean(axis=0)
FEATURES = RNG.normal(size=(20, 4)).astype(np.float32)


def lengths_and_products() -> tuple[np.ndarray, np.ndarray]:
    """Of the whitened means; of whitened features with whitened means."""
    whitening = np.linalg.inv(np.linalg.cholesky(COVARIANCE))
    means, features = (MEANS - CENTRE) @ whitening.T, (FEATURES - CENTRE) @ whitening.T
    return np.linalg.norm(means, axis=1), features @ means.T


def test_exponent_zero_equals_log_density_up_to_a_constant() -> None:
    scores = discriminant(COVARIANCE, MEANS, CENTRE)(FEATURES)
    log_densities = np.stack(
        [multivariate_normal(m, COVARIANCE).logpdf(FEATURES) for m in MEANS], axis=1
    )
    np.testing.assert_allclose(
        scores - scores[:, :1], log_densities - log_densities[:, :1], atol=1e-4
    )


def test_exponent_one_equals_the_cosine() -> None:
    scores = discriminant(COVARIANCE, MEANS, CENTRE, 1.0)(FEATURES)
    lengths, products = lengths_and_products()
    np.testing.assert_allclose(scores, products / lengths, atol=1e-4)


@pytest.mark.parametrize("exponent", [0.25, 0.7])
def test_exponent_between_zero_and_one_reduces_the_effect_of_length(exponent: float) -> None:
    scores = discriminant(COVARIANCE, MEANS, CENTRE, exponent)(FEATURES)
    lengths, products = lengths_and_products()
    expected = products / lengths**exponent - (1 - exponent) / 2 * lengths ** (2 - exponent)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_mean_at_the_centre_scores_zero_for_any_exponent() -> None:
    for exponent in (0.0, 0.25, 1.0):
        scores = discriminant(COVARIANCE, CENTRE[None], CENTRE, exponent)(FEATURES)
        np.testing.assert_allclose(scores, 0, atol=1e-6)


def test_constant_dimension_gives_finite_scores() -> None:
    covariance = np.diag([1.0, 2.0, 0.0, 1.0])
    means = MEANS * [1, 1, 0, 1]
    scores = discriminant(covariance, means, means.mean(axis=0))(FEATURES * [1, 1, 0, 1])
    assert np.isfinite(scores).all()
