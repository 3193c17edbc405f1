from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_sylvester
from sklearn.metrics.pairwise import cosine_similarity

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.scorers import ModelScorer
from gsmflow.methods.sae import SAE, SAEConfig, SAESolver, Space
from tests.builders import generators, make_dataset, scaled_of

LAMBDAS = [10.0**e for e in range(-3, 7)]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def rows_of(problem: Problem) -> tuple[NDArray[Any], NDArray[Any]]:
    """X ``(d, n)`` and S ``(a, n)`` in double precision."""
    x = problem.train.features.astype(np.float64).T
    return x, problem.semantics.astype(np.float64)[problem.train.labels].T


@pytest.mark.parametrize("lam", LAMBDAS)
def test_map_is_the_solution_of_the_sylvester_equation(problem: Problem, lam: float) -> None:
    x, s = rows_of(problem)
    expected = solve_sylvester(s @ s.T, lam * x @ x.T, (1 + lam) * s @ x.T)
    found = SAESolver(scaled_of(problem)).solve(lam).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e6])
def test_gradient_of_the_objective_is_zero(problem: Problem, lam: float) -> None:
    x, s = map(torch.from_numpy, rows_of(problem))

    def gradient(w: torch.Tensor) -> torch.Tensor:
        w = w.clone().requires_grad_()
        loss = (x - w.T @ s).square().sum() + lam * (w @ x - s).square().sum()
        return torch.autograd.grad(loss, w)[0]

    w = SAESolver(scaled_of(problem)).solve(lam)
    assert gradient(w).abs().max() < 1e-9 * gradient(torch.zeros_like(w)).abs().max()


@pytest.mark.parametrize("lam", LAMBDAS)
def test_constant_dimensions_and_few_classes_leave_it_finite(lam: float) -> None:
    # More semantics than seen classes, and a feature that is always 0: both products are singular.
    dataset = make_dataset(a=20)
    dataset.features[:, 2] = 0
    problem = training_problem(check_dataset(dataset), "test")
    w = SAESolver(scaled_of(problem)).solve(lam).numpy()
    x, s = rows_of(problem)
    left, right = s @ s.T @ w + lam * w @ x @ x.T, (1 + lam) * s @ x.T
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-6 * np.abs(right).max())
    assert np.abs(w[:, 2]).max() < 1e-9


@pytest.mark.parametrize("space", ["features", "semantics"])
def test_scores_are_cosines(problem: Problem, space: Space) -> None:
    config = SAEConfig(lam=3.0, space=space)
    model = SAE.for_problem(scaled_of(problem), config, generators(0))
    features = make_dataset(seed=8).features
    x, s = rows_of(problem)
    w = solve_sylvester(s @ s.T, 3 * x @ x.T, 4 * s @ x.T)
    pairs = (
        (features, problem.semantics @ w)
        if space == "features"
        else (features @ w.T, problem.semantics)
    )
    expected = cosine_similarity(*pairs)
    gzsl, zsl = model.class_scores(torch.from_numpy(features))
    np.testing.assert_allclose(gzsl, expected[:, problem.classes], atol=1e-5)
    np.testing.assert_allclose(zsl, expected[:, problem.unseen_classes], atol=1e-5)


def test_lambda_is_chosen_for_each_criterion() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    problem = training_problem(dataset, "validation")
    held_out = open_held_out(dataset, "validation")
    scaled = scaled_of(problem, "l2")
    choice = SAE.choose(scaled, held_out, SAEConfig(), generators(0))
    values: dict[str, list[float]] = {"T1": [], "H": [], "calibrated_H": []}
    for lam in LAMBDAS:
        model = SAE.for_problem(scaled, SAEConfig(lam=lam), generators(0))
        outcome = evaluate(
            ModelScorer(scaled.scaling, model, torch.device("cpu")), problem, held_out
        )
        values["T1"].append(outcome.t1)
        values["H"].append(outcome.harmonic_mean)
        values["calibrated_H"].append(outcome.curve().best_harmonic_mean())
    for criterion, found in values.items():
        assert choice[criterion]["value"] >= max(found) - 1e-9
        assert min(found) < max(found), "lambda must matter for this test to check anything"
    fitted = SAE.for_choice(scaled, SAEConfig(), choice, generators(0))
    alone = SAE.for_problem(scaled, SAEConfig(lam=choice["T1"]["lam"]), generators(0))
    rows = scaled.feed.take(torch.arange(9))
    np.testing.assert_array_equal(fitted.class_scores(rows)[1], alone.class_scores(rows)[1])


def test_lambda_that_is_set_is_not_chosen() -> None:
    dataset = check_dataset(make_dataset())
    problem = training_problem(dataset, "validation")
    config = SAEConfig(lam=7.0)
    held_out = open_held_out(dataset, "validation")
    choice = SAE.choose(scaled_of(problem), held_out, config, generators(0))
    assert {found["lam"] for found in choice.values()} == {7.0}


def test_without_validation_classes_lambda_must_be_set(problem: Problem) -> None:
    with pytest.raises(InputError, match="lam: found no value"):
        SAE.for_problem(scaled_of(problem), SAEConfig(), generators(0))


def test_class_numbers_may_leave_gaps(problem: Problem) -> None:
    kept = np.flatnonzero(~np.isin(problem.train.labels, [0, 3]))
    train = problem.train.select(kept)
    seen = np.unique(train.labels)
    problem = replace(problem, train=train, seen_classes=seen)
    x, s = rows_of(problem)
    expected = solve_sylvester(s @ s.T, x @ x.T, 2 * s @ x.T)
    found = SAESolver(scaled_of(problem)).solve(1.0).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
