from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Extensible
from gsmflow.methods.conse import ConSEConfig
from gsmflow.methods.registry import find_method
from gsmflow.methods.sae import SAEConfig
from tests.builders import generators, make_dataset, scaled_of

QUICK: dict[str, Any] = {"seen_lr": 0.05, "seen_batch_size": 8, "seen_epochs": 3}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sae", SAEConfig(lam=3.0)),
        ("sae", SAEConfig(lam=3.0, space="semantics")),
        ("conse", ConSEConfig(top=3, **QUICK)),
        ("conse", ConSEConfig(top=3, centred=True, **QUICK)),
    ],
)
def test_added_class_scores_as_one_present_from_the_start(name: str, config: Any) -> None:
    whole = training_problem(check_dataset(make_dataset()), "test")
    part = replace(
        whole,
        semantics=whole.semantics[:-1],
        class_names=whole.class_names[:-1],
        unseen_classes=whole.unseen_classes[:-1],
    )
    model_class: Any = find_method(name).model
    first = model_class.for_problem(scaled_of(part), config, generators(0))
    expected = model_class.for_problem(scaled_of(whole), config, generators(0))
    rows = torch.from_numpy(make_dataset(seed=8).features)
    before = first.class_scores(rows)
    grown = first.with_classes(whole)
    for found, from_start in zip(
        (*grown.class_scores(rows), grown.calibrated_class_scores(rows)),
        (*expected.class_scores(rows), expected.calibrated_class_scores(rows)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, from_start)
    for found, old in zip(first.class_scores(rows), before, strict=True):
        np.testing.assert_array_equal(found, old)


@pytest.mark.parametrize("name", ["gfzsl", "costa", "dap", "iap"])
def test_solutions_that_depend_on_all_classes_take_no_further_ones(name: str) -> None:
    assert not issubclass(find_method(name).model, Extensible)
