"""The command ``results``: finished runs in one table per dataset, beside published figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from gsmflow.cli.verb import Verb
from gsmflow.core.errors import InputError, naming_flag
from gsmflow.core.files import write_bytes
from gsmflow.core.nearest import such_as
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.core.tables import Grid, latex, markdown, terminal_table
from gsmflow.reports.published import PUBLISHED_FILE, read_published
from gsmflow.reports.results import Row, collect_runs, published_row, render_csv, results_grid
from gsmflow.runs.directory import computed_fields, read_run_recipe
from gsmflow.runs.sections import REPORTS

__all__ = ["VERB", "ResultsOptions", "run_results"]

# Fields of a recipe in which runs may differ that are joined over class splits.
_JOINED = {"class_split", "unseen_names", "seed", "seeds", "data", "device"}


@dataclass(frozen=True, kw_only=True)
class ResultsOptions:
    """Put the finished runs below a folder into one table per dataset, beside published figures.

    Runs are found at any depth. A run of several seeds, or a variant of an ablation, is one row;
    baselines and the oracle have one row for all runs in which they are equal.
    """

    folder: Positional[Path] = Path("out")
    """Where to look for runs."""
    datasets: str = ""
    """Only these datasets, with commas; empty: all that have runs."""
    published: bool = True
    """Published figures of the same dataset below the runs."""
    over: Literal["class-split"] | None = None
    """class-split: join runs that differ in --class-split and --seed alone, in whichever folders
    they lie, to a row with mean, standard deviation and 95% interval over the splits."""
    into: Path | None = None
    """A folder to write DATASET.csv, DATASET.md and DATASET.tex into, too."""


def run_results(options: ResultsOptions, console: Console) -> None:
    """Collect runs, print their tables, and write them where that is asked for.

    Parameters
    ----------
    options
        What to collect, and where to write.
    console
        For warnings and tables.

    Raises
    ------
    InputError
        If there is no finished run, none of a dataset that is asked for, or no place to write.
    """
    identify = None if options.over is None else _identity
    collection = collect_runs(options.folder, REPORTS, identify=identify)
    for warning in collection.warnings:
        console.print(f"warning: {warning}; left out", soft_wrap=True)
    if not collection.rows:
        raise InputError(
            f"{options.folder}: found no finished run, expected DATASET/RUN/{METRICS_FILE} below it"
        )
    names = _pick_datasets(options.datasets, collection.rows)
    published = read_published(PUBLISHED_FILE) if options.published else []
    for name in names:
        rows = [
            row for row in (*collection.rows, *map(published_row, published)) if row.dataset == name
        ]
        grid = results_grid(name, rows)
        console.print(terminal_table(grid))
        console.print()
        if options.into is not None:
            _write(options.into, name, rows, grid)
    if options.into is not None:
        console.print(f"tables: {options.into}", soft_wrap=True)


def _identity(directory: Path) -> str:
    """All that a run computes, but for its class split, its seeds, and where the data lie."""
    computed = computed_fields(read_run_recipe(directory))
    kept = {name: value for name, value in computed.items() if name not in _JOINED}
    return json.dumps(kept, sort_keys=True, default=str)


def _pick_datasets(words: str, rows: Sequence[Row]) -> list[str]:
    found = sorted({row.dataset for row in rows})
    names = [word.strip() for word in words.split(",")] if words else found
    for name in names:
        if name not in found:
            raise InputError(
                f"--datasets: found {name!r}, expected one or more of {','.join(found)}"
                f"{such_as(name, found)}"
            )
    return names


def _write(into: Path, name: str, rows: Sequence[Row], grid: Grid) -> None:
    forms = {"csv": render_csv(rows), "md": markdown(grid), "tex": latex(grid)}
    with naming_flag("--into", into, "a folder"):
        for ending, text in forms.items():
            write_bytes(into / f"{name}.{ending}", text.encode())


VERB = Verb(ResultsOptions, lambda options, console, flags: run_results(options, console))
