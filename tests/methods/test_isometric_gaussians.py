"""Isometric Gaussians against SciPy and loops."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from gsmflow.methods.isometric_gaussians import IsometricGaussians, fit_isometric_gaussians


def test_densities_and_novelty_equal_scipys() -> None:
    rng = np.random.default_rng(0)
    rows, means, variances = rng.normal(size=(9, 4)), rng.normal(size=(3, 4)), np.array([0.1, 1, 5])
    gaussians = IsometricGaussians(torch.from_numpy(means), torch.from_numpy(variances))
    expected = np.stack(
        [multivariate_normal(m, v).logpdf(rows) for m, v in zip(means, variances, strict=True)],
        axis=1,
    )
    found = gaussians.log_densities(torch.from_numpy(rows))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    novelty = gaussians.novelty(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(novelty, -expected.max(axis=1), rtol=1e-9)


def test_variance_is_the_mean_over_the_rows_of_a_class_and_dimensions() -> None:
    rng = np.random.default_rng(1)
    classes, labels = np.array([2, 5, 7]), rng.permutation(np.repeat([2, 5, 7], [1, 4, 6]))
    rows, means = rng.normal(size=(11, 3)), rng.normal(size=(3, 3))
    slabs = [
        (torch.from_numpy(rows[part]), torch.from_numpy(labels[part]))
        for part in (slice(0, 4), slice(4, 11))
    ]
    fitted = fit_isometric_gaussians(slabs, torch.from_numpy(classes), torch.from_numpy(means))
    for column, number in enumerate(classes):
        deviations = [rows[i] - means[column] for i in range(11) if labels[i] == number]
        assert fitted.variances[column].item() == pytest.approx(np.mean(np.square(deviations)))


def test_class_whose_rows_coincide_with_its_mean_has_finite_densities() -> None:
    rows = torch.zeros(2, 3)
    fitted = fit_isometric_gaussians([(rows, torch.tensor([0, 0]))], torch.tensor([0]), rows[:1])
    assert torch.isfinite(fitted.novelty(torch.ones(1, 3))).all()
