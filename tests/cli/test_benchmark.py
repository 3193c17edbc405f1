"""The command benchmark: its runs, what it writes, what it refuses, and going on after a kill."""

import csv
import errno
import json
import re
import shutil
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
from scipy import stats

from gsmflow.cli import benchmark as module
from gsmflow.cli.benchmark import BenchmarkOptions, run_benchmark
from gsmflow.core.errors import InputError, WriteError
from gsmflow.core.rounding import fixed
from gsmflow.methods.registry import METHODS
from gsmflow.reports.leaderboard.forms import read_csv
from gsmflow.runs import grid
from gsmflow.runs.cell import write_failure
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


def without_costs(out: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "peak_mib")}
        for row in rows_of(out)
    ]


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
    # Seeds that ran on another device than the first one say nothing of its seconds.
    first, second = sorted((options.out / "runs").glob("*/ale-*/seed?.json"))
    device = json.loads(first.read_text())["device"]
    assert device == json.loads(second.read_text())["device"] != ""
    seconds = json.loads(first.read_text())["seconds"]
    other = {"device": "another", "seconds": 1e6, "peak_mib": 10**6}
    second.write_text(json.dumps(json.loads(second.read_text()) | other))
    run_benchmark(options, QUIET, FLAGS)
    ale = rows_of(options.out)[1]
    assert float(ale["seconds"]) == pytest.approx(seconds, abs=0.06)
    assert int(ale["peak_mib"]) < 10**6
    assert float(ale["H"]) == float(rows[1]["H"])


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
        assert f"{fixed(float(row['H']))}" in text
        assert f"{fixed(float(row['H']))}" in tex


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


def test_method_that_does_not_fit_is_left_out_with_its_reason(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: METHODS[name] for name in ("eszsl", "clip-prompts")}
    monkeypatch.setattr(grid, "METHODS", few)
    options, console = options_for(data, methods=("all",), seeds=1), Console(record=True, width=300)
    run_benchmark(options, console, FLAGS)
    assert [row["method"] for row in rows_of(options.out)] == ["eszsl"]
    printed = console.export_text()
    assert "left out: clip-prompts on TINY:res101:att: features and semantics: found" in printed
    run_benchmark(options_for(data, methods=("clip-prompts",), seeds=1), QUIET, FLAGS)
    (row,) = rows_of(options.out)
    assert row["state"] == "failed"
    assert "features of 6 dimensions and semantics of 5" in row["sentence"]


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
    assert without_costs(out) == without_costs(options.out)


def test_runs_of_another_machine_stand_in_a_leaderboard_as_if_made_here(data: Path) -> None:
    whole = options_for(data)
    run_benchmark(whole, QUIET, FLAGS)
    there = options_for(data, methods=("ale",), out=data / "there")
    run_benchmark(there, QUIET, FLAGS)
    shutil.rmtree(there.out / "runs")  # the file is enough
    known = (there.out / "leaderboard.safetensors",)
    here = options_for(data, out=data / "here", known=known)
    run_benchmark(here, QUIET, FLAGS)
    log = (here.out / "benchmark.log").read_text()
    assert ("ale/seed" in log, "eszsl/seed" in log) == (False, True)
    assert without_costs(here.out) == without_costs(whole.out)
    ale = rows_of(there.out)[0]
    assert {name: rows_of(here.out)[1][name] for name in ("seconds", "peak_mib")} == {
        name: ale[name] for name in ("seconds", "peak_mib")
    }
    page = (here.out / "leaderboard.html").read_text()
    assert "here/runs" not in page
    assert len(list(here.out.glob("runs/*/*/report.html"))) == 1
    # What was known is kept with what ran here.
    again = options_for(data, out=data / "again", known=(here.out / "leaderboard.safetensors",))
    run_benchmark(again, QUIET, FLAGS)
    assert rows_of(again.out) == rows_of(here.out)
    files = [folder / "leaderboard.safetensors" for folder in (here.out, again.out)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_further_classifiers_have_the_figures_of_runs_with_them(data: Path) -> None:
    apart = options_for(data, methods=("cvae", "cvae:prototypes", "ale"), preset="short", seeds=1)
    run_benchmark(apart, QUIET, FLAGS)
    beside: dict[str, Any] = {"methods": ("cvae", "ale"), "preset": "short", "seeds": 1}
    beside |= {"classifiers_beside": ("prototypes",)}
    # Runs that are known without the further classifier are run again.
    known = (apart.out / "leaderboard.safetensors",)
    together = options_for(data, out=data / "together", known=known, **beside)
    run_benchmark(together, QUIET, FLAGS)
    log = (together.out / "benchmark.log").read_text()
    assert ("cvae/seed0" in log, "ale/seed0" in log) == (True, False)
    assert without_costs(together.out) == without_costs(apart.out)
    rows = rows_of(together.out)
    assert [row["method"] for row in rows] == ["cvae", "cvae:prototypes", "ale"]
    assert [bool(row["seconds"]) for row in rows] == [True, False, True]
    assert "on the trained models of METHOD" in (together.out / "leaderboard.md").read_text()
    for out in (apart.out, together.out):
        page = (out / "leaderboard.html").read_text()
        assert re.findall(r'"classifier": ?"(\w*)"', page) == ["softmax", "prototypes", ""]
    # What is known with it is not.
    known = (together.out / "leaderboard.safetensors",)
    again = options_for(data, out=data / "again", known=known, **beside)
    run_benchmark(again, QUIET, FLAGS)
    assert not (again.out / "runs").exists()
    assert rows_of(again.out) == rows


def test_runs_of_other_settings_or_data_are_not_taken_for_these(data: Path) -> None:
    there = options_for(data, methods=("eszsl",), out=data / "there")
    run_benchmark(there, QUIET, FLAGS)
    known = (there.out / "leaderboard.safetensors",)
    other = write_gbu(data.parents[1] / "other" / "TINY", make_dataset(seed=1))
    for number, (flags, path) in enumerate(((["--balance", "none"], data), ([], other))):
        out = data / f"here{number}"
        options = options_for(path, methods=("eszsl",), out=out, known=known)
        run_benchmark(options, QUIET, [*FLAGS, *flags])
        assert "done TINY-res101-att/eszsl/seed0" in (out / "benchmark.log").read_text()


def test_failed_run_gives_way_to_one_that_another_machine_finished(data: Path) -> None:
    there = options_for(data, methods=("eszsl",), out=data / "there")
    run_benchmark(there, QUIET, FLAGS)
    here = options_for(data, methods=("eszsl",))
    run_benchmark(here, QUIET, FLAGS)
    (outcome,) = here.out.glob("runs/*/*/seed0.json")
    write_failure(outcome, "out of memory")
    run_benchmark(here, QUIET, FLAGS)
    assert rows_of(here.out)[0]["sentence"] == "out of memory"
    known = (there.out / "leaderboard.safetensors",)
    run_benchmark(replace(here, known=known), QUIET, FLAGS)
    assert without_costs(here.out) == without_costs(there.out)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"known": (Path("nothing.safetensors"),)}, "nothing.safetensors: not readable"),
        ({"known": (Path("a"),), "check": Path("b")}, "--known: found with --check"),
        ({"methods": ("nothing",)}, "--methods: found 'nothing'"),
        ({"methods": ()}, "--methods: found nothing"),
        ({"datasets": ()}, "--datasets: found nothing"),
        ({"datasets": ("data/NOTHING",)}, "no such file"),
        ({"seeds": 0}, "--seeds: found 0, expected a number of at least 1"),
        ({"workers": 0}, "--workers: found 0"),
        ({"draws": -1}, "--draws: found -1"),
        ({"classifiers_beside": ("svm",)}, "--classifiers-beside: found 'svm', expected some of"),
        (
            {"classifiers_beside": ("prototypes",)},
            "--classifiers-beside: found prototypes, which no method of this grid can have",
        ),
        (
            {"methods": ("cvae", "gsmflow:prototypes"), "classifiers_beside": ("bayes",)},
            "--classifiers-beside: found bayes, which no method of this grid can have",
        ),
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


def test_cells_over_class_splits_are_the_runs_of_single_commands(data: Path) -> None:
    options = options_for(data, methods=("eszsl", "sae"), seeds=1, class_splits=2)
    flags = [*FLAGS, "--split-unseen", "4"]
    run_benchmark(options, QUIET, flags)
    words = ["--model", "eszsl", "--beside", "--out", str(data.parent / "alone"), *flags]
    found = []
    for split in (0, 1):
        script, recipe = script_recipe(data, [*words, "--class-split", str(split)], prog="test")
        found.append(run_experiment(script.job(recipe), QUIET).metrics)
    rows = rows_of(options.out)
    assert [(row["method"], row["seeds"], row["class_splits"]) for row in rows] == [
        ("eszsl", "0", "0 1"),
        ("sae", "0", "0 1"),
    ]
    for key in ("T1", "U", "S", "H", "AUSUC"):
        values = [100 * metrics[key] for metrics in found]
        assert float(rows[0][key]) == pytest.approx(np.mean(values), abs=1e-4)
        assert float(rows[0][f"{key}_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
        reach = stats.t.ppf(0.975, 1) * stats.sem(values)
        ends = [float(rows[0][f"{key}{end}"]) for end in ("_low", "_high")]
        assert ends == pytest.approx(np.mean(values) + reach * np.array([-1, 1]), abs=1e-4)
    text = (options.out / "leaderboard.md").read_text()
    assert "6 seen and 4 unseen classes" in text
    assert "Student's t over class splits" in text
    assert "may have been trained on classes that are unseen here" in text
    (page,) = options.out.glob("runs/*/eszsl-*/report.html")
    assert "2 random class splits" in page.read_text()


def test_more_class_splits_may_be_asked_for_later(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"methods": ("eszsl",), "seeds": 1}
    run_benchmark(options_for(data, **grid, class_splits=1), QUIET, FLAGS)
    begun: list[str] = []
    execute = module.run_cells

    def watched(runs: Any, *arguments: Any, **more: Any) -> Any:
        begun.extend(run.name for run in runs if run.outcome is None)
        return execute(runs, *arguments, **more)

    monkeypatch.setattr(module, "run_cells", watched)
    run_benchmark(options_for(data, **grid, class_splits=2), QUIET, FLAGS)
    assert begun == ["TINY-res101-att/eszsl/split1/seed0"]
    with pytest.raises(InputError, match="field 'class_splits': found True, expected None"):
        run_benchmark(options_for(data, **grid), QUIET, FLAGS)
    again = options_for(data, out=data / "again", check=data.parents[1] / "board/leaderboard.csv")
    with pytest.raises(InputError, match="--check: found figures over random class splits"):
        run_benchmark(again, QUIET, FLAGS)


@pytest.mark.parametrize(
    ("changes", "flags", "part"),
    [
        ({"preset": "tuned"}, [], "expected --preset published or short"),
        ({"check": Path("leaderboard.csv")}, [], "expected no --check"),
        ({}, ["--class-split", "3"], "expected no --class-split: the splits are"),
        ({"class_splits": -1}, [], "--class-splits: found -1"),
    ],
)
def test_what_has_no_meaning_over_class_splits_is_refused(
    data: Path, changes: dict[str, Any], flags: list[str], part: str
) -> None:
    with pytest.raises(InputError, match=part):
        run_benchmark(options_for(data, **{"class_splits": 2, **changes}), QUIET, [*FLAGS, *flags])


_WITH_LIMIT = """
import resource, sys
from gsmflow.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
main(sys.argv[2:])
"""


def test_full_disk_gives_one_sentence_and_loses_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for the disk; the logs of runs are larger."""
    options = options_for(data, methods=("eszsl",), seeds=1)
    grid = ["--datasets", str(data), "--methods", "eszsl", "--seeds", "1", "--draws", "200"]
    words = ["benchmark", *grid, *FLAGS, "-o", str(options.out), "--workers", "1"]
    command = [sys.executable, "-c", _WITH_LIMIT, "2500", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (sentence,) = [line for line in ended.stderr.splitlines() if line.strip()]
    assert "cannot be written (File too large), expected a folder with room" in sentence
    outcome = next(options.out.glob("runs/*/*")) / "seed0.json"
    assert not outcome.exists()  # the run did not fail

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("gsmflow.runs.board.write_bytes", full)
        with pytest.raises(WriteError, match="No space left"):
            run_benchmark(options, QUIET, FLAGS)
    kept = outcome.read_text()
    run_benchmark(options, QUIET, FLAGS)
    assert outcome.read_text() == kept
    words = ["--model", "eszsl", "--beside", "--out", str(data.parent / "alone"), *FLAGS]
    script, recipe = script_recipe(data, words, prog="test")
    metrics = run_experiment(script.job(recipe), QUIET).metrics
    assert float(rows_of(options.out)[0]["H"]) == pytest.approx(100 * metrics["H"], abs=1e-4)


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
