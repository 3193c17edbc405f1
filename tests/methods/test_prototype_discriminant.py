"""The prototype discriminant as a model; the contract of all models is in test_contract."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out, training_problem
from gsmflow.evaluation.metrics import mean_class_accuracy
from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.prototype_discriminant import DiscriminantConfig, PrototypeDiscriminant
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import (
    feed_of,
    generators,
    make_dataset,
    make_recipe,
    scaled_of,
    seeded,
    tiny_recipe,
)

pytestmark = pytest.mark.usefixtures("quick_pictures")

DATASET = check_dataset(make_dataset(classes=30, unseen=6, val=6, noise=0.15, per_class=20))
PROBLEM = training_problem(DATASET, "test")
HELD_OUT = open_held_out(DATASET, "test")


def fit(**changes: Any) -> PrototypeDiscriminant:
    config = DiscriminantConfig(**changes)
    return PrototypeDiscriminant.for_problem(scaled_of(PROBLEM), config, generators(0))


def test_unseen_classes_linear_in_their_semantics_are_recognised() -> None:
    model = fit()
    unseen, seen = HELD_OUT.unseen, HELD_OUT.seen
    gzsl, zsl = model.class_scores(torch.from_numpy(unseen.features))
    t1 = mean_class_accuracy(unseen.labels, PROBLEM.unseen_classes[zsl.argmax(axis=1)])
    u = mean_class_accuracy(unseen.labels, PROBLEM.classes[gzsl.argmax(axis=1)])
    of_seen, _ = model.class_scores(torch.from_numpy(seen.features))
    s = mean_class_accuracy(seen.labels, PROBLEM.classes[of_seen.argmax(axis=1)])
    assert min(t1, u, s) > 0.85


def test_scores_are_probabilities_only_with_a_gate() -> None:
    features = torch.from_numpy(HELD_OUT.seen.features)
    gated, _ = fit().class_scores(features)
    np.testing.assert_allclose(np.exp(gated).sum(axis=1), 1, rtol=1e-4)
    common, zsl = fit(gated=False).class_scores(features)
    np.testing.assert_array_equal(common[:, len(PROBLEM.seen_classes) :], zsl)


def test_drawn_features_lie_around_the_predicted_means() -> None:
    model = fit(feature_transform="none")
    classes = torch.from_numpy(PROBLEM.unseen_classes)
    draw = model.sampler(classes)
    positions = torch.arange(len(classes)).repeat(4000)
    features = draw(positions, seeded(1))
    real = HELD_OUT.unseen
    for position, c in enumerate(PROBLEM.unseen_classes):
        drawn = features[positions == position]
        mean = real.features[real.labels == c].mean(axis=0)
        assert np.abs(drawn.mean(dim=0).numpy() - mean).max() < 0.5


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"semantics_whitening": False}, "whitening", 0.0),
        ({"covariance_shrinkage": False}, "shrinkage", 0.05),
        ({"feature_transform": "unit"}, "feature_transform", "unit"),
    ],
)
def test_fixed_settings_are_not_chosen(changes: dict[str, Any], name: str, value: object) -> None:
    assert fit(**changes).describe()["chosen"][name] == value


def test_transform_is_chosen_among_all_transforms() -> None:
    feed = feed_of(PROBLEM)
    # Square roots make these rows linear in the semantics again.
    squared = MemoryFeed(feed.features.sign() * feed.features.square(), feed.labels)
    scaled = replace(scaled_of(PROBLEM), feed=squared)
    model = PrototypeDiscriminant.for_problem(scaled, DiscriminantConfig(), generators(0))
    assert model.describe()["chosen"]["feature_transform"] == "sqrt"


def test_recommended_recipe_is_this_method() -> None:
    recipes = {"res101": make_recipe(dataset="TINY", epochs=3)}

    def parse(*words: str) -> Recipe:
        return parse_recipe(recipes, words, prog="train.py", description="Train.")

    recipe = parse("--recipe", "recommended")
    assert recipe.model == "discriminant"
    defaults = DiscriminantConfig()
    for field in fields(DiscriminantConfig):
        assert getattr(recipe.method, field.name) == getattr(defaults, field.name)
    assert parse("--recipe", "recommended", "--no-gated").method.gated is False
    with pytest.raises(InputError, match="--model: found gsmflow with --recipe recommended"):
        parse("--recipe", "recommended", "--model", "gsmflow")


def test_protocol_of_a_run_mentions_no_epochs(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, model="discriminant", beside=())
    protocol = run_experiment(Job(recipe), Console(quiet=True)).metrics["protocol"]
    assert protocol.startswith("nothing chosen on test; cal.: ")
