"""The root scripts and the README's commands, run as a user runs them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gsmflow import PrototypeDiscriminantClassifier
from gsmflow.methods.registry import MODELS, ModelName, unused_fields
from gsmflow.recipes.recipe import Recipe
from tests.builders import SHARED, make_dataset, write_gbu

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in ROOT.glob("train_*.py"))
README = (ROOT / "README.md").read_text()
SMALL = shlex.split(
    "--epochs 1 --blocks 1 --hidden 8 --condition-dim 8 --samples-per-class 4 "
    "--classifier-epochs 1 --device cpu"
)


def call(words: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    )


def script_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("python train_")]


def test_there_is_a_script_for_every_benchmark() -> None:
    names = ("APY", "AWA1", "AWA2", "CUB", "DIGITS", "FLO", "SUN")
    assert [f"train_{name}.py" for name in names] == SCRIPTS


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != "train_DIGITS.py"])
def test_a_script_without_data_says_what_to_put_where(script: str, tmp_path: Path) -> None:
    done = call([script, "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    name = script.removeprefix("train_").removesuffix(".py")
    assert f"{tmp_path / name / 'res101.mat'}: no such file" in done.stderr
    assert "data/README.md" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_script_runs_on_a_folder_of_ones_own_from_a_fresh_clone(tmp_path: Path) -> None:
    write_gbu(tmp_path / "MINE", make_dataset())
    places = ["--data", str(tmp_path), "--dataset", "MINE", "--out", str(tmp_path / "out")]
    done = call(["train_FLO.py", *places, "--run", "mine", *SMALL])
    assert done.returncode == 0, done.stderr
    for word in ("ESZSL", "GSMFlow", "T1", " U ", " S ", " H "):
        assert word in done.stdout
    assert (tmp_path / "out" / "MINE" / "mine" / "metrics.json").exists()
    again = call(["train_FLO.py", *places, "--run", "mine", *SMALL])
    assert again.returncode == 2
    assert "--resume" in again.stderr


@pytest.mark.parametrize("flags", [["--epoch", "3"], ["--epochs", "many"], ["--pi", "-1"]])
def test_a_wrong_flag_ends_with_code_2_and_no_traceback(flags: list[str]) -> None:
    done = call(["train_DIGITS.py", *flags])
    assert done.returncode == 2
    assert flags[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", MODELS)
def test_help_describes_the_script_and_every_field_of_a_model(model: ModelName) -> None:
    done = call(["train_FLO.py", "--model", model, "--help"])
    assert done.returncode == 0
    assert "Oxford Flowers" in done.stdout
    shown = set(re.findall(r"--([a-z][a-z0-9-]*)", done.stdout))
    fields = Recipe.__dataclass_fields__.keys() - unused_fields(model)
    assert {field.replace("_", "-") for field in fields} <= shown


def test_the_readme_shows_commands() -> None:
    shown = {shlex.split(command)[1] for command in script_commands()}
    assert {"train_AWA2.py", "train_APY.py", "train_CUB.py", "train_FLO.py"} <= shown


@pytest.mark.parametrize("command", script_commands())
def test_the_readmes_commands_run(command: str, tmp_path: Path) -> None:
    words = shlex.split(command, comments=True)[1:]
    if "../shared/data" in words and not (SHARED / "data").is_dir():
        pytest.skip("the features beside the repository are not here")
    # The baselines would take a minute on these features; other tests run them.
    done = call([*words, *SMALL, "--no-baselines", "--out", str(tmp_path)])
    if "../shared/data" in words or words[0] == "train_DIGITS.py":
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("*/*/metrics.json"))
    else:  # the published features are the user's to fetch
        assert done.returncode == 2
        assert "no such file" in done.stderr


def write_example(heading: str, folder: Path) -> str:
    """The Python below a heading of the README, as a script in a folder."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    script = folder / "example.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{example}")
    return str(script)


def test_the_readmes_model_runs(tmp_path: Path) -> None:
    script = write_example("Adding a model", tmp_path)
    done = call([script, *SMALL, "--no-calibrate", "--out", str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert "NonNegative" in done.stdout


def test_the_readmes_ten_lines_run(tmp_path: Path) -> None:
    done = call([write_example("Ten lines of Python", tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, shape = done.stdout.splitlines()
    assert 0.92 < float(accuracy) < 0.96  # the README says 0.94
    assert shape == "(5, 128)"
    assert (
        PrototypeDiscriminantClassifier.load(tmp_path / "digits.safetensors").n_features_in_ == 128
    )


def test_the_digits_script_draws_its_picture(tmp_path: Path) -> None:
    done = call(["train_DIGITS.py", *SMALL, "--out", str(tmp_path), "--run", "a"])
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "DIGITS" / "a" / "digits.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in done.stdout
