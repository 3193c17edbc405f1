"""Recipes as JSON: the whole recipe of a run, and files of settings chosen for one dataset."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import parse_json, write_json
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
    CONFIG_PREFIXES,
    Recipe,
    learning_settings,
    settings_of,
    used_configs,
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
    """The content of a recipe file: settings that were chosen for one dataset and its features.

    Attributes
    ----------
    settings
        Values by flat name, in JSON's types; only settings that `learning_settings` lists.
    dataset, features, semantics, method
        What they were chosen for; the method by its name.
    chosen
        How they were chosen, as information for readers.
    """

    settings: Mapping[str, Any]
    dataset: str
    features: str
    semantics: str
    method: str
    chosen: Mapping[str, Any] = field(default_factory=dict)


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON: its fields, and the configurations that it uses, each with its name."""
    top_level = {
        name: value for name, value in as_json(recipe).items() if name not in CONFIG_PREFIXES
    }
    names = {
        "method": recipe.model,
        "classifier": recipe.classifier_name,
        "gate": recipe.gate_name,
    }
    configs = {name: as_json(getattr(recipe, name)) for name in used_configs(recipe)}
    named = {
        name: {"name": names[name], **values} if name in names else values
        for name, values in configs.items()
    }
    return {"dataset": top_level.pop("dataset"), **named, **top_level}


def recipe_from(stored: Any, where: str) -> Recipe:
    """The recipe that `describe_recipe` described; missing fields get their defaults.

    Parameters
    ----------
    stored
        Values by field, as read from JSON.
    where
        Where they were read, for error messages: a file, for example.

    Raises
    ------
    InputError
        If ``stored`` is of the old form, a field is unknown, or a value is of another type or out
        of range.
    """
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: found {shortened(stored)}, expected a recipe's fields")
    if stored.get("method") is None:
        old = " of an older version" if "model" in stored else ""
        raise InputError(
            f"{where}: found a recipe{old} without field 'method', expected one as this version "
            "writes it; run it again"
        )
    if "dataset" not in stored:
        raise InputError(f"{where}, field 'dataset': found nothing, expected a name")
    if isinstance(stored.get("compile"), bool):  # as an earlier version wrote it
        stored = {**stored, "compile": "on" if stored["compile"] else "off"}
    hints = field_types(Recipe)
    check_names(stored, hints, where)
    values: dict[str, Any] = {
        name: check_value(f"{where}, field '{name}'", hints[name], value)
        for name, value in stored.items()
        if name not in CONFIG_PREFIXES
    }
    for config in CONFIG_PREFIXES:
        if stored.get(config) is not None:
            values[config] = _read_config(config, stored[config], f"{where}, field '{config}'")
    return Recipe(**values)


def _read_config(config: str, stored: Any, where: str) -> Any:
    """The configuration in a field of a recipe, from its JSON."""
    if config == "training":
        return read_settings(TrainingConfig, stored, where)
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: found {shortened(stored)}, expected values by name")
    names = {"method": METHODS, "classifier": CLASSIFIERS, "gate": GATES}[config]
    values = dict(stored)
    name = values.pop("name", None)
    if name not in names:
        raise InputError(
            f"{where}, field 'name': found {shortened(name)}, expected one of {', '.join(names)}"
        )
    if config == "method":
        return read_settings(find_method(name).config, values, where)
    if config == "gate":
        return read_settings(find_gate(name).config, values, where)
    return read_settings(CLASSIFIERS[name], values, where)


def settings_from(recipe: Recipe, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings by flat name, converted from JSON's types to those of a recipe.

    Raises
    ------
    InputError
        If one of them is not among `learning_settings`, or is of another type or out of range.
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
    """Read a JSON file that `write_recipe_file` wrote, or one of the same form.

    Raises
    ------
    InputError
        If it is missing or damaged, of the old form, or a field is unknown or of a wrong type.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
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
            f"{path}: found a recipe file of an older version (field "
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
