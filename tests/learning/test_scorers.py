"""The Bayes classifier and the density of seen classes against scipy's normal densities."""

import numpy as np
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.feed import scale_problem
from gsmflow.learning.scorers import Bayes, class_log_densities, seen_log_density
from tests.builders import make_dataset


class Normals:
    """A density in closed form: class ``c`` is normal around ``c`` in every dimension."""

    def log_prob(self, features: Tensor, classes: Tensor) -> Tensor:
        away = (features - classes[:, None]).double()
        d = features.shape[1]
        return -(away.square().sum(dim=1) + d * np.log(2 * np.pi)) / 2


def expected(features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    d = features.shape[1]
    return np.stack([multivariate_normal(np.full(d, c)).logpdf(features) for c in classes], axis=1)


def test_scores_are_log_densities_in_class_order() -> None:
    problem = training_problem(check_dataset(make_dataset()), "test")
    scaled = scale_problem(problem, "standardised", torch.device("cpu"), "memory")
    features = problem.train.features
    classes = problem.classes, problem.unseen_classes
    bayes = Bayes(scaled.scaling, Normals(), *classes, scaled.feed.labels.device)
    scaled_features = scaled.scaling(features)
    np.testing.assert_allclose(
        bayes.gzsl_scores(features), expected(scaled_features, problem.classes), rtol=1e-4
    )
    np.testing.assert_allclose(
        bayes.zsl_scores(features), expected(scaled_features, problem.unseen_classes), rtol=1e-4
    )


def test_many_rows_are_scored_in_parts() -> None:
    features = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    classes = np.array([2, 0])
    found = class_log_densities(Normals(), features, classes)
    np.testing.assert_allclose(found, expected(features.numpy(), classes), rtol=1e-4)


def test_density_of_seen_classes_is_their_mixture() -> None:
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    classes = np.array([0, 1, 4])
    mixture = np.exp(expected(features.numpy(), classes)).mean(axis=1)
    found = seen_log_density(Normals(), features, classes)
    np.testing.assert_allclose(np.exp(found), mixture, rtol=1e-4)
