"""The runs of a leaderboard's cells, read from their directories: figures and intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.aggregate import summarise, summarise_seeds
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.json_records import read_record
from gsmflow.core.run_files import METRICS_FILE, RECIPE_FILE
from gsmflow.evaluation.bootstrap import Estimate, RightAnswers, bootstrap
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
        The directories of the finished ones, by seed.
    failures
        Why others failed, by seed.
    seconds, peak_mib
        Of each finished run, where known.
    """

    method: str
    dataset: str
    folder: Path
    runs: Mapping[int, Path]
    failures: Mapping[int, str]
    seconds: Sequence[float] = ()
    peak_mib: Sequence[int] = ()


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
        Draws of the bootstrap; 0 for no intervals.
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
        answers = _answers([cell for cell in cells if cell.dataset == dataset])
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
    seeds = sorted(cell.runs)
    metrics = summarise_seeds(
        {seed: open_metrics(cell.runs[seed] / METRICS_FILE).object() for seed in seeds}
    )
    recipe = read_record(cell.runs[seeds[0]] / RECIPE_FILE, dict[str, Any])
    write_json(cell.folder / RECIPE_FILE, {**recipe, "seed": seeds[0], "seeds": len(seeds)})
    write_json(cell.folder / METRICS_FILE, metrics)


def _cell(cell: CellRuns) -> LeaderboardCell:
    figures = {}
    if cell.runs:
        runs = [open_metrics(folder / METRICS_FILE).object() for folder in cell.runs.values()]
        record = runs[0] if len(runs) == 1 else summarise(runs)
        file = next(iter(cell.runs.values())) / METRICS_FILE
        figures = read_metrics(Field(file, "", record), metrics_in("table"))
    sentence = next(iter(cell.failures.values()), "")
    return LeaderboardCell(
        method=cell.method,
        dataset=cell.dataset,
        state="done" if cell.runs else "failed" if cell.failures else "missing",
        sentence=sentence,
        seeds=tuple(sorted(cell.runs)),
        figures=figures,
        estimates={},
        seconds=fmean(cell.seconds) if cell.seconds else None,
        peak_mib=max(cell.peak_mib, default=None),
        folder=cell.folder,
    )


def _answers(cells: Sequence[CellRuns]) -> _Answers | None:
    """Who is right where, on one dataset; None without a finished run that kept its answers."""
    found: _Answers | None = None
    for cell in cells:
        for seed, folder in cell.runs.items():
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
