"""SYNC against scikit-learn's solvers, loops over rows and classes, and autograd."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.methods.class_similarities import relative_distances, similarities
from gsmflow.methods.sync import (
    SYNC,
    SeenClassifiers,
    SeenLoss,
    SYNCConfig,
    combinations,
    one_versus_other,
    worst_margin,
)
from tests.builders import feed_of, generators, make_dataset, scaled_of

LOSSES: tuple[SeenLoss, ...] = ("ovo", "cs", "struct")


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset(noise=0.8)), "test")


def classifiers(problem: Problem, loss: SeenLoss) -> SeenClassifiers:
    return SeenClassifiers(
        feed_of(problem), torch.from_numpy(problem.seen_classes), loss, margins_of(problem)
    )


def margins_of(problem: Problem) -> torch.Tensor:
    seen = problem.seen_classes
    return torch.from_numpy(relative_distances(problem.semantics)[np.ix_(seen, seen)])


def exact_loss(w: NDArray[Any], problem: Problem, loss: SeenLoss, penalty: float) -> float:
    """The objective of the paper, by loops."""
    margins = margins_of(problem).numpy()
    total = 0.0
    for row, label in zip(problem.train.features, problem.train.labels, strict=True):
        s, y = w @ row, int(np.searchsorted(problem.seen_classes, label))
        if loss == "ovo":
            hinges = [max(0, 1 - s[c]) if c == y else max(0, 1 + s[c]) for c in range(len(s))]
            total += float(np.square(hinges).sum()) / len(s)
        else:
            wide = margins[y] if loss == "struct" else np.arange(len(s)) != y
            total += max(wide[c] + s[c] - s[y] for c in range(len(s)))
    return total / len(problem.train) + penalty / 2 * float(np.square(w).sum())


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_one_versus_other_classifiers_are_those_of_scikit_learn(
    problem: Problem, penalty: float
) -> None:
    found = classifiers(problem, "ovo").train(penalty)
    count = len(problem.train) * len(problem.seen_classes)
    svm = LinearSVC(C=1 / (count * penalty), fit_intercept=False, dual=False, tol=1e-5)
    svm.fit(problem.train.features.astype(np.float64), problem.train.labels)
    np.testing.assert_allclose(found, svm.coef_, atol=2e-3 * np.abs(svm.coef_).max())


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_margin_classifiers_have_the_loss_of_scikit_learn(problem: Problem, penalty: float) -> None:
    found = classifiers(problem, "cs").train(penalty).numpy()
    svm = LinearSVC(
        C=1 / (len(problem.train) * penalty),
        multi_class="crammer_singer",
        fit_intercept=False,
        tol=1e-6,
        max_iter=100_000,
    )
    svm.fit(problem.train.features.astype(np.float64), problem.train.labels)
    best = exact_loss(svm.coef_, problem, "cs", penalty)
    # The smoothed loss is above the exact one by at most 0.05, and so is the loss of its minimum.
    assert best - 1e-4 <= exact_loss(found, problem, "cs", penalty) <= best + 0.05


@pytest.mark.parametrize("loss", LOSSES)
def test_no_direction_lowers_the_loss(problem: Problem, loss: SeenLoss) -> None:
    found = classifiers(problem, loss).train(0.05).double().numpy()
    reached = exact_loss(found, problem, loss, 0.05)
    rng = np.random.default_rng(0)
    for length in (0.01, 0.1, 1.0) * 5:
        direction = rng.normal(size=found.shape)
        other = found + length * direction / np.linalg.norm(direction)
        # The smoothed maximum is above the exact one by at most 0.05.
        slack = 1e-5 if loss == "ovo" else 0.05
        assert exact_loss(other, problem, loss, 0.05) >= reached - slack
    assert exact_loss(0 * found, problem, loss, 0.05) > reached


@pytest.mark.parametrize("loss", LOSSES)
def test_row_losses_are_those_of_loops_over_classes(problem: Problem, loss: SeenLoss) -> None:
    rng = np.random.default_rng(0)
    w = 3 * rng.normal(size=(len(problem.seen_classes), problem.train.features.shape[1]))
    scores = torch.from_numpy(problem.train.features @ w.T)
    columns = torch.from_numpy(np.searchsorted(problem.seen_classes, problem.train.labels))
    expected = exact_loss(w, problem, loss, 0) * len(scores)
    if loss == "ovo":
        found = one_versus_other(scores, columns) / len(w)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        return
    margins = margins_of(problem) if loss == "struct" else 1 - torch.eye(len(w))
    found = worst_margin(scores, columns, margins.double())
    assert expected * (1 - 1e-6) <= found <= expected + 0.05 * len(scores)


def test_smoothed_maximum_is_exact_where_one_class_leads() -> None:
    scores = torch.tensor([[0.0, 3.0, 1.0], [5.0, -2.0, 1.0]])
    found = worst_margin(scores, torch.tensor([0, 0]), 1 - torch.eye(3))
    np.testing.assert_allclose(found, 4.0, rtol=1e-6)  # 1 + 3 - 0, and nothing for the second row


def test_gradient_of_the_smoothed_maximum() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = 0.2 * torch.randn(6, 4, generator=rng, dtype=torch.float64)
    columns, margins = torch.tensor([0, 1, 2, 3, 0, 1]), 0.1 * (1 - torch.eye(4)).double()
    assert torch.autograd.gradcheck(
        lambda s: worst_margin(s, columns, margins), scores.requires_grad_()
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_scores_are_combinations_of_phantom_classifiers(problem: Problem, loss: SeenLoss) -> None:
    config = SYNCConfig(loss, weight_penalty=0.01, sharpness=2.0)
    model = SYNC.for_problem(scaled_of(problem), config, generators(0))
    w = classifiers(problem, loss).train(0.01).double().numpy()
    s = problem.semantics / np.linalg.norm(problem.semantics, axis=1, keepdims=True)
    between = np.linalg.norm(s[:, None] - s[None], axis=-1)
    median = np.median(between[np.triu_indices(len(s), 1)])
    weights = np.exp(-2.0 * (between[:, problem.seen_classes] / median) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    phantoms = np.linalg.lstsq(weights[problem.seen_classes], w, rcond=None)[0]
    features = make_dataset(seed=8).features
    expected = features @ (weights @ phantoms).T
    gzsl, zsl = model.class_scores(torch.from_numpy(features))
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(gzsl, expected[:, problem.classes], atol=tolerance)
    np.testing.assert_allclose(zsl, expected[:, problem.unseen_classes], atol=tolerance)
    # Seen classes keep their classifiers where the similarities have full rank.
    own = features @ w.T
    np.testing.assert_allclose(gzsl[:, : len(w)], own, atol=1e-3 * np.abs(own).max())


def test_seen_classes_keep_their_classifiers_with_semantics_of_few_dimensions() -> None:
    """Twenty classes in a plane: their similarities have no inverse."""
    semantics = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    seen = np.arange(20)
    shares = combinations(relative_distances(semantics), seen, 0.5, 0)
    np.testing.assert_array_equal(shares[seen], np.eye(20))
    assert np.isfinite(shares).all()


@pytest.mark.parametrize("ridge", [1e-3, 0.3])
def test_ridge_combinations_have_the_least_penalised_error(problem: Problem, ridge: float) -> None:
    """Rows of the combinations are ``s`` times the V of least ``|S V - I|^2 + penalty |V|^2``."""
    seen, distances = problem.seen_classes, relative_distances(problem.semantics)
    of_all = similarities(distances, seen, 0.5)
    s, k = of_all[seen], len(seen)
    penalty = ridge * float(np.square(s).sum()) / k
    stacked = np.concatenate([s, penalty**0.5 * np.eye(k)])
    v = np.linalg.lstsq(stacked, np.eye(2 * k, k), rcond=None)[0]
    found = combinations(distances, seen, 0.5, ridge)
    np.testing.assert_allclose(found, of_all @ v, atol=1e-8)
    nearly_none = combinations(distances, seen, 0.5, 1e-12)
    np.testing.assert_allclose(nearly_none, combinations(distances, seen, 0.5, 0), atol=1e-3)


def test_rows_of_several_slabs_give_the_same_classifiers(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = classifiers(problem, "ovo").train(0.01)
    monkeypatch.setattr("gsmflow.learning.feed._CHUNK", 7)
    np.testing.assert_allclose(classifiers(problem, "ovo").train(0.01), whole, atol=1e-3)


def test_numbers_are_chosen_and_the_same_again() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    scaled = scaled_of(training_problem(dataset, "validation"), "l2")
    held_out, config = open_held_out(dataset, "validation"), SYNCConfig(weight_penalty=1e-3)
    choice = SYNC.choose(scaled, held_out, config, generators(0))
    assert choice == SYNC.choose(scaled, held_out, config, generators(0))
    assert {found["weight_penalty"] for found in choice.values()} == {1e-3}
    assert {found["sharpness"] for found in choice.values()} <= set(SYNC.candidates["sharpness"])
    fitted = SYNC.for_choice(scaled, config, choice, generators(0))
    alone = SYNCConfig(weight_penalty=1e-3, sharpness=choice["T1"]["sharpness"])
    rows = scaled.feed.take(torch.arange(9))
    np.testing.assert_array_equal(
        fitted.class_scores(rows)[1],
        SYNC.for_problem(scaled, alone, generators(0)).class_scores(rows)[1],
    )


def test_without_validation_classes_numbers_must_be_set(problem: Problem) -> None:
    with pytest.raises(InputError, match="sharpness: found no value"):
        SYNC.for_problem(scaled_of(problem), SYNCConfig(weight_penalty=0.1), generators(0))
