"""What a script hands to run(), without its run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gsmflow.cli.main import main
from gsmflow.core.errors import InputError
from gsmflow.data.examine import examine
from gsmflow.methods.gsmflow import GSMFlow
from gsmflow.recipes.flags import recipe_for
from gsmflow.runs.script import read_script, script_recipe
from tests.builders import SMALL, make_dataset, make_recipe, write_gbu

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(ROOT.glob("train_*.py"))


IMPORTS = "import sys\nfrom model import GSMFlow, GSMFlowConfig\nfrom util import Recipe, run\n"


TINY = "run({'a': Recipe(dataset='A', method=GSMFlowConfig())})"


def write(path: Path, text: str) -> Path:
    path.write_text(IMPORTS + text)
    return path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_repositorys_scripts_are_read(path: Path, tmp_path: Path) -> None:
    script = read_script(path)
    assert script.model_class is GSMFlow
    assert script.path == path
    assert script.description.splitlines()[0] == path.read_text().splitlines()[0].strip('"')
    for features, recipe in script.recipes.items():
        assert recipe.dataset == path.stem.removeprefix("train_")
        assert recipe.features in (features, "res101")


def test_custom_script_may_have_a_model_class_and_import_neighbouring_files(tmp_path: Path) -> None:
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
        "        run({'a': Recipe(dataset='A', method=GSMFlowConfig(pi=PI))}, Mine)\n"
        "    except Exception:\n"
        "        raise SystemExit('caught')\n",
    )
    main, argv, folders = sys.modules["__main__"], sys.argv, list(sys.path)
    script = read_script(path)
    assert script.model_class is not None
    assert script.model_class.__name__ == "Mine"
    assert issubclass(script.model_class, GSMFlow)
    assert script.model_class.pi() == 0.375  # type: ignore[attr-defined]
    assert script.recipes["a"].method.pi == 0.375
    assert script.description == "Train on a dataset."
    assert (sys.modules["__main__"], sys.argv, sys.path) == (main, argv, folders)


def test_script_sees_its_path_as_its_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gsmflow", "tune", "--trials", "3"])
    path = write(tmp_path / "mine.py", "assert sys.argv == [__file__], sys.argv\n" + TINY)
    assert [*read_script(path).recipes] == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run({})", "run(): found {}, expected recipes by the name of their features"),
        ("run(3)", "run(): found 3, expected recipes by the name of their features"),
        ("run({'a': 1})", 'run(): found {"a": 1}, expected recipes'),
        (None, "no such file, expected a script such as train_FLO.py, or a dataset's folder"),
        ("run({'a': Recipe(dataset='A')", "found SyntaxError"),
        ("1 / 0", "found ZeroDivisionError (division by zero), expected a Python script that"),
        ("Recipe(dataset='A', pie=1)", "found TypeError"),
        ("sys.exit(3)", "found SystemExit (3), expected a Python script that calls run()"),
        ("if __name__ == 'main':\n    run({})", "found no call of run(), expected one with"),
    ],
)
def test_faulty_script_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        write(path, text)
    folders = list(sys.path)
    with pytest.raises(InputError) as caught:
        read_script(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)
    assert sys.path == folders


def test_script_is_not_at_fault_where_its_process_is_asked_to_end(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "import os\nos.kill(os.getpid(), 15)\n" + TINY)
    lines = (
        "import sys",
        "from pathlib import Path",
        "from gsmflow.core.child_processes import end_with_parent",
        "from gsmflow.runs.script import read_script",
        "end_with_parent()",
        "read_script(Path(sys.argv[1]))",
    )
    command = [sys.executable, "-c", "\n".join(lines), str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (143, "")


def test_file_of_data_is_no_dataset(tmp_path: Path) -> None:
    path = write_gbu(tmp_path / "MINE", make_dataset()) / "res101.mat"
    for read in (read_script, lambda path: examine(path, None, None)):
        with pytest.raises(InputError, match=r"res101.mat: found one file, expected a dataset's f"):
            read(path)


def test_dataset_folder_gives_the_recommended_method(tmp_path: Path) -> None:
    folder = tmp_path / "MINE"
    for name in ("dinov2-base.mat", "att_splits.mat", "sent_splits.mat"):
        touch(folder / name)
    script, recipe = script_recipe(folder, ["--seed", "3"], prog="gsmflow")
    assert recipe == make_recipe(
        dataset="MINE", data=tmp_path, features="dinov2-base", model="discriminant", seed=3
    )
    assert script.job(recipe).model_class is None
    assert script.job(recipe).dataset is None
    assert script.command == ("python", "-m", "gsmflow", "train", str(folder))
    # Another model has the settings that its script would give it.
    _, other = script_recipe(folder, ["--model", "cada-vae"], prog="gsmflow")
    plain = recipe_for({"": make_recipe(dataset="MINE")}, "dinov2-base", "cada-vae")
    assert other == replace(plain, data=tmp_path, features="dinov2-base")
    _, flow = script_recipe(folder, ["--model", "gsmflow", "--schedule", "fast"], prog="gsmflow")
    assert flow == make_recipe(
        dataset="MINE", data=tmp_path, features="dinov2-base", schedule="fast"
    )


def test_one_of_several_feature_files_must_be_chosen(tmp_path: Path) -> None:
    for name in ("a.mat", "b.mat", "att_splits.mat"):
        touch(tmp_path / name)
    with pytest.raises(InputError, match=rf"--features: found a, b in {tmp_path}, expected the na"):
        read_script(tmp_path)
    _, recipe = script_recipe(tmp_path, ["--features=b"], prog="gsmflow")
    assert recipe.features == "b"
    touch(tmp_path / "res101.mat")
    assert script_recipe(tmp_path, [], prog="gsmflow")[1].features == "res101"


def test_built_in_dataset_and_current_folder_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert script_recipe(Path("DIGITS"), [], prog="gsmflow")[1].dataset == "DIGITS"
    touch(tmp_path / "res101.mat")
    recipe = script_recipe(Path(), [], prog="gsmflow")[1]
    assert (recipe.data, recipe.dataset) == (tmp_path.parent, tmp_path.name)


def test_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no dataset in this folder, expected a script"):
        read_script(tmp_path)


def touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


def test_run_works_after_a_script_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert recipe == picked.replace(pi=0.5)
    with pytest.raises(InputError, match="--pi: found -1"):
        script_recipe(path, ["--pi=-1"], prog="python train_FLO.py")


# --- the command train ---------------------------------------------------------------------------


def train(*words: object) -> int:
    try:
        main(["train", *map(str, words)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.usefixtures("quick_pictures")
def test_train_runs_a_folder_and_a_script_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script's run, its model class and its use of the result, started either way."""
    write_gbu(tmp_path / "data" / "TINY", make_dataset())
    paths = ("--data", tmp_path / "data", "--out", tmp_path / "out")
    flags = (*paths, "--beside", "--device", "cpu", "--no-calibrate")
    path = write(
        tmp_path / "mine.py",
        "class Mine(GSMFlow):\n"
        "    pass\n"
        "def on_result(result):\n"
        "    print('result of', type(result.fitted.model).__name__)\n"
        f"SETTINGS = {SMALL!r}\n"
        "if __name__ == '__main__':\n"
        "    run({'res101': Recipe(dataset='TINY', method=GSMFlowConfig()).replace(**SETTINGS)},\n"
        "        Mine, on_result)\n",
    )
    assert train(path, *flags, "--run", "by-script", "--epochs", "2") == 0
    assert "result of Mine" in capsys.readouterr().out
    assert train(tmp_path / "data" / "TINY", *flags, "--run", "by-folder", "--seeds", "2") == 0
    out = capsys.readouterr().out
    assert "Prototype discriminant" in out
    recipes = [
        json.loads((tmp_path / "out" / "TINY" / name / "recipe.json").read_text())
        for name in ("by-script", "by-folder")
    ]
    assert [recipe["method"]["name"] for recipe in recipes] == ["gsmflow", "discriminant"]
    assert recipes[0]["training"]["epochs"] == 2
    metrics = json.loads((tmp_path / "out" / "TINY" / "by-folder" / "metrics.json").read_text())
    assert metrics["seeds"] == [0, 1]


def test_train_refuses_bad_input_and_has_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "MINE" / "clip.mat")
    assert train(tmp_path / "MINE", "--help") == 0
    printed = capsys.readouterr().out
    assert "python -m gsmflow train" in printed
    assert "(default: clip)" in " ".join(printed.replace("│", " ").split())
    assert train("--help") == 0
    assert "The folder or script comes first" in capsys.readouterr().out
    for words, expected in (
        ((tmp_path / "nowhere",), "nowhere: no such file, expected a script such as"),
        (("x" * 300,), "x: not readable (File name too long), expected a script"),
        ((tmp_path / "MNIE",), f"such as data/FLO; there is {tmp_path / 'MINE'}"),
        ((tmp_path / "MINE", "--length-exponnt", "0"), "lists, such as --length-exponent"),
        ((tmp_path / "MINE",), "att_splits.mat: no such file"),
        ((tmp_path / "MINE", "--seeds", "0"), "--seeds: found 0"),
        ((tmp_path / "MINE", "--epochs", "3"), "--epochs: found with --model discriminant"),
    ):
        assert train(*words) == 2
        err = capsys.readouterr().err
        assert expected in err
        assert err.count("\n") == 1
    assert train() == 2


def test_interrupted_training_prints_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    touch(tmp_path / "MINE" / "res101.mat")
    monkeypatch.setattr("gsmflow.runs.experiment.run_experiment", interrupt)
    monkeypatch.setattr(sys, "argv", ["gsmflow", "train", "MINE"])
    assert train(tmp_path / "MINE") == 130
    assert "this continues it: gsmflow train MINE --resume\n" in capsys.readouterr().err
