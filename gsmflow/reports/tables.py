"""The tables of runs, ablations, sweeps and few-shot learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from gsmflow.core.aggregate import mean_std
from gsmflow.core.json_fields import Field
from gsmflow.core.rounding import fixed
from gsmflow.core.tables import Cell, Grid, MeanStd, terminal_table
from gsmflow.evaluation.measures import Metric, metrics_in
from gsmflow.reports.metric_values import mean_std_of, read_metrics
from gsmflow.reports.section import SectionReport, measured, table_rows

__all__ = [
    "FewShotPoint",
    "FewShotPoints",
    "ablation_table",
    "few_shot_grid",
    "figures_in_line",
    "print_metrics",
    "result_table",
    "section_lines",
    "sweep_grid",
]


@dataclass(frozen=True)
class FewShotPoint:
    """Few-shot figures of a run at one number of labelled rows, in percent.

    Attributes
    ----------
    figures
        Those that are known of the metrics of the few-shot table, by key.
    real_share
        Share of real rows among those of an unseen class; None where it is not known.
    """

    figures: Mapping[str, MeanStd]
    real_share: MeanStd | None = None


# By the number of labelled rows of each unseen class.
FewShotPoints: TypeAlias = Mapping[int, FewShotPoint]


def result_table(metrics: Field, reports: Sequence[SectionReport]) -> Table:
    """The table of a run, or of the runs of several seeds, in percent.

    Parameters
    ----------
    metrics
        ``metrics.json``.
    reports
        Of the sections whose rows stand in it.
    """
    facts = metrics.object()
    table = Table(
        title=f"{facts['dataset']} · {facts['features']} · {facts['semantics']} · "
        f"{_which_runs(facts)} · percent, means over classes",
        caption=facts["protocol"],
        caption_justify="left",
    )
    _add_columns(table, "method")
    for row in table_rows(metrics, reports):
        style = "bold" if row.measures is metrics else None
        table.add_row(row.method, *_cells(row.measures.object()), style=style)
    return table


def _which_runs(facts: Mapping[str, Any]) -> str:
    """The class split and the seeds that the figures of a table are of."""
    seeds = facts.get("seeds", [facts.get("seed")])
    of_seeds = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean ± std of {len(seeds)} seeds"
    if "class_splits" in facts:
        of_each = of_seeds if len(seeds) == 1 else f"each the mean of {len(seeds)} seeds"
        return f"mean ± std of {len(facts['class_splits'])} random class splits, {of_each}"
    if "class_split" in facts:
        return f"random class split {facts['class_split']['seed']}, {of_seeds}"
    return of_seeds


def print_metrics(metrics: Field, reports: Sequence[SectionReport], console: Console) -> None:
    """Print the tables and the lines of a run, or of the runs of several seeds."""
    console.print(result_table(metrics, reports))
    shown = measured(metrics, reports)
    for report in shown:
        if report.table is not None:
            console.print(terminal_table(report.table(metrics)))
    for line in [*section_lines(metrics, shown), *_interval_lines(metrics)]:
        console.print(line, soft_wrap=True)


def _interval_lines(metrics: Field) -> list[str]:
    """The 95% intervals of means over class splits in one line; none for other figures."""
    shown = metrics_in("table")
    figures = read_metrics(metrics, shown)
    ends = {m.label: figures[m.key].interval for m in shown if m.key in figures}
    texts = [
        f"{label} {fixed(pair[0])} to {fixed(pair[1])}" for label, pair in ends.items() if pair
    ]
    if not texts:
        return []
    return [f"95% intervals over class splits (Student's t): {', '.join(texts)}"]


def section_lines(metrics: Field, reports: Sequence[SectionReport]) -> list[str]:
    """What the sections say below the table, a labelled line each."""
    return [line for report in measured(metrics, reports) for line in report.lines(metrics)]


def figures_in_line(record: Field, metrics: Sequence[Metric]) -> str:
    """Metrics with their labels in one line, in percent."""
    figures = read_metrics(record, metrics)
    shown = (m for m in metrics if m.key in figures)
    return "  ".join(f"{m.label} {figures[m.key].text(' ±')}" for m in shown)


def ablation_table(ablation: Mapping[str, Any]) -> Table:
    """The table of an ablation, in percent, from what ``ablation.json`` holds."""
    variants = ablation["variants"]
    table = Table(
        title=f"{ablation['dataset']} · {ablation['features']} · {ablation['semantics']} · "
        f"mean ± std of {len(ablation['seeds'])} seeds · percent, means over classes",
        caption=ablation["protocol"],
        caption_justify="left",
    )
    _add_columns(table, "variant")
    for name, measures in variants.items():
        table.add_row(name, *_cells(measures))
    return table


def sweep_grid(sweep: Mapping[str, Any]) -> Grid:
    """The table of a sweep, in percent, from what ``sweep.json`` holds."""
    validated = any(point["validation"] for point in sweep["points"])
    shown, on_validation = metrics_in("sweep"), metrics_in("sweep_validation") if validated else ()
    names = [metric.label for metric in shown]
    names += [f"val. {metric.label}" for metric in on_validation]
    rows: list[tuple[Cell, ...]] = []
    for point in sweep["points"]:
        validation = point["validation"] or {}
        figures = [mean_std_of(point, metric) for metric in shown]
        figures += [mean_std(validation.get(metric.key)) for metric in on_validation]
        rows.append((*point["values"].values(), *figures))
    notes = [sweep["protocol"]]
    if validated:
        notes.append("val.: on the validation classes, by which a value is to be chosen")
    return Grid(
        title=f"{sweep['dataset']} · {sweep['features']} · {sweep['semantics']} · "
        f"{sweep['model']} · mean of seeds {', '.join(map(str, sweep['seeds']))} · percent",
        columns=(*sweep["over"], *names),
        align="l" * len(sweep["over"]) + "r" * len(names),
        sections=(tuple(rows),),
        notes=tuple(notes),
    )


def few_shot_grid(title: str, runs: Mapping[str, FewShotPoints], notes: Sequence[str]) -> Grid:
    """The table of few-shot figures: a section for each run, a row for each k.

    Parameters
    ----------
    title
        What the runs are of.
    runs
        Figures by the run's name.
    notes
        Sentences below the table.
    """
    points = [point for run in runs.values() for point in run.values()]
    shown = [m for m in metrics_in("few_shot") if any(m.key in point.figures for point in points)]
    with_shares = any(point.real_share is not None for point in points)
    if with_shares:
        notes = [
            *notes,
            "real: share of real rows among those of an unseen class; the others are synthesized",
        ]

    def row(name: str, k: int, point: FewShotPoint) -> tuple[Cell, ...]:
        figures = (point.figures.get(metric.key) for metric in shown)
        return (name, str(k), *figures, *([point.real_share] if with_shares else []))

    columns = ("method", "k", *(metric.label for metric in shown), *(["real"] * with_shares))
    sections = tuple(
        tuple(row(name, k, point) for k, point in run.items()) for name, run in runs.items()
    )
    return Grid(title, columns, "l" + "r" * (len(columns) - 1), sections, tuple(notes))


def _add_columns(table: Table, first: str) -> None:
    table.add_column(first, overflow="fold")
    for metric in metrics_in("table"):
        # Of several seeds, the standard deviation stands below the mean.
        table.add_column(metric.label, justify="right", min_width=4, overflow="fold")


def _cells(measures: Mapping[str, Any]) -> list[str]:
    figures = (mean_std_of(measures, metric) for metric in metrics_in("table"))
    return ["-" if figure is None else figure.text("\n±") for figure in figures]
