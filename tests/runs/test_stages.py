"""The validation stage by itself: what it reports of its curve, and how it ends."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.errors import DivergedError, InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import HeldOut, Problem, open_held_out, training_problem
from gsmflow.methods.gsmflow import GSMFlow
from gsmflow.runs import stages
from gsmflow.runs.directory import RunLog
from gsmflow.runs.stages import Run, forget_state
from gsmflow.runs.validation import AtEnd, Finding, Validated, validate
from tests.builders import changed, make_dataset, make_recipe

RECIPE = make_recipe(
    dataset="TINY",
    blocks=1,
    hidden=8,
    condition_dim=8,
    epochs=5,
    batch_size=16,
    samples_per_class=4,
    classifier_epochs=2,
    curve_every=2,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts() -> tuple[Problem, HeldOut]:
    dataset = check_dataset(make_dataset())
    return training_problem(dataset, "validation"), open_held_out(dataset, "validation")


def make_run(directory: Path, **changes: Any) -> Run:
    directory.mkdir(exist_ok=True)
    log = RunLog(directory / "log.jsonl")
    recipe = changed(RECIPE, **changes)
    return Run(recipe, GSMFlow, CPU, "fp32", SINGLE_PROCESS, directory, log, Console(quiet=True))


def facts(validated: Validated) -> dict[str, Any]:
    """All results of a validation, to compare."""
    assert not validated.found
    return validated.describe()


class EnoughError(Exception):
    """Raised by a caller that stops a training."""


def test_curve_points_are_reported_once_and_repeated_by_a_finished_validation(
    tmp_path: Path, parts: tuple[Problem, HeldOut]
) -> None:
    points: list[Mapping[str, float]] = []
    result = validate(make_run(tmp_path), *parts, on_point=points.append)
    assert [point["epoch"] for point in points] == [2, 4, 5]
    assert points == result.curve
    again: list[Mapping[str, float]] = []
    assert facts(validate(make_run(tmp_path), *parts, on_point=again.append)) == facts(result)
    assert again == points


@pytest.mark.parametrize(("rows", "warned"), [(600, False), (599, False), (60, True)])
def test_few_rows_of_a_class_at_a_time_are_warned_of_once(
    rows: int,
    warned: bool,
    tmp_path: Path,
    parts: tuple[Problem, HeldOut],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    problem, held_out = parts
    width = 4 * problem.train.feature_dim * len(problem.unseen_classes)
    monkeypatch.setattr("gsmflow.recipes.fit.reservoir_bytes", lambda *_: rows * width)
    run = replace(make_run(tmp_path, samples_per_class=600), console=Console(width=200))
    validate(run, problem, held_out)
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    mib = math.ceil(500 * width / 2**20)
    expected = (
        "warning: --reservoir-mib: holds 60 of the 600 synthesized rows of a class at a time, "
        f"which makes the classifiers worse; {mib} is enough"
    )
    assert lines == ([expected] if warned else [])


def test_training_ended_by_its_caller_continues_from_its_saved_state(
    tmp_path: Path, parts: tuple[Problem, HeldOut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_SAVE_EVERY_SECONDS", 0)
    whole = validate(make_run(tmp_path / "whole"), *parts)

    def enough(point: Mapping[str, float]) -> None:
        if point["epoch"] == 4:
            raise EnoughError

    run = make_run(tmp_path / "ended")
    with pytest.raises(EnoughError):
        validate(run, *parts, on_point=enough)
    saved = run.directory / "validation.state.safetensors"
    assert saved.exists()
    points: list[Mapping[str, float]] = []
    assert facts(validate(run, *parts, on_point=points.append)) == facts(whole)
    assert points == whole.curve
    assert not saved.exists()


def test_saved_state_of_a_training_can_be_deleted(
    tmp_path: Path, parts: tuple[Problem, HeldOut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_SAVE_EVERY_SECONDS", 0)

    def enough(point: Mapping[str, float]) -> None:
        raise EnoughError

    run = make_run(tmp_path)
    with pytest.raises(EnoughError):
        validate(run, *parts, on_point=enough)
    forget_state(run, parts[0])
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl"}
    forget_state(run, parts[0])


@pytest.mark.parametrize("changes", [{"learning_rate": 1e30}, {"classifier_lr": 1e38}])
def test_training_with_nan_or_infinite_values_raises_diverged_error(
    tmp_path: Path, parts: tuple[Problem, HeldOut], changes: dict[str, float]
) -> None:
    with pytest.raises(DivergedError, match=r"training diverged: found a .* of (nan|inf) in epoch"):
        validate(make_run(tmp_path, **changes), *parts)
    assert issubclass(DivergedError, InputError)
    assert not (tmp_path / "validation.json").exists()


def test_huge_finite_loss_ends_the_training(tmp_path: Path, parts: tuple[Problem, HeldOut]) -> None:
    with pytest.raises(DivergedError, match=r"found a \w+ loss of .*e\+\d+ in epoch \d+, expected"):
        validate(make_run(tmp_path, learning_rate=0.5), *parts)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    epochs = [r for r in map(json.loads, lines) if r["event"] == "epoch"]
    assert epochs
    assert all(math.isfinite(epoch["likelihood"]) for epoch in epochs)
    assert not (tmp_path / "validation.json").exists()


def test_findings_of_the_last_epoch_are_saved_with_the_validation(
    tmp_path: Path, parts: tuple[Problem, HeldOut]
) -> None:
    calls: list[str] = []

    def finder(name: str, finding: Finding) -> AtEnd:
        def find(scaled: Any, model: Any, scorer: Any) -> Finding:
            calls.append(name)
            return finding

        return find

    wanted = {
        "facts": Finding(facts={"share": 0.1 + 0.2, "none": None}),
        "tensors": Finding(tensors={"a.b": torch.arange(3), "c": torch.ones(2, 2)}),
    }
    at_end = {name: finder(name, finding) for name, finding in wanted.items()}
    for _ in range(2):  # trained, then read
        found = validate(make_run(tmp_path), *parts, at_end=at_end).found
        assert calls == ["facts", "tensors"]  # at the last point alone
        assert found.keys() == wanted.keys()
        for name, finding in wanted.items():
            assert found[name].facts == finding.facts
            assert found[name].tensors.keys() == finding.tensors.keys()
            for key, tensor in finding.tensors.items():
                assert torch.equal(found[name].tensors[key], tensor)
    assert json.loads((tmp_path / "validation.json").read_text()).keys() == {
        *("gamma", "balance", "temperatures", "curve"),
    }
