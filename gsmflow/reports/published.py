"""Published figures of the benchmark datasets, to compare runs with."""

import csv
from dataclasses import dataclass
from pathlib import Path

from gsmflow.core.errors import InputError, one_line
from gsmflow.evaluation.measures import metrics_in

__all__ = ["PUBLISHED_FILE", "Published", "read_published"]

PUBLISHED_FILE = Path(__file__).with_name("published.csv")

_ORIGIN = ("method", "year", "venue", "setting", "dataset", "features", "semantics", "figures")


@dataclass(frozen=True)
class Published:
    """A row of ``published.csv``.

    Attributes
    ----------
    method, year, venue
        What was published, when and where; year and venue may be empty.
    setting
        ``inductive`` where nothing of the unseen classes' images was used.
    dataset, features, semantics
        What it was measured on.
    figures
        ``as printed`` by its authors or in another's table, or ``re-run`` and by whom.
    measures
        Metrics in percent, by key; those that are known.
    source
        Where the figures were read.
    """

    method: str
    year: str
    venue: str
    setting: str
    dataset: str
    features: str
    semantics: str
    figures: str
    source: str
    measures: dict[str, float]


def read_published(path: Path) -> list[Published]:
    """Read a file of published figures, in its order.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or has a figure that is no percentage.
    """
    metrics = [metric.key for metric in metrics_in("published")]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="")
            lines = [(table.line_num, row) for row in table]
            columns = table.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected a CSV file of published figures"
        ) from error
    for name in (*_ORIGIN, *metrics, "source"):
        if name not in columns:
            raise InputError(f"{path}: found columns {', '.join(columns)}, expected also {name}")
    return [
        Published(
            method=row["method"],
            year=row["year"],
            venue=row["venue"],
            setting=row["setting"],
            dataset=row["dataset"],
            features=row["features"],
            semantics=row["semantics"],
            figures=row["figures"],
            source=row["source"],
            measures={
                name: _percent(row[name], f"{path}, line {line}, column {name}")
                for name in metrics
                if row[name]
            },
        )
        for line, row in lines
    ]


def _percent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 100:
        raise InputError(f"{where}: found {text!r}, expected a number from 0 to 100")
    return value
