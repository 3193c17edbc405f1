"""EXEM with SYNC against SYNC on the same exemplars given as semantics."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Problem, open_held_out, training_problem
from gsmflow.methods.exem import EXEM, EXEMConfig, ExemplarDistance
from gsmflow.methods.exem_sync import EXEMSYNC, EXEMSYNCConfig
from gsmflow.methods.sync import SYNC, SYNCConfig
from tests.builders import generators, make_dataset, scaled_of

REGRESSION = {"svr_c": 2.0, "svr_nu": 0.5, "svr_gamma": 0.5}
COMBINATION = {"weight_penalty": 0.01, "sharpness": 2.0}


@pytest.fixture(scope="module")
def problem() -> Problem:
    return training_problem(check_dataset(make_dataset()), "test")


def scores_of(problem: Problem, config: EXEMSYNCConfig) -> NDArray[Any]:
    model = EXEMSYNC.for_problem(scaled_of(problem), config, generators(0))
    return model.class_scores(torch.from_numpy(make_dataset(seed=8).features))[0]


def scores_of_sync(problem: Problem, semantics: NDArray[Any]) -> NDArray[Any]:
    """Those of SYNC, which takes semantics at length 1."""
    given = replace(problem, semantics=semantics.astype(np.float32))
    model = SYNC.for_problem(scaled_of(given), SYNCConfig(**COMBINATION), generators(0))
    return model.class_scores(torch.from_numpy(make_dataset(seed=8).features))[0]


def exemplars_of(problem: Problem, distance: ExemplarDistance) -> NDArray[np.float64]:
    config = EXEMConfig(exemplar_distance=distance, **REGRESSION)
    model = EXEM.for_problem(scaled_of(problem), config, generators(0))
    return model.state_dict()["exemplars"][0].double().numpy()


@pytest.mark.parametrize("distance", ["standardised", "euclidean"])
def test_classifiers_are_those_of_sync_on_exemplars(
    problem: Problem, distance: ExemplarDistance
) -> None:
    config = EXEMSYNCConfig(exemplar_distance=distance, **REGRESSION, **COMBINATION)
    found = scores_of(problem, config)
    expected = scores_of_sync(problem, exemplars_of(problem, distance))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("distance", ["standardised", "euclidean"])
def test_exemplars_may_keep_their_lengths(problem: Problem, distance: ExemplarDistance) -> None:
    settings = {"exemplar_distance": distance, **REGRESSION, **COMBINATION}
    found = scores_of(problem, EXEMSYNCConfig(unit_exemplars=False, **settings))
    # A further dimension gives all exemplars one length, which changes their distances by one in
    # 10,000.
    vectors = exemplars_of(problem, distance)
    radius = 1e2 * np.linalg.norm(vectors, axis=1).max()
    height = np.sqrt(radius**2 - np.square(vectors).sum(axis=1))
    expected = scores_of_sync(problem, np.column_stack([vectors, height]))
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=2e-3 * largest)
    assert np.abs(found - scores_of(problem, EXEMSYNCConfig(**settings))).max() > 0.02 * largest


def test_the_regression_is_that_of_the_best_nearest_exemplars() -> None:
    dataset = check_dataset(make_dataset(classes=16, val=4, unseen=3, noise=0.9))
    scaled = scaled_of(training_problem(dataset, "validation"), "l2")
    held_out = open_held_out(dataset, "validation")
    config = EXEMSYNCConfig(svr_nu=0.5, weight_penalty=1e-3)
    choice = EXEMSYNC.choose(scaled, held_out, config, generators(0))
    nearest = EXEM.choose(scaled, held_out, EXEMConfig(svr_nu=0.5), generators(0))["T1"]
    for found in choice.values():
        assert {name: found[name] for name in EXEM.candidates} == {
            name: nearest[name] for name in EXEM.candidates
        }
        assert found["weight_penalty"] == 1e-3
        assert found["sharpness"] in SYNC.candidates["sharpness"]
    assert choice == EXEMSYNC.choose(scaled, held_out, config, generators(0))
