"""What `check` accepts, methods learn from: few classes, and few rows of each."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, Problem, open_held_out, training_problem
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import Choosing, Trainable
from gsmflow.learning.scorers import direct_scorer
from gsmflow.learning.trainer import Trainer
from gsmflow.methods.class_folds import lacks_rows_for_folds
from gsmflow.methods.prototype_discriminant import DiscriminantConfig, PrototypeDiscriminant
from gsmflow.recipes.fit import make_model
from gsmflow.recipes.recipe import Recipe
from tests.builders import generators, make_dataset, scaled_of, seeded, small_recipe

CPU = torch.device("cpu")
METHODS = ("discriminant", "eszsl", "gaussian-prototypes", "ale")


def tiny(train: list[int], val: list[int], unseen: int = 2, width: int = 4) -> Dataset:
    """Checked data with so many training rows of each class, and two test rows of every class."""
    rows = [*train, *val, *(0 for _ in range(unseen))]
    labels = np.repeat(np.arange(len(rows)), np.array(rows) + 2)
    ranks = np.concatenate([np.arange(count + 2) for count in rows])
    semantics = make_dataset(classes=len(rows), unseen=1, val=1, a=3).semantics
    rng = np.random.default_rng(0)
    features = (semantics @ rng.normal(size=(3, width)))[labels] + 0.1 * rng.normal(
        size=(len(labels), width)
    )
    is_trained = ranks < np.array(rows)[labels]
    is_val = is_trained & (labels >= len(train))
    is_unseen = labels >= len(train) + len(val)
    return check_dataset(
        Dataset(
            name="TINY",
            features=features.astype(np.float32),
            labels=labels,
            semantics=semantics,
            class_names=tuple(map(str, range(len(rows)))),
            trainval=np.flatnonzero(is_trained),
            train=np.flatnonzero(is_trained & ~is_val),
            val=np.flatnonzero(is_val),
            test_seen=np.flatnonzero(~is_trained & ~is_unseen),
            test_unseen=np.flatnonzero(is_unseen),
        )
    )


def scores_are_finite(recipe: Recipe, dataset: Dataset) -> bool:
    """Learn as a run does, for validation and for the test split; whether scores are finite."""
    choice, finite = None, []
    for split in ("validation", "test"):
        problem, held_out = training_problem(dataset, split), open_held_out(dataset, split)
        scaled = scaled_of(problem, recipe.feature_scaling)
        model_class = recipe.method_info.model
        if split == "validation" and issubclass(model_class, Choosing):
            choice = model_class.choose(scaled, held_out, recipe.method, generators(0))
        model: Any = make_model(recipe, model_class, scaled, CPU, choice)
        if isinstance(model, Trainable):
            trainer = Trainer(model, scaled.feed, recipe.training, seeded(0))
            trainer.run_epoch()
            model = trainer.result
        classes = problem.seen_classes, problem.unseen_classes
        scorer = direct_scorer(model, scaled.scaling, classes, CPU, bayes=False)
        assert scorer is not None
        outcome = evaluate(scorer, problem, held_out)
        best = outcome.best
        finite += [np.isfinite(scores).all() for scores in (best.seen_scores, best.unseen_scores)]
        finite.append(np.isfinite(outcome.curve().best_gamma()))
    return all(finite)


rows_of_classes = st.lists(st.integers(1, 3), min_size=2, max_size=7)


@pytest.mark.parametrize("model", METHODS)
@settings(max_examples=5, deadline=None)
@example(train=[2, 2, 2], val=[2], unseen=2)
@example(train=[2] * 6, val=[2, 2], unseen=2)
@example(train=[2, 1, 1, 1, 1], val=[1], unseen=1)
@example(train=[2, 1], val=[1], unseen=1)
@given(
    train=rows_of_classes.filter(lambda rows: max(rows) > 1),
    val=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    unseen=st.integers(1, 3),
)
def test_sound_data_of_any_size_are_learned_from(
    model: str, train: list[int], val: list[int], unseen: int
) -> None:
    recipe = small_recipe(dataset="TINY", model=model)
    assert scores_are_finite(recipe, tiny(train, val, unseen))


def problem_of(train: list[int], split: Any) -> Problem:
    return replace(training_problem(tiny(train, [1]), "test"), split=split)


@pytest.mark.parametrize(
    ("train", "split", "expected"),
    [
        ([9, 9], "validation", "found 3 seen classes, expected at least 4"),
        ([9, 9, 9], "validation", None),
        ([9, 9, 9], "test", "found 4 seen classes, expected at least 5"),
        (
            [2] * 9,
            "test",
            "found 0 of 10 seen classes with 3 or more training rows, expected at least 3",
        ),
        ([2] * 9, "validation", None),
        ([3, 3, 3, 1, 1, 1, 1, 1, 1], "test", None),
        (
            [3, 3, 1, 1, 1, 1, 1, 1, 1],
            "test",
            "found 2 of 10 seen classes with 3 or more training rows, expected at least 3",
        ),
    ],
)
def test_folds_need_classes_with_rows_to_hold_out(
    train: list[int], split: Any, expected: str | None
) -> None:
    assert lacks_rows_for_folds(problem_of(train, split)) == expected


@pytest.mark.parametrize("rows", [[1, 1, 2], [2] * 8, [3] * 8, [4, 4, 4, 4], [1] * 7 + [9]])
def test_validation_and_final_problem_lack_rows_alike(rows: list[int]) -> None:
    """A calibration factor gamma fits the scores that it was chosen on."""
    dataset = tiny(rows, [2])
    lacks = {
        lacks_rows_for_folds(training_problem(dataset, split)) is None
        for split in ("validation", "test")
    }
    assert len(lacks) == 1


def test_usual_settings_are_taken_without_a_gate_and_the_model_says_so() -> None:
    problem = training_problem(tiny([2, 2, 2], [2]), "test")
    model = PrototypeDiscriminant.for_problem(
        scaled_of(problem), DiscriminantConfig(covariance_shrinkage=False), generators(0)
    )
    description = model.describe()
    assert description["notes"] == [
        "test problem: found 4 seen classes, expected at least 5, to choose settings by "
        "cross-validation: the usual ones are taken, without a gate"
    ]
    chosen = description["chosen"]
    assert (chosen["feature_transform"], chosen["shrinkage"], chosen["value"]) == (
        "none",
        0.05,
        None,
    )
    copy = PrototypeDiscriminant.from_state(description, model.state_dict())
    assert copy.describe() == description
    rows = torch.from_numpy(problem.train.features)
    np.testing.assert_array_equal(copy.class_scores(rows)[0], model.class_scores(rows)[0])
