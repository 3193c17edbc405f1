"""The search space of a study: which settings of a recipe are searched, and in which ranges.

Each method lists the ranges of its settings in its file; those of training and classifier are here.
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

# A logarithmic scale goes on to its smallest value divided by this; what is drawn there means 0.
_BELOW = 10


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Attributes
    ----------
    distribution
        Optuna's distribution of the drawn values.
    smallest
        A value drawn below it stands for 0, so that a logarithmic scale has a 0 too; None where
        no 0 is added.
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
        """Optuna's distributions, by field."""
        return {name: dimension.distribution for name, dimension in self.dimensions.items()}

    @property
    def recipe_params(self) -> dict[str, Any]:
        """The drawn values, by field, that stand for the recipe as it is."""
        return {n: d.drawn(setting_value(self.recipe, n)) for n, d in self.dimensions.items()}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that drawn values stand for, by field."""
        return {name: d.value(drawn[name]) for name, d in self.dimensions.items()}

    def apply(self, drawn: Mapping[str, Any]) -> Recipe:
        """The recipe with the settings that drawn values stand for."""
        return self.recipe.replace(**self.values(drawn))

    def describe(self) -> dict[str, str]:
        """Each range as text: the JSON of its distribution, by field."""
        return {name: distribution_to_json(d) for name, d in self.distributions.items()}


# Ranges of settings that all methods share. Their order is that of the drawn values: _TRAINING,
# the method's ranges, _REST.
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
    "classifier_temperature": Times(0.5, 2),
    "classifier_prior_ratio": Times(0.1, 10),
}


def search_ranges(recipe: Recipe) -> dict[str, SearchRange]:
    """The ranges of the settings that a recipe uses, by the setting's flat name."""
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
        Settings to restrict the search to; empty: all that the recipe uses.

    Raises
    ------
    InputError
        If the recipe does not use one of them, or there is no search range for it.
    """
    known = settings_of(recipe)
    found: dict[str, Dimension] = {}
    for name, search_range in search_ranges(recipe).items():
        value = setting_value(recipe, name)
        is_float = plain_type(known[name].hint)[0] is float
        dimension = _dimension(search_range, float(value) if is_float else value)
        if dimension is not None:
            found[name] = dimension
    names = [name.replace("-", "_") for name in only]
    for name in names:
        if name not in found:
            raise InputError(
                f"--search: found {name!r}, expected one or more of {', '.join(found)}, which this "
                "recipe uses"
            )
    return Space(recipe, {n: d for n, d in found.items() if not names or n in names})


def _dimension(search_range: SearchRange, value: Any) -> Dimension | None:
    """A range around a recipe's value; None where the value allows no range."""
    if value is None:  # the method chooses it by itself
        return None
    match search_range:
        case Times():
            return _times(search_range, value)
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


def _times(search_range: Times, value: Any) -> Dimension | None:
    """Multiples of a value, on a logarithmic scale; None of 0, which has no multiples."""
    if value == 0:
        return None
    if isinstance(value, int):
        least, most = (
            max(1, round(search_range.low * value)),
            max(value, round(search_range.high * value)),
        )
        return Dimension(IntDistribution(least, most, log=True))
    return Dimension(
        FloatDistribution(search_range.low * value, search_range.high * value, log=True)
    )
