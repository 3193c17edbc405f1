"""The clock of a run's stages: whose second is whose, and when it is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gsmflow.runs import clock
from gsmflow.runs.clock import StageClock
from gsmflow.runs.directory import RunLog


class Time:
    """A clock that is moved by hand, and the order in which it and the device were asked."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[str] = []

    def monotonic(self) -> float:
        self.asked.append("clock")
        return self.now

    def synchronize(self, device: torch.device) -> None:
        self.asked.append(str(device))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moved = Time()
    monkeypatch.setattr(clock, "time", moved)
    monkeypatch.setattr(clock, "synchronize", moved.synchronize)
    return moved


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def records(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line.pop("event") for line in lines} == {"stage"}
    for line in lines:
        del line["time"]
    return lines


def test_each_second_belongs_to_the_innermost_stage(time: Time, file: Path) -> None:
    stages = StageClock(RunLog(file))
    time.now += 1
    with stages.stage("outer"):
        time.now += 2
        for _ in range(2):
            with stages.stage("inner"):
                time.now += 4
        time.now += 8
    time.now += 16
    stages.save()
    assert records(file) == [
        {"stage": "inner", "seconds": 4},
        {"stage": "inner", "seconds": 4},
        {"stage": "outer", "seconds": 10},
        {"stage": "other", "seconds": 17},
    ]


def test_stage_that_ends_in_an_error_is_written(time: Time, file: Path) -> None:
    stages = StageClock(RunLog(file))

    def fail() -> None:
        with stages.within("a"), stages.stage("first"):
            time.now += 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with stages.stage("second"):
        time.now += 5
    assert records(file) == [
        {"stage": "a: first", "seconds": 3},
        {"stage": "second", "seconds": 5},
    ]


def test_names_of_stages_begin_with_those_around_them(time: Time, file: Path) -> None:
    stages = StageClock(RunLog(file))
    with stages.stage("baselines"):
        for name in ("a", "b"):
            with stages.within(name), stages.stage("training"):
                time.now += 1
    names = [record["stage"] for record in records(file)]
    assert names == ["a: training", "b: training", "baselines"]


def test_long_training_is_written_before_its_end(time: Time, file: Path) -> None:
    stages = StageClock(RunLog(file))
    with stages.stage("training"):
        time.now += 2
        for _ in range(3):
            with stages.stage("measuring"):
                time.now += 1
            time.now += 8
            stages.count_epoch(7.5)
        written = [r for r in records(file) if r["stage"] == "training"]
        assert written == [{"stage": "training", "seconds": 26, "epochs": 3, "epoch_seconds": 22.5}]
        time.now += 1
        stages.count_epoch(1)
    assert records(file)[-1] == {
        "stage": "training",
        "seconds": 1,
        "epochs": 1,
        "epoch_seconds": 1,
    }


def test_device_is_waited_for_before_the_clock_is_read(time: Time, file: Path) -> None:
    stages = StageClock(RunLog(file), torch.device("meta"))
    time.asked.clear()
    with stages.stage("a"):
        assert time.asked == ["meta", "clock"]
    assert time.asked == ["meta", "clock"] * 2


def test_clock_without_a_log_writes_nothing(tmp_path: Path) -> None:
    stages = StageClock()
    with stages.stage("a"):
        stages.count_epoch(1.0)
    stages.record("b", 1.0)
    assert not list(tmp_path.iterdir())
