"""What is searched: which settings of a recipe, and how far around its own values.

The table at the end of the file is all of it. A setting is searched where the recipe makes use of
it; a new one takes one line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args, get_type_hints

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from gsmflow.core.errors import InputError
from gsmflow.data.scaling import FeatureScalingName
from gsmflow.methods.registry import unused_fields
from gsmflow.recipes.recipe import Recipe

__all__ = ["Dimension", "Space", "searched_fields", "space_of"]

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
        return {n: d.drawn(getattr(self.recipe, n)) for n, d in self.dimensions.items()}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that drawn values stand for, by field."""
        return {name: d.value(drawn[name]) for name, d in self.dimensions.items()}

    def apply(self, drawn: Mapping[str, Any]) -> Recipe:
        """The recipe with the settings that drawn values stand for."""
        return replace(self.recipe, **self.values(drawn))

    def describe(self) -> dict[str, str]:
        """Each range as text that tells it from another."""
        return {name: distribution_to_json(d) for name, d in self.distributions.items()}


_Range: TypeAlias = Callable[[Any], Dimension | None]


def _times(low: float, high: float) -> _Range:
    """The recipe's own value times ``low`` to ``high``, on a logarithmic scale; a 0 stays 0."""

    def around(own: float) -> Dimension | None:
        if own == 0:
            return None
        if isinstance(own, int):
            least, most = max(1, round(low * own)), max(own, round(high * own))
            return Dimension(IntDistribution(least, most, log=True))
        return Dimension(FloatDistribution(low * own, high * own, log=True))

    return around


def _times_one_of(*factors: float) -> _Range:
    """The recipe's own whole number times one of the factors."""

    def around(own: int) -> Dimension:
        return Dimension(CategoricalDistribution(sorted({max(1, round(f * own)) for f in factors})))

    return around


def _between(low: float, high: float) -> _Range:
    """Any number from ``low`` to ``high``, or to the recipe's own beyond them."""

    def around(own: float) -> Dimension:
        return Dimension(FloatDistribution(min(low, own), max(high, own)))

    return around


def _zero_or_between(low: float, high: float) -> _Range:
    """0, or ``low`` to ``high`` (or the recipe's own beyond them) on a logarithmic scale."""

    def around(own: float) -> Dimension:
        least, most = min(low, own or low), max(high, own)
        return Dimension(FloatDistribution(least / _BELOW, most, log=True), smallest=least)

    return around


def _one_of(*options: str | bool) -> _Range:
    def around(own: str | bool) -> Dimension:
        return Dimension(CategoricalDistribution(options))

    return around


def _published(recipe: Recipe) -> bool:
    return recipe.schedule == "published"


def _fast(recipe: Recipe) -> bool:
    return recipe.schedule == "fast"


def _always(recipe: Recipe) -> bool:
    return True


# Field, range, and whether a recipe makes use of it.
_TABLE: tuple[tuple[str, _Range, Callable[[Recipe], bool]], ...] = (
    ("epochs", _times(0.25, 2), _published),
    ("learning_rate", _times(0.2, 5), _published),
    ("fast_epochs", _times(0.5, 2), _fast),
    ("fast_learning_rate", _times(0.2, 5), _fast),
    ("hidden", _times_one_of(0.5, 1, 2), _always),
    ("latent_dim", _times_one_of(0.5, 1, 2), _always),
    ("beta", _times(0.25, 2), _always),
    ("gamma", _times(0.25, 4), _always),
    ("delta", _times(0.25, 4), _always),
    ("latents_unseen", _times(0.25, 2), _always),
    ("relative_positioning", _one_of(True, False), _always),
    ("condition_dim", _times_one_of(0.25, 0.5, 1), lambda recipe: recipe.relative_positioning),
    ("weight_decay", _zero_or_between(1e-6, 1e-2), _always),
    ("pi", _times(0.2, 5), lambda recipe: recipe.perturbation),
    ("prototype_weight", _times(0.1, 10), _always),
    ("semantics_norm", _times(0.25, 4), lambda recipe: recipe.semantics_scaling == "norm"),
    ("semantics_noise", _between(0, 1), _always),
    ("feature_scaling", _one_of(*get_args(FeatureScalingName)), _always),
    ("samples_per_class", _times(0.25, 2), _always),
    ("classifier_lr", _times(0.1, 10), _always),
    ("classifier_epochs", _times(0.3, 2), _always),
    ("classifier_weight_decay", _zero_or_between(1e-6, 1e-2), _always),
)


def searched_fields() -> list[str]:
    """The recipe's fields that can be searched, by some recipe or other."""
    return [name for name, _, _ in _TABLE]


def space_of(recipe: Recipe, only: Sequence[str] = ()) -> Space:
    """The settings to search around a recipe.

    Parameters
    ----------
    recipe
        The recipe.
    only
        Fields to restrict the search to; empty: all that the recipe makes use of.

    Raises
    ------
    InputError
        If one of them is not searched, or not made use of.
    """
    kinds, unused = get_type_hints(Recipe), unused_fields(recipe.model)
    found = {}
    for name, around, used in _TABLE:
        own = getattr(recipe, name)
        dimension = around(float(own) if kinds[name] is float else own)
        if name not in unused and used(recipe) and dimension is not None:
            found[name] = dimension
    wanted = [name.replace("-", "_") for name in only]
    for name in wanted:
        if name not in found:
            raise InputError(
                f"--search: found {name!r}, expected one or more of {', '.join(found)}, which this "
                "recipe makes use of"
            )
    return Space(recipe, {n: d for n, d in found.items() if not wanted or n in wanted})
