"""What a script hands to run(), without its run."""

import os
import sys
from pathlib import Path

import pytest

from gsmflow.errors import InputError
from gsmflow.model import GSMFlow
from gsmflow.script import read_script, script_recipe

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(ROOT.glob("train_*.py"))


def write(path: Path, text: str) -> Path:
    path.write_text(f"import sys\nfrom model import GSMFlow\nfrom util import Recipe, run\n{text}")
    return path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_repositorys_scripts_are_read(path: Path, tmp_path: Path) -> None:
    script = read_script(path)
    assert script.model_class is GSMFlow
    assert script.path == path
    assert script.description.splitlines()[0] == path.read_text().splitlines()[0].strip('"')
    for features, recipe in script.recipes.items():
        assert recipe.dataset == path.stem.removeprefix("train_")
        assert recipe.features in (features, "res101")


def test_a_script_of_ones_own_has_its_own_model_and_neighbours(tmp_path: Path) -> None:
    (tmp_path / "beside_the_script.py").write_text("PI = 0.375\n")
    path = write(
        tmp_path / "mine.py",
        "from beside_the_script import PI\n"
        "class Mine(GSMFlow):\n"
        "    @staticmethod\n"
        "    def pi():\n"
        "        return PI\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        run({'a': Recipe(dataset='A', pi=PI)}, Mine)\n"
        "    except Exception:\n"
        "        raise SystemExit('caught')\n",
    )
    main, argv, folders = sys.modules["__main__"], sys.argv, list(sys.path)
    script = read_script(path)
    assert script.model_class.__name__ == "Mine"
    assert issubclass(script.model_class, GSMFlow)
    assert script.model_class.pi() == 0.375  # type: ignore[attr-defined]
    assert script.recipes["a"].pi == 0.375
    assert script.description == "Train GSMFlow."
    assert (sys.modules["__main__"], sys.argv, sys.path) == (main, argv, folders)


def test_a_script_sees_its_own_name_as_its_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gsmflow", "tune", "--trials", "3"])
    path = write(tmp_path / "mine.py", "assert sys.argv == [__file__], sys.argv\nrun({})")
    assert read_script(path).recipes == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file, expected a script such as train_FLO.py"),
        ("run({'a': Recipe(dataset='A')", "found SyntaxError"),
        ("1 / 0", "found ZeroDivisionError (division by zero), expected a Python script that"),
        ("Recipe(dataset='A', pie=1)", "found TypeError"),
        ("sys.exit(3)", "found SystemExit (3), expected a Python script that calls run()"),
        ("if __name__ == 'main':\n    run({})", "found no call of run(), expected one with"),
    ],
)
def test_a_faulty_script_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        write(path, text)
    folders = list(sys.path)
    with pytest.raises(InputError) as caught:
        read_script(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)
    assert sys.path == folders


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_script(tmp_path)


def test_after_reading_a_script_a_run_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_script(SCRIPTS[0])
    from util import run

    monkeypatch.setattr(sys, "argv", ["train_FLO.py", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run(read_script(ROOT / "train_FLO.py").recipes)
    assert ended.value.code == 2


def test_flags_pick_and_change_a_scripts_recipe() -> None:
    path = Path(os.path.relpath(ROOT / "train_FLO.py"))
    flags = ["--features", "densenet169", "--pi", "0.5"]
    script, recipe = script_recipe(path, flags, prog="python train_FLO.py")
    picked = script.recipes["densenet169"]
    assert (recipe.epochs, recipe.hidden, recipe.pi) == (picked.epochs, picked.hidden, 0.5)
    with pytest.raises(InputError, match="--pi: found -1"):
        script_recipe(path, ["--pi=-1"], prog="python train_FLO.py")
