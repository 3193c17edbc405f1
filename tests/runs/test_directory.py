import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gsmflow.core.errors import InputError, WriteError
from gsmflow.core.run_files import METRICS_FILE, RECIPE_FILE
from gsmflow.methods.cada_vae import CADAVAEConfig
from gsmflow.recipes.files import describe_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.directory import RunLog, computed_fields, open_run, read_run_recipe
from tests.builders import changed, make_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_recipe(dataset="CUB", out=tmp_path / "out")


def start(recipe: Recipe, run: str, *, age: float = 0, finished: bool = False) -> Path:
    """A run that was last touched ``age`` seconds ago."""
    directory, resumed = open_run(changed(recipe, run=run))
    assert not resumed
    if finished:
        (directory / METRICS_FILE).write_text("{}")
    now = directory.stat().st_mtime
    os.utime(directory, (now - age, now - age))
    return directory


def resume(recipe: Recipe, run: str = "") -> tuple[Path, bool]:
    return open_run(changed(recipe, run=run, resume=True))


def test_run_directory_holds_its_recipe(recipe: Recipe) -> None:
    directory, resumed = open_run(changed(recipe, run="first"))
    assert directory == recipe.out / "CUB" / "first"
    assert not resumed
    stored = json.loads((directory / "recipe.json").read_text())
    assert stored == describe_recipe(changed(recipe, run="first"))


def test_run_without_a_name_is_named_by_time_and_seed(recipe: Recipe) -> None:
    before = datetime.now().replace(microsecond=0)
    directory, _ = open_run(changed(recipe, seed=3))
    stamp = datetime.strptime(directory.name, "%Y%m%d-%H%M%S-seed3")
    assert before <= stamp <= datetime.now()


def test_name_of_an_existing_run_is_refused(recipe: Recipe) -> None:
    directory = start(recipe, "first")
    (directory / "precious").touch()
    with pytest.raises(InputError, match=str(directory)):
        open_run(changed(recipe, run="first", seed=1))
    assert (directory / "precious").exists()
    assert json.loads((directory / RECIPE_FILE).read_text())["seed"] == 0


def test_out_that_is_a_file_is_refused(recipe: Recipe) -> None:
    recipe.out.write_text("in the way")
    with pytest.raises(WriteError, match=str(recipe.out)) as caught:
        open_run(recipe)
    assert caught.value.is_mistake


def test_named_run_is_resumed(recipe: Recipe) -> None:
    directory = start(recipe, "first")
    start(recipe, "second")
    assert resume(recipe, "first") == (directory, True)


def test_named_run_with_another_recipe_is_not_resumed(recipe: Recipe) -> None:
    directory = start(recipe, "first")
    with pytest.raises(InputError, match=r"'training.epochs': found 300, expected 5") as caught:
        resume(changed(recipe, epochs=5), "first")
    assert str(directory / RECIPE_FILE) in str(caught.value)


def test_named_run_that_was_killed_before_it_had_a_directory_begins(recipe: Recipe) -> None:
    assert resume(recipe, "first") == (recipe.out / "CUB" / "first", False)
    assert resume(recipe, "first") == (recipe.out / "CUB" / "first", True)
    (recipe.out / "CUB" / "other").mkdir()
    with pytest.raises(InputError, match=r"other.*no such file, expected a run to resume"):
        resume(recipe, "other")


def test_moved_folder_of_runs_is_resumed_from(recipe: Recipe) -> None:
    start(recipe, "first")
    moved = changed(recipe, out=recipe.out.with_name("moved"))
    recipe.out.rename(moved.out)
    assert resume(moved, "first") == (moved.out / "CUB" / "first", True)


def test_run_is_resumed_from_flags_or_recipe_file_with_equal_settings(recipe: Recipe) -> None:
    directory = start(recipe, "first")
    assert resume(recipe.replace(recipe="choice.json")) == (directory, True)


def test_latest_unfinished_run_is_resumed(recipe: Recipe) -> None:
    start(recipe, "oldest", age=30)
    expected = start(recipe, "older", age=20)
    start(recipe, "finished", age=10, finished=True)
    start(changed(recipe, seed=1), "other recipe")
    assert resume(recipe) == (expected, True)


@pytest.mark.parametrize("others", [(), ("finished",), ("finished", "other recipe", "other data")])
def test_without_an_unfinished_run_a_new_one_starts(
    recipe: Recipe, others: tuple[str, ...]
) -> None:
    made = {
        "finished": lambda: start(recipe, "finished", finished=True),
        "other recipe": lambda: start(changed(recipe, pi=0.5), "other recipe"),
        "other data": lambda: start(changed(recipe, dataset="SUN"), "other data"),
    }
    old = [made[name]() for name in others]
    directory, resumed = resume(recipe)
    assert not resumed
    assert directory not in old
    assert json.loads((directory / RECIPE_FILE).read_text())["dataset"] == "CUB"


def test_two_runs_of_one_second_have_different_directories(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("gsmflow.runs.directory.datetime", StoppedClock)
    first, _ = open_run(recipe)
    assert first.name == "20260102-030405-seed0"
    # As when a sweep over another setting starts several jobs at once.
    second, resumed = open_run(changed(recipe, pi=0.5))
    assert not resumed
    assert second != first


@pytest.mark.parametrize("content", ["", "{", '{"dataset": "CUB"', "\xff", "[]", "null", "7"])
def test_damaged_recipe_is_refused(recipe: Recipe, content: str) -> None:
    file = start(recipe, "first") / RECIPE_FILE
    file.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=str(file)):
        resume(recipe, "first")


def test_recipe_that_lacks_a_field_is_another_recipe(recipe: Recipe) -> None:
    file = start(recipe, "first") / RECIPE_FILE
    stored = json.loads(file.read_text())
    del stored["method"]["pi"]
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"'method.pi': found None, expected 0.05"):
        resume(recipe, "first")
    assert not resume(recipe)[1]
    # When it is read, the field has its default.
    assert read_run_recipe(file.parent) == changed(recipe, run="first")


def test_run_of_another_method_gate_or_classifier_is_not_resumed(recipe: Recipe) -> None:
    start(recipe, "first")
    others: dict[str, dict[str, Any]] = {
        "method.name": {"method": CADAVAEConfig()},
        "classifier.name": {"classifier": "bayes"},
        "gate.name": {"gate": "boundary"},
    }
    for field, changes in others.items():
        with pytest.raises(InputError, match=f"'{field}': found"):
            resume(changed(recipe, **changes), "first")


def test_run_of_the_old_form_is_refused_in_one_sentence(recipe: Recipe) -> None:
    directory = start(recipe, "first")
    old = {"dataset": "CUB", "model": "gsmflow", "epochs": 300, "gate": "none", "baselines": True}
    (directory / RECIPE_FILE).write_text(json.dumps(old))
    expected = "found a recipe of an older version without field"
    for read in (lambda: read_run_recipe(directory), lambda: resume(recipe, "first")):
        with pytest.raises(InputError) as error:
            read()
        assert str(error.value).startswith(f"{directory / RECIPE_FILE}: {expected} 'method', exp")
        assert "\n" not in str(error.value)
    # It does not hide another run that can be resumed, nor keep a new one from starting.
    assert not resume(recipe)[1]


def test_computed_fields_are_those_that_change_the_result(recipe: Recipe) -> None:
    fields = computed_fields(recipe.replace(run="a", resume=True, cache=False, recipe="b"))
    assert fields == computed_fields(recipe)
    assert (fields["method.pi"], fields["training.epochs"]) == (0.05, 300)
    assert not {"out", "run", "resume", "cache", "features_in", "recipe"} & set(fields)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def read_records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_records_are_json_lines_in_order(tmp_path: Path, recipe: Recipe) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    facts = {"name": "zwei\nZeilen ✓", "value": 0.1, "none": None, "list": [1, 2]}
    log.write("start", recipe=describe_recipe(recipe))
    log.write("epoch", epoch=1, **facts)
    first, second = read_records(tmp_path / "log.jsonl")
    assert first["event"] == "start"
    assert first["recipe"] == describe_recipe(recipe)
    assert second["event"] == "epoch"
    assert {name: second[name] for name in facts} == facts
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


@pytest.mark.parametrize("torn", ["", "{", '{"event": "epoch", "epoch": 2', "x" * 9999])
def test_incomplete_last_line_is_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "log.jsonl"
    RunLog(path).write("epoch", epoch=1)
    with path.open("a") as file:
        file.write(torn)
    RunLog(path).write("epoch", epoch=3)
    assert [record["epoch"] for record in read_records(path)] == [1, 3]


def test_log_of_one_incomplete_line_is_started_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"time": "20')
    RunLog(path).write("start")
    assert [record["event"] for record in read_records(path)] == ["start"]


def test_opening_a_log_writes_no_file(tmp_path: Path) -> None:
    RunLog(tmp_path / "log.jsonl")
    assert not (tmp_path / "log.jsonl").exists()


def test_partly_made_directory_of_a_killed_run_is_ignored(
    tmp_path: Path,
) -> None:
    recipe = make_recipe(dataset="TINY", out=tmp_path, run="a")
    directory, _ = open_run(recipe)
    directory.rename(directory.with_name(".a.1.part"))
    found, resumed = open_run(make_recipe(dataset="TINY", out=tmp_path, resume=True))
    assert not resumed
    assert found.name != ".a.1.part"
    assert open_run(recipe) == (directory, False)
