"""Checks of a recipe: bounds of values, names, and settings that exclude each other."""

import os
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from gsmflow.core.errors import InputError
from gsmflow.core.nearest import such_as
from gsmflow.core.settings import check_settings, flag_of
from gsmflow.data.embedding_names import check_embeddings
from gsmflow.learning.contract import Density, GivesRows, Model
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.recipe import (
    CLASSIFIERS,
    CONFIG_PREFIXES,
    Recipe,
    classifiers_for,
    used_configs,
)

__all__ = ["check_model_class", "check_names", "check_one_split", "check_recipe"]

# File systems have 255 bytes for a name, of which temporary files need some.
_LONGEST_NAME = 200

_NAMES = ("dataset", "features", "run")


def check_recipe(recipe: Recipe) -> None:
    """Raise `InputError` if a value is out of range or settings exclude each other."""
    check_settings(recipe)
    for name in used_configs(recipe):
        check_settings(getattr(recipe, name), CONFIG_PREFIXES[name])
    check_model_class(recipe, recipe.method_info.model)
    _check_beside(recipe)
    _check_gate(recipe)
    _check_shots(recipe)
    _check_class_split(recipe)
    _check_balance(recipe)
    processes = recipe.devices * recipe.nodes
    if recipe.training.batch_size % processes:
        raise InputError(
            f"--batch-size: found {recipe.training.batch_size}, expected a multiple of "
            f"{processes}, the number of processes that share a batch"
        )
    for name in ("mix_seen", "mix_unseen"):
        if getattr(recipe, name) and not recipe.second_semantics:
            raise InputError(
                f"{flag_of(name)}: found {getattr(recipe, name):g} without --second-semantics, "
                "expected the embedding that describes these classes"
            )
    for name in _NAMES:
        value = getattr(recipe, name)
        empty = not value and name != "run"
        check_file_name(flag_of(name), value)
        if empty or Path(value).name != value or value == "..":
            raise InputError(f"{flag_of(name)}: found {value!r}, expected a plain file name")
    check_file_name("--semantics", recipe.semantics_label)
    check_embeddings("--semantics", recipe.semantics, several=True)
    if recipe.second_semantics:
        check_embeddings("--second-semantics", recipe.second_semantics, several=False)


def check_file_name(where: str, value: str) -> None:
    """Raise `InputError` if no file can have a name, given as ``where``."""
    odd = next((character for character in value if ord(character) < 32), None)
    if odd is not None:
        raise InputError(
            f"{where}: found the character {odd!r} in a name, expected none of its kind"
        )
    length = len(os.fsencode(value))
    if length > _LONGEST_NAME:
        raise InputError(
            f"{where}: found a name of {length} bytes, expected no more than {_LONGEST_NAME}"
        )


def check_model_class(recipe: Recipe, model_class: type[Model]) -> None:
    """Raise `InputError` if the recipe needs a density, rows or epochs that the model lacks."""
    name = model_class.__name__
    takes_classifier = bool(classifiers_for(recipe.method_info, model_class))
    if recipe.shots and not takes_classifier:
        raise InputError(
            f"--shots: found with a model that classifies by itself ({name}) and learns from no "
            "labelled row of an unseen class, expected a model that gives rows for a classifier, "
            "such as gsmflow"
        )
    if recipe.oracle and not issubclass(model_class, GivesRows):
        raise InputError(
            f"--oracle: found with a model that gives no rows for a classifier ({name}), expected "
            "--no-oracle: there is no such ceiling for it"
        )
    if recipe.test_selected and recipe.method_info.classifies:
        raise InputError(
            f"--test-selected: found with a model that classifies by itself ({name}), expected "
            "--no-test-selected: there are no epochs to select from"
        )
    if recipe.classifiers_beside and not takes_classifier:
        raise InputError(
            f"--classifiers-beside: found with a model that classifies by itself ({name}), "
            "expected one that gives rows for a classifier, such as gsmflow"
        )
    trained = "softmax or prototypes"
    for flag, chosen, found, others in (
        ("--gate", "likelihood", (recipe.gate_name,), "boundary, gaussian, cosmo or none"),
        ("--classifier", "bayes", (recipe.classifier_name,), trained),
        ("--classifiers-beside", "bayes", recipe.classifiers_beside, trained),
    ):
        if chosen in found and not issubclass(model_class, Density):
            raise InputError(
                f"{flag}: found {chosen} with a model without a density ({name}), expected {others}"
            )


def check_names(flag: str, kind: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raise `InputError` unless all names of a kind are known and each is given once."""
    for name in names:
        if name not in known:
            raise InputError(
                f"{flag}: found {name!r}, expected some of {', '.join(known)}{such_as(name, known)}"
            )
    if len(set(names)) < len(names):
        raise InputError(f"{flag}: found {' '.join(names)}, expected each {kind} once")


def _check_beside(recipe: Recipe) -> None:
    for flag, kind, names, known in (
        ("--beside", "method", recipe.beside, METHODS),
        ("--classifiers-beside", "classifier", recipe.classifiers_beside, CLASSIFIERS),
    ):
        check_names(flag, kind, names, known)
    if "softmax" in recipe.classifiers_beside and recipe.classifier_name != "softmax":
        raise InputError(
            f"--classifiers-beside: found softmax with --classifier {recipe.classifier_name}, "
            "which leaves the softmax without the method's settings, expected --classifier softmax "
            f"and --classifiers-beside {recipe.classifier_name}"
        )


def _check_gate(recipe: Recipe) -> None:
    if recipe.gate_name == "cosmo" and not recipe.calibrate:
        raise InputError(
            "--gate: found cosmo with --no-calibrate, expected --calibrate, the training on "
            "validation classes that this gate learns from"
        )
    if recipe.classifier_name == "bayes" and recipe.test_selected:
        raise InputError(
            "--test-selected: found with --classifier bayes, which has no epochs to select from, "
            "expected --classifier softmax or prototypes"
        )


def _check_balance(recipe: Recipe) -> None:
    if not recipe.calibrate and recipe.balance != "harmonic":
        raise InputError(
            f"--balance: found {recipe.balance} with --no-calibrate, which leaves out the choice "
            "of the calibration factor, expected none of the two"
        )


def _check_class_split(recipe: Recipe) -> None:
    if recipe.class_split is None and not recipe.class_splits:
        for name in ("split_unseen", "unseen_names"):
            if getattr(recipe, name):
                raise InputError(
                    f"{flag_of(name)}: found without --class-split, expected the seed of a random "
                    "class split"
                )
    if recipe.class_splits and recipe.shots:
        raise InputError(
            f"--shots: found with --class-splits {recipe.class_splits}, expected --class-split "
            "with the seed of one: few-shot figures are of one split"
        )
    if recipe.class_splits and recipe.unseen_names:
        raise InputError(
            f"--unseen-names: found with --class-splits {recipe.class_splits}, expected none: each "
            "split has its own"
        )


def check_one_split(recipe: Recipe, verb: str) -> None:
    """Raise `InputError` if a recipe asks for several class splits of a verb that has one."""
    if recipe.class_splits:
        raise InputError(
            f"--class-splits: found {recipe.class_splits} with {verb}, expected --class-split with "
            "the seed of one"
        )


def _check_shots(recipe: Recipe) -> None:
    """Raise `InputError` if --shots is not ascending, or the other settings cannot use the rows."""
    shots = recipe.shots
    if not shots:
        return
    if min(shots) < 0 or any(a >= b for a, b in pairwise(shots)):
        raise InputError(
            f"--shots: found {' '.join(map(str, shots))}, expected whole numbers of at least 0, "
            "ascending, each once"
        )
    if recipe.classifier_name == "bayes":
        raise InputError(
            "--shots: found with --classifier bayes, which learns from no labelled row, expected "
            "--classifier softmax or prototypes"
        )
    if recipe.gate is not None:
        raise InputError(
            f"--shots: found with --gate {recipe.gate_name}, which separates seen classes from "
            "classes without labelled rows, expected --gate none"
        )
    if max(shots) and recipe.samples_per_class is not None and not recipe.calibrate:
        raise InputError(
            "--shots: found with --no-calibrate, expected --calibrate, the training on validation "
            "classes, where the weight of labelled rows beside synthesized ones is chosen"
        )
