"""The command line of a recipe: flags for the settings that the recipe uses, and no others."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gsmflow.core.errors import InputError
from gsmflow.core.settings import field_texts, flag_of, plain_type
from gsmflow.learning.method import PresetName
from gsmflow.methods.gates.registry import GATES, find_gate
from gsmflow.methods.registry import METHODS, RECOMMENDED, find_method
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.files import RecipeFile, read_recipe_file, settings_from
from gsmflow.recipes.recipe import (
    CLASSIFIERS,
    CONFIG_PREFIXES,
    Recipe,
    settings_of,
    used_configs,
)

__all__ = ["parse_recipe", "published_recipe", "recipe_flags", "recipe_for", "with_choices"]

_RECOMMENDED = "recommended"
_MODEL_TEXT = (
    "The method that is trained; --model NAME --help lists its settings. A method other than the "
    "script's starts from its published settings."
)


def parse_recipe(
    recipes: Mapping[str, Recipe], argv: Sequence[str], *, prog: str, description: str
) -> Recipe:
    """The recipe for a command line.

    Parameters
    ----------
    recipes
        Recipes by the stem of the feature file that they were made for; ``--features`` picks
        one, and the first serves all other features.
    argv
        Command-line words; ``--recipe`` names a file of settings that override the recipe's, and
        a setting's flag overrides both.
    prog, description
        The program's name and description, for the help text.

    Raises
    ------
    InputError
        If a value is out of range, a flag belongs to another method, classifier or gate, or the
        recipe file is faulty or was written for other features. An unknown flag or a wrong type
        ends the program with exit code 2 and a message.
    """
    first = next(iter(recipes.values()))
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--features", default=first.features, nargs="?")
    for flag in ("--model", "--preset", "--classifier", "--gate"):
        early.add_argument(flag, nargs="?")
    early.add_argument("--recipe", default="", nargs="?")
    chosen, _ = early.parse_known_args(argv)
    recommended = chosen.recipe == _RECOMMENDED
    if recommended and chosen.model not in (None, RECOMMENDED):
        raise InputError(
            f"--model: found {chosen.model} with --recipe {_RECOMMENDED}, expected "
            f"{RECOMMENDED} or none"
        )
    usual = RECOMMENDED if recommended else first.model
    preset: PresetName = "short" if chosen.preset == "short" else "published"
    default = recipe_for(recipes, chosen.features, chosen.model or usual, preset)
    default = with_choices(default, chosen.classifier, chosen.gate)
    file = read_recipe_file(Path(chosen.recipe)) if chosen.recipe and not recommended else None
    if file is not None:
        _check_method(chosen.recipe, file, default)
        where = f"{chosen.recipe}, field 'settings"
        default = default.replace(**settings_from(default, file.settings, where))
    _refuse_foreign_flags(default, argv)
    recipe = _parse_flags(default, argv, prog=prog, description=description)
    check_recipe(recipe)
    if file is not None:
        _check_belonging(file, recipe)
    return recipe


def recipe_for(
    recipes: Mapping[str, Recipe],
    features: str,
    model: str | None = None,
    preset: PresetName = "published",
) -> Recipe:
    """The recipe that was made for these features, or else the first recipe.

    If ``model`` names another method than the recipe's, the recipe gets the published settings of
    that method for these features. An unknown ``model`` changes nothing. With the preset ``short``
    the method's short settings come on top.
    """
    recipe = recipes.get(features, next(iter(recipes.values())))
    if model is not None and model != recipe.model and model in METHODS:
        recipe = published_recipe(replace(recipe, features=features), model)
    return _with_preset(recipe, preset, features)


def _with_preset(recipe: Recipe, preset: PresetName, features: str) -> Recipe:
    """A recipe with the short settings of its method for these features, if they are asked for."""
    if preset == "published":
        return recipe
    short = recipe.method_info.shortened(recipe.dataset, features)
    return recipe.replace(**short, preset=preset)


def published_recipe(recipe: Recipe, model: str) -> Recipe:
    """A recipe with the published settings of a method for the recipe's dataset and features."""
    info = find_method(model)
    plain = Recipe(dataset=recipe.dataset, method=info.config())
    configs = {name: getattr(plain, name) for name in CONFIG_PREFIXES if name != "gate"}
    reset = replace(recipe, **configs, feature_scaling=plain.feature_scaling)
    return reset.replace(**info.settings_for(recipe.dataset, recipe.features))


def with_choices(recipe: Recipe, classifier: str | None, gate: str | None) -> Recipe:
    """The recipe with the named classifier and gate; None or an unknown name changes nothing.

    Another classifier may come with another number of synthesized rows.
    """
    if (
        classifier is not None
        and classifier in CLASSIFIERS
        and classifier != recipe.classifier_name
    ):
        recipe = replace(recipe, classifier=CLASSIFIERS[classifier]())
        samples = recipe.trained_classifier.usual_samples
        if samples is not None and recipe.samples_per_class is not None:
            recipe = recipe.replace(samples_per_class=samples)
    if gate == "none":
        return replace(recipe, gate=None)
    if gate is not None and gate in GATES and gate != recipe.gate_name:
        recipe = replace(recipe, gate=find_gate(gate).config())
    return recipe


def _check_method(path: str, file: RecipeFile, recipe: Recipe) -> None:
    if file.method != recipe.model:
        raise InputError(
            f"{path}, field 'method': found {file.method!r}, expected {recipe.model!r}, as this "
            "run has it; settings were chosen for one of them"
        )


def _check_belonging(file: RecipeFile, recipe: Recipe) -> None:
    for name in ("dataset", "features", "semantics"):
        found, expected = getattr(file, name), getattr(recipe, name)
        if found != expected:
            raise InputError(
                f"{recipe.recipe}, field '{name}': found {found!r}, expected {expected!r}, "
                "as this run has it; settings were chosen for one of them"
            )


def _refuse_foreign_flags(default: Recipe, argv: Sequence[str]) -> None:
    """Raise `InputError` at a flag that only another method, classifier or gate uses."""
    known = settings_of(default).keys() | _choices(default).keys() | {"help"}
    for word in argv:
        if not word.startswith("--"):
            continue
        flag = word.partition("=")[0].replace("_", "-")
        name = flag.removeprefix("--").replace("-", "_")
        if {name, name.removeprefix("no_")} & known:
            continue
        for chooser, chosen, users in _users_of(name.removeprefix("no_"), default):
            if users:  # choices under which the flag has a use
                raise InputError(
                    f"{flag}: found with {chooser} {chosen}, which does not use it, expected "
                    f"{chooser} {' or '.join(users)}"
                )


def _users_of(name: str, default: Recipe) -> list[tuple[str, str, list[str]]]:
    """For --gate, --classifier and --model: the flag, its value, the values that use a setting."""
    gates = [gate for gate in GATES if name in settings_of(with_choices(default, None, gate))]
    classifiers = [
        kind for kind in CLASSIFIERS if name in settings_of(with_choices(default, kind, None))
    ]
    methods = [
        model
        for model in METHODS
        if name in settings_of(recipe := published_recipe(default, model))
        or name in _choices(recipe)
    ]
    return [
        ("--gate", default.gate_name, gates),
        ("--classifier", default.classifier_name, classifiers),
        ("--model", default.model, methods),
    ]


def _choices(recipe: Recipe) -> dict[str, tuple[Any, str, str]]:
    """The flags that choose a method, classifier or gate by name: type, value and help text."""
    texts = field_texts(Recipe)
    found: dict[str, tuple[Any, str, str]] = {
        "model": (Literal[tuple(METHODS)], recipe.model, _MODEL_TEXT)
    }
    if "classifier" in used_configs(recipe):
        kinds: Any = Literal[tuple(CLASSIFIERS)]
        found["classifier"] = kinds, recipe.classifier_name, texts["classifier"]
    gates: Any = Literal[("none", *GATES)]
    found["gate"] = gates, recipe.gate_name, texts["gate"]
    return found


def _parse_flags(default: Recipe, argv: Sequence[str], *, prog: str, description: str) -> Recipe:
    """The recipe with the values of a command line, which takes flags for the settings it uses."""
    groups: dict[str, list[tuple[str, Any, Any]]] = {name: [] for name in ("", *CONFIG_PREFIXES)}
    for name, (hint, value, text) in _choices(default).items():
        groups[""].append((name, _shown(hint, text), field(default=value)))
    known = settings_of(default)
    for name, setting in known.items():
        value = field(default=setting.value_in(default))
        flag = name, _shown(setting.hint, setting.text), value
        groups[setting.config].append(flag)
    for config in CONFIG_PREFIXES:
        if groups[config]:
            nested: Any = make_dataclass(config, groups[config], frozen=True, kw_only=True)
            groups[""].append(
                (f"{config}_settings", Annotated[nested, tyro.conf.OmitArgPrefixes], field())
            )
    flags: Any = make_dataclass("Recipe", groups[""], frozen=True, kw_only=True)
    parsed = tyro.cli(flags, args=list(argv), prog=prog, description=description)
    values = {
        name: getattr(getattr(parsed, f"{s.config}_settings") if s.config else parsed, name)
        for name, s in known.items()
    }
    return default.replace(**values)


def _shown(hint: Any, text: str) -> Any:
    """A type with its help text, as tyro takes it."""
    return Annotated[plain_type(hint)[0], tyro.conf.arg(help=text)]


def recipe_flags(recipe: Recipe, default: Recipe) -> list[str]:
    """The flags that turn ``default`` into ``recipe``: the inverse of `parse_recipe`.

    Both recipes must be of the same method.
    """
    words: list[str] = []
    for flag, name, default_name in (
        ("--preset", recipe.preset, default.preset),
        ("--classifier", recipe.classifier_name, default.classifier_name),
        ("--gate", recipe.gate_name, default.gate_name),
    ):
        if name != default_name:
            words += [flag, name]
    base = _with_preset(default, recipe.preset, recipe.features)
    base = with_choices(base, recipe.classifier_name, recipe.gate_name)
    for name, setting in settings_of(recipe).items():
        value = setting.value_in(recipe)
        if name == "preset" or value == setting.value_in(base):
            continue
        if isinstance(value, bool):
            words.append(flag_of(name) if value else flag_of(f"no_{name}"))
        elif isinstance(value, tuple):
            words += [flag_of(name), *map(str, value)]
        else:
            words += [flag_of(name), str(value)]
    return words
