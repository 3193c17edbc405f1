"""The tables of runs, ablations, sweeps and few-shot learning."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rich.table import Table

from gsmflow.core.aggregate import mean_std
from gsmflow.core.tables import Cell, Grid, MeanStd

__all__ = [
    "ORACLE_LABEL",
    "ShotFigures",
    "ablation_table",
    "extra_lines",
    "few_shot_grid",
    "gated_name",
    "result_table",
    "sweep_grid",
]


ORACLE_LABEL = "oracle (real unseen rows)"


# Few-shot figures in percent: of each k those that are known of the measures, H_pen (H under the
# penalty) and share (of real rows among those of an unseen class).
ShotFigures: TypeAlias = Mapping[int, Mapping[str, MeanStd]]


_MEASURES = ("T1", "U", "S", "H", "AUSUC")


_CALIBRATED = ("U", "S", "H")


_CHOSEN = {name: name for name in ("T1", "U", "S", "H")}


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
    """What a run was asked for besides its table, each a labelled line of its own, in percent."""
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
        told = metrics["top_k"]
        k = told["k"]["mean"] if isinstance(told["k"], Mapping) else told["k"]
        lines.append(f"right class among the first {k:.0f} answers:  {_in_line(told)}")
    if "test_selected" in metrics:
        lines.append(
            "SELECTED ON TEST (the best of the training's intervals and the classifier's epochs; "
            f"to be compared with figures selected likewise alone):  "
            f"{_in_line(metrics['test_selected'])}"
        )
    return lines


def _in_line(told: Mapping[str, Any], names: Mapping[str, str] = _CHOSEN) -> str:
    return "  ".join(f"{label} {_text(told[name], ' ±')}" for label, name in names.items())


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
    names = [*_MEASURES, "H pen.", *(("val. H", "val. H pen.") if validated else ())]
    rows: list[tuple[Cell, ...]] = []
    for point in sweep["points"]:
        calibrated, told = point["calibrated"] or {}, point["validation"] or {}
        values = [point[name] for name in _MEASURES] + [calibrated.get("H")]
        values += [told.get("H"), told.get("H_calibrated")] if validated else []
        rows.append((*point["values"].values(), *map(mean_std, values)))
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


def few_shot_grid(title: str, runs: Mapping[str, ShotFigures], notes: Sequence[str]) -> Grid:
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
    names = {**{name: name for name in _MEASURES}, "H_pen": "H pen.", "share": "real"}
    of_all = [figures for run in runs.values() for figures in run.values()]
    known = {key: label for key, label in names.items() if any(key in own for own in of_all)}
    if "share" in known:
        notes = [
            *notes,
            "real: share of real rows among those of an unseen class; the others are synthesized",
        ]
    sections = tuple(
        tuple((name, str(k), *map(own.get, known)) for k, own in run.items())
        for name, run in runs.items()
    )
    columns = ("method", "k", *known.values())
    return Grid(title, columns, "l" + "r" * (len(columns) - 1), sections, tuple(notes))


def _add_columns(table: Table, first: str) -> None:
    table.add_column(first, overflow="fold")
    for name in (*_MEASURES, *(f"{name} pen." for name in _CALIBRATED)):
        # Of several seeds, the standard deviation stands below the mean.
        table.add_column(name, justify="right", min_width=4, overflow="fold")


def _cells(measures: Mapping[str, Any]) -> list[str]:
    calibrated = measures.get("calibrated") or {}
    values = [measures[name] for name in _MEASURES]
    values += [calibrated.get(name) for name in _CALIBRATED]
    return [_text(value, "\n±") for value in values]


def _text(value: float | Mapping[str, Any] | None, plus_minus: str) -> str:
    told = mean_std(value)
    return "-" if told is None else told.text(plus_minus)
