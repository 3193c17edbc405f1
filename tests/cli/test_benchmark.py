"""The command benchmark: its runs, what it writes, what it refuses, and going on after a kill."""

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

from gsmflow.cli import benchmark as module
from gsmflow.cli.benchmark import BenchmarkOptions, run_benchmark
from gsmflow.core.errors import InputError
from gsmflow.reports.leaderboard.forms import read_csv
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.script import script_recipe
from tests.builders import make_dataset, write_gbu

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)
FLAGS = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_gbu(tmp_path / "data" / "TINY", make_dataset())


def options_for(data: Path, **changes: Any) -> BenchmarkOptions:
    settings: dict[str, Any] = {
        "datasets": (str(data),),
        "methods": ("eszsl", "ale"),
        "seeds": 2,
        "out": data.parents[1] / "board",
        "workers": 1,
        "draws": 200,
        **changes,
    }
    return BenchmarkOptions(**settings)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_cells_are_the_runs_of_single_commands(data: Path) -> None:
    options = options_for(data)
    run_benchmark(options, QUIET, FLAGS)
    rows = rows_of(options.out)
    assert [(row["method"], row["seeds"]) for row in rows] == [("eszsl", "0"), ("ale", "0 1")]
    words = ["--model", "ale", "--beside", "--out", str(data.parent / "alone"), *FLAGS]
    found = []
    for seed in (0, 1):
        script, recipe = script_recipe(data, [*words, "--seed", str(seed)], prog="test")
        found.append(run_experiment(script.job(recipe), QUIET).metrics)
    for key in ("T1", "U", "S", "H", "AUSUC"):
        values = [100 * metrics[key] for metrics in found]
        assert float(rows[1][key]) == pytest.approx(np.mean(values), abs=1e-4)
        assert float(rows[1][f"{key}_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    cell = read_csv(options.out / "leaderboard.csv")[1]
    assert (cell.dataset, cell.method, cell.seeds) == ("TINY:res101:att", "ale", (0, 1))
    for row in rows:
        assert float(row["H_low"]) <= float(row["H"]) <= float(row["H_high"])
        assert float(row["seconds"]) > 0
        assert int(row["peak_mib"]) > 50


def test_every_cell_leads_to_its_page_and_the_table_has_its_figures(data: Path) -> None:
    options = options_for(data, seeds=1)
    run_benchmark(options, QUIET, FLAGS)
    page = (options.out / "leaderboard.html").read_text()
    reports = sorted(options.out.glob("runs/*/*/report.html"))
    assert len(reports) == 2
    for report in reports:
        assert report.relative_to(options.out).as_posix() in page
    text, tex = ((options.out / f"leaderboard.{end}").read_text() for end in ("md", "tex"))
    for row in rows_of(options.out):
        assert f"{float(row['H']):.1f}" in text
        assert f"{float(row['H']):.1f}" in tex


def test_what_is_finished_is_not_run_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_for(data, methods=("eszsl",), seeds=1)
    run_benchmark(options, QUIET, FLAGS)
    begun: list[str] = []
    execute = module.run_cells

    def watched(runs: Any, *arguments: Any, **more: Any) -> Any:
        begun.extend(run.name for run in runs if run.outcome is None)
        return execute(runs, *arguments, **more)

    monkeypatch.setattr(module, "run_cells", watched)
    run_benchmark(options, QUIET, FLAGS)
    assert begun == []
    run_benchmark(options_for(data, methods=("eszsl", "sae"), seeds=1), QUIET, FLAGS)
    assert begun == ["TINY-res101-att/sae/seed0"]
    assert [row["method"] for row in rows_of(options.out)] == ["eszsl", "sae"]


def test_failed_run_is_recorded_and_stops_no_other(tmp_path: Path) -> None:
    # IZF needs at least as many features as semantics.
    data = write_gbu(tmp_path / "data" / "TINY", make_dataset(d=4, a=6))
    options = options_for(data, methods=("izf", "eszsl"), seeds=1)
    run_benchmark(options, QUIET, FLAGS)
    izf, eszsl = rows_of(options.out)
    assert (izf["state"], eszsl["state"]) == ("failed", "done")
    assert izf["sentence"]
    assert izf["sentence"] in (options.out / "leaderboard.md").read_text().replace("\\", "")
    log = (options.out / "benchmark.log").read_text()
    assert log.count("failed TINY-res101-att/izf/seed0") == 1
    run_benchmark(options, QUIET, FLAGS)
    assert (options.out / "benchmark.log").read_text() == log
    run_benchmark(options_for(data, methods=("izf",), seeds=1, retry_failed=True), QUIET, FLAGS)
    assert (options.out / "benchmark.log").read_text().count("failed TINY-res101-att/izf") == 2


def test_killed_benchmark_goes_on_to_the_figures_of_an_undisturbed_one(data: Path) -> None:
    options = options_for(data, methods=("ale", "sae"), seeds=1)
    run_benchmark(options, QUIET, FLAGS)
    grid = ["--datasets", str(data), "--methods", "ale", "sae", "--seeds", "1", "--draws", "200"]
    out = data / "killed"
    command = [sys.executable, "-m", "gsmflow", "benchmark", *grid, *FLAGS, "-o", str(out)]
    process = subprocess.Popen([*command, "--workers", "1"], stdout=subprocess.DEVNULL)
    log = out / "benchmark.log"
    while not log.is_file() or " done " not in log.read_text():
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (out / "leaderboard.csv").exists()
    run_benchmark(options_for(data, methods=("ale", "sae"), seeds=1, out=out), QUIET, FLAGS)
    costs = ("seconds", "peak_mib")
    whole, killed = (
        [{k: v for k, v in row.items() if k not in costs} for row in rows_of(folder)]
        for folder in (options.out, out)
    )
    assert killed == whole


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"methods": ("nothing",)}, "--methods: found 'nothing'"),
        ({"methods": ()}, "--methods: found nothing"),
        ({"datasets": ()}, "--datasets: found nothing"),
        ({"datasets": ("data/NOTHING",)}, "no such file"),
        ({"seeds": 0}, "--seeds: found 0, expected a number of at least 1"),
        ({"workers": 0}, "--workers: found 0"),
        ({"draws": -1}, "--draws: found -1"),
    ],
)
def test_bad_option_is_refused(data: Path, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        run_benchmark(options_for(data, **changes), QUIET, FLAGS)


def test_dataset_is_asked_for_once(data: Path) -> None:
    twice = (str(data), f"{data}:res101:att")
    with pytest.raises(InputError, match="found TINY:res101:att 2 times"):
        run_benchmark(options_for(data, datasets=twice), QUIET, FLAGS)


def test_folder_of_another_grid_or_of_other_files_is_refused(data: Path) -> None:
    options = options_for(data, methods=("eszsl",), seeds=1)
    run_benchmark(options, QUIET, FLAGS)
    with pytest.raises(InputError, match="'preset': found 'published', expected 'short'"):
        run_benchmark(options_for(data, preset="short"), QUIET, FLAGS)
    with pytest.raises(InputError, match=r"'flags': .* name another folder with --out"):
        run_benchmark(options, QUIET, [*FLAGS, "--no-calibrate"])
    with pytest.raises(InputError, match="a folder with other files"):
        run_benchmark(options_for(data, out=data), QUIET, FLAGS)


def test_two_benchmarks_at_once_are_refused(data: Path) -> None:
    options = options_for(data)
    options.out.mkdir(parents=True)
    (options.out / "grid.json").write_text(
        json.dumps({"format": 1, "preset": "published", "flags": FLAGS})
    )
    with (
        FileLock(options.out / ".lock"),
        pytest.raises(InputError, match="another process that writes to it"),
    ):
        run_benchmark(options, QUIET, FLAGS)


def test_flag_that_a_method_does_not_take_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="--epochs: found with --model eszsl"):
        run_benchmark(options_for(data), QUIET, [*FLAGS, "--epochs", "3"])


def test_tuned_cells_have_the_settings_that_were_found_on_validation_classes(data: Path) -> None:
    options = options_for(data, methods=("ale",), seeds=1, preset="tuned", trials=2)
    run_benchmark(options, QUIET, [*FLAGS, "--epochs", "2"])
    (found,) = options.out.glob("searches/*/ale/recipe.json")
    settings = json.loads(found.read_text())["settings"]
    (stored,) = options.out.glob("runs/*/ale-*/seed0/recipe.json")
    recipe = json.loads(stored.read_text())
    flat = recipe | recipe["training"] | recipe["method"]
    assert settings
    assert {name: flat[name] for name in settings} == settings
    assert rows_of(options.out)[0]["preset"] == "tuned"
    assert rows_of(options.out)[0]["state"] == "done"


def test_check_reports_cells_that_moved(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = options_for(data, methods=("eszsl", "sae"), seeds=1)
    run_benchmark(options, QUIET, FLAGS)
    file = options.out / "leaderboard.csv"
    again = data.parents[1] / "again"
    loud = Console(width=200)
    run_benchmark(options_for(data, seeds=1, out=again, check=file), loud, FLAGS)
    assert "0 of 1 cells moved" in capsys.readouterr().out  # ale is not in the file
    rows = rows_of(options.out)
    rows[1]["H"] = str(float(rows[1]["H"]) + 1)
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    changes = {"methods": ("eszsl", "sae"), "seeds": 1, "out": again, "check": file}
    with pytest.raises(SystemExit, match="1"):
        run_benchmark(options_for(data, **changes), loud, FLAGS)
    output = capsys.readouterr().out
    assert "moved: sae on TINY:res101:att: H " in output
    assert "1 of 2 cells moved" in output
    with pytest.raises(InputError, match="--check: found no cell of this grid"):
        run_benchmark(options_for(data, methods=("ale",), out=again, check=file), loud, FLAGS)
    with pytest.raises(InputError, match="expected the CSV file of a leaderboard"):
        run_benchmark(options_for(data, check=options.out / "grid.json"), loud, FLAGS)


@pytest.mark.slurm
def test_grid_on_slurm_has_the_figures_of_one_on_this_machine(data: Path) -> None:
    here, there = (options_for(data, methods=("eszsl", "sae"), seeds=1, out=data / o) for o in "ab")
    run_benchmark(here, QUIET, FLAGS)
    run_benchmark(replace(there, executor="slurm", job_minutes=5), QUIET, FLAGS)
    costs = ("seconds", "peak_mib")
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in costs} for row in rows_of(options.out)]
        for options in (here, there)
    )
    assert ours == theirs
