"""What a run shows: the result table and its pictures."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from gsmflow.core.files import write_bytes
from gsmflow.core.rounding import fixed
from gsmflow.core.tables import MeanStd
from gsmflow.evaluation.generation_shifts import Shifts
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.per_class import ClassAnswers
from gsmflow.evaluation.protocol import Outcome
from gsmflow.reports.class_names import readable_name
from gsmflow.reports.loss_axes import loss_axes, loss_parts
from gsmflow.reports.metric_values import mean_std_of
from gsmflow.reports.tables import FewShotPoints

__all__ = [
    "STYLES",
    "few_shot_figure",
    "image_grid",
    "run_figure",
    "save_figure",
    "shifts_figure",
    "sweep_figure",
]


STYLES = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
"""Colours that colour-blind readers tell apart (Okabe and Ito), each with a marker of its own; the
first two also differ in grey."""
# Up to so many classes have their names beside their rows, and up to so many in the usual size.
_NAMED, _NAMED_LARGE = 100, 30
# Longer names beside a panel that shares its line with others are cut.
_LONGEST_NAME = 24


def sweep_figure(path: Path, sweep: Mapping[str, Any]) -> Path:
    """Draw a sweep as PNG, from what ``sweep.json`` holds: metrics over the first field's values.

    With more than one field, fewer metrics are shown, each with a line for every combination of
    the other fields' values. Bars are standard deviations over seeds.
    """
    (axis, values), *others = sweep["over"].items()
    numbers = _as_numbers(values)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    panel = figure.subplots()
    metrics = metrics_in("sweep_over_several" if others else "sweep_chart")
    lines: dict[str, list[tuple[float, MeanStd]]] = {}
    for point in sweep["points"]:
        x = numbers[values.index(point["values"][axis])]
        combination = ", ".join(f"{name} {point['values'][name]}" for name, _ in others)
        for metric in metrics:
            value = mean_std_of(point, metric)
            names = [combination, *([metric.label] if len(metrics) > 1 or not others else [])]
            if value is not None:
                lines.setdefault(", ".join(filter(None, names)), []).append((x, value))
    for i, (label, points) in enumerate(lines.items()):
        colour, marker = STYLES[i % len(STYLES)]
        style = "--" if i >= len(STYLES) else "-"
        panel.errorbar(
            [x for x, _ in points],
            [value.mean for _, value in points],
            [value.std or 0.0 for _, value in points],
            color=colour,
            marker=marker,
            ls=style,
            ms=4,
            capsize=2,
            label=label,
        )
    panel.set_xticks(numbers, values)
    unit = f"{', '.join(metric.label for metric in metrics)}, percent" if others else "percent"
    panel.set(xlabel=axis, ylabel=unit)
    title = f"{sweep['dataset']}, {sweep['features']}, {sweep['model']}: test"
    panel.set_title(title, fontsize="medium")
    panel.legend(fontsize="small")
    save_figure(figure, path)
    return path


def few_shot_figure(path: Path, title: str, runs: Mapping[str, FewShotPoints]) -> None:
    """Draw few-shot figures as PNG: metrics over k, with bands of one standard deviation.

    On the left, those on seen and unseen classes; on the right, those on unseen classes alone.
    A calibrated metric is a dashed line without a band.

    Parameters
    ----------
    path
        The file.
    title
        What the runs are of.
    runs
        Figures by the run's name.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    shots = sorted({k for run in runs.values() for k in run})
    shown = metrics_in("few_shot_chart")
    for panel, metrics, what in (
        (panels[0], [m for m in shown if m.rows == "both"], "seen and unseen classes"),
        (panels[1], [m for m in shown if m.rows != "both"], "unseen classes alone"),
    ):
        for (label, run), (colour, marker) in zip(runs.items(), cycle(STYLES), strict=False):
            for metric in metrics:
                points = {
                    k: point.figures[metric.key]
                    for k, point in run.items()
                    if metric.key in point.figures
                }
                style = "--" if metric.calibrated else "-"
                name = label if metric is metrics[0] else f"{label}, {metric.label}"
                if points:
                    _draw_band(panel, points, name, color=colour, marker=marker, ls=style)
        # Halving the number of labelled rows is one step, from one row on.
        panel.set_xticks([np.log2(1 + k) for k in shots], [str(k) for k in shots])
        names = ", ".join(metric.label for metric in metrics if not metric.calibrated)
        panel.set(xlabel="labelled rows of each unseen class", ylabel="percent")
        panel.set(title=f"{names}, {what}")
        panel.grid(color="0.9", lw=0.5)
        panel.set_axisbelow(True)
    # Below both panels: names of runs are as long as their paths.
    legend = {"loc": "outside lower center", "ncols": 2, "fontsize": "small"}
    figure.legend(*panels[0].get_legend_handles_labels(), **legend)
    figure.suptitle(title, fontsize="medium")
    save_figure(figure, path)


def _draw_band(panel: Axes, points: Mapping[int, MeanStd], label: str, **style: Any) -> None:
    x = [float(np.log2(1 + k)) for k in points]
    means = np.array([point.mean for point in points.values()])
    stds = np.array([point.std or 0.0 for point in points.values()])
    panel.plot(x, means, ms=4, label=label, **style)
    if style["ls"] == "-":
        panel.fill_between(x, means - stds, means + stds, color=style["color"], alpha=0.15, lw=0)


def _as_numbers(values: Sequence[str]) -> list[float]:
    """Positions of values on an axis: in proportion, unless they double or are no numbers."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return [float(i) for i in range(len(values))]
    doubling = min(numbers) > 0 and max(numbers) >= 8 * min(numbers)
    return [float(np.log2(x)) for x in numbers] if doubling else numbers


def run_figure(
    path: Path,
    *,
    history: Sequence[Mapping[str, float]],
    curve: Sequence[Mapping[str, float]],
    outcomes: Mapping[str, tuple[Outcome, float | None]],
    classes: Sequence[ClassAnswers] = (),
) -> Path:
    """Draw a run as PNG: losses, the validation curve, and the seen-unseen curves on test.

    Where there is no validation curve of several points, the accuracy of each unseen class is shown
    in its place.

    Parameters
    ----------
    path
        The file.
    history
        The mean loss parts of each epoch of the final training, each with its ``epoch``; empty
        for a model that is not trained.
    curve
        Metrics on validation classes by key, each point with its ``epoch``; may be empty.
    outcomes
        Method to its outcome on test and the calibration factor chosen for it, if any; empty
        where there are no test rows of seen, or of unseen classes.
    classes
        How the model answers the test rows of each class.
    """
    unseen = [one for one in classes if one.kind == "unseen" and one.rows]
    draws: list[Callable[[Axes], None]] = []
    if history:
        draws.append(partial(_draw_losses, history=history))
    if history and len(curve) > 1:
        draws.append(partial(_draw_validation, curve=curve))
    elif unseen:
        draws.append(partial(_draw_accuracies, classes=unseen))
    draws.append(partial(_draw_seen_unseen, outcomes=outcomes))
    figure = Figure(figsize=(13, 4), layout="constrained")
    for draw, panel in zip(draws, figure.subplots(1, len(draws), squeeze=False)[0], strict=True):
        draw(panel)
    save_figure(figure, path)
    return path


def shifts_figure(path: Path, shifts: Mapping[str, Shifts], class_names: Sequence[str]) -> Path:
    """Draw the generation shifts of one method or of several as PNG.

    The consistency of every unseen class, synthesized against real variance within classes, and
    synthesized against real distances between unseen classes.

    Parameters
    ----------
    path
        The file.
    shifts
        Method to its shifts, all measured against the same real rows; classes are sorted by the
        first one's.
    class_names
        One name per class of the dataset.
    """
    unseen = len(next(iter(shifts.values())).real.unseen_classes)
    height = 7.4 + 0.05 * max(0, min(unseen, _NAMED) - _NAMED_LARGE)
    with rc_context({"font.size": 8, "axes.titlesize": 9, "legend.fontsize": 7}):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        grid = figure.add_gridspec(2, 2)
        _draw_consistency(figure.add_subplot(grid[:, 0]), shifts, class_names)
        _draw_variances(figure.add_subplot(grid[0, 1]), shifts)
        _draw_distances(figure.add_subplot(grid[1, 1]), shifts)
        save_figure(figure, path, dpi=200)
    return path


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
    gap = len(real)  # an empty column between the two kinds
    columns, (height, width) = gap + 1 + len(synthesized), real.shape[1:]
    figure = Figure(figsize=(columns, len(rows) * height / width + 0.6))
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        line[gap].axis("off")
        for panel, image in zip(np.delete(line, gap), np.concatenate(images), strict=True):
            panel.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
    panels[0][0].set_title("real test images", loc="left")
    panels[0][gap + 1].set_title("synthesized, class never seen", loc="left")
    save_figure(figure, path)


def _draw_losses(panel: Axes, history: Sequence[Mapping[str, float]]) -> None:
    names = loss_parts(history)
    lines: dict[str, Line2D] = {}
    last = panel
    for i, axis in enumerate(loss_axes(history)):
        outward = 0.0 if i < 2 else _width_beside(panel, last)
        if i > 0:
            last = panel.twinx()
            last.spines["right"].set_position(("outward", outward))
        for name in axis.parts:
            records = [record for record in history if name in record]
            epochs, values = [r["epoch"] for r in records], [r[name] for r in records]
            rank = names.index(name)
            (lines[name],) = last.plot(epochs, values, color=f"C{rank}")
            if len(epochs) == 1:  # each point smaller than those that it may lie upon
                lines[name].set(marker="o", markersize=6 + 3 * (len(names) - 1 - rank))
        last.set(ylabel=axis.title, yscale="log" if axis.logarithmic else "linear")
    panel.set(title="training losses", xlabel="epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # On the axes that are drawn last, or their lines would cross it.
    last.legend([lines[name] for name in names], names, fontsize="small")


def _width_beside(panel: Axes, right: Axes) -> float:
    """Points that the labels of axes on the right of a panel reach beyond it, and a gap."""
    figure = panel.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    box = right.yaxis.get_tightbbox()
    assert box is not None
    return float(box.x1 - panel.get_window_extent().x1) * 72 / figure.dpi + 8


def _draw_validation(panel: Axes, curve: Sequence[Mapping[str, float]]) -> None:
    epochs = [point["epoch"] for point in curve]
    for metric in metrics_in("validation"):
        known = [point for point in curve if metric.key in point]
        style, label = "o-", metric.label
        if metric.calibrated:
            style, label = "o--", f"{label}, best gamma"
        x, y = [point["epoch"] for point in known], [100 * point[metric.key] for point in known]
        panel.plot(x, y, style, ms=3, label=label)
    panel.set(title="validation classes", xlabel="epoch", ylabel="percent", ylim=(0, 100))
    panel.set(xlim=(0, 1.05 * max(epochs)))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(ncols=2, fontsize="small")


def _draw_accuracies(panel: Axes, classes: Sequence[ClassAnswers]) -> None:
    """The accuracy of each class as a bar, the highest on top, and their mean."""
    calibrated = all(one.gzsl_calibrated is not None for one in classes)
    shares = [100 * ((one.gzsl_calibrated if calibrated else one.gzsl) or 0.0) for one in classes]
    order = np.argsort(-np.array(shares), kind="stable")
    values, positions = np.array(shares)[order], np.arange(len(order))
    panel.barh(positions, values, height=0.8 if len(order) <= _NAMED_LARGE else 1.0, color="C0")
    mean, label = float(values.mean()), "U cal." if calibrated else "U"
    panel.axvline(mean, color="0.3", ls="--", lw=1)
    if len(order) <= _NAMED_LARGE:
        names = [_shortened(readable_name(classes[i].name)) for i in order]
        panel.set_yticks(positions, names, fontsize=8, parse_math=False)
    else:
        panel.set(yticks=[], ylabel=f"{len(order)} unseen classes, sorted")
    panel.set(title="test: accuracy of each unseen class")
    panel.set(xlabel=f"percent; dashed: mean, {label} {fixed(mean)}")
    # Few classes have no bars as wide as the panel.
    panel.set(xlim=(0, 100), ylim=(max(len(order), 8) - 0.4, -0.6))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _draw_seen_unseen(panel: Axes, outcomes: Mapping[str, tuple[Outcome, float | None]]) -> None:
    for i, (method, (outcome, gamma)) in enumerate(outcomes.items()):
        curve = outcome.curve()
        label = f"{method}, area {fixed(100 * curve.area)}"
        panel.plot(100 * curve.unseen, 100 * curve.seen, color=f"C{i}", label=label)
        for value, marker in ((0.0, "o"), (gamma, "D")):
            if value is not None:
                point = outcome.calibrated(value)
                panel.plot(100 * point.U, 100 * point.S, marker, color=f"C{i}")
    if not outcomes:
        panel.text(50, 50, "no rows of unseen classes", ha="center", va="center")
    panel.plot([], [], "ko", label="gamma 0")
    if any(gamma is not None for _, gamma in outcomes.values()):
        panel.plot([], [], "kD", label="gamma from validation classes")
    panel.set(title="test: S over U as gamma grows", xlabel="U, percent", ylabel="S, percent")
    panel.set(xlim=(0, 100), ylim=(0, 100))
    panel.legend(loc="lower left", fontsize="small")


def _draw_consistency(
    panel: Axes, shifts: Mapping[str, Shifts], class_names: Sequence[str]
) -> None:
    first = next(iter(shifts.values()))
    order = np.argsort(-first.consistency.among_all, kind="stable")
    positions, large = np.arange(len(order)), len(order) <= _NAMED_LARGE
    real = first.real.consistency.among_all
    label = f"real rows, mean {fixed(100 * real.mean())}"
    panel.plot(100 * real[order], positions, "|", color="0.4", ms=10 if large else 6, label=label)
    apart = 0.4 * (np.arange(len(shifts)) / len(shifts) - 0.5 + 0.5 / len(shifts))
    for (method, shift, style), above in zip(_styled(shifts), apart, strict=True):
        share = shift.consistency.among_all
        label = f"{method}, mean {fixed(100 * share.mean())}"
        panel.plot(
            100 * share[order], positions + above, **style, ms=5 if large else 3, label=label
        )
    if len(order) <= _NAMED:
        names = [readable_name(class_names[first.real.unseen_classes[i]]) for i in order]
        panel.set_yticks(positions, names, fontsize=8 if large else 5.5, parse_math=False)
    else:
        panel.set(yticks=[], ylabel=f"{len(order)} unseen classes, sorted")
    panel.set(title="semantic consistency, unseen classes", xlim=(-3, 103))
    panel.set(xlabel="percent of samples nearest to the real\nmean of their class, of all means")
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.grid(color="0.9", lw=0.5)
    panel.set_axisbelow(True)
    _legend_below(panel, lines=2)


def _draw_variances(panel: Axes, shifts: Mapping[str, Shifts]) -> None:
    values = []
    for method, shift, style in _styled(shifts):
        real, synthesized = shift.real.moments.variances, shift.moments.variances
        seen = np.arange(len(real)) < len(shift.real.seen_classes)
        ratios = shift.mean_variance_ratios()
        for kind, side, ratio in zip(("seen", "unseen"), (seen, ~seen), ratios, strict=True):
            rows = side & (real > 0) & (synthesized > 0)
            face = "none" if kind == "seen" else style["color"]
            label = f"{method}, {kind}: ratio {_or_dash(ratio)}"
            x, y = real[rows], synthesized[rows]
            panel.plot(x, y, **style, mfc=face, ms=3.5, mew=0.8, label=label)
            values += [*x, *y]
    low, high = min(values, default=1.0) / 1.15, max(values, default=1.0) * 1.15
    panel.set(title="variance within classes", xscale="log", yscale="log")
    steps = (1, 2, 5) if high < 500 * low else (1,)
    _compare(panel, low, high, LogLocator(subs=steps) if high > 10 * low else MaxNLocator(4))


def _draw_distances(panel: Axes, shifts: Mapping[str, Shifts]) -> None:
    values = []
    for method, shift, style in _styled(shifts):
        distances = shift.distances(unseen_alone=True)
        x, y = distances["real"], distances["synthesized"]
        correlation = shift.rank_correlations(unseen_alone=True)["synthesized_real"]
        label = f"{method}: rank correlation {_or_dash(correlation)}"
        size = 1.6 if len(x) > 500 else 3.5
        panel.plot(x, y, **style, ms=size, mew=0, alpha=0.6, label=label)
        values += [*x, *y]
    low, high = min(values, default=0.0), max(values, default=1.0)
    panel.set(title="distances of unseen class means")
    margin = (high - low) / 20 or 1.0
    _compare(panel, low - margin, high + margin, MaxNLocator(5))


def _styled(shifts: Mapping[str, Shifts]) -> Iterator[tuple[str, Shifts, dict[str, Any]]]:
    """Each method with its shifts and how its points are drawn, the first above the others."""
    for i, ((method, shift), (colour, marker)) in enumerate(
        zip(shifts.items(), cycle(STYLES), strict=False)
    ):
        yield method, shift, {"color": colour, "marker": marker, "ls": "none", "zorder": 3 - i / 9}


def _or_dash(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _compare(panel: Axes, low: float, high: float, ticks: Locator) -> None:
    """Give both axes, real and synthesized, the same limits and draw where they are equal."""
    values = ticks.tick_values(low, high)
    panel.set(xlabel="real rows", ylabel="synthesized samples", box_aspect=1)
    panel.set(xticks=values, yticks=values, xlim=(low, high), ylim=(low, high), anchor="N")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    panel.axline((low, low), (high, high), color="0.6", lw=0.8, zorder=0)
    _legend_below(panel, lines=1)


def _legend_below(panel: Axes, lines: int) -> None:
    """A legend under an axis label of so many lines."""
    below = 3 + 1.4 * lines
    legend = panel.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=below, frameon=False
    )
    for line in legend.get_lines():
        line.set(alpha=1, markersize=4.5)


def save_figure(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())
