"""The command ``few-shot``: the few-shot figures of several runs side by side."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from gsmflow.cli.verb import Verb
from gsmflow.core.errors import InputError, naming_flag
from gsmflow.core.json_fields import Field
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.core.tables import terminal_table
from gsmflow.reports.few_shot import FEW_SHOT_PICTURE, ORIGIN, comparison_table, few_shot_figures
from gsmflow.reports.figures import few_shot_figure
from gsmflow.reports.metrics_file import open_metrics

__all__ = ["VERB", "FewShotOptions", "run_few_shot"]


@dataclass(frozen=True, kw_only=True)
class FewShotOptions:
    """Put the few-shot figures of finished runs into one table and one picture.

    The runs are of one dataset, each with --shots. Runs with the same seeds and the same
    --shot-draws have the same draws of labelled rows, and are tested on the same rows if the
    largest of --shots is the same, too.
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
    metrics = {run: _read(run) for run in options.runs}
    origins = {
        run: {name: record[name].text() for name in ORIGIN} for run, record in metrics.items()
    }
    first = origins[options.runs[0]]
    for run, record in metrics.items():
        if origins[run]["dataset"] != first["dataset"]:
            raise record["dataset"].refused(f"{first['dataset']}, of which the first run is")
    common = [text for name, text in first.items() if _is_shared(origins, name)]
    names = _names(metrics, origins)
    figures = {names[run]: few_shot_figures(record) for run, record in metrics.items()}
    console.print(terminal_table(comparison_table(" · ".join(common), figures)))
    with naming_flag("--picture", options.picture):
        few_shot_figure(options.picture, ", ".join(common), figures)
    console.print(f"picture: {options.picture}", soft_wrap=True)


def _read(run: Path) -> Field:
    file = run / METRICS_FILE
    if not file.exists():
        raise InputError(f"{file}: no such file, expected the directory of a finished run")
    return open_metrics(file)


def _is_shared(origins: Mapping[Path, Mapping[str, str]], name: str) -> bool:
    return len({origin[name] for origin in origins.values()}) == 1


def _names(
    metrics: Mapping[Path, Field], origins: Mapping[Path, Mapping[str, str]]
) -> dict[Path, str]:
    """A name for each run: its model, what differs between runs, and its directory if need be."""
    names = {run: record["model"].text() for run, record in metrics.items()}
    for field in ("features", "semantics"):
        if not _is_shared(origins, field):
            names = {run: f"{name}, {origins[run][field]}" for run, name in names.items()}
    alike = Counter(names.values())
    return {run: f"{name} ({run})" if alike[name] > 1 else name for run, name in names.items()}


VERB = Verb(FewShotOptions, lambda options, console, flags: run_few_shot(options, console))
