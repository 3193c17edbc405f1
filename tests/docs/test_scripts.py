"""The root scripts, the commands of the README and the code of the pages, run as a user runs them.

One test of each kind starts a process; the others run in this one, as their imports take most of
the time.
"""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from gsmflow import PrototypeDiscriminantClassifier
from gsmflow.learning.method import Method
from gsmflow.methods.eszsl import ESZSL, ESZSLConfig
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.files import read_recipe_file
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import learning_settings, setting_value, settings_of
from gsmflow.runs.script import read_script, script_recipe
from tests.builders import SHARED, make_dataset, write_gbu

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in ROOT.glob("train_*.py"))
README = (ROOT / "README.md").read_text()
RECIPE_FILES = sorted((ROOT / "docs" / "recipes").glob("*.json"))
SMALL = shlex.split(
    "--epochs 1 --blocks 1 --hidden 8 --condition-dim 8 --samples-per-class 4 "
    "--classifier-epochs 1 --device cpu"
)
# The same for CADA-VAE.
CADA_SMALL = shlex.split(
    "--epochs 1 --image-encoder-hidden 8 --semantics-encoder-hidden 8 --image-decoder-hidden 8 "
    "--semantics-decoder-hidden 8 --classifier-epochs 1 --device cpu"
)


class Ended(NamedTuple):
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str


Call: TypeAlias = Callable[..., Ended]


def call_process(words: list[str], folder: Path = ROOT) -> Ended:
    """Run a Python script in a separate process."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that runs a Python script in this process."""

    def run(words: list[str], folder: Path = ROOT) -> Ended:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "path", list(sys.path))  # the script may change it
        code = 0
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


def script_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("python train_")]


def test_there_is_a_script_for_every_benchmark() -> None:
    names = ("APY", "AWA1", "AWA2", "CUB", "DIGITS", "FLO", "SUN")
    assert [f"train_{name}.py" for name in names] == SCRIPTS


def check_missing_data(script: str, folder: Path, call: Call) -> None:
    done = call([script, "--data", str(folder), "--out", str(folder / "out")])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    name = script.removeprefix("train_").removesuffix(".py")
    assert f"{folder / name / 'res101.mat'}: no such file" in done.stderr
    assert "data/README.md" in done.stderr
    assert not (folder / "out").exists()


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != "train_DIGITS.py"])
def test_script_without_data_names_the_missing_file(
    script: str, tmp_path: Path, call: Call
) -> None:
    check_missing_data(script, tmp_path, call)


def test_process_without_data_prints_one_line(tmp_path: Path) -> None:
    check_missing_data("train_FLO.py", tmp_path, call_process)


def test_script_runs_on_a_new_dataset_folder(tmp_path: Path, call: Call) -> None:
    write_gbu(tmp_path / "MINE", make_dataset())
    paths = ["--data", str(tmp_path), "--dataset", "MINE", "--out", str(tmp_path / "out")]
    done = call_process(["train_FLO.py", *paths, "--run", "mine", *SMALL])
    assert done.returncode == 0, done.stderr
    for word in ("ESZSL", "GSMFlow", "T1", " U ", " S ", " H "):
        assert word in done.stdout
    assert (tmp_path / "out" / "MINE" / "mine" / "metrics.json").exists()
    again = call(["train_FLO.py", *paths, "--run", "mine", *SMALL])
    assert again.returncode == 2
    assert "--resume" in again.stderr


def test_page_lists_every_file_of_a_run_directory(tmp_path: Path, call: Call) -> None:
    write_gbu(tmp_path / "MINE", make_dataset(per_class=24))
    paths = ["--data", str(tmp_path), "--dataset", "MINE", "--out", str(tmp_path / "out")]
    extras = ["--gate", "cosmo", "--beside", "gaussian-prototypes"]
    done = call(["train_FLO.py", *paths, "--run", "mine", *SMALL, *extras])
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "training.md").read_text()
    table = page.partition("## The run directory")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([\w.<>/-]+)`", table))
    folder = tmp_path / "out" / "MINE" / "mine"
    files = {path.name for path in folder.iterdir() if path.is_file()}
    assert {"metrics.json", "validation.safetensors", "page_data.safetensors"} <= files <= listed
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"beside"}
    assert "beside/<name>/" in listed
    assert (folder / "beside" / "gaussian-prototypes" / "choice.json").exists()


WRONG_FLAGS = [["--epoch", "3"], ["--epochs", "many"], ["--pi", "-1"]]


@pytest.mark.parametrize("flags", WRONG_FLAGS)
def test_wrong_flag_ends_with_code_2(flags: list[str], call: Call) -> None:
    done = call(["train_DIGITS.py", *flags])
    assert done.returncode == 2
    assert flags[0] in done.stderr


def test_wrong_flag_prints_no_traceback() -> None:
    done = call_process(["train_DIGITS.py", *WRONG_FLAGS[-1]])
    assert done.returncode == 2
    assert "--pi" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", METHODS)
def test_help_describes_the_script_and_every_setting_of_a_method(model: str, call: Call) -> None:
    done = call(["train_FLO.py", "--model", model, "--help-all"])
    assert done.returncode == 0
    assert "Oxford Flowers" in done.stdout
    shown = set(re.findall(r"--([a-z][a-z0-9-]*)", done.stdout))
    _, recipe = script_recipe(ROOT / "train_FLO.py", ["--model", model], prog="")
    assert {name.replace("_", "-") for name in settings_of(recipe)} <= shown
    assert {"model", "gate"} <= shown


def test_readme_shows_commands() -> None:
    shown = {shlex.split(command)[1] for command in script_commands()}
    assert {"train_AWA2.py", "train_APY.py", "train_CUB.py", "train_FLO.py"} <= shown


@pytest.mark.parametrize("command", script_commands())
def test_commands_of_the_readme_run(command: str, tmp_path: Path, call: Call) -> None:
    words = shlex.split(command, comments=True)[1:]
    if "../shared/data" in words and not (SHARED / "data").is_dir():
        pytest.skip("the features beside the repository are not here")
    small = CADA_SMALL if "cada-vae" in words else SMALL
    # The methods beside the model would take a minute on these features; other tests run them.
    done = call([*words, *small, "--beside", "--out", str(tmp_path)])
    if "../shared/data" in words or words[0] == "train_DIGITS.py":
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("*/*/metrics.json"))
    else:  # the user downloads the published features
        assert done.returncode == 2
        assert "no such file" in done.stderr


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_recipe_file_of_the_pages_is_applied_to_its_script(path: Path) -> None:
    file = read_recipe_file(path)
    stored = json.loads(path.read_text())["settings"]
    assert stored.items() >= file.chosen["values"].items()
    script = read_script(ROOT / file.chosen["script"])
    words = ["--features", file.features, "--semantics", file.semantics]
    plain = parse_recipe(script.recipes, words, prog="", description="")
    recipe = parse_recipe(script.recipes, [*words, "--recipe", str(path)], prog="", description="")
    assert (recipe.dataset, recipe.model) == (file.dataset, file.method)
    assert {name: setting_value(recipe, name) for name in stored} == stored
    assert recipe != plain.replace(recipe=str(path))
    assert stored.keys() <= set(learning_settings(plain))
    assert recipe == plain.replace(recipe=str(path), **stored)  # nothing else has changed


def test_every_recipe_file_is_linked_or_used_on_a_page() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert RECIPE_FILES
    for path in RECIPE_FILES:
        assert f"recipes/{path.name}" in pages


def example_below(heading: str, page: str) -> str:
    """The Python below a heading of a page."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(example)


def write_example(example: str, folder: Path) -> str:
    script = folder / "example.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{example}")
    return str(script)


def test_variant_of_a_method_in_the_pages_runs(tmp_path: Path, call: Call) -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    script = write_example(example_below("A script of your own", page), tmp_path)
    words = ["--no-calibrate", "--beside", "--out", str(tmp_path)]
    done = call([script, *SMALL, *words])
    assert done.returncode == 0, done.stderr
    assert "NonNegative" in done.stdout


def test_method_of_the_readme_is_a_method() -> None:
    names = {"Method": Method, "MineConfig": ESZSLConfig, "Mine": ESZSL}
    exec(example_below("Adding a method", README), names)
    method = names["METHOD"]
    assert isinstance(method, Method)
    assert (method.name, method.label, method.config) == ("mine", "Mine", ESZSLConfig)


def test_ten_lines_of_the_readme_run(tmp_path: Path, call: Call) -> None:
    done = call([write_example(example_below("Ten lines of Python", README), tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, shape = done.stdout.splitlines()
    assert 0.92 < float(accuracy) < 0.96  # the README says 0.94
    assert shape == "(5, 128)"
    assert (
        PrototypeDiscriminantClassifier.load(tmp_path / "digits.safetensors").n_features_in_ == 128
    )


def test_digits_script_draws_its_picture(tmp_path: Path, call: Call) -> None:
    words = ["--no-calibrate", "--beside", "--out", str(tmp_path), "--run", "a"]
    done = call(["train_DIGITS.py", *SMALL, *words])
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "DIGITS" / "a" / "digits.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in done.stdout
