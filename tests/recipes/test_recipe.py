import ast
import inspect
import json
import re
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from gsmflow.core.errors import InputError
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gsmflow import GSMFlowConfig
from gsmflow.methods.registry import MODELS, ModelName, unused_fields
from gsmflow.recipes.recipe import (
    Recipe,
    RecipeFile,
    check_recipe,
    parse_recipe,
    read_recipe_file,
    recipe_flags,
    recipe_for,
    recipe_from,
    setting_names,
    write_recipe_file,
)

HINTS = get_type_hints(Recipe)
# With second semantics, so that they may be mixed in, and with the gate that has settings.
RES101 = make_recipe(dataset="CUB", epochs=11, pi=0.2, second_semantics="sent", gate="boundary")
VIT = make_recipe(dataset="CUB", features="vit", epochs=22, perturbation=False)
RECIPES = {"res101": RES101, "vit": VIT}
# A recipe file and a model bring other settings with them; labelled rows go without a gate.
INDEPENDENT = [f.name for f in fields(Recipe) if f.name not in ("recipe", "model", "shots")]
from tests.builders import changed


def parse(*words: str, model: ModelName = "gsmflow") -> Recipe:
    recipes = {features: changed(recipe, model=model) for features, recipe in RECIPES.items()}
    return parse_recipe(recipes, words, prog="train.py", description="Train a thing.")


def model_with(name: str) -> ModelName:
    """A model that makes use of a field."""
    return next(model for model in MODELS if name not in unused_fields(model))


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


@pytest.mark.parametrize("model", MODELS)
def test_help_shows_every_field_with_its_text(
    model: ModelName, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--help", model=model)
    assert end.value.code == 0
    text = capsys.readouterr().out
    texts = docstrings()
    assert "Train a thing." in text
    for field in fields(Recipe):
        if field.name in unused_fields(model):
            continue
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


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_flag_overrides_its_field_alone(name: str) -> None:
    words, value = other_value(name)
    assert getattr(RES101, name) != value
    model = model_with(name)
    assert parse(*words, model=model) == replace(RES101, model=model, **{name: value})


@pytest.mark.parametrize("name", INDEPENDENT)
def test_flags_of_a_recipe_make_it_again(name: str) -> None:
    _, value = other_value(name)
    model = model_with(name)
    own = replace(RES101, model=model)
    # A number whose digits must not be cut, where the model has such a setting.
    exact = {} if "classifier_lr" in unused_fields(model) else {"classifier_lr": 0.1 + 0.2}
    recipe = replace(own, **{**exact, name: value})
    assert parse(*recipe_flags(recipe, own), model=model) == recipe
    assert recipe_flags(RES101, RES101) == []


@pytest.mark.parametrize("words", [("0",), ("0", "3", "20"), ()])
def test_labelled_rows_are_a_list_of_numbers(words: tuple[str, ...]) -> None:
    recipe = parse("--gate", "none", "--shots", *words)
    assert recipe == replace(RES101, gate="none", shots=tuple(map(int, words)))
    assert parse(*recipe_flags(recipe, RES101)) == recipe


def test_a_recipe_serves_its_features_and_the_first_all_others() -> None:
    assert [recipe_for(RECIPES, name) for name in ("res101", "vit", "clip")] == [
        RES101,
        VIT,
        RES101,
    ]


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
        parse(f"{flag(name)}=-1", model=model_with(name))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", of_type(float))
def test_a_number_that_is_not_finite_is_out_of_range(name: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"^{flag(name)}: found {value}"):
        parse(f"{flag(name)}={value}", model=model_with(name))


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
    recipe = replace(
        VIT, data=Path("some/data"), out=Path("o"), learning_rate=0.1 + 0.2, shots=(0, 5)
    )
    told = json.loads(json.dumps(recipe.describe(), allow_nan=False))
    assert set(told) == {field.name for field in fields(Recipe)}
    assert recipe_from(told, "a file") == recipe


@pytest.mark.parametrize("value", [3, [0, 1.5], [True], ["1"], {"0": 1}])
def test_a_list_of_whole_numbers_is_nothing_else(value: Any) -> None:
    with pytest.raises(InputError, match=r"field 'shots': found .*, expected a list of whole numb"):
        recipe_from({"dataset": "CUB", "shots": value}, "a file")


@pytest.mark.parametrize("kind", [GSMFlowConfig, TrainingConfig, SoftmaxConfig])
def test_a_part_has_the_recipes_values(kind: Any) -> None:
    recipe = parse("--features=vit", "--blocks=9", "--batch-size=8", "--classifier-lr=0.5")
    part = recipe.part(kind)
    assert type(part) is kind
    whole = asdict(recipe)
    assert asdict(part) == {field.name: whole[field.name] for field in fields(kind)}


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RES101.epochs = 5  # type: ignore[misc]


CHOSEN = {
    "recipe": {"epochs": 33, "pi": 0.5, "perturbation": True, "schedule": "fast", "hidden": 7},
    "dataset": "CUB",
    "features": "vit",
    "semantics": "att",
    "chosen": {"how": "by hand"},
}


def write_choice(path: Path, **changes: Any) -> Path:
    """A recipe file with changed fields (None drops one), or with changed settings."""
    settings = {k.removeprefix("recipe."): changes.pop(k) for k in list(changes) if "." in k}
    content = CHOSEN | {"recipe": CHOSEN["recipe"] | settings} | changes  # type: ignore[operator]
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def test_a_recipe_file_stands_in_for_the_scripts_settings(tmp_path: Path) -> None:
    file = str(write_choice(tmp_path / "choice.json"))
    expected = replace(VIT, recipe=file, **CHOSEN["recipe"])  # type: ignore[arg-type]
    assert parse("--features", "vit", "--recipe", file) == expected
    assert parse(f"--recipe={file}", "--features=vit") == expected


def test_a_flag_overrides_the_recipe_file(tmp_path: Path) -> None:
    file = str(write_choice(tmp_path / "choice.json"))
    words = ["--pi", "0.25", "--recipe", file, "--features", "vit", "--no-perturbation"]
    recipe = parse(*words)
    assert (recipe.pi, recipe.perturbation, recipe.epochs) == (0.25, False, 33)


def test_a_whole_number_will_do_where_a_number_is_asked_for(tmp_path: Path) -> None:
    file = write_choice(tmp_path / "choice.json", **{"recipe.pi": 1})
    value = read_recipe_file(file).settings["pi"]
    assert (value, type(value)) == (1.0, float)


def test_a_recipe_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = {name: getattr(VIT, name) for name in setting_names()}
    file = RecipeFile(
        settings=settings | {"learning_rate": 0.1 + 0.2},
        dataset="CUB",
        features="vit",
        semantics="sent",
        chosen={"values": {"pi": 0.1}, "trials": 3},
    )
    write_recipe_file(tmp_path / "choice.json", file)
    assert read_recipe_file(tmp_path / "choice.json") == file


def test_a_recipe_file_sets_what_is_learned_and_no_place() -> None:
    names = set(setting_names())
    assert {"epochs", "pi", "hidden", "classifier_lr", "feature_scaling", "samples_per_class"} < (
        names
    )
    places = {"dataset", "data", "features", "semantics", "out", "run", "resume", "recipe"}
    assert not names & places
    assert names <= HINTS.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe.pie": 1.0}, "field 'recipe.pie': found a field of this name, expected"),
        ({"recipe.out": "x"}, "field 'recipe.out': found a field of this name, expected"),
        ({"recipe.epochs": 1.5}, "field 'recipe.epochs': found 1.5, expected a whole number"),
        ({"recipe.epochs": True}, "field 'recipe.epochs': found true, expected a whole number"),
        ({"recipe.epochs": 0}, "field 'recipe.epochs': found 0, expected a number of at least 1"),
        ({"recipe.pi": "0.1"}, "field 'recipe.pi': found \"0.1\", expected a number"),
        ({"recipe.pi": [0.1] * 99}, r"field 'recipe.pi': found \[0.1, .{30,}\.\.\., expected a"),
        ({"recipe.pi": -1}, "field 'recipe.pi': found -1, expected a number of at least 0"),
        ({"recipe.pi": float("nan")}, "field 'recipe.pi': found nan, expected a number of at"),
        ({"recipe.perturbation": 1}, "field 'recipe.perturbation': found 1, expected true or"),
        ({"recipe.schedule": "slow"}, "'recipe.schedule': found \"slow\", expected one of publ"),
        ({"recipe": None}, "field 'recipe': found nothing, expected values by name"),
        ({"recipe": [1]}, r"field 'recipe': found \[1\], expected values by name"),
        ({"chosen": "so"}, "field 'chosen': found \"so\", expected values by name"),
        ({"dataset": None}, "field 'dataset': found nothing, expected a text"),
        ({"semantics": 3}, "field 'semantics': found 3, expected a text"),
        ({"extra": 3}, "field 'extra': found a field of this name, expected recipe, dataset,"),
        ({"dataset": "FLO"}, "field 'dataset': found 'FLO', expected 'CUB'"),
        ({"features": "res101"}, "field 'features': found 'res101', expected 'vit'"),
        ({"semantics": "sent"}, "field 'semantics': found 'sent', expected 'att'"),
    ],
)
def test_a_faulty_recipe_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = write_choice(tmp_path / "choice.json", **changes)
    with pytest.raises(InputError, match=rf"choice\.json, .*{message}"):
        parse("--features=vit", "--recipe", str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not readable (No such file or directory), expected a recipe file"),
        ("{", "not JSON ("),
        ("[]", "found [], expected a recipe file's fields"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "choice.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{file}: {message}")):
        parse("--recipe", str(file))
