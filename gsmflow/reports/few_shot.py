"""Few-shot figures over the number of labelled rows: table, picture, part of the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsmflow.core.json_fields import Field
from gsmflow.core.tables import Grid, MeanStd
from gsmflow.evaluation.measures import metrics_in
from gsmflow.reports.figures import few_shot_figure
from gsmflow.reports.metric_values import read_metrics
from gsmflow.reports.tables import FewShotPoint, FewShotPoints, few_shot_grid

__all__ = [
    "FEW_SHOT_PICTURE",
    "ORIGIN",
    "comparison_table",
    "draw_few_shot",
    "few_shot_draws",
    "few_shot_figures",
    "few_shot_page",
    "few_shot_table",
]

FEW_SHOT_PICTURE = "few_shot.png"

ORIGIN = ("dataset", "features", "semantics")
_NOTES = (
    "k: labelled rows of each unseen class; tested on the rows that the largest k leaves",
    "±: standard deviation over draws of these rows, and over seeds where there are several",
)


def few_shot_figures(metrics: Field) -> FewShotPoints:
    """The few-shot figures of a run, or of several seeds', from its ``metrics.json``.

    Raises
    ------
    InputError
        If there are none, or they are damaged.
    """
    by_k = metrics["few_shot"]
    if not by_k.value:
        raise by_k.refused("the figures of a run with --shots")
    points = {}
    for k in by_k.object():
        if not k.isdecimal():
            raise by_k.refused(f"numbers of labelled rows in place of {k!r}")
        record = by_k[k]
        figures, share = read_metrics(record, metrics_in("few_shot")), record["share"]
        real_share = None if share.value is None else share.mean_std()
        points[int(k)] = FewShotPoint(figures, real_share)
    return points


def few_shot_draws(metrics: Field) -> int:
    """Of how many draws a run's few-shot figures are, or several seeds', from ``metrics.json``.

    Raises
    ------
    InputError
        If the values of the draws are damaged.
    """
    by_k = metrics["few_shot"]
    of_all = [by_k[k]["H"]["values"] for k in by_k.object()]
    counts = [len(values.items()) for values in of_all]
    for values, count in zip(of_all, counts, strict=True):
        if not count or count != counts[0]:
            raise values.refused("a figure of each draw, as many for each number of labelled rows")
    return counts[0]


def draw_few_shot(metrics: Field, folder: Path) -> Path:
    """Draw a run's few-shot figures into a folder; the file."""
    path = folder / FEW_SHOT_PICTURE
    title = ", ".join(metrics[name].text() for name in ORIGIN)
    few_shot_figure(path, title, {metrics["model"].text(): few_shot_figures(metrics)})
    return path


def few_shot_table(metrics: Field) -> Grid:
    """The table of a run's few-shot figures."""
    title = " · ".join(metrics[name].text() for name in ORIGIN)
    return comparison_table(title, {metrics["model"].text(): few_shot_figures(metrics)})


def comparison_table(title: str, runs: Mapping[str, FewShotPoints]) -> Grid:
    """The table of several runs' few-shot figures, by the run's name."""
    return few_shot_grid(f"{title} · few-shot · percent", runs, _NOTES)


def few_shot_page(metrics: Field) -> dict[str, Any]:
    """The table of few-shot figures for a run's page, a row for each number of labelled rows."""
    figures = few_shot_figures(metrics)
    notes = ("k = 0: the run's classifier, without labelled rows",) if 0 in figures else ()
    grid = few_shot_grid("", {"": figures}, notes)
    rows = [row[1:] for row in grid.sections[0]]  # without the run's name
    return {
        "columns": grid.columns[1:],
        "charted": [metric.label for metric in metrics_in("few_shot_chart")],
        "rows": [
            [cell.as_json() if isinstance(cell, MeanStd) else cell for cell in row] for row in rows
        ],
        "notes": grid.notes,
        "draws": few_shot_draws(metrics),
    }
