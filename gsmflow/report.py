"""What a run shows: the result table and its pictures."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rich.table import Table

from gsmflow.evaluate import Outcome
from gsmflow.spread import percent
from gsmflow.util import write_bytes

__all__ = ["ablation_table", "extra_lines", "image_grid", "result_table", "run_figure"]

_MEASURES = ("T1", "U", "S", "H", "AUSUC")
_CALIBRATED = ("U", "S", "H")


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
    if "oracle" in metrics:
        rows["oracle (real unseen rows)"] = metrics["oracle"]
    for method, measures in rows.items():
        table.add_row(method, *_cells(measures), style="bold" if measures is metrics else None)
    return table


def extra_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What a run was asked for besides its table, each a labelled line of its own, in percent."""
    lines = []
    if "top_k" in metrics:
        told = metrics["top_k"]
        k = told["k"]["mean"] if isinstance(told["k"], Mapping) else told["k"]
        figures = "  ".join(f"{name} {percent(told[name])}" for name in ("T1", "U", "S", "H"))
        lines.append(f"right class among the first {k:.0f} answers:  {figures}")
    if "test_selected" in metrics:
        told = metrics["test_selected"]
        figures = "  ".join(f"{name} {percent(told[name])}" for name in ("T1", "U", "S", "H"))
        lines.append(
            f"SELECTED ON TEST (the best of the training's intervals and the classifier's epochs; "
            f"to be compared with figures selected likewise alone):  {figures}"
        )
    return lines


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


def _add_columns(table: Table, first: str) -> None:
    table.add_column(first, overflow="fold")
    for name in (*_MEASURES, *(f"{name} pen." for name in _CALIBRATED)):
        # Of several seeds, the standard deviation stands below the mean.
        table.add_column(name, justify="right", min_width=4, overflow="fold")


def _cells(measures: Mapping[str, Any]) -> list[str]:
    calibrated = measures.get("calibrated") or {}
    values = [measures[name] for name in _MEASURES]
    values += [calibrated.get(name) for name in _CALIBRATED]
    return [percent(value).replace(" ", "\n") for value in values]


def run_figure(
    path: Path,
    *,
    history: Sequence[Mapping[str, float]],
    curve: Sequence[Mapping[str, float]],
    outcomes: Mapping[str, tuple[Outcome, float | None]],
) -> None:
    """Draw a run as PNG: losses, the validation curve, and the seen-unseen curves on test.

    Parameters
    ----------
    path
        The file.
    history
        The mean loss parts of each epoch of the final training, each with its ``epoch``.
    curve
        Measures on validation classes, each with its ``epoch``; may be empty.
    outcomes
        Method to its outcome on test and the penalty chosen for it, if any.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    panels = figure.subplots(1, 3 if curve else 2)
    _draw_losses(panels[0], history)
    if curve:
        _draw_validation(panels[1], curve)
    _draw_seen_unseen(panels[-1], outcomes)
    _save(figure, path)


def image_grid(path: Path, rows: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """Draw, for each class, real images on the left and synthesized ones on the right, as PNG.

    Parameters
    ----------
    path
        The file.
    rows
        Class name to its real and its synthesized images, each ``(m, height, width)`` with
        values from 0 (white) to 1 (black).
    """
    real, synthesized = next(iter(rows.values()))
    gap = len(real)  # an empty column parts the two kinds
    columns, (height, width) = gap + 1 + len(synthesized), real.shape[1:]
    figure = Figure(figsize=(columns, len(rows) * height / width + 0.6))
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, parts) in zip(panels, rows.items(), strict=True):
        line[gap].axis("off")
        for panel, image in zip(np.delete(line, gap), np.concatenate(parts), strict=True):
            panel.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
    panels[0][0].set_title("real test images", loc="left")
    panels[0][gap + 1].set_title("synthesized, class never seen", loc="left")
    _save(figure, path)


def _draw_losses(panel: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs = [record["epoch"] for record in history]
    marker = "o" if len(history) == 1 else "-"
    twin = panel.twinx() if "prototype" in history[0] else None
    (line,) = panel.plot(epochs, [r["likelihood"] for r in history], marker, color="C0")
    lines, names = [line], ["likelihood"]
    if twin is not None:
        (line,) = twin.plot(epochs, [r["prototype"] for r in history], marker, color="C1")
        twin.set(ylabel="prototype loss, mean squared distance", yscale="log")
        lines, names = [*lines, line], [*names, "prototype"]
    panel.set(title="training losses", xlabel="epoch", ylabel="likelihood loss, nats per dimension")
    (twin or panel).legend(lines, names, fontsize="small")


def _draw_validation(panel: Axes, curve: Sequence[Mapping[str, float]]) -> None:
    epochs = [point["epoch"] for point in curve]
    for name in ("T1", "U", "S", "H", "H_calibrated"):
        calibrated = name == "H_calibrated"
        style, label = ("o--", "H, best penalty") if calibrated else ("o-", name)
        values = [100 * point[name] for point in curve]
        panel.plot(epochs, values, style, ms=3, label=label)
    panel.set(title="validation classes", xlabel="epoch", ylabel="percent", ylim=(0, 100))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(ncols=2, fontsize="small")


def _draw_seen_unseen(panel: Axes, outcomes: Mapping[str, tuple[Outcome, float | None]]) -> None:
    for i, (method, (outcome, penalty)) in enumerate(outcomes.items()):
        curve = outcome.curve()
        label = f"{method}, area {100 * curve.area:.1f}"
        panel.plot(100 * curve.unseen, 100 * curve.seen, color=f"C{i}", label=label)
        for value, marker in ((0.0, "o"), (penalty, "D")):
            if value is not None:
                point = outcome.calibrated(value)
                panel.plot(100 * point.U, 100 * point.S, marker, color=f"C{i}")
    panel.plot([], [], "ko", label="no penalty")
    if any(penalty is not None for _, penalty in outcomes.values()):
        panel.plot([], [], "kD", label="penalty from validation classes")
    panel.set(title="test: S over U as the penalty grows", xlabel="U, percent", ylabel="S, percent")
    panel.set(xlim=(0, 100), ylim=(0, 100))
    panel.legend(loc="lower left", fontsize="small")


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())
