"""Few-shot figures over the number of labelled rows; the command ``few-shot``."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from gsmflow.errors import InputError
from gsmflow.field import Field
from gsmflow.report import ShotFigures, few_shot_figure, few_shot_grid
from gsmflow.rundir import METRICS_FILE
from gsmflow.tables import terminal_table
from gsmflow.util import read_json

__all__ = [
    "FEW_SHOT_PICTURE",
    "FewShotOptions",
    "draw_few_shot",
    "few_shot_draws",
    "few_shot_figures",
    "few_shot_table",
    "run_few_shot",
]

FEW_SHOT_PICTURE = "few_shot.png"

_JUDGED = ("T1", "U", "S", "H", "AUSUC")
_ORIGIN = ("dataset", "features", "semantics")
_NOTES = (
    "k: labelled rows of each unseen class; rows that the largest k leaves are judged",
    "±: standard deviation over draws of these rows, and over seeds where there are several",
)


@dataclass(frozen=True, kw_only=True)
class FewShotOptions:
    """Put the few-shot figures of finished runs into one table and one picture.

    The runs are of one dataset, each with --shots. Runs with the same seeds and the same
    --shot-draws have the same draws of labelled rows, and judge the same rows if the largest of
    --shots is the same, too.
    """

    runs: Positional[tuple[Path, ...]] = ()
    """The run directories, such as out/FLO/20250131-101500-seed0."""
    picture: Path = Path(FEW_SHOT_PICTURE)
    """The file to draw, as PNG."""


def run_few_shot(options: FewShotOptions, console: Console) -> None:
    """Compare the few-shot figures of runs.

    Parameters
    ----------
    options
        Which runs, and where to draw.
    console
        For the table.

    Raises
    ------
    InputError
        If a run is not finished, has no few-shot figures or is of another dataset than the first,
        or the picture cannot be written.
    """
    if not options.runs:
        raise InputError("RUNS: found none, expected directories of finished runs with --shots")
    told = {run: _read(run) for run in options.runs}
    origins = {run: {name: own[name].text() for name in _ORIGIN} for run, own in told.items()}
    first = origins[options.runs[0]]
    for run, own in told.items():
        if origins[run]["dataset"] != first["dataset"]:
            raise own["dataset"].refused(f"{first['dataset']}, of which the first run is")
    common = [first[name] for name in _ORIGIN if len({own[name] for own in origins.values()}) == 1]
    names = _names(told, origins)
    figures = {names[run]: few_shot_figures(own) for run, own in told.items()}
    console.print(_table(" · ".join(common), figures))
    try:
        few_shot_figure(options.picture, ", ".join(common), figures)
    except OSError as error:
        raise InputError(
            f"--picture: found {options.picture}, which cannot be written ({error.strerror}), "
            "expected a file"
        ) from error
    console.print(f"picture: {options.picture}", soft_wrap=True)


def few_shot_figures(told: Field) -> ShotFigures:
    """The few-shot figures of a run, or of several seeds', from its ``metrics.json``.

    Raises
    ------
    InputError
        If there are none, or they are damaged.
    """
    by_k = told["few_shot"]
    if not by_k.value:
        raise by_k.refused("the figures of a run with --shots")
    figures = {}
    for k in by_k.object():
        if not k.isdecimal():
            raise by_k.refused(f"numbers of labelled rows in place of {k!r}")
        own = {name: by_k[k][name].figure() for name in _JUDGED}
        if by_k[k]["calibrated"].value is not None:
            own["H_pen"] = by_k[k]["calibrated"]["H"].figure()
        if by_k[k]["share"].value is not None:
            own["share"] = by_k[k]["share"].figure()
        figures[int(k)] = own
    return figures


def few_shot_draws(told: Field) -> int:
    """Of how many draws a run's few-shot figures are, or several seeds', from ``metrics.json``.

    Raises
    ------
    InputError
        If the values of the draws are damaged.
    """
    by_k = told["few_shot"]
    of_all = [by_k[k]["H"]["values"] for k in by_k.object()]
    counts = [len(values.items()) for values in of_all]
    for values, count in zip(of_all, counts, strict=True):
        if not count or count != counts[0]:
            raise values.refused("a figure of each draw, as many for each number of labelled rows")
    return counts[0]


def draw_few_shot(directory: Path, metrics: Mapping[str, Any]) -> Path | None:
    """Draw a run's few-shot figures into its directory; the file, None where there are none."""
    if "few_shot" not in metrics:
        return None
    path = directory / FEW_SHOT_PICTURE
    title = ", ".join(metrics[name] for name in _ORIGIN)
    few_shot_figure(path, title, {metrics["model"]: _of_metrics(directory, metrics)})
    return path


def few_shot_table(directory: Path, metrics: Mapping[str, Any]) -> Table:
    """The table of a run's few-shot figures."""
    title = " · ".join(metrics[name] for name in _ORIGIN)
    return _table(title, {metrics["model"]: _of_metrics(directory, metrics)})


def _of_metrics(directory: Path, metrics: Mapping[str, Any]) -> ShotFigures:
    return few_shot_figures(Field(directory / METRICS_FILE, "", metrics))


def _table(title: str, runs: Mapping[str, ShotFigures]) -> Table:
    return terminal_table(few_shot_grid(f"{title} · few-shot · percent", runs, _NOTES))


def _read(run: Path) -> Field:
    file = run / METRICS_FILE
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected the directory of a finished run")
    return Field(file, "", read_json(file))


def _names(
    told: Mapping[Path, Field], origins: Mapping[Path, Mapping[str, str]]
) -> dict[Path, str]:
    """What tells each run from the others: model, features and semantics, its directory."""
    names = {run: own["model"].text() for run, own in told.items()}
    for part in ("features", "semantics"):
        if len({own[part] for own in origins.values()}) > 1:
            names = {run: f"{name}, {origins[run][part]}" for run, name in names.items()}
    alike = Counter(names.values())
    return {run: f"{name} ({run})" if alike[name] > 1 else name for run, name in names.items()}
