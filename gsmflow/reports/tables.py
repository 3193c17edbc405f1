"""The tables of runs, ablations, sweeps and few-shot learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich.table import Table

from gsmflow.core.aggregate import mean_std
from gsmflow.core.tables import Cell, Grid, MeanStd
from gsmflow.evaluation.measures import metrics_in
from gsmflow.reports.metric_values import mean_std_of

__all__ = [
    "ORACLE_LABEL",
    "FewShotPoint",
    "FewShotPoints",
    "ablation_table",
    "extra_lines",
    "few_shot_grid",
    "gated_name",
    "result_table",
    "sweep_grid",
]


ORACLE_LABEL = "oracle (real unseen rows)"


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


def result_table(metrics: Mapping[str, Any]) -> Table:
    """The table of a run, or of the runs of several seeds, in percent.

    Parameters
    ----------
    metrics
        What ``metrics.json`` holds.
    """
    seeds = metrics.get("seeds")
    which = f"seed {metrics['seed']}" if seeds is None else f"mean ± std of {len(seeds)} seeds"
    table = Table(
        title=f"{metrics['dataset']} · {metrics['features']} · {metrics['semantics']} · "
        f"{which} · percent, means over classes",
        caption=metrics["protocol"],
        caption_justify="left",
    )
    _add_columns(table, "method")
    rows = {**metrics["baselines"], metrics["model"]: metrics}
    if "gate" in metrics:
        rows[gated_name(metrics)] = metrics["gate"]["measures"]
    if "oracle" in metrics:
        rows[ORACLE_LABEL] = metrics["oracle"]
    for method, measures in rows.items():
        table.add_row(method, *_cells(measures), style="bold" if measures is metrics else None)
    return table


def gated_name(metrics: Mapping[str, Any]) -> str:
    """The name in tables of a run's model with its gate."""
    return f"{metrics['model']} with gate: {metrics['gate']['name']}"


def extra_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What a run measured besides its table, each a labelled line, in percent."""
    lines = []
    if "gate" in metrics:
        gate = metrics["gate"]
        alone = {"AUROC": "AUROC", "FPR at 95% TPR": "FPR95"}
        accepted = {"seen": "accepted_seen", "unseen": "accepted_unseen"}
        lines.append(
            f"gate {gate['name']} alone:  {_in_line(gate, alone)};  "
            f"accepted as seen, of test rows:  {_in_line(gate, accepted)}"
        )
    if "top_k" in metrics:
        top_k = metrics["top_k"]
        k = top_k["k"]["mean"] if isinstance(top_k["k"], Mapping) else top_k["k"]
        names = {metric.label: metric.name for metric in metrics_in("top_k")}
        lines.append(f"right class among the first {k:.0f} answers:  {_in_line(top_k, names)}")
    if "test_selected" in metrics:
        names = {metric.label: metric.name for metric in metrics_in("selected_on_test")}
        lines.append(
            "SELECTED ON TEST (the best of the training's intervals and the classifier's epochs; "
            f"to be compared with figures selected likewise alone):  "
            f"{_in_line(metrics['test_selected'], names)}"
        )
    return lines


def _in_line(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return "  ".join(f"{label} {_text(values[name], ' ±')}" for label, name in names.items())


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


def _text(value: float | Mapping[str, Any] | None, plus_minus: str) -> str:
    figure = mean_std(value)
    return "-" if figure is None else figure.text(plus_minus)
