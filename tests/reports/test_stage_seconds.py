"""The seconds of a run's stages, as read from its log and as shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from gsmflow.core.errors import InputError
from gsmflow.reports.stage_seconds import StageSeconds, fold_stages, read_stages, seconds_line


def write_log(file: Path, *records: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def stage(name: Any, seconds: Any, **more: Any) -> dict[str, Any]:
    return {"event": "stage", "stage": name, "seconds": seconds, **more}


def test_records_of_a_stage_add_up_and_the_longest_is_first(tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "log.jsonl",
        {"event": "start"},
        stage("other", 50),
        stage("training", 3, epochs=2, epoch_seconds=2.5),
        {"event": "epoch", "epoch": 1, "seconds": 99},
        stage("report", 4),
        {"event": "resume"},
        stage("training", 6.5, epochs=3, epoch_seconds=5),
        stage("training", 1),
    )
    assert read_stages(log) == [
        StageSeconds("training", 10.5, 5, 7.5),
        StageSeconds("report", 4),
        StageSeconds("other", 50),
    ]
    assert [found.seconds_per_epoch for found in read_stages(log)] == [1.5, None, None]


def test_run_of_an_older_version_has_no_stages(tmp_path: Path) -> None:
    assert read_stages(tmp_path / "log.jsonl") == []
    log = write_log(tmp_path / "log.jsonl", {"event": "start"}, {"event": "metrics", "U": 1})
    assert read_stages(log) == []


def test_last_line_that_is_not_finished_is_left_out(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", stage("report", 4))
    with log.open("a") as file:
        file.write('{"event": "stage", "sta')
    assert read_stages(log) == [StageSeconds("report", 4)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"log\.jsonl: not readable \(.*\), expected the log of a run"),
        ("3", r"log\.jsonl, field 'line 2': found 3, expected an object"),
        (json.dumps(stage("", 1)), r"field 'line 2\.stage': found '', expected a text"),
        (json.dumps(stage("a", "1")), r"field 'line 2\.seconds': found '1', expected a finite"),
        (json.dumps(stage("a", 1, epochs=2)), r"field 'line 2\.epoch_seconds': found nothing"),
    ],
)
def test_damaged_log_is_refused(tmp_path: Path, line: str, message: str) -> None:
    log = write_log(tmp_path / "log.jsonl", stage("report", 4))
    with log.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=message):
        read_stages(log)


def test_small_stages_are_folded() -> None:
    stages = [
        StageSeconds("few_shot", 90.0),
        StageSeconds("report", 1.0),
        StageSeconds("evaluation", 0.99),
        StageSeconds("other", 8.01),
    ]
    folded = fold_stages(stages)
    assert [found.name for found in folded] == ["few_shot", "report", "other"]
    assert folded[-1].seconds == pytest.approx(9.0)
    assert seconds_line(stages) == "seconds: few-shot 90.0, report 1.0, other 9.0; 100.0 in all"
