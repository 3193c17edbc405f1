"""Runs that are killed at chosen points, deleted or given other data, and what resumes them."""

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gsmflow.core.console import ending
from gsmflow.core.errors import InputError, WriteError
from gsmflow.core.folders import BusyError, locked
from gsmflow.core.run_files import DATA_FILE
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.digest import DataDigest
from gsmflow.runs import experiment
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.seeds import run_seeds
from tests.builders import make_dataset, small_recipe
from tests.kills import killed_at, leftovers

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)
DATASET = make_dataset(per_class=6)


def job(folder: Path, dataset: Dataset = DATASET, **changes: Any) -> Job:
    settings = {"model": "discriminant", "beside": (), "run": "a"} | changes
    return Job(small_recipe(dataset="TINY", out=folder, **settings), None, dataset)


def run(folder: Path, dataset: Dataset = DATASET, **changes: Any) -> dict[str, Any]:
    """Begin a run, or resume it; its figures."""
    changes = {"resume": (folder / "TINY" / "a").exists()} | changes
    if changes.get("seeds", 1) > 1:
        return run_seeds(job(folder, dataset, **changes), QUIET)
    return run_experiment(job(folder, dataset, **changes), QUIET).metrics


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """A run whose model is trained and not evaluated; its directory."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "conclude", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder, **changes)
    return folder / "TINY" / "a"


# --- kills ---------------------------------------------------------------------------------------


def check_every_point(
    folder: Path, owner: object, name: str, step: int, call: Callable[[Path], dict[str, Any]]
) -> int:
    """Kill a call in every ``step``-th use of a function, go on each time; how many kills."""
    whole, kills = call(folder / "whole"), 0
    while killed_at(owner, name, 1 + step * kills, partial(call, folder / str(kills))):
        assert call(folder / str(kills)) == whole
        assert leftovers(folder / str(kills) / "TINY" / "a") == []
        kills += 1
    return kills


def test_run_that_is_killed_before_any_file_is_complete_gives_the_same_figures(
    tmp_path: Path,
) -> None:
    assert check_every_point(tmp_path, os, "fsync", 3, run) > 2


def test_run_that_is_killed_while_its_directory_is_made_is_begun_again(tmp_path: Path) -> None:
    assert check_every_point(tmp_path, Path, "rename", 1, run) == 1


def test_seeds_that_are_killed_while_any_directory_is_made_go_on(tmp_path: Path) -> None:
    call = partial(run, seeds=2, calibrate=False)
    assert check_every_point(tmp_path, Path, "rename", 1, call) == 3


def test_folder_that_an_earlier_version_left_half_made_is_no_obstacle(tmp_path: Path) -> None:
    whole = run(tmp_path, seeds=2, calibrate=False)
    half_made = tmp_path / "TINY" / "a" / ".seed1.123.part"
    half_made.mkdir()
    (half_made / "recipe.json").write_text("{")
    assert run(tmp_path, seeds=2, calibrate=False) == whole
    assert not half_made.exists()


def test_second_process_leaves_a_live_run_alone(tmp_path: Path) -> None:
    run(tmp_path)
    directory = tmp_path / "TINY" / "a"
    part = directory / ".model.safetensors.1.part"
    part.write_text("in the making")
    with locked(directory), pytest.raises(BusyError, match=f"{directory}: found another process"):
        run(tmp_path)
    assert part.exists()
    run(tmp_path)
    assert not part.exists()


def test_seeds_are_locked_as_a_whole(tmp_path: Path) -> None:
    run(tmp_path, seeds=2, calibrate=False)
    with locked(tmp_path / "TINY" / "a"), pytest.raises(BusyError):
        run(tmp_path, seeds=2, calibrate=False)


def test_run_that_is_deleted_under_way_ends_in_one_sentence_and_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model = experiment.fit_final.__globals__["make_model"]

    def delete(*arguments: Any) -> Any:
        shutil.rmtree(tmp_path / "TINY" / "a")
        return make_model(*arguments)

    monkeypatch.setitem(experiment.fit_final.__globals__, "make_model", delete)
    with pytest.raises(
        WriteError, match=r"a/log.jsonl: cannot be written \(No such file"
    ) as caught:
        run(tmp_path, calibrate=False)
    assert not caught.value.is_mistake
    assert not (tmp_path / "TINY" / "a").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_run_that_is_asked_to_end_leaves_no_part_and_goes_on(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    writes = 0

    def interrupting(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == 5:
            os.kill(os.getpid(), number)

    def call() -> None:
        with ending(Console(), "--resume"):
            run(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupting)
        patch.setattr(sys, "argv", ["train_TINY.py", "--run", "a"])
        with pytest.raises(SystemExit) as ended:
            call()
    assert ended.value.code == code
    expected = "interrupted; this continues it: python train_TINY.py --run a --resume\n"
    assert capsys.readouterr().err == expected
    assert leftovers(tmp_path) == []
    assert run(tmp_path) == run(tmp_path / "whole")


def test_full_disk_ends_a_run_in_one_sentence_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    directory = interrupted(tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        with pytest.raises(WriteError, match=r"No space left on device, [\d.]+ MiB are needed, "):
            run(tmp_path)
    assert leftovers(directory) == []
    assert run(tmp_path) == run(tmp_path / "whole")


# --- other data ----------------------------------------------------------------------------------


def other_features(dataset: Dataset) -> Dataset:
    return replace(dataset, features=dataset.features[::-1].copy())


def other_labels(dataset: Dataset) -> Dataset:
    labels = dataset.labels.copy()
    first, second = dataset.test_seen[0], dataset.test_seen[-1]
    labels[[first, second]] = labels[[second, first]]
    return replace(dataset, labels=labels)


def other_semantics(dataset: Dataset) -> Dataset:
    return replace(dataset, semantics=dataset.semantics + 1)


def other_splits(dataset: Dataset) -> Dataset:
    return replace(dataset, test_seen=dataset.test_seen[1:])


@pytest.mark.parametrize("change", [other_features, other_labels, other_semantics, other_splits])
def test_run_is_not_resumed_with_other_data(
    change: Callable[[Dataset], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = interrupted(tmp_path, monkeypatch)
    assert (directory / "model.safetensors").exists()
    part = change.__name__.removeprefix("other_")
    with pytest.raises(InputError, match=f"found other {part} than {directory} began with"):
        run(tmp_path, change(DATASET))
    assert run(tmp_path) == run(tmp_path / "whole")


def test_finished_seeds_are_not_shown_for_other_data(tmp_path: Path) -> None:
    run(tmp_path, seeds=2, calibrate=False)
    with pytest.raises(InputError, match="found other features than"):
        run(tmp_path, other_features(DATASET), seeds=2, calibrate=False)


def test_run_of_a_version_without_digests_is_known_by_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = interrupted(tmp_path, monkeypatch)
    kept = json.loads((directory / DATA_FILE).read_text())
    assert kept == asdict(DataDigest.of(check_dataset(DATASET)))
    (directory / DATA_FILE).unlink()
    with pytest.raises(InputError, match="found other features than"):
        run(tmp_path, other_features(DATASET))
    run(tmp_path)
    assert json.loads((directory / DATA_FILE).read_text()) == kept


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_digest_is_refused(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = interrupted(tmp_path, monkeypatch) / DATA_FILE
    file.write_text(content)
    with pytest.raises(InputError, match=str(file)):
        run(tmp_path)


# --- pictures ------------------------------------------------------------------------------------


def test_picture_that_cannot_be_drawn_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **keywords: object) -> Path:
        assert (tmp_path / "TINY" / "a" / "metrics.json").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiment, "run_figure", fail)
    result = run_experiment(job(tmp_path), Console(width=200))
    assert (result.directory / "metrics.json").exists()
    printed = capsys.readouterr().out
    assert "warning: a picture cannot be drawn (OSError: [Errno 28] No space left" in printed
    assert "run.png" not in printed


def test_folder_in_the_place_of_the_log_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    log = tmp_path / "TINY" / "a" / "log.jsonl"
    log.unlink()
    log.mkdir()
    with pytest.raises(WriteError, match=f"^{log}: .*, expected no folder of this name") as caught:
        run(tmp_path)
    assert caught.value.is_mistake
