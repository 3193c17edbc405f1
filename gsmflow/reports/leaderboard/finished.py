"""Finished runs as a leaderboard needs them, and a file of many.

Of a run it needs the figures, and which test rows are answered right. These take some kilobytes, so
a leaderboard keeps them in one file beside its tables: runs of other machines then stand in another
leaderboard, under the same paired statistics, without their run directories.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from safetensors import safe_open

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import parse_json, refuse_folder, write_tensors
from gsmflow.core.json_records import as_record, read_record
from gsmflow.core.run_files import ENVIRONMENT_FILE, METRICS_FILE
from gsmflow.evaluation.bootstrap import RightAnswers
from gsmflow.evaluation.measures import METRICS
from gsmflow.evaluation.per_class import read_per_class
from gsmflow.reports.metrics_file import CLASSIFIERS_BESIDE, check_measures, open_metrics
from gsmflow.reports.page_data import PAGE_DATA_FILE, read_page_data

__all__ = [
    "FinishedRun",
    "OtherClassifier",
    "RowsAnswered",
    "TestRows",
    "read_finished_run",
    "read_finished_runs",
    "write_finished_runs",
]

_CALIBRATED = "calibrated"
_ANSWERS = ("gzsl", "zsl", "gzsl_calibrated")
_Count: TypeAlias = Annotated[int, Meta(ge=0)]
_Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


@dataclass(frozen=True, eq=False)
class TestRows:
    """The test rows of a dataset.

    Attributes
    ----------
    labels
        The class of each, ``(n,)``, in [0, C).
    class_is_seen
        Whether each class is seen, ``(C,)``.
    """

    __test__ = False  # no test case, though pytest reads its name as of one

    labels: NDArray[np.int32]
    class_is_seen: NDArray[np.bool_]

    def equals(self, other: "TestRows") -> bool:
        """Whether these are the same rows of the same classes."""
        return np.array_equal(self.labels, other.labels) and np.array_equal(
            self.class_is_seen, other.class_is_seen
        )


@dataclass(frozen=True, eq=False)
class RowsAnswered:
    """The test rows of a run, and which of them it answers right."""

    rows: TestRows
    right: RightAnswers


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a leaderboard needs of a run.

    Attributes
    ----------
    measures
        Its figures, as ``metrics.json`` has them.
    answered
        None of a run that did not keep its answers.
    seconds, peak_mib
        What it took; None where not known.
    device, commit
        Where it ran, and of which commit; empty where not known.
    beside
        The figures of other classifiers on its model, by their names.
    """

    measures: Mapping[str, Any]
    answered: RowsAnswered | None
    seconds: float | None
    peak_mib: int | None
    device: str
    commit: str
    beside: Mapping[str, "OtherClassifier"] = field(default_factory=dict)

    def with_classifier(self, name: str) -> "FinishedRun":
        """The run as if it had the classifier beside its own; its costs are not known then."""
        other = self.beside[name]
        answered = None
        if self.answered is not None and other.right is not None:
            answered = RowsAnswered(self.answered.rows, other.right)
        return replace(
            self,
            measures=other.measures,
            answered=answered,
            seconds=None,
            peak_mib=None,
            beside={},
        )


@dataclass(frozen=True, eq=False)
class OtherClassifier:
    """Another classifier on the model of a run.

    Attributes
    ----------
    measures
        Its figures, as those of a run.
    right
        Which test rows it answers right; None of a run that did not keep it.
    """

    measures: Mapping[str, Any]
    right: RightAnswers | None


@dataclass(frozen=True)
class _Entry:
    """A run in the metadata of the file; its answers are arrays, named by its place."""

    name: str
    measures: dict[str, Any]
    rows: _Count | None
    seconds: _Seconds | None
    peak_mib: _Count | None
    device: str
    commit: str
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_finished_run(
    folder: Path, *, seconds: float | None, peak_mib: int | None, device: str
) -> FinishedRun:
    """What a leaderboard needs of a run, from its directory, and what is known of its costs.

    Raises
    ------
    InputError
        If a file of the run is damaged.
    """
    environment = read_record(folder / ENVIRONMENT_FILE, dict[str, Any])
    metrics = open_metrics(folder / METRICS_FILE).object()
    answered, right_beside = _answered(folder)
    return FinishedRun(
        measures=_measures_in(metrics),
        answered=answered,
        seconds=seconds,
        peak_mib=peak_mib,
        device=device,
        commit=str(environment.get("git_commit") or ""),
        beside={
            name: OtherClassifier(_measures_in(measures), right_beside.get(name))
            for name, measures in (metrics.get(CLASSIFIERS_BESIDE) or {}).items()
        },
    )


def _measures_in(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures alone: those of the table of metrics."""
    names = {metric.name for metric in METRICS if not metric.calibrated}
    return {name: value for name, value in metrics.items() if name in names | {_CALIBRATED}}


def _answered(folder: Path) -> tuple[RowsAnswered | None, Mapping[str, RightAnswers]]:
    """What a run answers right, and what other classifiers on its model do."""
    file = folder / PAGE_DATA_FILE
    if not file.exists():
        return None, {}
    classes = read_per_class(folder / "per_class.csv")
    page_data = read_page_data(file, len(classes))
    if page_data.right is None:
        return None, {}
    is_seen = np.array([answers.kind == "seen" for answers in classes])
    rows = TestRows(page_data.answers.labels, is_seen)
    return RowsAnswered(rows, page_data.right), page_data.right_beside


def write_finished_runs(path: Path, runs: Mapping[str, FinishedRun]) -> None:
    """Write runs by their names as one safetensors file, atomically.

    Answers take a bit a row. Test rows that several runs share are written once.
    """
    arrays: dict[str, NDArray[Any]] = {}
    rows: list[TestRows] = []
    entries = []
    for place, (name, run) in enumerate(runs.items()):
        entry = {
            "name": name,
            "measures": run.measures,
            "rows": None,
            "seconds": run.seconds,
            "peak_mib": run.peak_mib,
            "device": run.device,
            "commit": run.commit,
            "beside": {name: other.measures for name, other in run.beside.items()},
        }
        if run.answered is not None:
            entry["rows"] = _place_of(run.answered.rows, rows)
            arrays |= _packed(f"right.{place}", run.answered.right)
            for i, other in enumerate(run.beside.values()):
                if other.right is not None:
                    arrays |= _packed(f"beside.{place}.{i}", other.right)
        entries.append(entry)
    for place, of_dataset in enumerate(rows):
        arrays[f"rows.{place}.labels"] = of_dataset.labels.astype(np.int32)
        arrays[f"rows.{place}.class_is_seen"] = of_dataset.class_is_seen
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()}
    write_tensors(path, tensors, {"runs": json.dumps(entries)})


def _packed(start: str, right: RightAnswers) -> dict[str, NDArray[np.uint8]]:
    """Answers as bits, in arrays whose names have a beginning in common."""
    known = {kind: getattr(right, kind) for kind in _ANSWERS}
    return {f"{start}.{kind}": np.packbits(v) for kind, v in known.items() if v is not None}


def _place_of(rows: TestRows, known: list[TestRows]) -> int:
    """The place of test rows in a list; they are appended to it if they are not there."""
    for place, other in enumerate(known):
        if rows.equals(other):
            return place
    known.append(rows)
    return len(known) - 1


def read_finished_runs(path: Path) -> dict[str, FinishedRun]:
    """Read what `write_finished_runs` wrote.

    Raises
    ------
    InputError
        If it is missing or damaged, or a field has another type or is out of range.
    """
    try:
        refuse_folder(path)
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            value = parse_json((file.metadata() or {})["runs"])
        entries = as_record(f"{path}, runs", value, list[_Entry])
        found = {}
        for place, entry in enumerate(entries):
            check_measures(f"{path}, run {entry.name}", entry.measures)
            for name, measures in entry.beside.items():
                check_measures(f"{path}, run {entry.name}, {name}", measures)
            rows = None if entry.rows is None else _rows(arrays, entry.rows)
            right = _unpacked(arrays, f"right.{place}", rows)
            found[entry.name] = FinishedRun(
                measures=entry.measures,
                answered=None if rows is None or right is None else RowsAnswered(rows, right),
                seconds=entry.seconds,
                peak_mib=entry.peak_mib,
                device=entry.device,
                commit=entry.commit,
                beside={
                    name: OtherClassifier(measures, _unpacked(arrays, f"beside.{place}.{i}", rows))
                    for i, (name, measures) in enumerate(entry.beside.items())
                },
            )
    except InputError:
        raise
    except Exception as error:
        # Any byte may be wrong: the reader and what follows raise a dozen unrelated types.
        raise InputError(
            f"{path}: not readable as runs of a leaderboard ({one_line(error)}), expected the "
            "leaderboard.safetensors of a benchmark"
        ) from error
    return found


def _rows(arrays: Mapping[str, NDArray[Any]], place: int) -> TestRows:
    labels, is_seen = arrays[f"rows.{place}.labels"], arrays[f"rows.{place}.class_is_seen"]
    if labels.ndim != 1 or labels.dtype != np.int32 or is_seen.ndim != 1 or is_seen.dtype != bool:
        raise ValueError(f"test rows {place} are of another type")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(is_seen):
        raise ValueError(f"test rows {place} are not of {len(is_seen)} classes")
    return TestRows(labels, is_seen)


def _unpacked(
    arrays: Mapping[str, NDArray[Any]], start: str, rows: TestRows | None
) -> RightAnswers | None:
    """What `_packed` made of answers to test rows; None where there are none."""
    if rows is None or f"{start}.gzsl" not in arrays:
        return None
    unseen = int((~rows.class_is_seen[rows.labels]).sum())
    sizes = dict.fromkeys(_ANSWERS, len(rows.labels)) | {"zsl": unseen}
    flags = {
        kind: _flags(arrays[name], size)
        for kind, size in sizes.items()
        if (name := f"{start}.{kind}") in arrays
    }
    return RightAnswers(**flags)


def _flags(bits: NDArray[Any], count: int) -> NDArray[np.bool_]:
    if bits.dtype != np.uint8 or bits.shape != (-(-count // 8),):
        raise ValueError(f"found answers of shape {bits.shape}, expected {count} bits")
    return np.unpackbits(bits, count=count).astype(bool)
