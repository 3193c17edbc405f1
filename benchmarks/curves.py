"""Plot H on the validation classes against seconds of training, from the logs of runs.

``python -m benchmarks.curves out/FLO/fast out/FLO/published --into docs/schedules.png``
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from tyro.conf import Positional

from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.reports.figures import save_figure

__all__ = ["Curve", "draw_curves", "read_curve"]

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Curve:
    """A run's validation curve.

    Attributes
    ----------
    dataset, name
        Names of the dataset and the run.
    seconds
        Training time before each point: number of epochs times the time of the fastest epoch, so
        that other work on the machine changes little.
    h, calibrated
        H and calibrated H (under the best gamma), fractions of 1.
    """

    dataset: str
    name: str
    seconds: tuple[float, ...]
    h: tuple[float, ...]
    calibrated: tuple[float, ...]


def read_curve(run: Path) -> Curve:
    """The validation curve of a run directory, finished or not.

    Raises
    ------
    InputError
        If its log has no point of the curve.
    """
    dataset = read_json(run / RECIPE_FILE)["dataset"]
    file = run / "log.jsonl"
    try:
        events = [json.loads(line) for line in file.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable ({error}), expected the log of a run") from error
    validation = [event for event in events if event.get("split") == "validation"]
    epochs = [event["seconds"] for event in validation if event["event"] == "epoch"]
    # A resumed run repeats epochs; the last record of an epoch counts.
    points: dict[int, Any] = {e["epoch"]: e for e in validation if e["event"] == "measures"}
    if not points:
        raise InputError(f"{file}: found no measures, expected a run with --curve-every above 0")
    epoch = min(epochs)
    curve = [points[number] for number in sorted(points)]
    return Curve(
        dataset=dataset,
        name=run.name,
        seconds=tuple(epoch * point["epoch"] for point in curve),
        h=tuple(point["H"] for point in curve),
        calibrated=tuple(point["H_calibrated"] for point in curve),
    )


def draw_curves(path: Path, curves: list[Curve]) -> None:
    """Plot curves as PNG, one panel for each dataset."""
    datasets = list(dict.fromkeys(curve.dataset for curve in curves))
    figure = Figure(figsize=(5.2 * len(datasets), 3.6), layout="constrained")
    for panel, dataset in zip(
        figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True
    ):
        of_dataset = [curve for curve in curves if curve.dataset == dataset]
        for curve, colour in zip(of_dataset, _COLOURS, strict=False):
            style = {"color": colour, "marker": "o", "ms": 2.5, "lw": 1.2}
            panel.plot(curve.seconds, [100 * h for h in curve.h], label=curve.name, **style)
            label = f"{curve.name}, best gamma"
            panel.plot(
                curve.seconds, [100 * h for h in curve.calibrated], "--", label=label, **style
            )
        panel.set(title=f"{dataset}, validation classes", xscale="log", ylim=(0, 100))
        panel.set(xlabel="seconds of training", ylabel="H, percent")
        panel.grid(color="0.9", lw=0.5)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.legend(fontsize="small", loc="lower right")
    save_figure(figure, path)


def main(runs: Positional[tuple[Path, ...]], into: Path = Path("curves.png")) -> None:
    """Plot the validation curves of runs.

    Args:
        runs: Run directories.
        into: The picture.
    """
    try:
        draw_curves(into, [read_curve(run) for run in runs])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    tyro.cli(main)
