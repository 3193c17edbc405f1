"""A recipe: what it nests, the flat names of its settings, and replacing them."""

from dataclasses import FrozenInstanceError, asdict, replace
from itertools import product
from typing import Any

import pytest

from gsmflow.learning.scorers import BayesConfig
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.cada_vae import CADAVAEConfig
from gsmflow.methods.gates.boundary import BoundaryConfig
from gsmflow.methods.gates.registry import GATES
from gsmflow.methods.gsmflow import GSMFlowConfig
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.recipe import (
    CLASSIFIERS,
    Recipe,
    learning_settings,
    setting_value,
    settings_of,
    used_configs,
)
from tests.builders import make_recipe
from tests.recipes.parsing import RES101, VIT, configurations, flat_names, parse


@pytest.mark.parametrize("model", METHODS)
def test_flat_names_are_unique_and_complete(model: str) -> None:
    for classifier, gate in product(CLASSIFIERS, ("none", *GATES)):
        recipe = make_recipe(dataset="CUB", model=model, classifier=classifier, gate=gate)
        names = flat_names(recipe)
        assert len(names) == len(set(names))
        assert set(settings_of(recipe)) == set(names)
        assert used_configs(recipe) == list(configurations(recipe))


def test_setting_has_the_value_of_its_field() -> None:
    recipe = replace(
        RES101,
        method=GSMFlowConfig(blocks=7),
        training=TrainingConfig(epochs=8),
        classifier=SoftmaxConfig(epochs=9),
        gate=BoundaryConfig(epochs=10),
    )
    names = ("blocks", "epochs", "classifier_epochs", "gate_epochs", "seed")
    assert [setting_value(recipe, name) for name in names] == [7, 8, 9, 10, 0]


def test_replace_changes_the_named_fields_alone() -> None:
    changed = RES101.replace(blocks=7, epochs=8, classifier_epochs=9, gate_epochs=10, seed=11)
    assert asdict(changed.method) == asdict(RES101.method) | {"blocks": 7}
    assert asdict(changed.training) == asdict(RES101.training) | {"epochs": 8}
    assert asdict(changed.classifier) == asdict(RES101.classifier) | {"epochs": 9}
    assert asdict(changed.gate) == asdict(RES101.gate) | {"epochs": 10}
    whole = {"method": RES101.method, "training": RES101.training, "gate": RES101.gate}
    assert replace(changed, **whole, classifier=RES101.classifier, seed=0) == RES101


def test_replace_takes_configurations_whole() -> None:
    recipe = RES101.replace(method=CADAVAEConfig(), gate=None, classifier=BayesConfig(), gamma=3.0)
    assert recipe.method == CADAVAEConfig(gamma=3.0)
    assert (recipe.gate, recipe.classifier) == (None, BayesConfig())


@pytest.mark.parametrize("name", ["pie", "gamma", "gate_share", "classifier_share"])
def test_replace_refuses_a_setting_that_the_recipe_does_not_have(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: no setting of a recipe for gsmflow"):
        VIT.replace(**{name: 1})


@pytest.mark.parametrize("model", METHODS)
def test_recipe_names_its_choices(model: str) -> None:
    for classifier, gate in product(CLASSIFIERS, ("none", *GATES)):
        recipe = make_recipe(dataset="CUB", model=model, classifier=classifier, gate=gate)
        assert recipe.model == recipe.method_info.name == model
        assert (recipe.classifier_name, recipe.gate_name) == (classifier, gate)


def test_softmax_has_its_defaults_beside_another_classifier() -> None:
    assert VIT.replace(classifier_lr=0.5).trained_classifier == SoftmaxConfig(lr=0.5)
    assert replace(VIT, classifier=BayesConfig()).trained_classifier == SoftmaxConfig()


@pytest.mark.parametrize(
    ("model", "count"),
    [("gsmflow", 300), ("gaussian-prototypes", 1000), ("f-clswgan", 300), ("eszsl", None)],
)
def test_samples_per_class_is_none_for_a_method_without_that_setting(
    model: str, count: int | None
) -> None:
    assert make_recipe(dataset="CUB", model=model).samples_per_class == count


@pytest.mark.parametrize("model", METHODS)
def test_learning_settings_contain_no_paths(model: str) -> None:
    recipe = make_recipe(dataset="CUB", model=model, gate="boundary")
    names = set(learning_settings(recipe))
    top = {name for name in flat_names(recipe) if name in Recipe.__dataclass_fields__}
    gate = {name for name in flat_names(recipe) if name.startswith("gate_")}
    assert names == set(flat_names(recipe)) - top - gate | {"feature_scaling"}


def test_settings_of_one_name_have_a_default_for_each_method() -> None:
    def value(model: str, name: str) -> Any:
        return setting_value(parse("--model", model, "--gate", "none"), name)

    assert value("gsmflow", "semantics_scaling") == "norm"
    assert value("cada-vae", "semantics_scaling") == "none"
    assert value("eszsl", "gamma") is None
    assert value("cada-vae", "gamma") == 2.37
    words = ("--gate", "none", "--gamma", "3")
    assert parse("--model", "eszsl", *words).method.gamma == 3
    assert parse("--model", "cada-vae", *words).method == replace(CADAVAEConfig(), gamma=3.0)


def test_recipe_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RES101.seed = 5  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        RES101.training.epochs = 5  # type: ignore[misc]
