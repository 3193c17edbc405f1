from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.methods.costa import COSTA, COSTAConfig
from gsmflow.methods.seen_softmax import fit_seen_softmax
from tests.builders import generators, make_dataset, scaled_of

QUICK: dict[str, Any] = {"seen_lr": 0.05, "seen_batch_size": 8, "seen_epochs": 10}


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def test_classifiers_are_weighted_means_of_those_of_seen_classes(problem: Problem) -> None:
    config = COSTAConfig(sharpness=2.0, **QUICK)
    scaled = scaled_of(problem)
    model = COSTA.for_problem(scaled, config, generators(0))
    features = make_dataset(seed=8).features
    logits = fit_seen_softmax(scaled, config, generators(0)).scores(features)
    s = problem.semantics / np.linalg.norm(problem.semantics, axis=1, keepdims=True)
    median = np.median([np.linalg.norm(s[a] - s[b]) for a, b in combinations(range(len(s)), 2)])
    expected = []
    for u in problem.classes:
        distances = [np.linalg.norm(s[u] - s[c]) / median for c in problem.seen_classes]
        weights = np.exp(-2 * np.square(distances))
        expected.append(logits @ weights / weights.sum())
    gzsl, zsl = model.class_scores(torch.from_numpy(features))
    np.testing.assert_allclose(gzsl, np.stack(expected, axis=1), atol=1e-4)
    np.testing.assert_allclose(zsl, gzsl[:, len(problem.seen_classes) :], atol=1e-6)


def test_sharp_kernel_gives_the_classifier_of_the_most_similar_class(problem: Problem) -> None:
    config = COSTAConfig(sharpness=1e6, **QUICK)
    model = COSTA.for_problem(scaled_of(problem), config, generators(0))
    gzsl, zsl = model.class_scores(torch.from_numpy(problem.train.features))
    s = problem.semantics / np.linalg.norm(problem.semantics, axis=1, keepdims=True)
    similar = (s[problem.unseen_classes] @ s[problem.seen_classes].T).argmax(axis=1)
    np.testing.assert_allclose(zsl, gzsl[:, similar], atol=1e-5)


def test_sharpness_is_chosen_and_the_same_again() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    scaled = scaled_of(training_problem(dataset, "validation"))
    held_out, config = open_held_out(dataset, "validation"), COSTAConfig(**QUICK)
    choice = COSTA.choose(scaled, held_out, config, generators(0))
    assert choice == COSTA.choose(scaled, held_out, config, generators(0))
    assert {found["sharpness"] for found in choice.values()} <= set(COSTA.candidates["sharpness"])
