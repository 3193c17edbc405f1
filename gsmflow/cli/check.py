"""The command ``check``: what a dataset is, and all that is wrong with it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError, naming_flag
from gsmflow.core.files import write_json
from gsmflow.core.tables import terminal_table
from gsmflow.data.checks import Finding
from gsmflow.data.examine import Examined, examine
from gsmflow.data.summary import summary_grids

__all__ = ["VERB", "CheckOptions", "run_check"]

_SHOWN_NUMBERS = 10


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Summarize a dataset, and list all that is wrong with it, each with its file and field.

    Errors are what no run accepts; with any, the exit code is 2. Warnings are what a run lets
    pass. Rows and classes are counted as in the files, from 1 or from 0.
    """

    path: Positional[Path]
    """The dataset's folder, such as data/FLO, or the name of a built-in one, such as DIGITS."""
    features: str | None = None
    """Which features (res101 for res101.mat); None: the usual ones, or the only ones there."""
    semantics: str | None = None
    """Which semantics (att for att_splits.mat, or a field att of a split file), a file of class
    vectors, or several joined by +; None: the usual ones, or the only ones there."""
    json: Path | None = None
    """A file to write all figures and findings into, with all rows and classes."""


def run_check(options: CheckOptions, console: Console) -> None:
    """Print, and write where that is asked for, what `examine` finds.

    Raises
    ------
    InputError
        If the files cannot be found, there is an error in them, or ``--json`` cannot be written.
    """
    examined = examine(options.path, options.features, options.semantics)
    if options.json is not None:
        _write(options.json, examined)
    if examined.summary is not None:
        for grid in summary_grids(examined.summary):
            console.print(terminal_table(grid))
            console.print()
    for finding in examined.findings:
        console.print(f"{finding.level}: {finding.sentence}", soft_wrap=True)
        for kind, indices in (("rows", finding.rows), ("classes", finding.classes)):
            if len(indices):
                listed = _listed(indices + examined.first_number)
                console.print(f"  {kind} {listed}", soft_wrap=True)
    levels = [finding.level for finding in examined.findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    console.print(f"{examined.name}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if errors:
        raise InputError(
            f"{options.path}: found {_count(errors, 'error')}, expected a dataset without, as runs "
            "accept"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(numbers: IntArray) -> str:
    """The first of so many numbers."""
    shown = ", ".join(map(str, numbers[:_SHOWN_NUMBERS]))
    return f"{shown}, ... ({len(numbers):,} in all)" if len(numbers) > _SHOWN_NUMBERS else shown


def _write(path: Path, examined: Examined) -> None:
    first = examined.first_number

    def fields_of(finding: Finding) -> dict[str, Any]:
        return {
            "field": finding.about,
            "sentence": finding.sentence,
            "rows": (finding.rows + first).tolist(),
            "classes": (finding.classes + first).tolist(),
        }

    by_level: dict[str, list[dict[str, Any]]] = {"error": [], "warning": []}
    for finding in examined.findings:
        by_level[finding.level].append(fields_of(finding))
    content = {
        "dataset": examined.name,
        "counted_from": first,
        "errors": by_level["error"],
        "warnings": by_level["warning"],
        "class_names": examined.class_names,
        "summary": None if examined.summary is None else asdict(examined.summary),
    }
    with naming_flag("--json", path):
        write_json(path, content)


VERB = Verb(CheckOptions, lambda options, console, flags: run_check(options, console))
