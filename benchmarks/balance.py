"""What the choice of the calibration factor gamma is worth, from the runs of a benchmark.

``python -m benchmarks.balance out/balance``

Of every finished run below the folders: H on test without calibration, with the gamma that is best
on the first draw of validation classes, and with the one that the run chose, which is none where
its cross-validated gain is within its noise; beside them the highest H that any gamma reaches on
the test rows.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from gsmflow.core.console import make_console
from gsmflow.core.errors import InputError
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.evaluation.metrics import BestAnswers
from gsmflow.evaluation.per_class import read_per_class
from gsmflow.evaluation.protocol import Outcome
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.page_data import PAGE_DATA_FILE, read_page_data

__all__ = ["Options", "RunFigures", "main", "read_runs"]

_COLUMNS = ("H", "one draw", "as chosen", "best possible")


@dataclass(frozen=True)
class Options:
    """The runs."""

    folders: Positional[tuple[Path, ...]]
    """Folders with run directories at any depth."""


@dataclass(frozen=True)
class RunFigures:
    """H of one run on test, fractions of 1, with each choice of gamma.

    Attributes
    ----------
    data, method
        Dataset, features and semantics; the name of the method.
    plain
        Without calibration.
    one_draw
        With the gamma that is best on the first draw of validation classes.
    chosen
        With the gamma that the run chose.
    best
        With the gamma that is best on these test rows.
    calibrated
        Whether the run chose a gamma other than 0.
    """

    data: str
    method: str
    plain: float
    one_draw: float
    chosen: float
    best: float
    calibrated: bool


def read_runs(folders: Sequence[Path]) -> Iterator[RunFigures]:
    """The figures of each run with page data, in the order of the paths.

    Raises
    ------
    InputError
        If there is none, or a file of one is damaged.
    """
    files = [file for folder in folders for file in sorted(folder.rglob(PAGE_DATA_FILE))]
    if not files:
        found = " or ".join(map(str, folders))
        raise InputError(f"{found}: found no {PAGE_DATA_FILE}, expected finished runs")
    yield from (_read(file.parent) for file in files)


def _read(directory: Path) -> RunFigures:
    metrics = open_metrics(directory / METRICS_FILE).object()
    validation, calibrated = metrics["validation"], metrics["calibrated"]
    if validation is None or calibrated is None:
        raise InputError(
            f"{directory}: found a run without validation, expected one with --calibrate"
        )
    classes = read_per_class(directory / "per_class.csv")
    answers = read_page_data(directory / PAGE_DATA_FILE, len(classes)).answers
    labels, best_seen, best_unseen = (
        places.astype(np.int64) for places in (answers.labels, answers.seen, answers.unseen)
    )
    best = BestAnswers(best_seen, best_unseen, answers.seen_scores, answers.unseen_scores)
    seen = np.flatnonzero([one.kind == "seen" for one in classes])
    outcome = Outcome(
        best, best_unseen[~np.isin(labels, seen)], labels, np.arange(len(classes)), seen
    )
    return RunFigures(
        data=" · ".join(metrics[name] for name in ("dataset", "features", "semantics")),
        method=metrics["model"],
        plain=metrics["H"],
        one_draw=outcome.calibrated(validation["curve"][-1]["gamma"]).H,
        chosen=calibrated["H"],
        best=outcome.curve().best_harmonic_mean(),
        calibrated=calibrated["gamma"] != 0,
    )


def main(options: Options, console: Console) -> None:
    """Print the means over the runs of each method on each dataset, and over all of them."""
    groups: dict[tuple[str, str], list[RunFigures]] = defaultdict(list)
    for run in read_runs(options.folders):
        groups[run.data, run.method].append(run)
    for data in dict.fromkeys(data for data, _ in groups):
        of_data = {method: runs for (name, method), runs in groups.items() if name == data}
        table = Table(
            title=f"{data} · H on test, percent",
            caption="one draw: gamma of best H on the first draw of validation classes; as chosen: "
            "by cross-validation, none in the runs not counted; best possible: on the test rows",
            caption_justify="left",
        )
        for column in ("method", "runs", "calibrated", *_COLUMNS):
            table.add_column(column, justify="left" if column == "method" else "right")
        for method, runs in of_data.items():
            table.add_row(method, *_cells(runs))
        table.add_section()
        table.add_row("mean", *_cells([run for runs in of_data.values() for run in runs]))
        console.print(table)


def _cells(runs: Sequence[RunFigures]) -> list[str]:
    figures = np.array([(run.plain, run.one_draw, run.chosen, run.best) for run in runs])
    count = sum(run.calibrated for run in runs)
    return [str(len(runs)), str(count), *(f"{value:.1f}" for value in 100 * figures.mean(axis=0))]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), make_console())
