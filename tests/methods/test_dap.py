from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, training_problem
from gsmflow.methods.binary_attributes import binary_attributes
from gsmflow.methods.criterion_model import CriterionModel
from gsmflow.methods.dap import DAP, DAPConfig, fit_logistic
from gsmflow.methods.iap import IAP, IAPConfig
from gsmflow.methods.seen_softmax import fit_seen_softmax
from tests.builders import generators, make_dataset, scaled_of

INDIRECT = IAPConfig(seen_lr=0.05, seen_batch_size=8, seen_epochs=10)
DIRECT = DAPConfig(attribute_penalty=0.1)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def attributes_of(problem: Problem) -> NDArray[Any]:
    return problem.semantics > problem.semantics.mean(axis=0)


def brute_force(problem: Problem, p: NDArray[Any]) -> NDArray[Any]:
    """Scores ``(n, classes)`` of every class, from probabilities of attributes, in plain loops."""
    b = attributes_of(problem)
    prior = b[problem.seen_classes].mean(axis=0)
    scores = np.zeros((len(p), len(b)))
    for row, c, m in np.ndindex(len(p), *b.shape):
        if 0 < prior[m] < 1:
            likelihood = p[row, m] if b[c, m] else 1 - p[row, m]
            scores[row, c] += np.log(likelihood) - np.log(prior[m] if b[c, m] else 1 - prior[m])
    return scores


def assert_scores(model: CriterionModel, problem: Problem, p: NDArray[Any]) -> None:
    rows = torch.from_numpy(problem.train.features)
    expected = brute_force(problem, np.clip(p, 1e-6, 1 - 1e-6))
    gzsl, zsl = model.class_scores(rows)
    np.testing.assert_allclose(gzsl, expected[:, problem.classes], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(zsl, expected[:, problem.unseen_classes], rtol=1e-3, atol=1e-2)


def test_attributes_are_above_their_mean_over_all_classes(problem: Problem) -> None:
    found = binary_attributes(torch.from_numpy(problem.semantics)).numpy()
    np.testing.assert_array_equal(found, attributes_of(problem))


def test_regressions_are_logistic_with_an_l2_penalty(problem: Problem) -> None:
    scaled = scaled_of(problem)
    b = attributes_of(problem)
    targets = torch.from_numpy(b.astype(np.float32))
    weight, bias = fit_logistic(scaled.feed, targets, 0.1)
    for m, y in enumerate(b[problem.train.labels].T):
        model = LogisticRegression(C=1 / (0.1 * len(y)), tol=1e-8)
        model.fit(problem.train.features.astype(np.float64), y)
        np.testing.assert_allclose(weight[m], model.coef_[0], atol=1e-3)
        np.testing.assert_allclose(bias[m], model.intercept_[0], atol=1e-3)


def test_direct_scores_are_sums_over_the_attributes(problem: Problem) -> None:
    model = DAP.for_problem(scaled_of(problem), DIRECT, generators(0))
    x = problem.train.features.astype(np.float64)
    columns = []
    for y in attributes_of(problem)[problem.train.labels].T:
        regression = LogisticRegression(C=1 / (0.1 * len(y)), tol=1e-8).fit(x, y)
        columns.append(regression.predict_proba(x)[:, 1])
    assert_scores(model, problem, np.stack(columns, axis=1))


def test_indirect_scores_are_sums_over_the_attributes(problem: Problem) -> None:
    scaled = scaled_of(problem)
    model = IAP.for_problem(scaled, INDIRECT, generators(0))
    logits = fit_seen_softmax(scaled, INDIRECT, generators(0)).scores(problem.train.features)
    posteriors = softmax(logits.astype(np.float64), axis=1)
    assert_scores(model, problem, posteriors @ attributes_of(problem)[problem.seen_classes])


@pytest.mark.parametrize("unseen_too", [True, False])
def test_constant_attribute_stays_finite_and_changes_nothing(unseen_too: bool) -> None:
    dataset = make_dataset()
    dataset.semantics[:, 2] = 0.7
    if not unseen_too:  # constant over the seen classes alone
        dataset.semantics[dataset.unseen_classes, 2] = -5
    problem = training_problem(check_dataset(dataset), "test")
    scaled, rows = scaled_of(problem), torch.from_numpy(dataset.features)
    for model in (
        DAP.for_problem(scaled, DIRECT, generators(0)),
        IAP.for_problem(scaled, INDIRECT, generators(0)),
    ):
        gzsl = model.class_scores(rows)[0]
        assert np.isfinite(gzsl).all()
        model.semantics[:, 2] = 0
        np.testing.assert_allclose(model.class_scores(rows)[0], gzsl, atol=1e-5)
