import json
import os
from pathlib import Path
from typing import Any

import pytest

from gsmflow.cli.main import main
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.reports.run_list import no_finished_run

TEXTS = dict.fromkeys(("dataset", "features", "semantics", "protocol"), "x")


def finished(run: Path, when: float, **fields: Any) -> None:
    """A run's file of metrics that was written then."""
    run.mkdir(parents=True)
    file = run / METRICS_FILE
    file.write_text(json.dumps({"model": "ESZSL", "seed": 0, **TEXTS, **fields}))
    os.utime(file, (when, when))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A dataset's folder of three finished runs, one damaged, and one that is not finished."""
    folder = tmp_path / "out" / "SHAPES"
    finished(folder / "first", 1e9, H=0.4625)
    finished(folder / "second", 2e9, H={"mean": 0.5, "std": 0.01}, seed=None, seeds=[0, 1])
    finished(folder / "damaged", 1.5e9, H=7)
    (folder / "begun").mkdir()
    finished(folder / ".second.tmp", 3e9, H=0.5)
    return folder


@pytest.mark.parametrize("below", ["", ".."])
def test_folder_of_runs_is_listed_latest_first(runs: Path, below: str) -> None:
    listed = runs / below
    first, *lines = str(no_finished_run(listed, "nothing")).splitlines()
    assert first == f"{listed}: found a folder with 3 finished runs, expected one of them:"
    words = [line.strip().split(", ") for line in lines]
    assert [Path(run).name for run, *_ in words] == ["second", "damaged", "first"]
    assert all(Path(run).is_dir() for run, *_ in words)
    assert [row[1:-1] for row in words] == [["ESZSL", "H 50.0"], [], ["ESZSL", "H 46.3"]]
    assert [row[-1][:7] for row in words] == ["2033-05", "2017-07", "2001-09"]


def test_misspelt_run_gets_the_nearest_one(runs: Path) -> None:
    message = str(no_finished_run(runs / "frist", "frist: no such file"))
    assert message == (
        f"frist: no such file, expected the directory of a finished run, such as {runs / 'first'}"
    )
    assert str(no_finished_run(Path("/nowhere/x"), "x: none")).endswith("of a finished run")


@pytest.mark.parametrize("verb", ["predict", "report", "add-class"])
def test_verbs_list_the_runs_of_a_folder(
    runs: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, str(runs)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {runs}: found a folder with 3 finished runs")
    assert f"{runs / 'first'}, ESZSL, H 46.3, 2001-09" in error


def test_many_runs_are_cut(tmp_path: Path) -> None:
    for number in range(33):
        finished(tmp_path / f"run{number}", 1e9 + number, H=None)
    lines = str(no_finished_run(tmp_path, "")).splitlines()
    assert len(lines) == 32
    assert lines[-1] == "  and 3 more"
