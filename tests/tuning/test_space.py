"""What is searched: ranges around recipes of every kind."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gsmflow.core.errors import InputError
from gsmflow.recipes.recipe import Recipe, check_recipe, setting_names
from gsmflow.runs.script import read_script
from gsmflow.tuning.space import Space, searched_fields, space_of
from gsmflow.tuning.study import quiet_optuna

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [
    changed(recipe, schedule=schedule)
    for path in sorted(ROOT.glob("train_*.py"))
    for recipe in read_script(path).recipes.values()
    for schedule in ("published", "fast")
]
RECIPE = make_recipe(dataset="TINY", epochs=8, pi=0.1, hidden=64, samples_per_class=100)
from tests.builders import changed


def drawn_at_random(space: Space, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask(space.distributions).params for _ in range(count)]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


def test_every_searched_field_is_a_setting_and_stands_once() -> None:
    names = searched_fields()
    assert len(names) == len(set(names))
    assert set(names) <= set(setting_names())


def test_the_page_lists_what_is_searched() -> None:
    page = (ROOT / "docs" / "tuning.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert set(searched_fields()) <= set(re.findall(r"`(\w+)`", " ".join(rows)))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.dataset}-{r.features}-{r.schedule}")
def test_a_recipe_of_a_script_is_in_its_own_space_and_all_in_it_is_in_range(recipe: Recipe) -> None:
    space = space_of(recipe)
    assert space.apply(space.recipe_params) == recipe
    for name, distribution in space.distributions.items():
        assert distribution._contains(distribution.to_internal_repr(space.recipe_params[name])), (
            name
        )
    for drawn in drawn_at_random(space, 50):
        made = space.apply(drawn)
        check_recipe(made)
        for field in fields(Recipe):
            if field.name not in space.dimensions:
                assert getattr(made, field.name) == getattr(recipe, field.name)
            else:
                assert type(getattr(made, field.name)) is type(getattr(recipe, field.name))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.dataset}-{r.features}-{r.schedule}")
def test_the_ends_of_every_range_are_in_range(recipe: Recipe) -> None:
    for name, dimension in space_of(recipe).dimensions.items():
        ends = dimension.distribution
        if isinstance(ends, CategoricalDistribution):
            values = list(ends.choices)
        else:
            assert isinstance(ends, FloatDistribution | IntDistribution)
            values = [ends.low, ends.high]
        for value in values:
            check_recipe(changed(recipe, **{name: dimension.value(value)}))


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
def test_what_a_recipe_makes_no_use_of_is_not_searched(
    changes: dict[str, Any], absent: set[str]
) -> None:
    space = space_of(changed(RECIPE, **changes))
    assert not absent & space.dimensions.keys()


def test_ranges_are_around_the_recipes_own_values() -> None:
    space = space_of(RECIPE)
    epochs, pi, hidden = (space.distributions[name] for name in ("epochs", "pi", "hidden"))
    assert isinstance(epochs, IntDistribution)
    assert (epochs.low, epochs.high, epochs.log) == (2, 16, True)
    assert isinstance(pi, FloatDistribution)
    np.testing.assert_allclose((pi.low, pi.high), (0.02, 0.5))
    assert isinstance(hidden, CategoricalDistribution)
    assert hidden.choices == (32, 64, 128)


def test_a_smallest_recipe_has_a_space_too() -> None:
    recipe = changed(RECIPE, epochs=1, hidden=1, samples_per_class=1, classifier_epochs=1)
    space = space_of(recipe)
    assert space.apply(space.recipe_params) == recipe
    for drawn in drawn_at_random(space, 50):
        check_recipe(space.apply(drawn))


def test_an_own_value_beyond_a_range_widens_it() -> None:
    recipe = changed(RECIPE, semantics_noise=1.5, classifier_weight_decay=1e-8)
    space = space_of(recipe)
    assert space.apply(space.recipe_params) == recipe
    for name in ("semantics_noise", "classifier_weight_decay"):
        distribution = space.distributions[name]
        assert isinstance(distribution, FloatDistribution)
        assert distribution.low <= space.recipe_params[name] <= distribution.high


def test_a_logarithmic_range_has_a_zero() -> None:
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


def test_a_whole_number_in_a_script_is_searched_as_the_number_it_stands_for() -> None:
    space = space_of(changed(RECIPE, pi=1))
    assert isinstance(space.distributions["pi"], FloatDistribution)


def test_the_search_can_be_restricted() -> None:
    assert set(space_of(RECIPE, ["pi", "classifier-lr"]).dimensions) == {"pi", "classifier_lr"}
    with pytest.raises(InputError, match=r"--search: found 'fast_epochs', expected .*epochs, lea"):
        space_of(RECIPE, ["pi", "fast_epochs"])


def test_spaces_of_other_ranges_are_told_apart() -> None:
    assert space_of(RECIPE).describe() == space_of(RECIPE).describe()
    assert space_of(RECIPE).describe() != space_of(changed(RECIPE, pi=0.2)).describe()
