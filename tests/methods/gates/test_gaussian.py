"""The Gaussian gate's model: numbers by SciPy, its state, and unseen classes."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out, training_problem
from gsmflow.learning.feed import Scaled
from gsmflow.methods.gates.gaussian import GaussianConfig, SemanticGaussians
from gsmflow.methods.semantic_regression import fit_semantic_regression
from tests.builders import generators, make_dataset, scaled_of

CONFIG = GaussianConfig(hidden=9, iterations=40, penalty=1e-2)
DATASET = check_dataset(make_dataset(classes=24, noise=0.1))


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(DATASET, "test"), "l2")


@pytest.fixture(scope="module")
def model(scaled: Scaled) -> SemanticGaussians:
    return SemanticGaussians.for_problem(scaled, CONFIG, generators(0))


def test_numbers_are_minus_the_highest_log_density(
    scaled: Scaled, model: SemanticGaussians
) -> None:
    problem = scaled.problem
    semantics = torch.from_numpy(problem.semantics)
    regression = fit_semantic_regression(scaled.feed, semantics, CONFIG, generators(0))
    rows = scaled.feed.take(torch.arange(len(problem.train)))
    mapped, labels = regression.map(rows).numpy(), problem.train.labels
    densities = []
    for c in problem.seen_classes:
        s = problem.semantics[c]
        variance = np.mean((mapped[labels == c] - s) ** 2, dtype=np.float64)
        densities.append(multivariate_normal(s, variance).logpdf(mapped))
    expected = -np.max(densities, axis=0)
    np.testing.assert_allclose(model.novelty(rows).numpy(), expected, rtol=1e-3, atol=1e-2)


def test_model_of_the_same_state_gives_the_same_numbers(
    scaled: Scaled, model: SemanticGaussians
) -> None:
    description = json.loads(json.dumps(model.describe()))
    again = SemanticGaussians.from_state(description, model.state_dict())
    rows = scaled.feed.take(torch.arange(20))
    assert torch.equal(again.novelty(rows), model.novelty(rows))
    assert again.describe() == model.describe()


def test_rows_of_unseen_classes_have_higher_numbers(
    scaled: Scaled, model: SemanticGaussians
) -> None:
    held_out = open_held_out(DATASET, "test")
    seen, unseen = (
        model.novelty(torch.from_numpy(scaled.scaling(rows.features))).numpy()
        for rows in (held_out.seen, held_out.unseen)
    )
    assert np.mean(unseen[:, None] > seen) > 0.7
