"""EXEM with SYNC against SYNC on the same exemplars given as semantics."""

from dataclasses import replace

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize("distance", ["standardised", "euclidean"])
def test_classifiers_are_those_of_sync_on_exemplars(
    problem: Problem, distance: ExemplarDistance
) -> None:
    exem = EXEMConfig(exemplar_distance=distance, **REGRESSION)
    exemplars = EXEM.for_problem(scaled_of(problem), exem, generators(0)).state_dict()["exemplars"]
    # SYNC scales semantics to length 1: a further dimension gives all exemplars one length, which
    # changes their distances by one in 10,000.
    vectors = exemplars[0].double().numpy()
    radius = 1e2 * np.linalg.norm(vectors, axis=1).max()
    height = np.sqrt(radius**2 - np.square(vectors).sum(axis=1))
    raised = np.column_stack([vectors, height]).astype(np.float32)
    as_semantics = replace(problem, semantics=raised)
    sync = SYNC.for_problem(scaled_of(as_semantics), SYNCConfig(**COMBINATION), generators(0))
    config = EXEMSYNCConfig(exemplar_distance=distance, **REGRESSION, **COMBINATION)
    model = EXEMSYNC.for_problem(scaled_of(problem), config, generators(0))
    features = torch.from_numpy(make_dataset(seed=8).features)
    expected = sync.class_scores(features)[0]
    found = model.class_scores(features)[0]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


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
