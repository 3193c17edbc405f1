"""The flags that matter most for a recipe: those that the short help text shows."""

from collections.abc import Collection, Iterator
from dataclasses import fields

from gsmflow.recipes.recipe import CONFIG_PREFIXES, Recipe

__all__ = ["main_flags"]

_COUNT = 20
_FIRST = ("model", "classifier", "gate", "features", "semantics")
_TRAINING = ("epochs", "learning_rate", "samples_per_class")
_OF_A_RUN = ("beside", "balance", "recipe", "seeds", "device", "out", "run", "resume")
_FURTHER = (
    "seed",
    "class_splits",
    "top_k",
    "oracle",
    "feature_scaling",
    "batch_size",
    "data",
    "shots",
)


def main_flags(recipe: Recipe, known: Collection[str]) -> list[str]:
    """The names of twenty settings, in the order in which they are shown.

    They are those that most runs need, those of the chosen gate, and of the method's own the ones
    that `tune` searches, which are named first in its file.

    Parameters
    ----------
    recipe
        The recipe.
    known
        The names of all settings that it uses.
    """
    preset = ("preset",) if recipe.method_info.short else ()
    always = [name for name in (*_FIRST, *_TRAINING, *preset, *_OF_A_RUN) if name in known]
    others = [*_own(recipe), *_FURTHER]
    room = _COUNT - len(always)
    added = list(dict.fromkeys(n for n in others if n in known and n not in always))[:room]
    own = [name for name in added if name not in _FURTHER]
    further = [name for name in added if name in _FURTHER]
    place = always.index(_OF_A_RUN[0]) - len(preset)
    return [*always[:place], *own, *always[place:], *further]


def _own(recipe: Recipe) -> Iterator[str]:
    """The settings of the chosen gate, then those of the method, the most important first."""
    if recipe.gate is not None:
        yield from (CONFIG_PREFIXES["gate"] + field.name for field in fields(recipe.gate))
    yield from recipe.method_info.search
    yield from (field.name for field in fields(recipe.method))
