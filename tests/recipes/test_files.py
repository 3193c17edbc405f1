"""Recipes as JSON: a run's recipe, and files of chosen settings."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsmflow.core.errors import InputError
from gsmflow.methods.gates.registry import GATES
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.files import (
    RecipeFile,
    describe_recipe,
    read_recipe_file,
    recipe_from,
    write_recipe_file,
)
from gsmflow.recipes.recipe import learning_settings, setting_value
from tests.builders import make_recipe
from tests.recipes.parsing import RES101, VIT, parse, parse_from


@pytest.mark.parametrize("model", METHODS)
def test_recipe_is_restored_from_json(model: str) -> None:
    for gate in ("none", *GATES):
        recipe = make_recipe(
            dataset="CUB",
            model=model,
            gate=gate,
            data=Path("some/data"),
            out=Path("o"),
            shots=(0, 5),
            beside=("cada-vae",),
            mix_seen=0.1 + 0.2,
        )
        stored = json.loads(json.dumps(describe_recipe(recipe), allow_nan=False))
        assert recipe_from(stored, "a file") == recipe


def test_described_recipe_nests_the_settings_of_its_method_gate_and_classifier() -> None:
    described = describe_recipe(RES101.replace(gate_share=0.5, blocks=7, classifier_lr=0.25))
    assert (described["method"]["name"], described["method"]["blocks"]) == ("gsmflow", 7)
    assert (described["classifier"]["name"], described["classifier"]["lr"]) == ("softmax", 0.25)
    assert (described["gate"]["name"], described["gate"]["share"]) == ("boundary", 0.5)
    assert described["training"]["epochs"] == 11
    bare = describe_recipe(make_recipe(dataset="CUB", model="eszsl"))
    assert bare["method"] == {"name": "eszsl", "gamma": None, "lam": None}
    assert not {"training", "classifier", "gate"} & set(bare)


def test_fields_that_are_not_stored_keep_their_defaults() -> None:
    stored = {"dataset": "CUB", "method": {"name": "cada-vae", "beta": 1}, "seed": 3}
    recipe = recipe_from(stored, "a file")
    assert recipe == make_recipe(dataset="CUB", model="cada-vae", beta=1.0, seed=3)
    assert type(recipe.method.beta) is float


WHOLE: dict[str, Any] = {"dataset": "CUB", "method": {"name": "gsmflow"}}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([], r"a file: found \[\], expected a recipe's fields"),
        (
            {"dataset": "CUB", "model": "gsmflow", "epochs": 3},
            "a file: found a recipe of an older version without field 'method', exp",
        ),
        ({"dataset": "CUB"}, "a file: found a recipe without field 'method', expected"),
        ({"method": {"name": "eszsl"}}, "a file, field 'dataset': found nothing, expected a name"),
        (
            WHOLE | {"pie": 1},
            "a file: found a field 'pie', expected one of dataset, method, training,",
        ),
        (WHOLE | {"seed": 1.5}, "a file, field 'seed': found 1.5, expected a whole number"),
        (WHOLE | {"seed": -1}, "a file, field 'seed': found -1, expected a number of at least 0"),
        (
            WHOLE | {"method": "eszsl"},
            "a file, field 'method': found \"eszsl\", expected values by name",
        ),
        (
            WHOLE | {"method": {"name": "lda"}},
            "a file, field 'method', field 'name': found \"lda\", expected one of gsmflow, cada-",
        ),
        (
            WHOLE | {"method": {"name": "eszsl", "blocks": 3}},
            "a file, field 'method': found a field 'blocks', expected one of gamma, lam",
        ),
        (
            WHOLE | {"method": {"name": "eszsl", "gamma": "much"}},
            "a file, field 'method', field 'gamma': found \"much\", expected a number or nothing",
        ),
        (
            WHOLE | {"training": {"epochs": 0}},
            "a file, field 'training', field 'epochs': found 0, expected a number of at least 1",
        ),
        (
            WHOLE | {"gate": {"name": "cosmo", "hidden": 8}},
            "a file, field 'gate': found a field 'hidden', expected one of share",
        ),
        (
            WHOLE | {"classifier": {"share": 8}},
            "a file, field 'classifier', field 'name': found null, expected one of softmax, proto",
        ),
        *(
            (
                WHOLE | {"shots": value},
                "a file, field 'shots': found .*, expected a list, .*a whole number",
            )
            for value in (3, [0, 1.5], [True], ["1"], {"0": 1})
        ),
    ],
)
def test_faulty_recipe_is_refused(stored: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as error:
        recipe_from(stored, "a file")
    assert "\n" not in str(error.value)


CHOSEN: dict[str, Any] = {
    "settings": {"epochs": 33, "pi": 0.5, "perturbation": True, "schedule": "fast", "hidden": 7},
    "dataset": "CUB",
    "features": "vit",
    "semantics": "att",
    "method": "gsmflow",
    "chosen": {"how": "by hand"},
}


def write_choice(path: Path, **changes: Any) -> Path:
    """A recipe file with changed fields (None drops one), or with changed settings."""
    nested = {k.removeprefix("settings."): changes.pop(k) for k in list(changes) if "." in k}
    content = CHOSEN | {"settings": CHOSEN["settings"] | nested} | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def test_recipe_file_replaces_the_settings_of_the_script(tmp_path: Path) -> None:
    file = str(write_choice(tmp_path / "choice.json"))
    expected = VIT.replace(recipe=file, **CHOSEN["settings"])
    assert parse("--features", "vit", "--recipe", file) == expected
    assert parse(f"--recipe={file}", "--features=vit") == expected


def test_flag_overrides_the_recipe_file(tmp_path: Path) -> None:
    file = str(write_choice(tmp_path / "choice.json"))
    words = ["--pi", "0.25", "--recipe", file, "--features", "vit", "--no-perturbation"]
    recipe = parse(*words)
    assert (recipe.method.pi, recipe.method.perturbation, recipe.training.epochs) == (
        0.25,
        False,
        33,
    )


def test_whole_number_is_accepted_for_a_float_setting(tmp_path: Path) -> None:
    file = str(write_choice(tmp_path / "choice.json", **{"settings.pi": 1}))
    value = parse("--features", "vit", "--recipe", file).method.pi
    assert (value, type(value)) == (1.0, float)


def test_recipe_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = {name: setting_value(VIT, name) for name in learning_settings(VIT)}
    values = {k: [*v] if isinstance(v, tuple) else v for k, v in values.items()}  # as JSON has them
    file = RecipeFile(
        settings=values | {"learning_rate": 0.1 + 0.2},
        dataset="CUB",
        features="vit",
        semantics="sent",
        method="gsmflow",
        chosen={"values": {"pi": 0.1}, "trials": 3},
    )
    write_recipe_file(tmp_path / "choice.json", file)
    assert read_recipe_file(tmp_path / "choice.json") == file


def test_recipe_file_may_set_every_learning_setting_of_every_method(tmp_path: Path) -> None:
    for model in METHODS:
        recipe = make_recipe(dataset="CUB", model=model)
        values = {name: setting_value(recipe, name) for name in learning_settings(recipe)}
        path = tmp_path / f"{model}.json"
        names = {"dataset": "CUB", "features": "res101", "semantics": "att"}
        write_recipe_file(path, RecipeFile(settings=values, method=model, **names))
        assert parse_from(recipe, "--recipe", str(path)) == replace(recipe, recipe=str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings.pie": 1.0}, "field 'settings.pie': found a setting of this name, expected"),
        ({"settings.out": "x"}, "field 'settings.out': found a setting of this name, expected"),
        ({"settings.gate_share": 0.5}, "'settings.gate_share': found a setting of this name, exp"),
        ({"settings.gamma": 1.0}, "'settings.gamma': found a setting of this name, expected those"),
        ({"settings.epochs": 1.5}, "field 'settings.epochs': found 1.5, expected a whole number"),
        ({"settings.epochs": True}, "field 'settings.epochs': found true, expected a whole number"),
        ({"settings.epochs": 0}, "'settings.epochs': found 0, expected a number of at least 1"),
        ({"settings.pi": "0.1"}, "field 'settings.pi': found \"0.1\", expected a number"),
        ({"settings.pi": [0.1] * 99}, r"field 'settings.pi': found \[0.1, .{30,}\.\.\., expected"),
        ({"settings.pi": -1}, "field 'settings.pi': found -1, expected a number of at least 0"),
        ({"settings.perturbation": 1}, "field 'settings.perturbation': found 1, expected true or"),
        ({"settings.schedule": "slow"}, "'settings.schedule': found \"slow\", expected one of pub"),
        ({"settings": None}, "field 'settings': found nothing, expected values by name"),
        ({"settings": [1]}, r"field 'settings': found \[1\], expected values by name"),
        ({"chosen": "so"}, "field 'chosen': found \"so\", expected values by name"),
        ({"dataset": None}, "field 'dataset': found nothing, expected a text"),
        ({"semantics": 3}, "field 'semantics': found 3, expected a text"),
        ({"method": None}, "field 'method': found nothing, expected a text"),
        ({"method": "eszsl"}, "field 'method': found 'eszsl', expected 'gsmflow', as this run has"),
        ({"dataset": "FLO"}, "field 'dataset': found 'FLO', expected 'CUB'"),
        ({"features": "res101"}, "field 'features': found 'res101', expected 'vit'"),
        ({"semantics": "sent"}, "field 'semantics': found 'sent', expected 'att'"),
    ],
)
def test_faulty_recipe_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = write_choice(tmp_path / "choice.json", **changes)
    with pytest.raises(InputError, match=rf"choice\.json, .*{message}"):
        parse("--features=vit", "--recipe", str(file))


OLD_FORM = {"recipe": {"epochs": 33}, "dataset": "CUB", "features": "vit", "semantics": "att"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not readable (No such file or directory), expected a recipe file"),
        ("{", "not JSON ("),
        ("[]", "found [], expected a recipe file's fields"),
        (json.dumps(CHOSEN | {"extra": 3}), "found a field 'extra', expected one of settings, dat"),
        (
            json.dumps(OLD_FORM),
            "found a recipe file of an older version (field "
            "'recipe'), expected fields 'settings' and 'method'",
        ),
    ],
)
def test_file_that_is_no_recipe_or_of_the_old_form_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "choice.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{file}: {message}")) as error:
        parse("--recipe", str(file))
    assert "\n" not in str(error.value)
