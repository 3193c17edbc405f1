"""CMT and its novelty detection against loops over rows and classes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from scipy.stats import multivariate_normal

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, hold_out, open_held_out, training_problem
from gsmflow.methods.cmt import CMT, CMTConfig
from gsmflow.methods.cmt_loop import CMTLoOP, CMTLoOPConfig
from gsmflow.methods.cmt_star import CMTStar, CMTStarConfig
from gsmflow.methods.local_outliers import fit_local_outliers
from gsmflow.methods.seen_softmax import fit_seen_softmax
from gsmflow.methods.semantic_regression import fit_semantic_regression
from tests.builders import generators, make_dataset, scaled_of

QUICK: dict[str, Any] = {
    **{"hidden": 9, "iterations": 30, "penalty": 1e-2},
    **{"seen_lr": 0.05, "seen_batch_size": 8, "seen_epochs": 10},
}
DATASET = make_dataset()
# Rows that nothing is fitted on, of seen and of unseen classes.
ROWS = DATASET.features[np.concatenate([DATASET.test_seen, DATASET.test_unseen])]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(DATASET), "test")


def mapped(problem: Problem, config: Any, rows: NDArray[Any], fitted: Problem) -> NDArray[Any]:
    """Rows mapped by the regression of a problem's training rows."""
    semantics = torch.from_numpy(problem.semantics)
    feed = scaled_of(fitted).feed
    regression = fit_semantic_regression(feed, semantics, config, generators(0))
    return np.asarray(regression.map(torch.from_numpy(rows)).numpy(), dtype=np.float64)


def test_scores_of_cmt_are_minus_squared_distances(problem: Problem) -> None:
    config = CMTConfig(hidden=9, iterations=30)
    model = CMT.for_problem(scaled_of(problem), config, generators(0))
    gzsl, zsl = model.class_scores(torch.from_numpy(ROWS))
    for w, of_all, of_unseen in zip(mapped(problem, config, ROWS, problem), gzsl, zsl, strict=True):
        for classes, scores in ((problem.classes, of_all), (problem.unseen_classes, of_unseen)):
            expected = [-np.sum((w - problem.semantics[c]) ** 2) for c in classes]
            np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("accepted", [0.3, 0.9])
def test_expert_of_cmt_star_is_chosen_by_the_likeliest_seen_class(
    problem: Problem, accepted: float
) -> None:
    config = CMTStarConfig(accepted=accepted, **QUICK)
    scaled = scaled_of(problem)
    model = CMTStar.for_problem(scaled, config, generators(0))
    rest, held = hold_out(problem)
    fitted = mapped(problem, config, rest.train.features, rest)
    variances = {
        c: np.mean((fitted[rest.train.labels == c] - problem.semantics[c]) ** 2)
        for c in problem.seen_classes
    }

    def highest(w: NDArray[Any]) -> float:
        gaussians = {c: multivariate_normal(problem.semantics[c], v) for c, v in variances.items()}
        return float(max(gaussian.logpdf(w) for gaussian in gaussians.values()))

    of_held = np.sort([highest(w) for w in mapped(problem, config, held.features, rest)])
    threshold = of_held[len(of_held) - int(np.ceil(accepted * len(of_held)))]
    logits = fit_seen_softmax(scaled, config, generators(0)).scores(ROWS)
    answers = problem.classes[model.class_scores(torch.from_numpy(ROWS))[0].argmax(axis=1)]
    chosen = []
    for w, of_seen, answer in zip(
        mapped(problem, config, ROWS, rest), logits, answers, strict=True
    ):
        is_novel = highest(w) < threshold
        distances = [np.sum((w - problem.semantics[c]) ** 2) for c in problem.unseen_classes]
        expected = (
            problem.unseen_classes[np.argmin(distances)]
            if is_novel
            else problem.seen_classes[of_seen.argmax()]
        )
        assert answer == expected
        chosen.append(is_novel)
    assert 0 < sum(chosen) < len(chosen)


def test_gamma_moves_the_threshold_of_cmt_star(problem: Problem) -> None:
    model = CMTStar.for_problem(
        scaled_of(problem), CMTStarConfig(accepted=0.9, **QUICK), generators(0)
    )
    rows, seen = torch.from_numpy(ROWS), len(problem.seen_classes)
    scores = model.calibrated_class_scores(rows)
    gamma = 2.5
    model.threshold -= gamma  # type: ignore[operator]
    lowered = model.calibrated_class_scores(rows)
    scores[:, :seen] -= gamma
    np.testing.assert_array_equal(scores.argmax(axis=1), lowered.argmax(axis=1))


def test_held_out_rows_set_the_threshold_alone(problem: Problem) -> None:
    _, held = hold_out(problem)
    assert held.index is not None
    features = DATASET.features.copy()
    features[held.index] += 3
    moved = training_problem(check_dataset(replace(DATASET, features=features)), "test")
    config = CMTStarConfig(accepted=0.9, **QUICK)
    ours, theirs = (
        CMTStar.for_problem(scaled_of(p), config, generators(0)).state_dict()
        for p in (problem, moved)
    )
    of_seen_expert = {"weight", "bias"}
    for name in ours.keys() - of_seen_expert:
        assert torch.equal(ours[name], theirs[name]) == (name != "threshold"), name


def test_scores_of_cmt_with_loop_are_log_probabilities(problem: Problem) -> None:
    config = CMTLoOPConfig(extent=2.0, neighbours=4, **QUICK)
    scaled = scaled_of(problem)
    model = CMTLoOP.for_problem(scaled, config, generators(0))
    labels = problem.train.labels
    points = mapped(problem, config, problem.train.features, problem)
    variance = np.mean(
        [np.mean((points[labels == c] - problem.semantics[c]) ** 2) for c in problem.seen_classes]
    )
    logits = fit_seen_softmax(scaled, config, generators(0)).scores(ROWS).astype(np.float64)
    rows = mapped(problem, config, ROWS, problem)
    outliers = fit_local_outliers(torch.from_numpy(points), 4)
    novel = outliers.probabilities(torch.from_numpy(rows), 2.0).numpy()
    assert novel.max() > 0
    gzsl, zsl = model.class_scores(torch.from_numpy(ROWS))
    for i, (p, w) in enumerate(zip(novel, rows, strict=True)):
        densities = np.array(
            [
                multivariate_normal(problem.semantics[c], variance).logpdf(w)
                for c in problem.unseen_classes
            ]
        )
        probabilities = [(1 - p) * softmax(logits[i]), p * softmax(densities)]
        np.testing.assert_allclose(np.exp(gzsl[i]), np.concatenate(probabilities), atol=1e-4)
        np.testing.assert_allclose(zsl[i], log_softmax(densities), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "config", "name"),
    [(CMTStar, CMTStarConfig(**QUICK), "accepted"), (CMTLoOP, CMTLoOPConfig(**QUICK), "extent")],
)
def test_novelty_is_chosen_on_validation_classes_and_weights_are_kept_once(
    model: Any, config: Any, name: str
) -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=1.2))
    scaled = scaled_of(training_problem(dataset, "validation"))
    held_out = open_held_out(dataset, "validation")
    choice = model.choose(scaled, held_out, config, generators(0))
    assert choice == model.choose(scaled, held_out, config, generators(0))
    assert {found[name] for found in choice.values()} <= set(model.candidates[name])
    fitted = model.for_choice(scaled, config, choice, generators(0)).state_dict()
    assert len(fitted["hidden_weight"]) == 1
    changing = fitted["threshold" if name == "accepted" else "extent"]
    assert len(changing) == 3
