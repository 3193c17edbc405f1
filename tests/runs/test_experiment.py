"""Whole runs on small data: what is written, determinism, kill and resume, and leaks."""

import csv
import json
import multiprocessing
import signal
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
from gsmflow.core.json_fields import Field
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out
from gsmflow.data.formats.files import load_dataset
from gsmflow.evaluation.measures import metrics_in
from gsmflow.learning.feed import Feed, MappedFeed, MemoryFeed
from gsmflow.methods.gsmflow import GSMFlow
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports import figures
from gsmflow.reports.metric_values import read_metrics
from gsmflow.reports.page.document import read_run
from gsmflow.reports.results import collect_runs
from gsmflow.reports.stage_seconds import StageSeconds, read_stages, seconds_line
from gsmflow.runs import beside, experiment, shifts, stages, validation
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS
from tests.builders import SPLITS, make_dataset, tiny_recipe, write_gbu

pytestmark = pytest.mark.usefixtures("quick_pictures")


def run(recipe: Recipe) -> RunResult:
    return run_experiment(Job(recipe), Console(quiet=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def plain(folder: Path) -> RunResult:
    """A finished run of the model alone, to compare with."""
    return run(tiny_recipe(folder, run="plain", beside=()))


def tensors_of(result: RunResult) -> dict[str, Any]:
    files = ("model.safetensors", "classifier.safetensors")
    return {f + k: v for f in files for k, v in load_file(result.directory / f).items()}


def assert_same_run(a: RunResult, b: RunResult) -> None:
    assert a.metrics == b.metrics
    ours, theirs = tensors_of(a), tensors_of(b)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_run_writes_the_files_of_its_directory(folder: Path) -> None:
    result = run(tiny_recipe(folder, run="first", oracle=True, curve_every=2))
    assert result.directory == folder / "out" / "TINY" / "first"
    written = {str(f.relative_to(result.directory)) for f in result.directory.rglob("*.*")}
    of_methods = {
        f"beside/{name}/{file}"
        for name in ("eszsl", "gaussian-prototypes")
        for file in ("log.jsonl", "choice.json", "validation.json", "history.json", "model.json")
    }
    assert written == of_methods | {
        ".lock",
        "recipe.json",
        "data.json",
        "environment.json",
        "log.jsonl",
        "validation.json",
        "history.json",
        "model.safetensors",
        "model.json",
        "classifier.safetensors",
        "novelty.safetensors",
        "metrics.json",
        "run.png",
        "shifts.png",
        "per_class.csv",
        "confusion.csv",
        "page_data.safetensors",
        "beside/eszsl/model.safetensors",
        "beside/gaussian-prototypes/model.safetensors",
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


def stages_of(result: RunResult) -> dict[str, StageSeconds]:
    return {stage.name: stage for stage in read_stages(result.directory / "log.jsonl")}


def test_log_and_console_have_the_seconds_of_every_stage(tmp_path: Path) -> None:
    printed = StringIO()
    gate = {"gate": "boundary", "gate_epochs": 3}
    recipe = tiny_recipe(tmp_path, oracle=True, test_selected=True, shots=(), **gate)
    result = run_experiment(Job(recipe), Console(file=printed, width=200))
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("seconds: ")]
    stages = stages_of(result)
    assert lines == [seconds_line([*stages.values()])]
    of_model = {
        *("scaling the features", "validation training", "final training"),
        "validation synthesis and classifiers",
    }
    of_baselines = of_model | {"choosing settings"}
    assert stages.keys() == of_model | {
        "novelty",
        *("reading the data", "final synthesis and classifiers", "evaluation", "report", "other"),
        *("gate", "gate training", "oracle", "test_selected", "baselines", "shifts"),
        *(f"{name}: {s}" for name in ("ESZSL", "Gaussian prototypes") for s in of_baselines),
    }
    trained = {name: stage.epochs for name, stage in stages.items() if stage.epochs}
    epochs = recipe.training.total_epochs
    gate_epochs = trained.pop("gate training")
    assert gate_epochs > 0
    assert trained == {"validation training": epochs, "final training": epochs}
    for stage in stages.values():
        assert 0 <= stage.epoch_seconds <= stage.seconds


def test_stages_take_no_more_than_the_run(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, test_selected=True, beside=("eszsl",))
    start = time.monotonic()
    result = run(recipe)
    whole = time.monotonic() - start
    assert 0 < sum(stage.seconds for stage in stages_of(result).values()) <= whole


def test_resumed_run_adds_up_the_seconds_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(tmp_path, run="parts", beside=())
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "classify", _fail)
        with pytest.raises(RuntimeError):
            run(recipe)
    log = recipe.out / "TINY" / "parts" / "log.jsonl"
    before = {stage.name: stage for stage in read_stages(log)}
    after = stages_of(run(replace(recipe, resume=True)))
    for name in ("validation training", "final training"):
        assert after[name] == before[name]
        assert after[name].epochs == recipe.training.total_epochs
    for name in ("reading the data", "scaling the features"):
        assert after[name].seconds > before[name].seconds
    assert "final synthesis and classifiers" in after.keys() - before.keys()


@pytest.mark.parametrize("samples", [3, 50])
def test_oracle_learns_from_as_many_real_rows_as_are_synthesized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    learned: list[tuple[Feed, Feed]] = []
    fit = stages.pair_from_rows

    def watch(rows: Any, *args: Any, **options: Any) -> Any:
        learned.append((rows.gzsl(), rows.zsl()))
        return fit(rows, *args, **options)

    monkeypatch.setattr(stages, "pair_from_rows", watch)
    result = run(
        tiny_recipe(tmp_path, oracle=True, samples_per_class=samples, calibrate=False, beside=())
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


def test_same_seed_gives_the_same_run_and_another_seed_another(
    folder: Path, plain: RunResult
) -> None:
    assert_same_run(plain, run(tiny_recipe(folder, run="again", beside=())))
    other = run(tiny_recipe(folder, run="other", seed=1, beside=()))
    assert not np.array_equal(
        tensors_of(plain)["classifier.safetensorsgzsl.weight"],
        tensors_of(other)["classifier.safetensorsgzsl.weight"],
    )


def test_data_in_memory_give_the_same_run_as_their_files(folder: Path, plain: RunResult) -> None:
    dataset = load_dataset(folder / "data", "TINY", features="res101", semantics="att")
    recipe = tiny_recipe(folder, run="memory", beside=(), data=Path("nowhere"))
    result = run_experiment(Job(recipe, dataset=dataset), Console(quiet=True))
    assert_same_run(plain, result)
    assert json.loads((result.directory / "recipe.json").read_text())["data"] == "nowhere"


@pytest.mark.parametrize(
    ("missing", "measured"), [("test_seen", {"T1"}), ("test_unseen", {"S", "S_calibrated"})]
)
def test_run_without_test_rows_of_one_kind_measures_the_other(
    tmp_path: Path, missing: str, measured: set[str]
) -> None:
    write_gbu(tmp_path / "data" / "TINY", make_dataset(), **{SPLITS[missing]: None})
    out = StringIO()
    recipe = tiny_recipe(tmp_path, beside=("eszsl",), oracle=True, top_k=2)
    result = run_experiment(Job(recipe), Console(file=out, width=300))
    assert out.getvalue().count("alone is measured") == 1
    record = Field(result.directory / "metrics.json", "", result.metrics)
    assert read_metrics(record, metrics_in("table")).keys() == measured
    document = read_run(result.directory, REPORTS)
    assert document["parts"][0]["missing"].keys() == {"answers", "reliability"}
    (row,) = collect_runs(tmp_path / "out", REPORTS).rows
    assert row.figures.keys() == measured - {"S_calibrated"}
    if "T1" in measured:
        lines = (result.directory / "per_class.csv").read_text().splitlines()
        rows = list(csv.DictReader(lines))
        t1 = np.mean([float(row["zsl"]) for row in rows if row["zsl"]])
        assert result.metrics["T1"] == pytest.approx(t1)


def test_data_in_memory_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    faulty = make_dataset()
    faulty.features[3, 2] = np.nan
    with pytest.raises(InputError, match="TINY"):
        run_experiment(Job(recipe, dataset=faulty), Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_custom_model_is_named_by_its_class(folder: Path, plain: RunResult) -> None:
    class Variant(GSMFlow):
        pass

    recipe = tiny_recipe(folder, run="variant", beside=())
    result = run_experiment(Job(recipe, Variant), Console(quiet=True))
    assert type(result.fitted.model) is Variant
    changed = {"model": "Variant", "shifts": {"Variant": plain.metrics["shifts"]["GSMFlow"]}}
    assert result.metrics == plain.metrics | changed


def test_mapped_features_give_the_same_run(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "bare": {"cache": False},
        "memory": {"features_in": "memory"},
        "map": {"features_in": "map"},
        "auto": {},
    }
    common = {"feature_scaling": "standardised", "oracle": True, "calibrate": False, "beside": ()}
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


def test_run_started_in_memory_is_resumed_from_the_map(
    folder: Path, plain: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"run": "half", "beside": ()}
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit_final", _fail)
        with pytest.raises(RuntimeError):
            run(tiny_recipe(folder, **settings, cache=False))
    resumed = run(tiny_recipe(folder, **settings, features_in="map", resume=True))
    assert_same_run(plain, resumed)


def test_map_of_features_that_are_not_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--features-in: found map .* not in a cache, expected"):
        run(tiny_recipe(tmp_path, features_in="map", cache=False))
    assert not (tmp_path / "out").exists()


def test_console_reports_a_cache_hit(tmp_path: Path) -> None:
    printed = StringIO()
    console = Console(file=printed, width=200)
    for name in ("first", "second"):
        recipe = tiny_recipe(tmp_path, run=name, calibrate=False, beside=())
        run_experiment(Job(recipe), console)
    lines = printed.getvalue().splitlines()
    starts = [line for line in lines if line.startswith("TINY: 120 rows")]
    assert [line.endswith(", from the cache") for line in starts] == [False, True]


def test_calibration_does_not_change_the_final_model(folder: Path, plain: RunResult) -> None:
    without = run(tiny_recipe(folder, run="without", calibrate=False, beside=()))
    assert without.metrics["calibrated"] is None
    assert {k: plain.metrics[k] for k in "USH"} == {k: without.metrics[k] for k in "USH"}


def test_every_switch_of_the_paper_runs_and_changes_the_model(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "full": {},
        "first": {"condition_blocks": "first"},
        "noise": {"perturbation": False},
        "absolute": {"relative_positioning": False},
        "no_prototype": {"prototype_weight": 0.0},
    }
    results = {
        name: run(tiny_recipe(tmp_path, run=name, calibrate=False, beside=(), **change))
        for name, change in changes.items()
    }
    weights = {n: tensors_of(r)["classifier.safetensorszsl.weight"] for n, r in results.items()}
    assert len({w.tobytes() for w in weights.values()}) == len(changes)


def test_nothing_depends_on_test_rows_before_the_test_split_is_opened(tmp_path: Path) -> None:
    clean = check_dataset(make_dataset())
    garbage = clean.features.copy()
    rng = np.random.default_rng(1)
    test = np.concatenate([clean.test_seen, clean.test_unseen])
    garbage[test] = 1000 * rng.normal(size=(len(test), garbage.shape[1]))
    a, b = (
        run_experiment(
            Job(tiny_recipe(tmp_path, run=name, feature_scaling="standardised"), dataset=dataset),
            Console(quiet=True),
        )
        for name, dataset in (("clean", clean), ("corrupt", replace(clean, features=garbage)))
    )
    files = {f.relative_to(a.directory) for f in a.directory.rglob("*.safetensors")}
    assert len(files) == 6
    for file in files - {Path("page_data.safetensors")}:
        ours, theirs = load_file(a.directory / file), load_file(b.directory / file)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=f"{file} {name}")
    assert a.metrics["validation"] == b.metrics["validation"]
    for name, baseline in a.metrics["baselines"].items():
        assert baseline["choices"] == b.metrics["baselines"][name]["choices"]
    assert a.metrics["S"] != b.metrics["S"]


def test_test_split_is_opened_once_and_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, bool]] = []
    recipe = tiny_recipe(folder, run="once", oracle=True)

    def watch(dataset: Any, split: Any) -> Any:
        classifier = recipe.out / "TINY" / "once" / "classifier.safetensors"
        opened.append((split, classifier.exists()))
        return open_held_out(dataset, split)

    for module in (experiment, validation):
        monkeypatch.setattr(module, "open_held_out", watch)
    run(recipe)
    of_methods_beside = [("validation", True)] * len(recipe.beside)
    assert opened == [("validation", False), *of_methods_beside, ("test", True)]


def test_resuming_after_a_failure_between_any_two_stages_gives_the_same_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny_recipe(folder, run="whole", beside=("eszsl",)))
    failures = (
        (validation, "validate"),
        (experiment, "fit_final"),
        (experiment, "classify"),
        (beside, "choose_and_validate"),
        (experiment, "evaluate"),
        (shifts, "measure_shifts"),
        (experiment, "write_confusion"),
        (experiment, "write_json"),
    )
    for module, stage in failures:
        recipe = tiny_recipe(folder, run=stage, beside=("eszsl",))
        with monkeypatch.context() as patch:
            patch.setattr(module, stage, _fail)
            with pytest.raises(RuntimeError):
                run(recipe)
        assert not (folder / "out" / "TINY" / stage / "metrics.json").exists()
        assert_same_run(whole, run(replace(recipe, resume=True)))


def _fail(*arguments: Any, **keywords: Any) -> None:
    raise RuntimeError("a stand-in for a crash")


def test_resumed_finished_run_gives_its_numbers(folder: Path, plain: RunResult) -> None:
    assert_same_run(plain, run(tiny_recipe(folder, run="plain", beside=(), resume=True)))


def test_damaged_file_of_a_resumed_run_is_refused(tmp_path: Path) -> None:
    result = run(tiny_recipe(tmp_path, run="first", beside=()))
    (result.directory / "metrics.json").unlink()
    for file in ("model.safetensors", "validation.json", "history.json"):
        path = result.directory / file
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=file):
            run(tiny_recipe(tmp_path, run="first", beside=(), resume=True))
        path.write_bytes(content)


def run_saving_every_epoch(recipe: Recipe) -> None:
    """The work of a process that will be killed."""
    torch.set_num_threads(1)  # another count rounds otherwise
    stages._SAVE_EVERY_SECONDS = 0
    figures.save_figure = lambda figure, path, dpi=120: path.write_bytes(b"a stand-in")
    run(recipe)


def test_run_killed_at_any_moment_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    # Real processes, killed without warning at several moments, each a little later than the one
    # before, until one gets through. They are forked from one that has all imported.
    # An optimizer imports torch._dynamo.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])
    recipe = tiny_recipe(tmp_path, run="killed", epochs=16, curve_every=8)
    whole = run(replace(recipe, run="whole"))
    killed = recipe.out / "TINY" / "killed"
    kills, lines = 0, 0
    for attempt in range(20):
        process = context.Process(
            target=run_saving_every_epoch, args=(replace(recipe, resume=attempt > 0),)
        )
        process.start()
        while process.is_alive():
            time.sleep(0.01)
            count = sum(log.read_bytes().count(b"\n") for log in killed.rglob("log.jsonl"))
            if count > lines + 12 + attempt:  # some work was done since the last kill
                process.kill()
                process.join()
                kills, lines = kills + 1, count
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0
    assert kills >= 2
    assert json.loads((killed / "metrics.json").read_text()) == json.loads(
        (whole.directory / "metrics.json").read_text()
    )
    for file in ("model.safetensors", "classifier.safetensors"):
        ours, theirs = load_file(whole.directory / file), load_file(killed / file)
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert not list(killed.rglob(".*.part"))
