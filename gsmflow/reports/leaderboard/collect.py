"""The figures and intervals of a leaderboard's cells, from their finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from gsmflow.core.aggregate import summarise, summarise_seeds, summarise_splits
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.json_records import read_record
from gsmflow.core.run_files import METRICS_FILE, RECIPE_FILE
from gsmflow.evaluation.bootstrap import Estimate, RightAnswers, bootstrap
from gsmflow.evaluation.class_splits import estimate_over_splits
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.ranks import Ranking, rank_methods
from gsmflow.reports.leaderboard.entries import LeaderboardCell
from gsmflow.reports.leaderboard.finished import FinishedRun, TestRows
from gsmflow.reports.leaderboard.forms import RANKED_BY
from gsmflow.reports.metric_values import read_metrics
from gsmflow.reports.metrics_file import open_metrics

__all__ = ["CellRuns", "collect_cells", "rank_cells", "summarise_runs"]


@dataclass(frozen=True)
class CellRuns:
    """The runs of a cell.

    Attributes
    ----------
    method, dataset
        Their keys.
    folder
        The folder of the runs.
    runs
        The finished ones, by class split and seed; None is the dataset's own split.
    failures
        Why others failed.
    """

    method: str
    dataset: str
    folder: Path
    runs: Mapping[int | None, Mapping[int, FinishedRun]]
    failures: Sequence[str]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the finished runs, on any split."""
        return sorted({seed for of_split in self.runs.values() for seed in of_split})

    @property
    def splits(self) -> dict[int, Mapping[int, FinishedRun]]:
        """The finished runs of each random class split."""
        return {split: runs for split, runs in self.runs.items() if split is not None}

    @property
    def timed(self) -> list[FinishedRun]:
        """The runs on the device of the first one: a mean over unlike devices says nothing."""
        done = [run for of_split in self.runs.values() for run in of_split.values()]
        return [run for run in done if run.device == done[0].device]


@dataclass(frozen=True, eq=False)
class _Answers:
    """The test rows of a dataset, and which of them each method answers right, by seed."""

    rows: TestRows
    right: dict[str, dict[int, RightAnswers]] = field(default_factory=dict)


def collect_cells(
    cells: Sequence[CellRuns], draws: int, generator: np.random.Generator
) -> list[LeaderboardCell]:
    """The figures of cells, with intervals over all methods of a dataset.

    Parameters
    ----------
    cells
        All cells of a leaderboard.
    draws
        Draws of the bootstrap; 0 for no intervals, but for those over class splits, which need
        none.
    generator
        Of the bootstrap.

    Raises
    ------
    InputError
        If a figure is missing, or two runs on a dataset have other test rows.
    """
    found = [_cell(cell) for cell in cells]
    estimates: dict[tuple[str, str], dict[str, Estimate]] = {}
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        here = [cell for cell in cells if cell.dataset == dataset]
        over_splits = {cell.method: _split_figures(cell) for cell in here if cell.splits}
        for method, of_method in estimate_over_splits(over_splits).items():
            estimates[method, dataset] = of_method
        answers = _answers(here)
        if draws and answers is not None:
            of_methods = bootstrap(
                answers.rows.labels,
                answers.rows.class_is_seen,
                answers.right,
                generator,
                draws=draws,
            )
            estimates |= {(method, dataset): e for method, e in of_methods.items()}
    return [replace(c, estimates=estimates.get((c.method, c.dataset), {})) for c in found]


def rank_cells(cells: Sequence[LeaderboardCell]) -> Ranking | None:
    """The methods by their average rank over datasets, by H with calibration."""
    figures: dict[str, dict[str, float]] = {}
    for cell in cells:
        if RANKED_BY in cell.figures:
            figures.setdefault(cell.method, {})[cell.dataset] = cell.figures[RANKED_BY].mean
    return rank_methods(figures)


def summarise_runs(folder: Path, runs: Mapping[int | None, Mapping[int, Path]]) -> None:
    """Write the files of a directory of several seeds into a cell's folder, as its page reads it.

    Parameters
    ----------
    folder
        The cell's folder.
    runs
        The directories of its finished runs, by class split and seed; None is the dataset's own
        split.

    Raises
    ------
    InputError
        If a file of a run is damaged.
    """
    summaries = {}
    for split, of_split in runs.items():
        below = folder if split is None else folder / f"split{split}"
        seeds, first = sorted(of_split), of_split[min(of_split)]
        recipe = {
            **read_record(first / RECIPE_FILE, dict[str, Any]),
            "seed": seeds[0],
            "seeds": len(seeds),
        }
        summaries[split] = summarise_seeds(
            {seed: open_metrics(of_split[seed] / METRICS_FILE).object() for seed in seeds}
        )
        write_json(below / RECIPE_FILE, recipe)
        write_json(below / METRICS_FILE, summaries[split])
    over = {split: summary for split, summary in summaries.items() if split is not None}
    if over:
        recipe |= {"class_split": min(over), "class_splits": len(over), "unseen_names": []}
        write_json(folder / RECIPE_FILE, recipe)
        write_json(folder / METRICS_FILE, summarise_splits(over))


def _over_seeds(runs: Mapping[int, FinishedRun]) -> dict[str, Any]:
    return summarise_seeds({seed: runs[seed].measures for seed in sorted(runs)})


def _split_figures(cell: CellRuns) -> dict[str, dict[int, float]]:
    """Each figure of a cell on each class split, the mean over seeds, by key and split."""
    found: dict[str, dict[int, float]] = {}
    for split, runs in cell.splits.items():
        record = Field(cell.folder / f"split{split}", "", _over_seeds(runs))
        for key, figure in read_metrics(record, metrics_in("table")).items():
            found.setdefault(key, {})[split] = figure.mean / 100
    return found


def _cell(cell: CellRuns) -> LeaderboardCell:
    record: Mapping[str, Any] | None = None
    if cell.splits:
        record = summarise_splits({split: _over_seeds(of) for split, of in cell.splits.items()})
    elif cell.runs:
        runs = [run.measures for run in cell.runs[None].values()]
        record = runs[0] if len(runs) == 1 else summarise(runs)
    figures = {}
    if record is not None:
        figures = read_metrics(Field(cell.folder, "", record), metrics_in("table"))
    seconds = [run.seconds for run in cell.timed if run.seconds is not None]
    peaks = [run.peak_mib for run in cell.timed if run.peak_mib is not None]
    return LeaderboardCell(
        method=cell.method,
        dataset=cell.dataset,
        state="done" if cell.runs else "failed" if cell.failures else "missing",
        sentence=next(iter(cell.failures), ""),
        seeds=tuple(cell.seeds),
        figures=figures,
        estimates={},
        seconds=fmean(seconds) if seconds else None,
        peak_mib=max(peaks, default=None),
        folder=cell.folder,
        splits=tuple(sorted(cell.splits)),
    )


def _answers(cells: Sequence[CellRuns]) -> _Answers | None:
    """Who is right where, on one dataset; None without a finished run that kept its answers."""
    found: _Answers | None = None
    for cell in cells:
        # Each class split has other test rows.
        for seed, run in cell.runs.get(None, {}).items():
            if run.answered is None:
                continue
            if found is None:
                found = _Answers(run.answered.rows)
            elif not found.rows.equals(run.answered.rows):
                raise InputError(
                    f"{cell.folder / f'seed{seed}'}: found other test rows than in the other "
                    f"runs on {cell.dataset}, expected the same ones"
                )
            found.right.setdefault(cell.method, {})[seed] = run.answered.right
    return found
