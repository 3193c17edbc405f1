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
from gsmflow.util import write_bytes

__all__ = ["image_grid", "result_table", "run_figure", "save_figure"]

_MEASURES = ("T1", "U", "S", "H", "AUSUC")
_CALIBRATED = ("U", "S", "H")


def result_table(metrics: Mapping[str, Any]) -> Table:
    """The table of a finished run, in percent, from what ``metrics.json`` holds."""
    table = Table(
        title=f"{metrics['dataset']} · {metrics['features']} · {metrics['semantics']} · "
        f"seed {metrics['seed']} · percent, means over classes",
        caption=metrics["protocol"],
        caption_justify="left",
    )
    table.add_column("method", overflow="fold")
    for name in _MEASURES:
        table.add_column(name, justify="right", no_wrap=True)
    for name in _CALIBRATED:
        table.add_column(f"{name} pen.", justify="right", no_wrap=True)
    rows = {**metrics["baselines"], metrics["model"]: metrics}
    if "oracle" in metrics:
        rows["oracle (real unseen rows)"] = metrics["oracle"]
    for method, measures in rows.items():
        calibrated = measures["calibrated"] or {}
        cells = [measures[name] for name in _MEASURES]
        cells += [calibrated.get(name) for name in _CALIBRATED]
        style = "bold" if measures is metrics else None
        table.add_row(method, *("-" if c is None else f"{100 * c:.1f}" for c in cells), style=style)
    return table


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
    save_figure(figure, path)


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
    save_figure(figure, path)


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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())
