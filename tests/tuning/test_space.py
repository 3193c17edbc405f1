"""What is searched: ranges around recipes of every kind."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gsmflow.core.errors import InputError
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.flags import published_recipe
from gsmflow.recipes.recipe import Recipe, learning_settings, setting_value, settings_of
from gsmflow.runs.script import read_script
from gsmflow.tuning.space import Space, search_ranges, space_of
from gsmflow.tuning.study import quiet_optuna
from tests.builders import changed, make_recipe

ROOT = Path(__file__).resolve().parents[2]
SCRIPT_RECIPES = [
    recipe
    for path in sorted(ROOT.glob("train_*.py"))
    for recipe in read_script(path).recipes.values()
]
RECIPES = {
    f"{recipe.dataset}-{recipe.features}-{schedule}": recipe.replace(schedule=schedule)
    for recipe in SCRIPT_RECIPES
    for schedule in ("published", "fast")
} | {
    f"{recipe.dataset}-{model}": published_recipe(recipe, model)
    for recipe in {recipe.dataset: recipe for recipe in SCRIPT_RECIPES}.values()
    for model in METHODS
}
RECIPES["CUB-prototypes"] = make_recipe(
    dataset="CUB", classifier="prototypes", classifier_prior_ratio=30.0
)
RECIPE = make_recipe(dataset="TINY", epochs=8, pi=0.1, hidden=64, samples_per_class=100)


def drawn_at_random(space: Space, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask(space.distributions).params for _ in range(count)]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


@pytest.mark.parametrize("model", METHODS)
def test_every_range_of_a_method_is_of_one_of_its_settings(model: str) -> None:
    recipe, ranges = make_recipe(dataset="TINY", model=model), find_method(model).search
    assert ranges.keys() <= set(learning_settings(recipe))
    assert all(settings_of(recipe)[name].config == "method" for name in ranges)
    # A condition names a setting that the method has, and a value that it may have.
    for found in (*ranges.values(), *search_ranges(recipe).values()):
        if found.when is not None:
            name, value = found.when
            assert setting_value(recipe.replace(**{name: value}), name) == value


def test_page_lists_every_setting_that_is_searched() -> None:
    page = (ROOT / "docs" / "tuning.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    searched = {name for recipe in RECIPES.values() for name in search_ranges(recipe)}
    assert searched <= set(re.findall(r"`(\w+)`", " ".join(rows)))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_space_contains_its_recipe_and_only_valid_recipes(recipe: Recipe) -> None:
    space = space_of(recipe)
    assert space.apply(space.recipe_params) == recipe
    for name, distribution in space.distributions.items():
        assert distribution._contains(distribution.to_internal_repr(space.recipe_params[name])), (
            name
        )
    for drawn in drawn_at_random(space, 50):
        made = space.apply(drawn)
        check_recipe(made)
        values = {name: setting_value(recipe, name) for name in space.dimensions}
        for name, value in values.items():
            assert type(setting_value(made, name)) is type(value), name
        assert made.replace(**values) == recipe  # nothing else has changed


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_ends_of_every_range_are_in_range(recipe: Recipe) -> None:
    for name, dimension in space_of(recipe).dimensions.items():
        ends = dimension.distribution
        if isinstance(ends, CategoricalDistribution):
            values = list(ends.choices)
        else:
            assert isinstance(ends, FloatDistribution | IntDistribution)
            values = [ends.low, ends.high]
        for value in values:
            check_recipe(recipe.replace(**{name: dimension.value(value)}))


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"schedule": "published"}, {"fast_epochs", "fast_learning_rate"}),
        ({"schedule": "fast"}, {"epochs", "learning_rate"}),
        ({"semantics_scaling": "none"}, {"semantics_norm"}),
        ({"perturbation": False}, {"pi"}),
        ({"pi": 0.0}, {"pi"}),
        ({"prototype_weight": 0.0}, {"prototype_weight"}),
    ],
)
def test_unused_settings_are_not_searched(changes: dict[str, Any], absent: set[str]) -> None:
    space = space_of(changed(RECIPE, **changes))
    assert not absent & space.dimensions.keys()


def test_ranges_are_around_the_values_of_the_recipe() -> None:
    space = space_of(RECIPE)
    epochs, pi, hidden = (space.distributions[name] for name in ("epochs", "pi", "hidden"))
    assert isinstance(epochs, IntDistribution)
    assert (epochs.low, epochs.high, epochs.log) == (2, 16, True)
    assert isinstance(pi, FloatDistribution)
    np.testing.assert_allclose((pi.low, pi.high), (0.02, 0.5))
    assert isinstance(hidden, CategoricalDistribution)
    assert hidden.choices == (32, 64, 128)


def test_smallest_recipe_has_a_space() -> None:
    recipe = changed(RECIPE, epochs=1, hidden=1, samples_per_class=1, classifier_epochs=1)
    space = space_of(recipe)
    assert space.apply(space.recipe_params) == recipe
    for drawn in drawn_at_random(space, 50):
        check_recipe(space.apply(drawn))


def test_recipe_value_outside_a_range_widens_it() -> None:
    recipe = changed(RECIPE, semantics_noise=1.5, classifier_weight_decay=1e-8)
    space = space_of(recipe)
    assert space.apply(space.recipe_params) == recipe
    for name in ("semantics_noise", "classifier_weight_decay"):
        distribution = space.distributions[name]
        assert isinstance(distribution, FloatDistribution)
        assert distribution.low <= space.recipe_params[name] <= distribution.high


def test_logarithmic_range_includes_zero() -> None:
    dimension = space_of(RECIPE).dimensions["classifier_weight_decay"]
    distribution = dimension.distribution
    assert isinstance(distribution, FloatDistribution)
    assert distribution.low < 1e-6
    assert dimension.value(0.99e-6) == 0
    assert dimension.value(1e-6) == 1e-6
    assert dimension.value(dimension.drawn(0.0)) == 0
    values = [d["classifier_weight_decay"] for d in drawn_at_random(space_of(RECIPE), 200)]
    zeros = sum(dimension.value(value) == 0 for value in values)
    assert 200 * 0.1 < zeros < 200 * 0.35  # one of its five decades


def test_integer_value_of_a_float_setting_is_searched_as_float() -> None:
    space = space_of(changed(RECIPE, pi=1))
    assert isinstance(space.distributions["pi"], FloatDistribution)


def test_setting_chosen_by_the_method_is_searched_only_if_it_is_given() -> None:
    recipe = make_recipe(dataset="TINY", model="gaussian-prototypes")
    assert setting_value(recipe, "classifier_lr") is None
    assert "classifier_lr" not in space_of(recipe).dimensions
    assert "classifier_lr" in space_of(changed(recipe, classifier_lr=0.01)).dimensions


def test_search_can_be_restricted() -> None:
    assert set(space_of(RECIPE, ["pi", "classifier-lr"]).dimensions) == {"pi", "classifier_lr"}
    with pytest.raises(InputError, match=r"--search: found 'fast_epochs', expected .*epochs, lea"):
        space_of(RECIPE, ["pi", "fast_epochs"])


def test_spaces_of_other_ranges_have_other_descriptions() -> None:
    assert space_of(RECIPE).describe() == space_of(RECIPE).describe()
    assert space_of(RECIPE).describe() != space_of(changed(RECIPE, pi=0.2)).describe()
