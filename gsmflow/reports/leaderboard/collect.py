"""The runs of a leaderboard's cells, read from their directories: figures and intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.aggregate import summarise, summarise_seeds, summarise_splits
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.json_records import read_record
from gsmflow.core.run_files import METRICS_FILE, RECIPE_FILE
from gsmflow.evaluation.bootstrap import Estimate, RightAnswers, bootstrap
from gsmflow.evaluation.class_splits import estimate_over_splits
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.per_class import read_per_class
from gsmflow.evaluation.ranks import Ranking, rank_methods
from gsmflow.reports.leaderboard.entries import LeaderboardCell
from gsmflow.reports.leaderboard.forms import RANKED_BY
from gsmflow.reports.metric_values import read_metrics
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.page_data import PAGE_DATA_FILE, read_page_data

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
        The directories of the finished ones, by class split and seed; None is the dataset's own
        split.
    failures
        Why others failed.
    seconds, peak_mib
        Of the finished runs on the device of the first one, where known.
    """

    method: str
    dataset: str
    folder: Path
    runs: Mapping[int | None, Mapping[int, Path]]
    failures: Sequence[str]
    seconds: Sequence[float] = ()
    peak_mib: Sequence[int] = ()

    @property
    def seeds(self) -> list[int]:
        """The seeds of the finished runs, on any split."""
        return sorted({seed for of_split in self.runs.values() for seed in of_split})

    @property
    def splits(self) -> dict[int, Mapping[int, Path]]:
        """The finished runs of each random class split."""
        return {split: runs for split, runs in self.runs.items() if split is not None}


@dataclass(frozen=True, eq=False)
class _Answers:
    """The test rows of a dataset, and which of them each method answers right, by seed."""

    labels: NDArray[np.int32]
    class_is_seen: NDArray[np.bool_]
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
        If a file of a run is damaged, or two runs on a dataset have other test rows.
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
                answers.labels, answers.class_is_seen, answers.right, generator, draws=draws
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


def summarise_runs(cell: CellRuns) -> None:
    """Write the files of a directory of several seeds into a cell's folder, as its page reads it.

    Raises
    ------
    InputError
        If a file of a run is damaged.
    """
    for split, runs in cell.runs.items():
        folder = cell.folder if split is None else cell.folder / f"split{split}"
        seeds, first = sorted(runs), runs[min(runs)]
        recipe = {
            **read_record(first / RECIPE_FILE, dict[str, Any]),
            "seed": seeds[0],
            "seeds": len(seeds),
        }
        write_json(folder / RECIPE_FILE, recipe)
        write_json(folder / METRICS_FILE, summarise_seeds(_metrics_of(runs)))
    if cell.splits:
        splits = min(cell.splits), len(cell.splits)
        recipe |= {"class_split": splits[0], "class_splits": splits[1], "unseen_names": []}
        write_json(cell.folder / RECIPE_FILE, recipe)
        write_json(cell.folder / METRICS_FILE, _over_splits(cell))


def _metrics_of(runs: Mapping[int, Path]) -> dict[int, dict[str, Any]]:
    """The metrics of runs by seed, ascending."""
    return {seed: open_metrics(runs[seed] / METRICS_FILE).object() for seed in sorted(runs)}


def _over_splits(cell: CellRuns) -> dict[str, Any]:
    return summarise_splits(
        {split: summarise_seeds(_metrics_of(runs)) for split, runs in cell.splits.items()}
    )


def _split_figures(cell: CellRuns) -> dict[str, dict[int, float]]:
    """Each figure of a cell on each class split, the mean over seeds, by key and split."""
    found: dict[str, dict[int, float]] = {}
    for split, runs in cell.splits.items():
        record = Field(cell.folder / f"split{split}", "", summarise_seeds(_metrics_of(runs)))
        for key, figure in read_metrics(record, metrics_in("table")).items():
            found.setdefault(key, {})[split] = figure.mean / 100
    return found


def _cell(cell: CellRuns) -> LeaderboardCell:
    figures = {}
    if cell.splits:
        record = _over_splits(cell)
        figures = read_metrics(Field(cell.folder, "", record), metrics_in("table"))
    elif cell.runs:
        runs = list(_metrics_of(cell.runs[None]).values())
        record = runs[0] if len(runs) == 1 else summarise(runs)
        file = next(iter(cell.runs[None].values())) / METRICS_FILE
        figures = read_metrics(Field(file, "", record), metrics_in("table"))
    return LeaderboardCell(
        method=cell.method,
        dataset=cell.dataset,
        state="done" if cell.runs else "failed" if cell.failures else "missing",
        sentence=next(iter(cell.failures), ""),
        seeds=tuple(cell.seeds),
        figures=figures,
        estimates={},
        seconds=fmean(cell.seconds) if cell.seconds else None,
        peak_mib=max(cell.peak_mib, default=None),
        folder=cell.folder,
        splits=tuple(sorted(cell.splits)),
    )


def _answers(cells: Sequence[CellRuns]) -> _Answers | None:
    """Who is right where, on one dataset; None without a finished run that kept its answers."""
    found: _Answers | None = None
    for cell in cells:
        # Each class split has other test rows.
        for seed, folder in cell.runs.get(None, {}).items():
            file = folder / PAGE_DATA_FILE
            if not file.is_file():
                continue
            classes = read_per_class(folder / "per_class.csv")
            page_data = read_page_data(file, len(classes))
            if page_data.right is None:
                continue
            labels = page_data.answers.labels
            if found is None:
                is_seen = np.array([answers.kind == "seen" for answers in classes])
                found = _Answers(labels, is_seen)
            elif not np.array_equal(found.labels, labels):
                raise InputError(
                    f"{file}: found other test rows than in the other runs on {cell.dataset}, "
                    "expected the same ones"
                )
            found.right.setdefault(cell.method, {})[seed] = page_data.right
    return found
