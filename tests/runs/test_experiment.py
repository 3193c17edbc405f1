"""Whole runs on small data: what is written, determinism, kill and resume, and leaks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import load_file

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, open_held_out
from gsmflow.learning.feed import Feed, MappedFeed, MemoryFeed
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs import experiment
from gsmflow.runs import stages as fitting
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import SMALL, make_dataset, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

ROOT = Path(__file__).resolve().parents[2]


def run(recipe: Recipe) -> RunResult:
    return run_experiment(Job(recipe), Console(quiet=True))


def tensors_of(result: RunResult) -> dict[str, Any]:
    files = ("model.safetensors", "classifier.safetensors")
    return {f + k: v for f in files for k, v in load_file(result.directory / f).items()}


def assert_same_run(a: RunResult, b: RunResult) -> None:
    assert a.metrics == b.metrics
    ours, theirs = tensors_of(a), tensors_of(b)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_a_run_writes_its_directory(tmp_path: Path) -> None:
    result = run(tiny_recipe(tmp_path, run="first", oracle=True, curve_every=2))
    assert result.directory == tmp_path / "out" / "TINY" / "first"
    written = {file.name for file in result.directory.iterdir()}
    assert written == {
        "recipe.json",
        "environment.json",
        "log.jsonl",
        "validation.json",
        "history.json",
        "model.safetensors",
        "model.json",
        "classifier.safetensors",
        "metrics.json",
        "run.png",
        "shifts.png",
        "per_class.csv",
        "confusion.csv",
        "page_data.safetensors",
    }
    metrics = json.loads((result.directory / "metrics.json").read_text())
    baselines = metrics["baselines"]
    assert list(baselines) == ["ESZSL", "Gaussian prototypes"]
    assert list(metrics["shifts"]) == ["GSMFlow", "Gaussian prototypes"]
    for part in (metrics, metrics["oracle"], *baselines.values(), metrics["calibrated"]):
        for name in {"T1", "U", "S", "H"} & part.keys():
            assert 0 <= part[name] <= 1
    assert [point["epoch"] for point in metrics["validation"]["curve"]] == [2, 4]
    log = (result.directory / "log.jsonl").read_text()
    events = [json.loads(line) for line in log.splitlines()]
    epochs = [(e["split"], e["epoch"]) for e in events if e["event"] == "epoch"]
    assert epochs == [(s, e) for s in ("validation", "test") for e in (1, 2, 3, 4)]
    assert events[0]["recipe"]["dataset"] == "TINY"
    with safe_open(result.directory / "model.safetensors", framework="np") as file:
        assert "semantics" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize("samples", [3, 50])
def test_the_oracle_learns_from_as_many_real_rows_as_are_synthesized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    learned: list[tuple[Feed, Feed]] = []
    fit = fitting.pair_from_rows

    def watch(rows: Any, *args: Any) -> Any:
        learned.append((rows.gzsl(), rows.zsl()))
        return fit(rows, *args)

    monkeypatch.setattr(fitting, "pair_from_rows", watch)
    result = run(
        tiny_recipe(tmp_path, oracle=True, samples_per_class=samples, feature_scaling="none")
    )
    unseen = result.held_out.unseen
    for feed in learned[-1]:
        chosen = torch.isin(feed.labels, torch.from_numpy(result.problem.unseen_classes))
        labels = feed.labels[chosen].tolist()
        # Half of a class's 12 rows, all of them where fewer are synthesized.
        assert Counter(labels) == dict.fromkeys(result.problem.unseen_classes, max(samples, 6))
        rows = feed.take(chosen.nonzero()[:, 0]).numpy()
        whole = {(c, *row) for c, row in zip(unseen.labels, unseen.features, strict=True)}
        assert len({(c, *row) for c, row in zip(labels, rows, strict=True)} & whole) == 18


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    first, again = (run(tiny_recipe(tmp_path, run=name)) for name in ("first", "again"))
    assert_same_run(first, again)
    other = run(tiny_recipe(tmp_path, run="other", seed=1))
    assert not np.array_equal(
        tensors_of(first)["classifier.safetensorsgzsl.weight"],
        tensors_of(other)["classifier.safetensorsgzsl.weight"],
    )


def test_mapped_features_give_the_same_run(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "bare": {"cache": False},
        "memory": {"features_in": "memory"},
        "map": {"features_in": "map"},
        "auto": {},
    }
    common = {"feature_scaling": "standardised", "oracle": True}
    results = {
        name: run(tiny_recipe(tmp_path, run=name, **common, **change))
        for name, change in changes.items()
    }
    kinds = {name: type(result.fitted.scaled.feed) for name, result in results.items()}
    assert kinds.pop("map") is MappedFeed
    assert set(kinds.values()) == {MemoryFeed}
    for result in results.values():
        assert_same_run(results["bare"], result)
    (folder,) = (tmp_path / "out" / "cache" / "TINY").iterdir()
    assert (folder / "features.npy").is_file()


def test_a_run_started_in_memory_is_resumed_from_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_recipe(tmp_path, run="whole", cache=False))
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit_final", _fail)
        with pytest.raises(RuntimeError):
            run(tiny_recipe(tmp_path, run="half", cache=False))
    assert_same_run(whole, run(tiny_recipe(tmp_path, run="half", features_in="map", resume=True)))


def test_a_map_of_features_that_are_not_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--features-in: found map .* not in a cache, expected"):
        run(tiny_recipe(tmp_path, features_in="map", cache=False))
    assert not (tmp_path / "out").exists()


def test_the_console_says_what_comes_from_the_cache(tmp_path: Path) -> None:
    printed = StringIO()
    console = Console(file=printed, width=200)
    for name in ("first", "second"):
        run_experiment(Job(tiny_recipe(tmp_path, run=name, calibrate=False)), console)
    lines = printed.getvalue().splitlines()
    starts = [line for line in lines if line.startswith("TINY: 120 rows")]
    assert [line.endswith(", from the cache") for line in starts] == [False, True]


def test_calibration_does_not_change_the_final_model(tmp_path: Path) -> None:
    with_it = run(tiny_recipe(tmp_path, run="with"))
    without = run(tiny_recipe(tmp_path, run="without", calibrate=False))
    assert without.metrics["calibrated"] is None
    assert {k: with_it.metrics[k] for k in "USH"} == {k: without.metrics[k] for k in "USH"}


def test_every_switch_of_the_paper_runs_and_changes_the_model(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "full": {},
        "first": {"condition_blocks": "first"},
        "noise": {"perturbation": False},
        "absolute": {"relative_positioning": False},
        "no_prototype": {"prototype_weight": 0.0},
    }
    results = {
        name: run(tiny_recipe(tmp_path, run=name, calibrate=False, **change))
        for name, change in changes.items()
    }
    weights = {n: tensors_of(r)["classifier.safetensorszsl.weight"] for n, r in results.items()}
    assert len({w.tobytes() for w in weights.values()}) == len(changes)


def test_no_test_row_reaches_anything_before_the_test_split_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = check_dataset(make_dataset())
    garbage = clean.features.copy()
    rng = np.random.default_rng(1)
    test = np.concatenate([clean.test_seen, clean.test_unseen])
    garbage[test] = 1000 * rng.normal(size=(len(test), garbage.shape[1]))
    corrupt = replace(clean, features=garbage)

    def run_on(dataset: Dataset, name: str) -> RunResult:
        monkeypatch.setattr(experiment, "read_dataset", lambda recipe: dataset)
        return run(tiny_recipe(tmp_path, run=name, feature_scaling="standardised"))

    a, b = run_on(clean, "clean"), run_on(corrupt, "corrupt")
    ours, theirs = tensors_of(a), tensors_of(b)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    for key in ("validation",):
        assert a.metrics[key] == b.metrics[key]
    for name, baseline in a.metrics["baselines"].items():
        assert baseline["choices"] == b.metrics["baselines"][name]["choices"]
    assert a.metrics["S"] != b.metrics["S"]


def test_the_test_split_is_opened_once_and_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, bool]] = []
    recipe = tiny_recipe(tmp_path, run="once", oracle=True)

    def watch(dataset: Dataset, split: Any) -> Any:
        classifier = recipe.out / "TINY" / "once" / "classifier.safetensors"
        opened.append((split, classifier.exists()))
        return open_held_out(dataset, split)

    monkeypatch.setattr(experiment, "open_held_out", watch)
    run(recipe)
    assert opened == [("validation", False), ("test", True)]


def test_resuming_after_a_failure_between_any_two_stages_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_recipe(tmp_path, run="whole"))
    stages = ("validate", "fit_final", "classify", "evaluate", "measure_shifts", "run_figure")
    for stage in (*stages, "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(experiment, stage, _fail)
            with pytest.raises(RuntimeError):
                run(tiny_recipe(tmp_path, run=stage))
        assert not (tmp_path / "out" / "TINY" / stage / "metrics.json").exists()
        assert_same_run(whole, run(tiny_recipe(tmp_path, run=stage, resume=True)))


def _fail(*arguments: Any, **keywords: Any) -> None:
    raise RuntimeError("a stand-in for a crash")


def test_a_finished_run_that_is_resumed_gives_its_numbers_again(tmp_path: Path) -> None:
    first = run(tiny_recipe(tmp_path, run="first"))
    assert_same_run(first, run(tiny_recipe(tmp_path, run="first", resume=True)))


@pytest.mark.parametrize("file", ["model.safetensors", "validation.json", "history.json"])
def test_a_damaged_file_of_a_resumed_run_is_named(tmp_path: Path, file: str) -> None:
    result = run(tiny_recipe(tmp_path, run="first"))
    path = result.directory / file
    path.write_bytes(path.read_bytes()[:40])
    (result.directory / "metrics.json").unlink()
    with pytest.raises(InputError, match=file):
        run(tiny_recipe(tmp_path, run="first", resume=True))


def test_a_run_killed_at_any_moment_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    # Real processes, killed without warning at several moments, each a little later than the one
    # before, until one gets through. All have one thread: another count rounds otherwise.
    recipe = tiny_recipe(tmp_path, epochs=36, curve_every=12)
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from gsmflow.methods.gsmflow import GSMFlowConfig\n"
        "from gsmflow.recipes.recipe import Recipe\n"
        "from gsmflow.runs import stages\n"
        "from gsmflow.runs.script import run_script\n"
        "stages._SAVE_EVERY_SECONDS = 0\n"
        "run_script({'res101': Recipe(dataset='TINY', method=GSMFlowConfig())})\n"
    )
    settings = {**SMALL, "epochs": recipe.epochs, "curve_every": recipe.curve_every}
    settings |= {"data": recipe.data, "out": recipe.out}
    flags = [w for k, v in settings.items() for w in (f"--{k.replace('_', '-')}", str(v))]

    def start(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(script), *flags, *more],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    assert start("--run", "whole").wait() == 0
    whole, killed = (recipe.out / "TINY" / name for name in ("whole", "killed"))
    kills, lines = 0, 0
    for attempt in range(30):
        process = start("--run", "killed", *(["--resume"] if attempt else []))
        while process.poll() is None:
            time.sleep(0.002)
            log = killed / "log.jsonl"
            count = log.read_bytes().count(b"\n") if log.exists() else 0
            if count > lines + 20:  # some work was done since the last kill
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills, lines = kills + 1, count
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills >= 2
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (whole, killed)]
    assert metrics[0] == metrics[1]
    for file in ("model.safetensors", "classifier.safetensors"):
        ours, theirs = load_file(whole / file), load_file(killed / file)
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert not list(killed.glob(".*.part"))
