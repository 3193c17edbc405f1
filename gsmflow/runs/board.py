"""A grid's runs as a leaderboard: its entries, its files, and the pages of its cells."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from gsmflow.core.environment import describe_environment
from gsmflow.core.files import read_json, write_bytes, write_json
from gsmflow.core.tables import Grid, latex, markdown
from gsmflow.evaluation.ranks import Ranking
from gsmflow.methods.registry import find_method
from gsmflow.reports.cost_figure import cost_figure
from gsmflow.reports.drawing import drawn
from gsmflow.reports.leaderboard.collect import (
    CellRuns,
    collect_cells,
    rank_cells,
    summarise_runs,
)
from gsmflow.reports.leaderboard.entries import DatasetEntry, Leaderboard, MethodEntry
from gsmflow.reports.leaderboard.finished import (
    FinishedRun,
    write_finished_runs,
)
from gsmflow.reports.leaderboard.forms import (
    RANKED_BY,
    csv_of,
    dataset_grid,
    document_of,
    rank_grid,
)
from gsmflow.reports.leaderboard.render import render_leaderboard
from gsmflow.reports.page.document import read_run
from gsmflow.reports.page.render import render_page
from gsmflow.reports.published import Published
from gsmflow.reports.rank_figure import rank_figure
from gsmflow.runs.benchmark import CellRun
from gsmflow.runs.grid import Cell, GridData, MethodChoice
from gsmflow.runs.sections import REPORTS

__all__ = ["collect_board", "write_board"]

KEPT_FILE = "leaderboard.safetensors"
_BOOTSTRAP_SEED = 0
_PICTURES = {"leaderboard.png": "H cal. against the seconds of a run", "ranks.png": "average ranks"}
_Kept = TypeVar("_Kept")


def collect_board(
    runs: Sequence[CellRun],
    finished: Mapping[str, FinishedRun],
    datasets: Sequence[GridData],
    published: Sequence[Published],
    *,
    preset: str,
    command: str,
    draws: int,
) -> Leaderboard:
    """The leaderboard of a grid, as far as its runs are over.

    Parameters
    ----------
    runs
        All runs of the grid.
    finished
        Those that are finished, by their addresses.
    datasets
        The grid's datasets.
    published
        Published figures, of which those of these datasets are shown.
    preset
        The preset of all cells.
    command
        The command that makes it.
    draws
        Draws of the bootstrap; 0 for no intervals.

    Raises
    ------
    InputError
        If a figure is missing, or two runs on a dataset have other test rows.
    """
    by_cell = _by_cell(runs)
    cells = list(by_cell)
    of_methods = [*_runs_of_methods(by_cell, finished)]
    of_cells = [of_method for _, of_method in of_methods]
    found = collect_cells(of_cells, draws, np.random.default_rng(_BOOTSTRAP_SEED))
    names = {data.recipe.dataset for data in datasets}
    splits = max((len(cell.splits) for cell in cells), default=0)
    classifiers = {cell.method: cell.recipe.classifier_name for cell in cells}
    return Leaderboard(
        datasets=tuple(map(_dataset_entry, datasets)),
        methods=tuple(
            _method_entry(method, classifiers.get(method, method.classifier), preset)
            for method in dict.fromkeys(method for method, _ in of_methods)
        ),
        cells=tuple(found),
        ranking=rank_cells(found),
        published=tuple(entry for entry in published if entry.dataset in names),
        command=command,
        environment=_environment([*finished.values()]),
        class_splits=splits,
        shares_models=len(of_methods) > len(cells),
    )


def _environment(runs: Sequence[FinishedRun]) -> dict[str, str]:
    devices = Counter(run.device or "an unknown device" for run in runs)
    commits = Counter(run.commit or "an unknown commit" for run in runs)
    found = describe_environment(torch.device("cpu"), 0)
    packages = [f"{name} {number}" for name, number in found["packages"].items()]
    return {
        "runs": ", ".join(f"{count} on {device}" for device, count in devices.most_common()),
        "commit": ", ".join(_commits(commits)),
        "machine": f"{found['device_name']}, {found['platform']}",
        "versions": ", ".join([f"Python {found['python']}", *packages]),
    }


def _commits(runs: Counter[str]) -> list[str]:
    """The commits that runs are of, with their numbers if there are several."""
    if len(runs) == 1:
        return [*runs]
    return [f"{commit} ({count} runs)" for commit, count in runs.most_common()]


def _method_entry(method: MethodChoice, classifier: str, preset: str) -> MethodEntry:
    info = find_method(method.name)
    return MethodEntry(
        key=method.key,
        label=method.label,
        kind=info.kind,
        classifier="" if info.classifies else classifier,
        preset=preset,
        paper=info.paper,
    )


def _dataset_entry(data: GridData) -> DatasetEntry:
    dataset, recipe = data.dataset, data.recipe
    return DatasetEntry(
        dataset=recipe.dataset,
        features=recipe.features,
        semantics=recipe.semantics_label,
        seen=len(dataset.seen_classes),
        unseen=len(dataset.unseen_classes),
        rows=len(dataset.test_seen) + len(dataset.test_unseen),
    )


def _by_cell(runs: Sequence[CellRun]) -> dict[Cell, list[CellRun]]:
    found: dict[Cell, list[CellRun]] = {}
    for run in runs:
        found.setdefault(run.cell, []).append(run)
    return found


def _by_split(runs: Mapping[CellRun, _Kept]) -> dict[int | None, dict[int, _Kept]]:
    """What is kept of runs of a cell, by class split and seed."""
    found: dict[int | None, dict[int, _Kept]] = {}
    for run, kept in runs.items():
        found.setdefault(run.split, {})[run.seed] = kept
    return found


def _methods_of(cell: Cell, by_cell: Collection[Cell]) -> list[MethodChoice]:
    """A cell's method, and with each further classifier that has no cells of its own."""
    asked_for = {other.method for other in by_cell}
    return [cell.method, *(beside for beside in cell.methods_beside if beside not in asked_for)]


def _runs_of_methods(
    by_cell: Mapping[Cell, Sequence[CellRun]], finished: Mapping[str, FinishedRun]
) -> Iterator[tuple[MethodChoice, CellRuns]]:
    """The runs of each cell, then those of each further classifier on their models."""
    for cell, runs in by_cell.items():
        of_cell = _runs_of(cell, runs, finished)
        for method in _methods_of(cell, by_cell):
            is_beside = method != cell.method
            yield method, _with_classifier(of_cell, method) if is_beside else of_cell


def _with_classifier(of_cell: CellRuns, method: MethodChoice) -> CellRuns:
    """The runs of a cell as those of a further classifier on their models."""
    runs = {
        split: {seed: run.with_classifier(method.classifier) for seed, run in of_split.items()}
        for split, of_split in of_cell.runs.items()
    }
    return replace(of_cell, method=method.key, runs=runs)


def _runs_of(cell: Cell, runs: Sequence[CellRun], finished: Mapping[str, FinishedRun]) -> CellRuns:
    done = {run: finished[run.address] for run in runs if run.address in finished}
    outcomes = [run.outcome for run in runs if run not in done]
    return CellRuns(
        method=cell.method.key,
        dataset=cell.data.key,
        folder=cell.folder,
        runs=_by_split(done),
        failures=[outcome.sentence for outcome in outcomes if outcome is not None],
    )


def write_board(
    board: Leaderboard,
    runs: Sequence[CellRun],
    finished: Mapping[str, FinishedRun],
    out: Path,
    warn: Callable[[str], object],
) -> list[Path]:
    """Write a leaderboard as a page, CSV, Markdown and LaTeX, and the page of each finished cell.

    Its runs go into a file beside it, for `known_runs`.

    Parameters
    ----------
    board
        The leaderboard.
    runs
        All runs of its grid.
    finished
        Those that are finished, by their addresses.
    out
        The folder; the files are named ``leaderboard``.
    warn
        Called with a sentence if a picture cannot be drawn.

    Returns
    -------
    list of Path
        The files of the leaderboard, its page first; with a picture of ranks if there are some.

    Raises
    ------
    InputError
        If a file of a run is damaged.
    """
    by_cell = _by_cell(runs)
    pages: dict[tuple[str, str], Path | None] = {}
    for cell, of_cell in by_cell.items():
        page = _write_page(cell, of_cell)
        pages |= {(m.key, cell.data.key): page for m in _methods_of(cell, by_cell)}
    known = {key: page for key, page in pages.items() if page is not None}
    pictures = _draw(board, out, warn)
    contents = {
        "html": render_leaderboard(document_of(board, out, known)),
        "csv": csv_of(board),
        "md": _markdown_of(board, pictures),
        "tex": "\n".join(map(latex, _grids(board))),
    }
    files = []
    for ending, text in contents.items():
        files.append(out / f"leaderboard.{ending}")
        write_bytes(files[-1], text.encode())
    files.append(out / KEPT_FILE)
    write_finished_runs(files[-1], finished)
    return [*files, *pictures]


def _grids(board: Leaderboard) -> list[Grid]:
    """The tables of the datasets, and that of the ranks where there are some."""
    ranks = rank_grid(board)
    grids = [dataset_grid(board, dataset) for dataset in board.datasets]
    return grids if ranks is None else [*grids, ranks]


def _markdown_of(board: Leaderboard, pictures: Sequence[Path]) -> str:
    """The page in Markdown: the command, what made the figures, the tables and the pictures."""
    made = board.environment
    parts = [
        f"# Leaderboard\n\n```bash\n{board.command}\n```\n",
        f"Runs: {made['runs']}. Commit {made['commit']}, {made['versions']}.\n",
        *map(markdown, _grids(board)),
        *(f"![{_PICTURES[picture.name]}]({picture.name})\n" for picture in pictures),
    ]
    return "\n".join(parts)


def _draw(board: Leaderboard, out: Path, warn: Callable[[str], object]) -> list[Path]:
    """Draw the pictures; one that cannot be drawn is left out."""
    costs = partial(cost_figure, out / "leaderboard.png", board, RANKED_BY)
    files = drawn(costs, warn)
    if board.ranking is not None:
        ranking = _with_labels(board, board.ranking)
        title = "Average rank by H cal."
        files += drawn(partial(rank_figure, out / "ranks.png", ranking, title), warn)
    return files


def _with_labels(board: Leaderboard, ranking: Ranking) -> Ranking:
    """A ranking with the labels of its methods in place of their keys."""
    label = board.label
    return replace(
        ranking,
        methods=tuple(map(label, ranking.methods)),
        groups=tuple(tuple(map(label, group)) for group in ranking.groups),
    )


def _write_page(cell: Cell, runs: Sequence[CellRun]) -> Path | None:
    """The page of a cell's runs that finished here; it is made anew only if they have changed."""
    outcomes = {run: run.outcome for run in runs}
    folders = _by_split({run: run.folder for run, o in outcomes.items() if o and o.state == "done"})
    if not folders:
        return None
    page, mark = cell.folder / "report.html", cell.folder / "report.json"
    seeds = sorted({seed for of_split in folders.values() for seed in of_split})
    splits = [[split, *of] for split, of in folders.items() if split is not None]
    content = {"seeds": seeds, "class_splits": splits}
    if page.is_file() and mark.is_file() and read_json(mark) == content:
        return page
    summarise_runs(cell.folder, folders)
    write_bytes(page, render_page(read_run(cell.folder, REPORTS)).encode())
    write_json(mark, content)
    return page
