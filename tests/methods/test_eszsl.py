import statistics
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import HeldOut, Problem, Rows, open_held_out, training_problem
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.scorers import ModelScorer
from gsmflow.methods.criteria import Criterion
from gsmflow.methods.eszsl import (
    ESZSL,
    ESZSLChoice,
    ESZSLConfig,
    ESZSLSolver,
    choose_regularizers,
)
from tests.builders import generators, make_dataset, scaled_of

PAIRS = [(1.0, 1e-5), (10.0, 1.0), (1e3, 1e-2), (1e6, 1e3)]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


@pytest.fixture(scope="module")
def validation() -> tuple[Problem, HeldOut]:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    return training_problem(dataset, "validation"), open_held_out(dataset, "validation")


def solver_of(problem: Problem) -> ESZSLSolver:
    return ESZSLSolver(scaled_of(problem, "standardised"))


def chosen(problem: Problem, held_out: HeldOut, **settings: float) -> dict[Criterion, ESZSLChoice]:
    scaled = scaled_of(problem, "standardised")
    return choose_regularizers(scaled, held_out, ESZSLConfig(**settings))


def signs(problem: Problem) -> NDArray[Any]:
    """Y: +1 at a row's class, -1 elsewhere."""
    return np.where(problem.train.labels[:, None] == problem.seen_classes, 1.0, -1.0)


def plain_solution(problem: Problem, gamma: float, lam: float) -> NDArray[Any]:
    """V of the published formula, ``(d, a)``."""
    x = StandardScaler().fit_transform(problem.train.features.astype(np.float64))
    s = problem.semantics[problem.seen_classes].astype(np.float64)
    left = np.linalg.solve(x.T @ x + gamma * np.eye(x.shape[1]), x.T @ signs(problem) @ s)
    return np.linalg.solve(s.T @ s + lam * np.eye(s.shape[1]), left.T).T


def solution(problem: Problem, gamma: float, lam: float) -> NDArray[Any]:
    """V from the class weights ``V s``, for semantics of full rank."""
    weights = solver_of(problem).class_weights(gamma, lam).numpy()
    return np.linalg.lstsq(problem.semantics.astype(np.float64), weights.T, rcond=None)[0].T


def scorer_of(problem: Problem, gamma: float, lam: float) -> ModelScorer:
    scaled = scaled_of(problem, "standardised")
    model = ESZSL.for_problem(scaled, ESZSLConfig(gamma=gamma, lam=lam), generators(0))
    return ModelScorer(scaled.scaling, model, torch.device("cpu"))


def assert_close(found: NDArray[Any], expected: NDArray[Any], share: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


@pytest.mark.parametrize(("gamma", "lam"), PAIRS)
def test_solution_is_the_published_formula(problem: Problem, gamma: float, lam: float) -> None:
    # The package keeps the scaled features in single precision.
    assert_close(solution(problem, gamma, lam), plain_solution(problem, gamma, lam), 1e-5)


@pytest.mark.parametrize(("gamma", "lam"), PAIRS)
def test_gradient_of_the_objective_is_zero(problem: Problem, gamma: float, lam: float) -> None:
    train = scaled_of(problem, "standardised").feed
    x = train.take(torch.arange(len(train.labels))).double()
    s = torch.from_numpy(problem.semantics[problem.seen_classes]).double()
    y = torch.from_numpy(signs(problem))

    def gradient(v: torch.Tensor) -> torch.Tensor:
        v = v.requires_grad_()
        fit = (x @ v @ s.T - y).square().sum()
        penalties = gamma * (v @ s.T).square().sum() + lam * (x @ v).square().sum()
        loss = fit + penalties + gamma * lam * v.square().sum()
        return torch.autograd.grad(loss, v)[0]

    v = torch.from_numpy(solution(problem, gamma, lam))
    scale = gradient(torch.zeros_like(v)).abs().max()
    assert gradient(v).abs().max() < 1e-9 * scale


def test_scores_are_bilinear_in_features_and_semantics(problem: Problem) -> None:
    fitted = scorer_of(problem, 10.0, 1.0)
    features = make_dataset(seed=8).features
    scaler = StandardScaler().fit(problem.train.features.astype(np.float64))
    x = scaler.transform(features.astype(np.float64))
    scores = x @ plain_solution(problem, 10.0, 1.0) @ problem.semantics.T
    assert_close(fitted.gzsl_scores(features), scores[:, problem.classes], 1e-5)
    assert_close(fitted.zsl_scores(features), scores[:, problem.unseen_classes], 1e-5)


def test_solution_does_not_depend_on_the_row_order(problem: Problem) -> None:
    order = np.random.default_rng(1).permutation(len(problem.train))
    train = Rows(problem.train.features[order], problem.train.labels[order])
    shuffled = solver_of(replace(problem, train=train)).class_weights(10.0, 1.0)
    expected = solver_of(problem).class_weights(10.0, 1.0)
    assert_close(shuffled.numpy(), expected.numpy(), 1e-5)


def test_solution_does_not_depend_on_the_slab_size(
    validation: tuple[Problem, HeldOut], monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures() -> tuple[NDArray[Any], list[float]]:
        choices = chosen(*validation)
        weights = solver_of(validation[0]).class_weights(10.0, 1.0).numpy()
        return weights, [choices[criterion].value for criterion in sorted(choices)]

    (whole, best) = figures()
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 100)
    (division, best_parted) = figures()
    assert_close(division, whole, 1e-5)
    assert best_parted == pytest.approx(best)


def test_class_numbers_may_leave_gaps() -> None:
    # The first and two middle classes have no rows: columns are not class numbers.
    problem = training_problem(check_dataset(make_dataset(classes=12)), "test")
    kept = ~np.isin(problem.train.labels, [0, 3, 4])
    train = Rows(problem.train.features[kept], problem.train.labels[kept])
    problem = replace(problem, train=train, seen_classes=np.unique(train.labels))
    assert_close(solution(problem, 10.0, 1.0), plain_solution(problem, 10.0, 1.0), 1e-5)


def test_classes_linear_in_their_semantics_are_recognised() -> None:
    # Semantics long enough that no class lies between others, where a linear score cannot win.
    dataset = check_dataset(make_dataset(classes=60, unseen=5, val=8, d=30, a=15, noise=0.02))
    problem = training_problem(dataset, "test")
    outcome = evaluate(scorer_of(problem, 1.0, 1e-3), problem, open_held_out(dataset, "test"))
    assert outcome.t1 > 0.95


def brute_force_criteria(
    problem: Problem, held_out: HeldOut, gamma: float, lam: float
) -> dict[str, float]:
    """T1, H and the best H over all gammas, from the plain formula and plain means."""
    scaler = StandardScaler().fit(problem.train.features.astype(np.float64))
    v = plain_solution(problem, gamma, lam)
    labels = {True: held_out.seen.labels, False: held_out.unseen.labels}
    scores = {
        side: scaler.transform(rows.features.astype(np.float64)) @ v @ problem.semantics.T
        for side, rows in ((True, held_out.seen), (False, held_out.unseen))
    }
    is_seen = np.isin(problem.classes, problem.seen_classes)

    def h(calibration: float) -> float:
        accuracies = []
        for side in (True, False):
            shifted = scores[side][:, problem.classes] - calibration * is_seen
            accuracies.append(mean_accuracy(labels[side], problem.classes[shifted.argmax(axis=1)]))
        return statistics.harmonic_mean(accuracies)

    gaps = sorted(
        float(row[problem.seen_classes].max() - row[problem.unseen_classes].max())
        for row in np.concatenate([*scores.values()])
    )
    answers = problem.unseen_classes[scores[False][:, problem.unseen_classes].argmax(axis=1)]
    return {
        "T1": mean_accuracy(labels[False], answers),
        "H": h(0.0),
        "calibrated_H": max(h((a + b) / 2) for a, b in pairwise(gaps)),
    }


def mean_accuracy(labels: NDArray[Any], answers: NDArray[Any]) -> float:
    recalls = [np.mean(answers[labels == c] == c) for c in np.unique(labels)]
    return float(np.mean(recalls))


def test_chosen_regularizers_are_no_worse_than_the_grid(
    validation: tuple[Problem, HeldOut],
) -> None:
    choices = chosen(*validation)
    assert set(choices) == {"T1", "H", "calibrated_H"}
    grid = [(10.0**g, 10.0**e) for g, e in product((0, 2, 4, 6), (-5, -2, 0, 3))]
    found = {pair: brute_force_criteria(*validation, *pair) for pair in grid}
    for criterion, choice in choices.items():
        values = [criteria[criterion] for criteria in found.values()]
        assert min(values) < max(values), "the grid must matter for this test to check anything"
        assert choice.value >= max(values) - 1e-9


def test_choice_records_the_value_that_its_pair_reaches(
    validation: tuple[Problem, HeldOut],
) -> None:
    for criterion, choice in chosen(*validation).items():
        criteria = brute_force_criteria(*validation, choice.gamma, choice.lam)
        assert choice.value == pytest.approx(criteria[criterion])


def test_choice_records_the_gamma_of_best_h(validation: tuple[Problem, HeldOut]) -> None:
    problem, held_out = validation
    choice = chosen(problem, held_out)["calibrated_H"]
    fitted = scorer_of(problem, choice.gamma, choice.lam)
    accuracies = []
    for rows in (held_out.seen, held_out.unseen):
        shift = choice.calibration * np.isin(problem.classes, problem.seen_classes)
        answers = (fitted.gzsl_scores(rows.features) - shift).argmax(axis=1)
        accuracies.append(mean_accuracy(rows.labels, problem.classes[answers]))
    assert statistics.harmonic_mean(accuracies) == pytest.approx(choice.value)


def test_regularizer_that_is_set_is_not_chosen(validation: tuple[Problem, HeldOut]) -> None:
    for criterion, choice in chosen(*validation, gamma=20.0).items():
        assert choice.gamma == 20.0
        values = [brute_force_criteria(*validation, 20.0, 10.0**e) for e in (-5, -2, 0, 3)]
        assert choice.value >= max(value[criterion] for value in values) - 1e-9


def test_model_scores_with_the_regularizers_of_each_figure(
    validation: tuple[Problem, HeldOut],
) -> None:
    problem, held_out = validation
    scaled, config = scaled_of(problem, "standardised"), ESZSLConfig()
    choice = ESZSL.choose(scaled, held_out, config, generators(0))
    model = ESZSL.for_choice(scaled, config, choice, generators(0))
    features = held_out.unseen.features
    rows = StandardScaler().fit(problem.train.features.astype(np.float64)).transform(features)
    gzsl, zsl = model.class_scores(torch.from_numpy(rows))
    calibrated = model.calibrated_class_scores(torch.from_numpy(rows))
    for criterion, scores, classes in (
        ("H", gzsl, problem.classes),
        ("T1", zsl, problem.unseen_classes),
        ("calibrated_H", calibrated, problem.classes),
    ):
        v = plain_solution(problem, choice[criterion]["gamma"], choice[criterion]["lam"])
        assert_close(scores, rows @ v @ problem.semantics[classes].T, 1e-5)


def test_without_validation_classes_both_regularizers_must_be_set(problem: Problem) -> None:
    scaled = scaled_of(problem, "standardised")
    with pytest.raises(InputError, match="gamma, lam: found no value for one of them"):
        ESZSL.for_problem(scaled, ESZSLConfig(gamma=1.0), generators(0))
    model = ESZSL.for_problem(scaled, ESZSLConfig(gamma=10.0, lam=1.0), generators(0))
    rows = scaled.feed.take(torch.arange(9))
    weights = solver_of(problem).class_weights(10.0, 1.0)[:, problem.classes]
    expected = rows.double() @ weights
    for scores in (model.class_scores(rows)[0], model.calibrated_class_scores(rows)):
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_dataset_that_leaves_no_validation_seen_rows_is_refused() -> None:
    def choose() -> None:
        # One training row a class: no row is left to validate seen classes on, and H has no S.
        dataset = check_dataset(make_dataset(per_class=2))
        problem = training_problem(dataset, "validation")
        chosen(problem, open_held_out(dataset, "validation"))

    with pytest.raises(InputError):
        choose()
