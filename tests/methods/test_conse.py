from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.methods.conse import ConSE, ConSEConfig
from gsmflow.methods.seen_softmax import fit_seen_softmax
from tests.builders import generators, make_dataset, scaled_of

QUICK: dict[str, Any] = {"seen_lr": 0.05, "seen_batch_size": 8, "seen_epochs": 10}


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("top", [1, 3, 1000])
def test_scores_are_cosines_of_the_combination(problem: Problem, top: int, centred: bool) -> None:
    config = ConSEConfig(top=top, centred=centred, **QUICK)
    scaled = scaled_of(problem)
    model = ConSE.for_problem(scaled, config, generators(3))
    features = make_dataset(seed=8).features[:20]
    logits = fit_seen_softmax(scaled, config, generators(3)).scores(features)
    s = problem.semantics / np.linalg.norm(problem.semantics, axis=1, keepdims=True)
    s = s - s.mean(axis=0) if centred else s
    gzsl, zsl = model.class_scores(torch.from_numpy(features))
    for row, posteriors in enumerate(softmax(logits.astype(np.float64), axis=1)):
        best = np.argsort(-posteriors)[:top]
        f = sum(posteriors[c] * s[problem.seen_classes[c]] for c in best) / posteriors[best].sum()
        expected = [cosine(f, s[c]) for c in problem.classes]
        np.testing.assert_allclose(gzsl[row], expected, atol=1e-5)
        np.testing.assert_allclose(zsl[row], expected[len(problem.seen_classes) :], atol=1e-5)


def test_with_one_class_a_row_is_given_its_most_probable_seen_class(problem: Problem) -> None:
    scaled = scaled_of(problem)
    model = ConSE.for_problem(scaled, ConSEConfig(top=1, **QUICK), generators(0))
    rows = scaled.feed.take(torch.arange(len(problem.train)))
    answers = problem.classes[model.class_scores(rows)[0].argmax(axis=1)]
    softmax = fit_seen_softmax(scaled, model.config, generators(0))
    np.testing.assert_array_equal(
        answers, problem.seen_classes[softmax.scores(rows.numpy()).argmax(axis=1)]
    )


def test_number_of_classes_is_chosen_and_the_same_again() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    scaled = scaled_of(training_problem(dataset, "validation"))
    held_out, config = open_held_out(dataset, "validation"), ConSEConfig(**QUICK)
    choice = ConSE.choose(scaled, held_out, config, generators(0))
    assert choice == ConSE.choose(scaled, held_out, config, generators(0))
    assert {found["top"] for found in choice.values()} <= {1, 10, 1000}
