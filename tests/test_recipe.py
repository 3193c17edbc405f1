import ast
import inspect
import json
import re
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from gsmflow.classifier import ClassifierConfig
from gsmflow.errors import InputError
from gsmflow.model import ModelConfig
from gsmflow.recipe import Recipe, check_recipe, parse_recipe
from gsmflow.train import TrainingConfig

HINTS = get_type_hints(Recipe)
RES101 = Recipe(dataset="CUB", epochs=11, pi=0.2)
VIT = Recipe(dataset="CUB", features="vit", epochs=22, perturbation=False)
RECIPES = {"res101": RES101, "vit": VIT}


def parse(*words: str) -> Recipe:
    return parse_recipe(RECIPES, words, prog="train.py", description="Train a thing.")


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def of_type(*kinds: type) -> list[str]:
    return [name for name, hint in HINTS.items() if hint in kinds]


def docstrings() -> dict[str, str]:
    """The string below each field, read from the source of the classes."""
    found: dict[str, str] = {}
    for kind in filter(is_dataclass, Recipe.__mro__):
        body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[field.target.id] = ast.literal_eval(text.value)  # type: ignore[union-attr]
    return found


def squeezed(text: str) -> str:
    """Without what wrapping and framing change."""
    return re.sub(r"[\s│]", "", text)


def test_help_shows_every_field_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    texts = docstrings()
    assert "Train a thing." in text
    for field in fields(Recipe):
        assert re.search(rf"{flag(field.name)}[ ,\n]", text), field.name
        assert squeezed(texts[field.name]) in squeezed(text), field.name


def test_help_shows_the_chosen_recipes_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--features", "vit", "--help")
    text = capsys.readouterr().out
    assert "(default: 22)" in text
    assert "(default: 11)" not in text


def other_value(name: str) -> tuple[list[str], Any]:
    """Command-line words that give a field another value than RES101's, and that value."""
    hint, value = HINTS[name], getattr(RES101, name)
    if hint is bool:
        return [f"--no-{flag(name)[2:]}" if value else flag(name)], not value
    if get_origin(hint) is Literal:
        new = next(option for option in get_args(hint) if option != value)
    else:
        new = {int: 8, float: 0.625, str: "other", Path: Path("else/where")}[hint]
    return [flag(name), str(new)], new


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_a_flag_overrides_its_field_alone(name: str) -> None:
    words, value = other_value(name)
    assert getattr(RES101, name) != value
    assert parse(*words) == replace(RES101, **{name: value})


def test_without_flags_the_first_recipe_is_taken() -> None:
    assert parse() == RES101


@pytest.mark.parametrize(
    "words",
    [
        ["--features", "vit"],
        ["--features=vit"],
        ["--seed", "0", "--features", "vit"],
        ["--features", "res101", "--features=vit"],
    ],
)
def test_features_pick_the_recipe(words: list[str]) -> None:
    assert parse(*words) == VIT


def test_flags_override_the_picked_recipe() -> None:
    assert parse("--features=vit", "--epochs", "3") == replace(VIT, epochs=3)


def test_unknown_features_take_the_first_recipe() -> None:
    assert parse("--features", "clip") == replace(RES101, features="clip")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--nope", "1"], "--nope"),
        (["--epoch", "1"], "--epoch"),  # no abbreviations
        (["--epochs", "three"], "--epochs"),
        (["--epochs", "1.5"], "--epochs"),
        (["--pi", "much"], "--pi"),
        (["--anchors", "none"], "--anchors"),
        (["--seed"], "--seed"),
        (["--features"], "--features"),
        (["--oracle", "perhaps"], "perhaps"),
        (["stray"], "stray"),
    ],
)
def test_malformed_words_end_the_program(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*words)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert named in printed.err
    assert not printed.out


@pytest.mark.parametrize("name", of_type(int, float))
def test_a_negative_number_is_out_of_range(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found -1"):
        parse(f"{flag(name)}=-1")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", of_type(float))
def test_a_number_that_is_not_finite_is_out_of_range(name: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found {value}"):
        parse(f"{flag(name)}={value}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("blocks", "hidden", "condition_dim", "epochs", "batch_size")),
        *((name, 0) for name in ("lr_decay_every", "samples_per_class", "classifier_epochs")),
        *((name, 0) for name in ("classifier_batch_size", "classifier_lr", "learning_rate")),
        *((name, 0) for name in ("semantics_norm", "lr_decay")),
        ("lr_decay", 1.01),
        ("perturbation_dropout", 1.01),
        ("seed", 2**31),
    ],
)
def test_a_number_beyond_its_bound_is_out_of_range(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found {value}.*, expected a number"):
        parse(f"{flag(name)}={value}")


def test_numbers_on_their_bounds_are_taken() -> None:
    words = "--pi=0 --perturbation-dropout=1 --prototype-weight=0 --weight-decay=0 --lr-decay=1"
    words += " --curve-every=0 --seed=2147483647 --epochs=1 --learning-rate=1e-300"
    check_recipe(parse(*words.split()))


def test_a_bound_is_printed_in_full() -> None:
    with pytest.raises(InputError, match=str(2**31 - 1)):
        parse(f"--seed={2**31}")


@pytest.mark.parametrize("name", ["dataset", "features", "semantics", "run"])
@pytest.mark.parametrize("value", ["a/b", "../a", "/a", "a/", "/"])
def test_a_name_with_a_path_separator_is_refused(name: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found '{value}'"):
        parse(f"{flag(name)}={value}")


@pytest.mark.parametrize("name", ["dataset", "features", "semantics", "run"])
@pytest.mark.parametrize("value", [".", ".."])
def test_a_name_of_dots_is_refused(name: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found"):
        parse(f"{flag(name)}={value}")


@pytest.mark.parametrize("name", ["dataset", "features", "semantics"])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found ''"):
        parse(f"{flag(name)}=")


def test_an_empty_run_is_named_later() -> None:
    assert parse("--run=").run == ""


def test_describe_goes_through_json_and_back() -> None:
    recipe = replace(VIT, data=Path("some/data"), out=Path("o"), learning_rate=0.1 + 0.2)
    told = json.loads(json.dumps(recipe.describe(), allow_nan=False))
    assert set(told) == {field.name for field in fields(Recipe)}
    paths = {name: Path(told[name]) for name in of_type(Path)}
    assert Recipe(**told | paths) == recipe


@pytest.mark.parametrize("kind", [ModelConfig, TrainingConfig, ClassifierConfig])
def test_a_part_has_the_recipes_values(kind: Any) -> None:
    recipe = parse("--features=vit", "--blocks=9", "--batch-size=8", "--classifier-lr=0.5")
    part = recipe.part(kind)
    assert type(part) is kind
    whole = asdict(recipe)
    assert asdict(part) == {field.name: whole[field.name] for field in fields(kind)}


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RES101.epochs = 5  # type: ignore[misc]
