"""The command ``check``: what a dataset is, and all that is wrong with it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.tables import terminal_table
from gsmflow.data.checks import Finding
from gsmflow.data.examine import Examined, examine
from gsmflow.data.summary import summary_grids

__all__ = ["VERB", "CheckOptions", "run_check"]

_SHOWN_PLACES = 10


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Say what a dataset is, and all that is wrong with it, each with its place.

    Errors are what no run accepts; with any, the exit code is 2. Warnings are what a run lets
    pass. Rows and classes are counted from 1, as in the files.
    """

    path: Positional[Path]
    """The dataset's folder, such as data/FLO, or DIGITS for the built-in one."""
    features: str | None = None
    """Stem of the feature file; None: res101, or the only one that is there."""
    semantics: str | None = None
    """Stem of the split file without _splits; None: att, or the only one that is there."""
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
        for kind, places in (("rows", finding.rows), ("classes", finding.classes)):
            if len(places):
                console.print(f"  {kind} {_listed(places)}", soft_wrap=True)
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


def _listed(places: IntArray) -> str:
    """Places counted from 1, the first of them where they are many."""
    shown = ", ".join(str(place + 1) for place in places[:_SHOWN_PLACES])
    return f"{shown}, ... ({len(places):,} in all)" if len(places) > _SHOWN_PLACES else shown


def _write(path: Path, examined: Examined) -> None:
    def told(finding: Finding) -> dict[str, Any]:
        return {
            "field": finding.about,
            "sentence": finding.sentence,
            "rows": (finding.rows + 1).tolist(),
            "classes": (finding.classes + 1).tolist(),
        }

    by_level: dict[str, list[dict[str, Any]]] = {"error": [], "warning": []}
    for finding in examined.findings:
        by_level[finding.level].append(told(finding))
    content = {
        "dataset": examined.name,
        "errors": by_level["error"],
        "warnings": by_level["warning"],
        "class_names": examined.class_names,
        "portrait": None if examined.summary is None else asdict(examined.summary),
    }
    try:
        write_json(path, content)
    except OSError as error:
        raise InputError(
            f"--json: found {path}, which cannot be written ({error.strerror}), expected a file"
        ) from error


VERB = Verb(CheckOptions, lambda options, console, flags: run_check(options, console))
