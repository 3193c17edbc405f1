"""What is searched: which settings of a recipe, and how far around its values.

A method names the ranges of its settings in its file; those of training and classifier stand here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from gsmflow.core.errors import InputError
from gsmflow.core.settings import plain_type
from gsmflow.data.scaling import FeatureScalingName
from gsmflow.learning.search import Between, OneOf, SearchRange, Times, TimesOneOf, ZeroOrBetween
from gsmflow.recipes.recipe import Recipe, setting_value, settings_of

__all__ = ["Dimension", "Space", "search_ranges", "space_of"]

# How far below its smallest value a logarithmic scale goes on, for 0.
_BELOW = 10


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Attributes
    ----------
    distribution
        What is drawn.
    smallest
        What is drawn below it stands for 0, so that a logarithmic scale has a 0 too.
    """

    distribution: BaseDistribution
    smallest: float | None = None

    def value(self, drawn: Any) -> Any:
        """The setting that a drawn value stands for."""
        return 0.0 if self.smallest is not None and drawn < self.smallest else drawn

    def drawn(self, value: Any) -> Any:
        """The drawn value that stands for a setting."""
        if self.smallest is not None and value == 0:
            return self.smallest / _BELOW
        return value


@dataclass(frozen=True)
class Space:
    """The settings that a study searches, around one recipe.

    Attributes
    ----------
    recipe
        The recipe.
    dimensions
        By the recipe's field.
    """

    recipe: Recipe
    dimensions: Mapping[str, Dimension]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What is drawn, by field."""
        return {name: dimension.distribution for name, dimension in self.dimensions.items()}

    @property
    def own(self) -> dict[str, Any]:
        """What would have to be drawn for the recipe itself, by field."""
        return {n: d.drawn(setting_value(self.recipe, n)) for n, d in self.dimensions.items()}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that drawn values stand for, by field."""
        return {name: d.value(drawn[name]) for name, d in self.dimensions.items()}

    def apply(self, drawn: Mapping[str, Any]) -> Recipe:
        """The recipe with the settings that drawn values stand for."""
        return self.recipe.replace(**self.values(drawn))

    def describe(self) -> dict[str, str]:
        """Each range as text that tells it from another."""
        return {name: distribution_to_json(d) for name, d in self.distributions.items()}


# Ranges of the settings that methods share, before and after those of the method.
_TRAINING: Mapping[str, SearchRange] = {
    "epochs": Times(0.25, 2, when=("schedule", "published")),
    "learning_rate": Times(0.2, 5, when=("schedule", "published")),
    "fast_epochs": Times(0.5, 2, when=("schedule", "fast")),
    "fast_learning_rate": Times(0.2, 5, when=("schedule", "fast")),
    "weight_decay": ZeroOrBetween(1e-6, 1e-2),
}
_REST: Mapping[str, SearchRange] = {
    "feature_scaling": OneOf(get_args(FeatureScalingName)),
    "classifier_lr": Times(0.1, 10),
    "classifier_epochs": Times(0.3, 2),
    "classifier_weight_decay": ZeroOrBetween(1e-6, 1e-2),
}


def search_ranges(recipe: Recipe) -> dict[str, SearchRange]:
    """The ranges that a recipe makes use of, by the flat name of the setting."""
    known = settings_of(recipe)
    ranges = {**_TRAINING, **recipe.method_info.search, **_REST}
    return {
        name: found
        for name, found in ranges.items()
        if name in known
        and (found.when is None or setting_value(recipe, found.when[0]) == found.when[1])
    }


def space_of(recipe: Recipe, only: Sequence[str] = ()) -> Space:
    """The settings to search around a recipe.

    Parameters
    ----------
    recipe
        The recipe.
    only
        Settings to restrict the search to; empty: all that the recipe makes use of.

    Raises
    ------
    InputError
        If one of them is not searched, or not made use of, or there is none to search.
    """
    known = settings_of(recipe)
    found: dict[str, Dimension] = {}
    for name, wanted in search_ranges(recipe).items():
        value = setting_value(recipe, name)
        is_float = plain_type(known[name].hint)[0] is float
        dimension = _dimension(wanted, float(value) if is_float else value)
        if dimension is not None:
            found[name] = dimension
    names = [name.replace("-", "_") for name in only]
    for name in names:
        if name not in found:
            raise InputError(
                f"--search: found {name!r}, expected one or more of {', '.join(found)}, which this "
                "recipe makes use of"
            )
    return Space(recipe, {n: d for n, d in found.items() if not names or n in names})


def _dimension(wanted: SearchRange, value: Any) -> Dimension | None:
    """What is drawn in a range around a recipe's value; None where nothing can be."""
    if value is None:  # the method chooses it itself
        return None
    match wanted:
        case Times():
            return _times(wanted, value)
        case TimesOneOf(factors=factors):
            choices = sorted({max(1, round(f * value)) for f in factors})
            return Dimension(CategoricalDistribution(choices))
        case Between(low=low, high=high):
            return Dimension(FloatDistribution(min(low, value), max(high, value)))
        case ZeroOrBetween(low=low, high=high):
            least, most = min(low, value or low), max(high, value)
            return Dimension(FloatDistribution(least / _BELOW, most, log=True), smallest=least)
        case OneOf(options=options):
            return Dimension(CategoricalDistribution(options))


def _times(wanted: Times, value: Any) -> Dimension | None:
    if value == 0:
        return None
    if isinstance(value, int):
        least, most = max(1, round(wanted.low * value)), max(value, round(wanted.high * value))
        return Dimension(IntDistribution(least, most, log=True))
    return Dimension(FloatDistribution(wanted.low * value, wanted.high * value, log=True))
