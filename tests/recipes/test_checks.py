"""Which recipes are refused: values out of bounds, names with paths, choices that do not fit."""

from typing import Any, get_args

import pytest

from gsmflow.core.errors import InputError
from gsmflow.core.settings import plain_type
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.recipe import Recipe, settings_of
from tests.builders import changed, make_recipe
from tests.recipes.parsing import RES101, flag, parse


def recipes_by_setting() -> dict[str, tuple[Recipe, type]]:
    """Each number among the settings: a recipe that has it, and its type."""
    found: dict[str, tuple[Recipe, type]] = {}
    for model in METHODS:
        recipe = make_recipe(dataset="CUB", model=model, gate="boundary", second_semantics="sent")
        for name, setting in settings_of(recipe).items():
            kind = plain_type(setting.hint)[0]
            for number in (int, float):
                if kind is number or (number in get_args(kind) and kind != tuple[int, ...]):
                    found[f"{model} {name}"] = recipe, number
    return found


NUMBERS = recipes_by_setting()
FLOATS = [key for key, (_, kind) in NUMBERS.items() if kind is float]


def test_every_number_has_bounds() -> None:
    assert {"gsmflow pi", "eszsl gamma", "cada-vae gate_share", "discriminant seed"} < {*NUMBERS}
    assert {"gsmflow pi", "eszsl gamma", "cada-vae gate_share"} < {*FLOATS}
    for key, (recipe, _) in NUMBERS.items():
        name = key.split()[1]
        with pytest.raises(InputError, match=rf"^{flag(name)}: found -1, expected a number"):
            check_recipe(recipe.replace(**{name: -1}))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_number_that_is_not_finite_is_out_of_range(value: str) -> None:
    for key in FLOATS:
        name = key.split()[1]
        with pytest.raises(InputError, match=rf"^{flag(name)}: found {value}, expected a number"):
            check_recipe(NUMBERS[key][0].replace(**{name: float(value)}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("blocks", "hidden", "condition_dim", "epochs", "batch_size")),
        *((name, 0) for name in ("lr_decay_every", "samples_per_class", "classifier_epochs")),
        *((name, 0) for name in ("classifier_batch_size", "classifier_lr", "learning_rate")),
        *((name, 0) for name in ("semantics_norm", "lr_decay", "gate_share", "shot_draws")),
        ("gate_latent_dim", 1),
        ("lr_decay", 1.01),
        ("gate_share", 1.5),
        ("perturbation_dropout", 1.01),
        ("mix_seen", 100.5),
        ("seed", 2**31),
    ],
)
def test_number_beyond_its_bound_is_out_of_range(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found {value}, expected a number"):
        check_recipe(RES101.replace(**{name: value}))


def test_command_line_with_a_number_out_of_range_is_refused() -> None:
    for word, found in (("--pi=-1", "-1"), ("--pi=nan", "nan"), ("--gate-epochs=0", "0")):
        with pytest.raises(InputError, match=rf"^{word.split('=')[0]}: found {found}.*, expected"):
            parse(word)


def test_numbers_on_their_bounds_are_accepted() -> None:
    words = "--pi=0 --perturbation-dropout=1 --prototype-weight=0 --weight-decay=0 --lr-decay=1"
    words += " --curve-every=0 --seed=2147483647 --epochs=1 --learning-rate=1e-300 --gate-share=1"
    check_recipe(parse(*words.split()))


def test_bound_is_printed_in_full() -> None:
    with pytest.raises(InputError, match=rf"at most {2**31 - 1}$"):
        check_recipe(RES101.replace(seed=2**31))


@pytest.mark.parametrize("value", ["a/b", "../a", "/a", "a/", "/", ".", ".."])
def test_name_that_is_a_path_is_refused(value: str) -> None:
    for name in ("dataset", "features", "semantics", "second_semantics", "run"):
        with pytest.raises(InputError, match=rf"^{flag(name)}: found '{value}'"):
            check_recipe(RES101.replace(**{name: value}))


def test_empty_name_is_refused() -> None:
    for name in ("dataset", "features", "semantics"):
        with pytest.raises(InputError, match=rf"^{flag(name)}: found ''"):
            check_recipe(RES101.replace(**{name: ""}))


def test_empty_name_of_the_run_or_of_second_semantics_is_accepted() -> None:
    check_recipe(RES101.replace(run="", second_semantics=""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "cada-vae", "gate": "likelihood"},
            "--gate: found likelihood with a model without a density .*, expected boundary",
        ),
        (
            {"model": "discriminant", "gate": "likelihood"},
            "--gate: found likelihood with a model without a density .*, expected boundary",
        ),
        (
            {"model": "cada-vae", "classifier": "bayes"},
            "--classifier: found bayes with a model without a density .*, expected softmax",
        ),
        (
            {"gate": "cosmo", "calibrate": False},
            "--gate: found cosmo with --no-calibrate, expected",
        ),
        (
            {"balance": "overall", "calibrate": False},
            "--balance: found overall with --no-calibrate, which",
        ),
        (
            {"classifier": "bayes", "test_selected": True},
            "--test-selected: found with --classifier bayes",
        ),
        (
            {"model": "discriminant", "test_selected": True},
            "--test-selected: found with a model that classifies by itself",
        ),
        ({"model": "eszsl", "oracle": True}, "--oracle: found with a model that gives no rows"),
        (
            {"beside": ("eszsl", "lda")},
            "--beside: found 'lda', expected some of gsmflow, cada-vae, discriminant, gaussian-",
        ),
        (
            {"beside": ("eszsl", "eszsl")},
            "--beside: found eszsl eszsl, expected each method once",
        ),
        (
            {"classifiers_beside": ("svm",)},
            "--classifiers-beside: found 'svm', expected some of softmax, prototypes, bayes",
        ),
        (
            {"classifiers_beside": ("softmax", "softmax")},
            "--classifiers-beside: found softmax softmax, expected each classifier once",
        ),
        (
            {"classifier": "prototypes", "classifiers_beside": ("bayes", "softmax")},
            "--classifiers-beside: found softmax with --classifier prototypes, which leaves",
        ),
        (
            {"model": "eszsl", "classifiers_beside": ("softmax",)},
            "--classifiers-beside: found with a model that classifies by itself .*, expected one",
        ),
        (
            {"model": "cada-vae", "classifiers_beside": ("prototypes", "bayes")},
            "--classifiers-beside: found bayes with a model without a density .*, expected softmax",
        ),
        (
            {"batch_size": 15, "devices": 2},
            "--batch-size: found 15, expected a multiple of 2, the number of processes",
        ),
        ({"mix_seen": 5.0}, "--mix-seen: found 5 without --second-semantics, expected"),
        ({"mix_unseen": 5.0}, "--mix-unseen: found 5 without --second-semantics, expected"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    recipe = make_recipe(dataset="CUB", **{k: v for k, v in changes.items() if k == "model"})
    with pytest.raises(InputError, match=f"^{message}") as error:
        check_recipe(changed(recipe, **{k: v for k, v in changes.items() if k != "model"}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", METHODS)
def test_any_methods_may_run_beside_any_method(model: str) -> None:
    for beside in ((), (model,), tuple(METHODS)):
        check_recipe(make_recipe(dataset="CUB", model=model, beside=beside))


@pytest.mark.parametrize("setting", ["run", "dataset", "features", "semantics"])
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x" * 300, "a name of 300 bytes, expected no more than 200"),
        ("ö" * 150, "a name of 300 bytes, expected no more than 200"),
        ("a\0b", "the character '.x00' in a name"),
        ("a\nb", "the character '.n' in a name"),
    ],
)
def test_names_that_no_file_can_have_are_refused(setting: str, name: str, found: str) -> None:
    recipe = make_recipe(dataset="CUB").replace(**{setting: name})
    with pytest.raises(InputError, match=f"--{setting}: found {found}"):
        check_recipe(recipe)
