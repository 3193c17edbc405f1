"""A benchmark: the runs of a grid's cells, of which those that are not finished are run."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gsmflow.core.errors import InputError, UnavailableError, is_of_writing, writing
from gsmflow.core.files import write_json
from gsmflow.core.folders import LOCK_FILE, locked, remove_leftovers
from gsmflow.core.json_records import read_record
from gsmflow.reports.leaderboard.finished import (
    FinishedRun,
    read_finished_run,
    read_finished_runs,
)
from gsmflow.runs.cell import (
    CellOutcome,
    State,
    read_outcome,
    run_cell,
    write_failure,
)
from gsmflow.runs.executors import (
    Ended,
    LocalSettings,
    SlurmSettings,
    Started,
    Work,
    execute,
)
from gsmflow.runs.grid import Cell, GridData, words_of_run

__all__ = [
    "CellRun",
    "finished_in",
    "known_runs",
    "memory_of",
    "opened_folder",
    "run_cells",
    "runs_of",
]

GRID_FILE = "grid.json"
_FORMAT = 1
# What a run needs beside several copies of the features, MiB.
_BASE_MIB, _COPIES = 1200, 4


@dataclass(frozen=True, eq=False)
class CellRun:
    """One run of a cell.

    Attributes
    ----------
    cell
        The cell.
    seed, split
        The run's seed and class split; None is the dataset's own split.
    elsewhere
        What another benchmark kept of the run; None if this one is to run it.
    """

    cell: Cell
    seed: int
    split: int | None = None
    elsewhere: FinishedRun | None = None

    @property
    def name(self) -> str:
        """Its name in progress and in log files."""
        data = self.cell.data.key.replace(":", "-")
        split = "" if self.split is None else f"split{self.split}/"
        return f"{data}/{self.cell.method.key}/{split}seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Its run directory."""
        return self.cell.run_folder(self.seed, self.split)

    @property
    def address(self) -> str:
        """What it computes, as the end of its run directory names it in every benchmark."""
        levels = 3 if self.split is None else 4
        return "/".join(self.folder.parts[-levels:])

    @property
    def outcome_file(self) -> Path:
        """The file that says how it ended."""
        return self.cell.outcome_file(self.seed, self.split)

    @property
    def outcome(self) -> CellOutcome | None:
        """How it ended here; None if it is not over."""
        return read_outcome(self.outcome_file)

    @property
    def state(self) -> State | None:
        """How it ended, here or elsewhere; None if it is not over."""
        outcome = self.outcome
        if self.elsewhere is not None and (outcome is None or outcome.state == "failed"):
            return "done"
        return None if outcome is None else outcome.state

    def finished(self) -> FinishedRun | None:
        """What a leaderboard needs of it; None if it is not finished.

        Raises
        ------
        InputError
            If a file of the run is damaged.
        """
        outcome = self.outcome
        if outcome is None or outcome.state == "failed":
            return self.elsewhere
        return read_finished_run(
            self.folder,
            seconds=outcome.seconds,
            peak_mib=outcome.peak_mib,
            device=outcome.device,
        )

    @property
    def work(self) -> Work:
        """The run as a piece of work."""
        cell = self.cell
        call = partial(
            run_cell,
            cell.data.choice.path,
            words_of_run(cell, self.seed, self.split),
            self.folder,
            self.outcome_file,
        )
        return Work(self.name, call, memory_of(cell.data))


def runs_of(
    cells: Sequence[Cell], elsewhere: Mapping[str, FinishedRun] = MappingProxyType({})
) -> list[CellRun]:
    """The runs of cells: a seed of every cell before the next one, split by split.

    So figures of all methods come early.

    Parameters
    ----------
    cells
        The cells.
    elsewhere
        What other benchmarks kept of runs, by their addresses; what lacks the figures of a further
        classifier that is asked for is not taken.
    """
    seeds = sorted({seed for cell in cells for seed in cell.seeds})
    splits: Sequence[int | None] = sorted({s for cell in cells for s in cell.splits}) or [None]
    runs = [
        CellRun(cell, seed, split)
        for split, seed, cell in product(splits, seeds, cells)
        if seed in cell.seeds
    ]
    return [replace(run, elsewhere=_known_of(run, elsewhere)) for run in runs]


def _known_of(run: CellRun, elsewhere: Mapping[str, FinishedRun]) -> FinishedRun | None:
    known = elsewhere.get(run.address)
    asked_for = {method.classifier for method in run.cell.methods_beside}
    return None if known is None or not asked_for <= {*known.beside} else known


def memory_of(data: GridData) -> int:
    """MiB of memory that a training on a dataset needs at most, as estimated from its features."""
    n, d = (int(size) for size in data.dataset.features.shape)
    return _BASE_MIB + _COPIES * 4 * n * d // 2**20


def known_runs(files: Sequence[Path]) -> dict[str, FinishedRun]:
    """The runs that other benchmarks kept, by their addresses; the first file counts.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    found: dict[str, FinishedRun] = {}
    for file in files:
        found = read_finished_runs(file) | found
    return found


@contextmanager
def opened_folder(out: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """A context in which this process alone works on a benchmark's folder.

    Parameters
    ----------
    out
        The folder.
    identity
        What all cells of the folder share; JSON-ready.

    Raises
    ------
    InputError
        If the folder holds something else or a benchmark of another identity, or if another
        process works on it.
    WriteError
        If it cannot be written.
    """
    file = out / GRID_FILE
    if out.is_dir() and not file.exists() and any(p.name != LOCK_FILE for p in out.iterdir()):
        raise InputError(
            f"{out}: found a folder with other files, expected that of a benchmark, an empty "
            "folder or a new one"
        )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            remove_leftovers(out)
            expected = {"format": _FORMAT, **identity}
            if file.exists():
                _check_identity(file, expected)
            else:
                write_json(file, expected)
            yield


def _check_identity(file: Path, expected: Mapping[str, Any]) -> None:
    found = read_record(file, dict[str, Any])
    for name, value in expected.items():
        if found.get(name) != value:
            raise InputError(
                f"{file}, field '{name}': found {found.get(name)!r}, expected {value!r} as asked "
                "for now; name another folder with --out"
            )


def run_cells(
    runs: Sequence[CellRun],
    settings: LocalSettings | SlurmSettings,
    folder: Path,
    *,
    retry_failed: bool,
) -> Iterator[Started | Ended | None]:
    """Run what is not over yet; a run that fails is recorded and does not stop the others.

    Parameters
    ----------
    runs
        The runs of a grid.
    settings
        Where they run.
    folder
        Where the files of the executor are written.
    retry_failed
        Whether runs that failed begin again.

    Yields
    ------
    Started or Ended or None
        As from `execute`.

    Raises
    ------
    InputError
        If the executor is not to be had.
    UnavailableError
        If the disk is full: what runs is ended, and goes on from its files another time.
    """
    if retry_failed:
        for run in runs:
            if run.state == "failed":
                shutil.rmtree(run.folder, ignore_errors=True)
                run.outcome_file.unlink()
    left = {run.name: run for run in runs if run.state is None}
    with closing(execute([run.work for run in left.values()], settings, folder)) as events:
        for event in events:
            if isinstance(event, Ended):
                run = left[event.name]
                if run.outcome is None and is_of_writing(event.sentence or ""):
                    raise UnavailableError(str(event.sentence))
                if run.outcome is None:  # its process ended before it could say how
                    write_failure(run.outcome_file, event.sentence or "ended without an outcome")
            yield event


def finished_in(runs: Sequence[CellRun]) -> dict[str, FinishedRun]:
    """What a leaderboard needs of the runs that are finished, by their addresses.

    Raises
    ------
    InputError
        If a file of a run is damaged.
    """
    return {run.address: known for run in runs if (known := run.finished()) is not None}
