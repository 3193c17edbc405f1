"""What a section of a run adds to tables, console, pictures and page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gsmflow.core.json_fields import Field
from gsmflow.core.tables import Grid
from gsmflow.evaluation.measures import View
from gsmflow.reports.drawing import drawn

__all__ = [
    "RowKind",
    "SectionReport",
    "SectionRow",
    "draw_reports",
    "measured",
    "table_rows",
]

RowKind: TypeAlias = Literal["baseline", "run", "oracle", "few-shot", "selected on test"]


@dataclass(frozen=True)
class SectionRow:
    """A row of metrics that a section adds.

    Attributes
    ----------
    method
        Label of the row.
    measures
        The metrics, in ``metrics.json``.
    kind
        How the row is to be read.
    view
        Which metrics it has.
    shots
        How many labelled rows of each unseen class were learned from, in a ``few-shot`` row.
    in_table
        Whether it stands in the run's main table; it is in that of ``results`` in any case.
    """

    method: str
    measures: Field
    kind: RowKind = "run"
    view: View = "results"
    shots: int | None = None
    in_table: bool = True


@dataclass(frozen=True, kw_only=True)
class SectionReport:
    """What is shown of a section, each part read from ``metrics.json``.

    Attributes
    ----------
    key
        Of the section in ``metrics.json``; nothing is asked of the rest where it is missing.
    rows
        Rows of metrics.
    lines
        Lines below the main table.
    table
        A table below the main one; None for none.
    draw
        Draws a picture into a folder; gives the file.
    page
        What the run's page shows under the key, JSON-ready.
    page_of_seeds
        Whether the page of several seeds shows it for their summary too.
    """

    key: str
    rows: Callable[[Field], Sequence[SectionRow]] = lambda metrics: ()
    lines: Callable[[Field], Sequence[str]] = lambda metrics: ()
    table: Callable[[Field], Grid] | None = None
    draw: Callable[[Field, Path], Path] | None = None
    page: Callable[[Field], Any] | None = None
    page_of_seeds: bool = False


def measured(metrics: Field, reports: Sequence[SectionReport]) -> list[SectionReport]:
    """The reports whose section a run has measured."""
    return [report for report in reports if metrics[report.key].value is not None]


def draw_reports(
    metrics: Field,
    reports: Sequence[SectionReport],
    folder: Path,
    warn: Callable[[str], object],
) -> list[Path]:
    """Draw the pictures of all measured sections into a folder, as `drawn` does; the files."""
    draws = [report.draw for report in measured(metrics, reports) if report.draw is not None]
    return [path for draw in draws for path in drawn(partial(draw, metrics, folder), warn)]


def table_rows(metrics: Field, reports: Sequence[SectionReport]) -> list[SectionRow]:
    """The rows of a run's main table: the baselines, the model, then all others."""
    model = SectionRow(metrics["model"].text(), metrics)
    added = [row for report in measured(metrics, reports) for row in report.rows(metrics)]
    shown = [row for row in added if row.in_table]
    first = [row for row in shown if row.kind == "baseline"]
    return [*first, model, *(row for row in shown if row.kind != "baseline")]
