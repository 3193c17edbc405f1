"""Accuracy against seconds: which method is worth its time on each dataset of a leaderboard."""

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gsmflow.evaluation.measures import METRICS
from gsmflow.reports.figures import STYLES, save_figure
from gsmflow.reports.leaderboard.entries import DatasetEntry, Leaderboard

__all__ = ["CostPoint", "cost_figure", "worth_their_time"]

_COLUMNS, _WIDTH, _HEIGHT = 2, 4.6, 3.4
_FRONT = "0.6"


class CostPoint(NamedTuple):
    """A method on a dataset.

    Attributes
    ----------
    name, kind
        The method's label and kind.
    seconds
        Of a run, positive.
    percent
        The figure of the run.
    """

    name: str
    kind: str
    seconds: float
    percent: float


def worth_their_time(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other one equals or beats in as many seconds or fewer, fastest first."""
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda p: (p.seconds, -p.percent)):
        if not found or point.percent > found[-1].percent:
            found.append(point)
    return found


def cost_figure(path: Path, board: Leaderboard, metric: str) -> Path:
    """Draw a figure of each method against the seconds of a run as PNG, a panel for each dataset.

    A line joins the methods that are worth their time (`worth_their_time`), which have names. A
    dataset without a figure has no panel.

    Parameters
    ----------
    path
        The file.
    board
        The leaderboard; cells without the figure or without seconds are left out.
    metric
        The key of the figure.
    """
    kinds = sorted({entry.kind for entry in board.methods})
    styles = dict(zip(kinds, cycle(STYLES), strict=False))
    label = next(m.label for m in METRICS if m.key == metric)
    points = {dataset: _points(board, dataset, metric) for dataset in board.datasets}
    shown = [dataset for dataset in board.datasets if points[dataset]]
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = max(-(-len(shown) // columns), 1)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, dataset in zip(panels, shown, strict=False):
        _draw_panel(panel, points[dataset], styles)
        panel.set_title(dataset.title, fontsize=9, parse_math=False)
        panel.set(xlabel="seconds of a run", ylabel=f"{label}, %")
    for panel in panels[len(shown) :]:
        panel.axis("off")
    handles = [
        panels[0].plot([], [], marker=marker, color=color, ls="", label=kind)[0]
        for kind, (color, marker) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
    save_figure(figure, path, dpi=150)
    return path


def _points(board: Leaderboard, dataset: DatasetEntry, metric: str) -> list[CostPoint]:
    kinds = {entry.key: entry.kind for entry in board.methods}
    return [
        CostPoint(
            board.label(cell.method), kinds[cell.method], cell.seconds, cell.figures[metric].mean
        )
        for cell in board.cells_of(dataset)
        if cell.seconds and metric in cell.figures
    ]


def _draw_panel(
    panel: Axes, points: Sequence[CostPoint], styles: dict[str, tuple[str, str]]
) -> None:
    front = worth_their_time(points)
    panel.plot([p.seconds for p in front], [p.percent for p in front], color=_FRONT, lw=1, zorder=1)
    for point in points:
        color, marker = styles[point.kind]
        panel.plot(point.seconds, point.percent, marker=marker, color=color, ls="", ms=5)
    panel.set_xscale("log")
    for axis in (panel.xaxis.set_major_formatter, panel.xaxis.set_minor_formatter):
        axis(LogFormatter(minor_thresholds=(1, 0.4)))
    panel.margins(x=0.12, y=0.12)
    left, right = panel.get_xlim()
    for i, point in enumerate(front):
        above = i % 2 == 0
        along = math.log(point.seconds / left) / math.log(right / left)
        panel.annotate(
            point.name,
            (point.seconds, point.percent),
            (0, 7 if above else -7),
            textcoords="offset points",
            # Towards the middle, so that no name leaves the panel.
            ha="left" if along < 0.3 else "right" if along > 0.7 else "center",
            va="bottom" if above else "top",
            fontsize=7,
            parse_math=False,
        )
    panel.grid(color="0.9", lw=0.6)
    panel.set_axisbelow(True)
