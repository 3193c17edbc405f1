"""The command line of a recipe: flags for the settings that the recipe uses, and no others."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gsmflow.core.errors import InputError
from gsmflow.core.nearest import first_names, such_as
from gsmflow.core.settings import field_texts, flag_in, flag_of, plain_type
from gsmflow.learning.method import PresetName
from gsmflow.methods.gates.registry import GATES, find_gate
from gsmflow.methods.registry import METHODS, RECOMMENDED, find_method
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.files import RecipeFile, read_recipe_file, settings_from
from gsmflow.recipes.main_flags import main_flags
from gsmflow.recipes.recipe import (
    CLASSIFIERS,
    CONFIG_PREFIXES,
    Recipe,
    settings_of,
    used_configs,
)

__all__ = ["parse_recipe", "published_recipe", "recipe_flags", "recipe_for", "with_choices"]

_RECOMMENDED = "recommended"
_HELP, _HELP_ALL = ("-h", "--help"), "--help-all"
_MODEL_TEXT = (
    "The method that is trained; --model NAME --help-all lists its settings. A method other than "
    "the script's starts from its published settings."
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
        a setting's flag overrides both. ``--help`` prints the flags that matter most and ends the
        program; ``--help-all`` prints all.
    prog, description
        The program's name and description, for the help text.

    Raises
    ------
    InputError
        If a value is out of range, a flag is unknown or belongs to another method, classifier or
        gate, or the recipe file is faulty or was written for other features. A wrong type ends the
        program with exit code 2 and a message.
    """
    chosen = _early_flags(recipes, argv)
    default = _default_recipe(recipes, chosen)
    file = None
    if chosen.recipe and chosen.recipe != _RECOMMENDED:
        file = read_recipe_file(Path(chosen.recipe))
        _check_method(chosen.recipe, file, default)
        where = f"{chosen.recipe}, field 'settings"
        default = default.replace(**settings_from(default, file.settings, where))
    if _HELP_ALL in argv or {*_HELP} & {*argv}:
        shown = None if _HELP_ALL in argv else main_flags(default, _all_names(default))
        _print_help(default, shown, prog=prog, description=description)
    _refuse_foreign_flags(default, argv)
    recipe = _parse_flags(default, argv, prog=prog, description=description)
    check_recipe(recipe)
    if file is not None:
        _check_belonging(file, recipe)
    return recipe


def _early_flags(recipes: Mapping[str, Recipe], argv: Sequence[str]) -> argparse.Namespace:
    """The flags on which it depends which others there are.

    Raises
    ------
    InputError
        If there is no such method.
    """
    first = next(iter(recipes.values()))
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--features", default=first.features, nargs="?")
    for flag in ("--model", "--preset", "--classifier", "--gate"):
        early.add_argument(flag, nargs="?")
    early.add_argument("--recipe", default="", nargs="?")
    chosen, _ = early.parse_known_args(argv)
    if chosen.model is not None and chosen.model not in METHODS:
        raise InputError(
            f"--model: found {chosen.model}, expected one of {', '.join(METHODS)}"
            f"{such_as(chosen.model, METHODS)}"
        )
    return chosen


def _default_recipe(recipes: Mapping[str, Recipe], chosen: argparse.Namespace) -> Recipe:
    """The recipe that the other flags change."""
    recommended = chosen.recipe == _RECOMMENDED
    if recommended and chosen.model not in (None, RECOMMENDED):
        raise InputError(
            f"--model: found {chosen.model} with --recipe {_RECOMMENDED}, expected "
            f"{RECOMMENDED} or none"
        )
    usual = RECOMMENDED if recommended else next(iter(recipes.values())).model
    preset: PresetName = "short" if chosen.preset == "short" else "published"
    default = recipe_for(recipes, chosen.features, chosen.model or usual, preset)
    return with_choices(default, chosen.classifier, chosen.gate)


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
    """Raise `InputError` at a flag that only another method, classifier or gate uses, or none."""
    known = _all_names(default)
    for word in argv:
        flag = flag_in(word)
        if flag is None:
            continue
        name = flag.removeprefix("--").replace("-", "_")
        if {name, name.removeprefix("no_")} & known:
            continue
        for chooser, chosen, users in _users_of(name.removeprefix("no_"), default):
            if users:  # choices under which the flag has a use
                raise InputError(
                    f"{flag}: found with {chooser} {chosen}, which does not use it, expected "
                    f"{chooser} {first_names(users, 'or')}"
                )
        raise InputError(
            f"{flag}: found no flag of this name, expected one of those that {_HELP_ALL} lists"
            f"{such_as(flag, [*map(flag_of, known), _HELP_ALL])}"
        )


def _all_names(recipe: Recipe) -> set[str]:
    """The names of all flags of a recipe."""
    return settings_of(recipe).keys() | _choices(recipe).keys()


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


@dataclass(frozen=True)
class _Flag:
    """A flag as tyro takes it: its name, type, default, and the group that it is shown in."""

    name: str
    hint: Any
    default: Any
    text: str
    group: str = ""

    def as_field(self, text: str | None = None) -> tuple[str, Any, Any]:
        """A field of a dataclass of flags, with its help text or another one."""
        help_text = self.text if text is None else text
        hint: Any = Annotated[plain_type(self.hint)[0], tyro.conf.arg(help=help_text)]
        return self.name, hint, field(default=self.default)


def _flags(recipe: Recipe) -> list[_Flag]:
    """All flags of a recipe, with its values as their defaults."""
    choices = _choices(recipe).items()
    chosen = [_Flag(name, hint, value, text) for name, (hint, value, text) in choices]
    return chosen + [
        _Flag(name, setting.hint, setting.value_in(recipe), setting.text, setting.config)
        for name, setting in settings_of(recipe).items()
    ]


def _parse_flags(default: Recipe, argv: Sequence[str], *, prog: str, description: str) -> Recipe:
    """The recipe with the values of a command line, which takes flags for the settings it uses."""
    groups: dict[str, list[tuple[str, Any, Any]]] = {name: [] for name in ("", *CONFIG_PREFIXES)}
    for flag in _flags(default):
        groups[flag.group].append(flag.as_field())
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
        for name, s in settings_of(default).items()
    }
    return default.replace(**values)


def _print_help(
    default: Recipe, shown: Sequence[str] | None, *, prog: str, description: str
) -> None:
    """Print the help text of some flags, or of all, and end the program."""
    if shown is None:
        _parse_flags(default, ["--help"], prog=prog, description=description)
        return
    by_name = {flag.name: flag for flag in _flags(default)}
    rest = tyro.conf.arg(help=f"list all {len(by_name)} flags and exit", help_behavior_hint="")
    fields: list[Any] = [
        by_name[name].as_field(_first_sentence(by_name[name].text)) for name in shown
    ]
    hint: Any = Annotated[bool, rest, tyro.conf.FlagCreatePairsOff]
    fields.append(("help_all", hint, field(default=False)))
    flags: Any = make_dataclass("Recipe", fields, frozen=True, kw_only=True)
    tyro.cli(flags, args=["--help"], prog=prog, description=description)


def _first_sentence(text: str) -> str:
    """The first sentence of a help text."""
    first, end, _ = text.partition(". ")
    return f"{first}{end}".strip()


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
    base = default
    if recipe.preset != default.preset:  # its settings come with the flag alone
        base = _with_preset(base, recipe.preset, recipe.features)
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
