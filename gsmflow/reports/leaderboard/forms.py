"""A leaderboard as CSV, Markdown, LaTeX, and as the document that its page shows."""

import csv
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsmflow.core.csv_cells import csv_text, from_cell
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.rounding import fixed
from gsmflow.core.tables import Best, Cell, Grid, MeanStd
from gsmflow.evaluation.measures import metrics_in
from gsmflow.reports.leaderboard.entries import (
    DatasetEntry,
    Leaderboard,
    LeaderboardCell,
)
from gsmflow.reports.published import Published

__all__ = [
    "LEAST_STD",
    "PROTOCOL",
    "RANKED_BY",
    "CsvCell",
    "csv_of",
    "dataset_grid",
    "document_of",
    "moved",
    "rank_grid",
    "read_csv",
]

PROTOCOL = (
    "last epoch; nothing chosen on test; means over classes; cal.: with a calibration factor "
    "chosen on validation classes"
)
_ON_SPLITS = (
    "random class splits: mean ± standard deviation over splits; the backbone may have been "
    "trained on classes that are unseen here"
)
_ON_SHARED_MODELS = (
    "METHOD, CLASSIFIER without seconds: that classifier on the trained models of METHOD"
)
RANKED_BY = "H_calibrated"
LEAST_STD = 0.2
"""Standard deviation of a figure at least, in points: another processor rounds otherwise."""

_NAMES = ("dataset", "features", "semantics", "method", "preset", "seeds", "state")
_SPLITS = "class_splits"
_COSTS = ("seconds", "peak_mib")


def dataset_grid(board: Leaderboard, dataset: DatasetEntry) -> Grid:
    """The table of a dataset: a row for each method, and published figures in a section below."""
    metrics = metrics_in("table")
    names = ("method", "seeds", *(["class splits"] if board.class_splits else []))
    ours = tuple(_row(board, cell) for cell in board.cells_of(dataset))
    # The same figures may be printed in several papers.
    theirs = tuple(
        dict.fromkeys(
            (
                f"{entry.method} ({_origin(entry)})",
                "",
                *([""] if board.class_splits else []),
                *(_percent(entry.measures.get(metric.key)) for metric in metrics),
                "",
                "",
            )
            for entry in board.published
            if entry.dataset == dataset.dataset
        )
    )
    how = "paired bootstrap over classes, rows and seeds"
    if board.class_splits:
        how = "paired Student's t over class splits"
    notes = [
        _protocol_of(board),
        f"* or bold: no method is significantly better ({how}, 95%, not corrected for the number "
        "of methods)",
    ]
    if theirs:
        notes.append(
            "below the rule: published figures, on other features and mostly the best on test"
        )
    failures = [
        f"{board.label(cell.method)}: {cell.sentence}"
        for cell in board.cells_of(dataset)
        if cell.sentence
    ]
    return Grid(
        title=f"{dataset.title}, {dataset.seen} seen and {dataset.unseen} unseen classes",
        columns=(*names, *(metric.label for metric in metrics), "seconds", "MiB"),
        align="l" + "r" * (len(names) + len(metrics) + 1),
        sections=tuple(section for section in (ours, theirs) if section),
        notes=(*notes, *failures),
    )


def _origin(entry: Published) -> str:
    """Where and when figures were published, and on which features."""
    return ", ".join(filter(None, (f"{entry.venue} {entry.year}".strip(), entry.features)))


def _row(board: Leaderboard, cell: LeaderboardCell) -> tuple[Cell, ...]:
    figures = (_marked(cell, metric.key) for metric in metrics_in("table"))
    seeds = str(len(cell.seeds)) if cell.seeds else cell.state
    splits = [str(len(cell.splits) or "")] if board.class_splits else []
    return (board.label(cell.method), seeds, *splits, *figures, *_costs(cell))


def _protocol_of(board: Leaderboard) -> str:
    parts = (
        PROTOCOL,
        _ON_SPLITS if board.class_splits else "",
        _ON_SHARED_MODELS if board.shares_models else "",
    )
    return "; ".join(filter(None, parts))


def _marked(cell: LeaderboardCell, key: str) -> Cell:
    figure, estimate = cell.figures.get(key), cell.estimates.get(key)
    if figure is None or estimate is None or not estimate.best:
        return figure
    return Best(figure)


def _costs(cell: LeaderboardCell) -> tuple[Cell, Cell]:
    seconds = None if cell.seconds is None else f"{cell.seconds:.0f}"
    return seconds, None if cell.peak_mib is None else str(cell.peak_mib)


def _percent(value: float | None) -> Cell:
    return None if value is None else MeanStd(value)


def rank_grid(board: Leaderboard) -> Grid | None:
    """Average ranks over datasets, best first; None where methods cannot be ranked."""
    ranking = board.ranking
    if ranking is None:
        return None
    rows: list[tuple[Cell, ...]] = [
        (board.label(method), f"{rank:.2f}")
        for method, rank in zip(ranking.methods, ranking.ranks, strict=True)
    ]
    notes = [
        f"ranks by H cal. over {len(ranking.datasets)} datasets; methods closer than the critical "
        f"difference {ranking.critical_difference:.2f} do not differ significantly (Nemenyi, "
        f"{1 - ranking.alpha:.0%}; Demsar, JMLR 2006)"
    ]
    if ranking.left_out:
        names = "; ".join(map(board.label, ranking.left_out))
        notes.append(f"without figures on all of them, so not ranked: {names}")
    return Grid("Average ranks", ("method", "rank"), "lr", (tuple(rows),), tuple(notes))


def csv_of(board: Leaderboard) -> str:
    """All cells as CSV: a mean, a standard deviation and an interval for each metric."""
    keys = [metric.key for metric in metrics_in("table")]
    columns = [*_NAMES, *([_SPLITS] if board.class_splits else [])]
    columns += [f"{key}{end}" for key in keys for end in ("", "_std", "_low", "_high", "_best")]
    columns += [*_COSTS, "sentence"]
    lines: list[list[object]] = [[*columns]]
    presets = {entry.key: entry.preset for entry in board.methods}
    for dataset in board.datasets:
        for cell in board.cells_of(dataset):
            row: list[object] = [dataset.dataset, dataset.features, dataset.semantics]
            row += [cell.method, presets[cell.method], " ".join(map(str, cell.seeds)), cell.state]
            row += [" ".join(map(str, cell.splits))] if board.class_splits else []
            for key in keys:
                row += _numbers(cell, key)
            seconds = "" if cell.seconds is None else f"{cell.seconds:.1f}"
            row += [seconds, "" if cell.peak_mib is None else cell.peak_mib, cell.sentence]
            lines.append(row)
    return csv_text(lines)


def _numbers(cell: LeaderboardCell, key: str) -> list[str]:
    figure, estimate = cell.figures.get(key), cell.estimates.get(key)
    mean, std = ("", "") if figure is None else (f"{figure.mean:.4f}", _digits(figure.std))
    if estimate is None:
        return [mean, std, "", "", ""]
    best = "yes" if estimate.best else "no"
    return [mean, std, _digits(100 * estimate.low), _digits(100 * estimate.high), best]


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@dataclass(frozen=True)
class CsvCell:
    """A cell of a leaderboard that was written as CSV.

    Attributes
    ----------
    dataset
        The key of its dataset.
    method, preset
        The key of its method and its preset.
    seeds
        The seeds of its runs.
    figures
        Metrics in percent by key.
    splits
        The random class splits of its runs; none with the dataset's own split.
    """

    dataset: str
    method: str
    preset: str
    seeds: tuple[int, ...]
    figures: Mapping[str, MeanStd]
    splits: tuple[int, ...] = ()


def read_csv(path: Path) -> list[CsvCell]:
    """The finished cells of a leaderboard, from what `csv_of` wrote.

    Raises
    ------
    InputError
        If the file cannot be read, or is no leaderboard.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            rows = [{k: from_cell(v) for k, v in line.items() if v is not None} for line in lines]
        return [_csv_cell(row) for row in rows if row["state"] == "done"]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected the CSV file of a leaderboard"
        ) from error


def moved(expected: CsvCell, found: LeaderboardCell) -> list[str]:
    """The labels of metrics of a cell that are more than three standard deviations away.

    Parameters
    ----------
    expected
        The cell as it was.
    found
        The cell now, of one seed or more.

    Returns
    -------
    list of str
        As ``H cal. 54.6 -> 51.0 (0.9)``. A standard deviation of less than `LEAST_STD` points, such
        as that of a closed form or of a single seed, counts as that.
    """
    lines = []
    for metric in metrics_in("table"):
        before, now = expected.figures.get(metric.key), found.figures.get(metric.key)
        if before is None or now is None:
            continue
        std = max(before.std or 0.0, LEAST_STD)
        if abs(now.mean - before.mean) > 3 * std:
            lines.append(f"{metric.label} {fixed(before.mean)} -> {fixed(now.mean)} ({fixed(std)})")
    return lines


def _csv_cell(row: Mapping[str, str]) -> CsvCell:
    figures = {
        metric.key: MeanStd(float(row[metric.key]), float(row[f"{metric.key}_std"] or 0) or None)
        for metric in metrics_in("table")
        if row[metric.key]
    }
    return CsvCell(
        dataset=":".join(row[name] for name in ("dataset", "features", "semantics")),
        method=row["method"],
        preset=row["preset"],
        seeds=tuple(map(int, row["seeds"].split())),
        figures=figures,
        splits=tuple(map(int, row.get(_SPLITS, "").split())),
    )


def document_of(
    board: Leaderboard, folder: Path, pages: Mapping[tuple[str, str], Path]
) -> dict[str, Any]:
    """What the page of a leaderboard shows, JSON-ready.

    Parameters
    ----------
    board
        The leaderboard.
    folder
        The folder of the page, from which it leads to others.
    pages
        The page of each cell that has one, by the keys of method and dataset.
    """
    ranking = board.ranking
    return {
        "title": "Leaderboard",
        "command": board.command,
        "made": dict(board.environment),
        "protocol": _protocol_of(board),
        "class_splits": board.class_splits,
        "metrics": [
            {"key": m.key, "label": m.label, "description": m.description}
            for m in metrics_in("table")
        ],
        "datasets": [{"key": entry.key, **asdict(entry)} for entry in board.datasets],
        "methods": [asdict(entry) for entry in board.methods],
        "cells": [
            _cell_document(cell, pages.get((cell.method, cell.dataset)), folder)
            for cell in board.cells
        ],
        "ranks": None
        if ranking is None
        else {
            "metric": RANKED_BY,
            "methods": [
                {"key": key, "rank": rank}
                for key, rank in zip(ranking.methods, ranking.ranks, strict=True)
            ],
            "critical_difference": ranking.critical_difference,
            "datasets": len(ranking.datasets),
            "p": None if ranking.friedman is None else ranking.friedman.f_p,
        },
        "published": [asdict(entry) for entry in board.published],
    }


def _cell_document(cell: LeaderboardCell, page: Path | None, folder: Path) -> dict[str, Any]:
    return {
        "method": cell.method,
        "dataset": cell.dataset,
        "state": cell.state,
        "sentence": cell.sentence,
        "seeds": list(cell.seeds),
        "figures": {key: _figure_document(cell, key) for key in cell.figures},
        "seconds": cell.seconds,
        "peak_mib": cell.peak_mib,
        "page": None if page is None else os.path.relpath(page, folder).replace(os.sep, "/"),
    }


def _figure_document(cell: LeaderboardCell, key: str) -> dict[str, Any]:
    figure, estimate = cell.figures[key], cell.estimates.get(key)
    return {
        "mean": figure.mean,
        "std": figure.std,
        "low": None if estimate is None else 100 * estimate.low,
        "high": None if estimate is None else 100 * estimate.high,
        "best": estimate is not None and estimate.best,
    }
