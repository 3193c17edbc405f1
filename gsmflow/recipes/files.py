"""Recipes as JSON: a run's whole recipe, and files of settings chosen for one dataset."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import write_json
from gsmflow.core.settings import (
    as_json,
    check_names,
    check_value,
    field_types,
    read_settings,
    shortened,
)
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gates.registry import GATES, find_gate
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.recipe import (
    CLASSIFIERS,
    PARTS,
    Recipe,
    learning_settings,
    settings_of,
    used_parts,
)

__all__ = [
    "RecipeFile",
    "describe_recipe",
    "read_recipe_file",
    "recipe_from",
    "settings_from",
    "write_recipe_file",
]


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """What a recipe file holds: settings that were chosen for one dataset and its features.

    Attributes
    ----------
    settings
        Values by flat name, of those that `learning_settings` names; as JSON has them.
    dataset, features, semantics, method
        What they were chosen for; the method by its name.
    chosen
        How they were chosen, for readers.
    """

    settings: Mapping[str, Any]
    dataset: str
    features: str
    semantics: str
    method: str
    chosen: Mapping[str, Any] = field(default_factory=dict)


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON: its fields, and the parts that it makes use of, each with its name."""
    top = {name: value for name, value in as_json(recipe).items() if name not in PARTS}
    names = {
        "method": recipe.model,
        "classifier": recipe.classifier_name,
        "gate": recipe.gate_name,
    }
    parts = {part: as_json(getattr(recipe, part)) for part in used_parts(recipe)}
    named = {
        part: {"name": names[part], **values} if part in names else values
        for part, values in parts.items()
    }
    return {"dataset": top.pop("dataset"), **named, **top}


def recipe_from(stored: Any, where: str) -> Recipe:
    """The recipe that `describe_recipe` described; fields that are not there keep their defaults.

    Parameters
    ----------
    stored
        Values by field, as JSON has them.
    where
        The place of them, for messages.

    Raises
    ------
    InputError
        If it is of the old form, a field is unknown, or a value of another type or out of range.
    """
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: found {shortened(stored)}, expected a recipe's fields")
    if "method" not in stored:
        old = " of the form before methods had parts of their own" if "model" in stored else ""
        raise InputError(
            f"{where}: found a recipe{old} without field 'method', expected one as this version "
            "writes it; run it again"
        )
    if "dataset" not in stored:
        raise InputError(f"{where}, field 'dataset': found nothing, expected a name")
    hints = field_types(Recipe)
    check_names(stored, hints, where)
    values: dict[str, Any] = {
        name: check_value(f"{where}, field '{name}'", hints[name], value)
        for name, value in stored.items()
        if name not in PARTS
    }
    for part in PARTS:
        if stored.get(part) is not None:
            values[part] = _read_part(part, stored[part], f"{where}, field '{part}'")
    return Recipe(**values)


def _read_part(part: str, stored: Any, where: str) -> Any:
    """The configuration of a nested part."""
    if part == "training":
        return read_settings(TrainingConfig, stored, where)
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: found {shortened(stored)}, expected values by name")
    names = {"method": METHODS, "classifier": CLASSIFIERS, "gate": GATES}[part]
    values = dict(stored)
    name = values.pop("name", None)
    if name not in names:
        raise InputError(
            f"{where}, field 'name': found {shortened(name)}, expected one of {', '.join(names)}"
        )
    if part == "method":
        return read_settings(find_method(name).config, values, where)
    if part == "gate":
        return read_settings(find_gate(name).config, values, where)
    return read_settings(CLASSIFIERS[name], values, where)


def settings_from(recipe: Recipe, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings by flat name, as JSON has them, in the types of a recipe's.

    Raises
    ------
    InputError
        If one of them does not say how to learn, or is of another type or out of range.
    """
    known, allowed = settings_of(recipe), learning_settings(recipe)
    for name in settings:
        if name not in allowed:
            raise InputError(
                f"{where}.{name}': found a setting of this name, expected those of {recipe.model} "
                "that say how to learn, such as " + ", ".join(allowed[:3])
            )
    return {
        name: check_value(f"{where}.{name}'", known[name].hint, value)
        for name, value in settings.items()
    }


def write_recipe_file(path: Path, file: RecipeFile) -> None:
    """Write a recipe file as JSON, atomically."""
    write_json(path, asdict(file))


def read_recipe_file(path: Path) -> RecipeFile:
    """Read the JSON file that `write_recipe_file` wrote, or one like it by hand.

    Raises
    ------
    InputError
        If it is missing or damaged, of the old form, or a field is unknown or of a wrong type.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"{path}: not readable ({error.strerror}), expected a recipe file"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({one_line(error)}), expected a recipe file") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {shortened(content)}, expected a recipe file's fields")
    if "recipe" in content and "settings" not in content:
        raise InputError(
            f"{path}: found a recipe file of the form before methods had parts of their own (field "
            "'recipe'), expected fields 'settings' and 'method'; tune again"
        )
    names = [f.name for f in fields(RecipeFile)]
    check_names(content, names, str(path))
    content = {"chosen": {}, **content}
    for name in names:
        is_text = name not in ("settings", "chosen")
        if not isinstance(content.get(name), str if is_text else dict):
            expected = "a text" if is_text else "values by name"
            found = shortened(content[name]) if name in content else "nothing"
            raise InputError(f"{path}, field '{name}': found {found}, expected {expected}")
    return RecipeFile(**content)
