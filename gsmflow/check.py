"""The command ``check``: what a dataset is, and all that is wrong with it."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from tyro.conf import Positional

from gsmflow.cache import keep_in_file
from gsmflow.dataset import (
    Dataset,
    Finding,
    FloatArray,
    IntArray,
    examine_dataset,
    settle_splits,
    usable_part,
)
from gsmflow.digits import DIGITS_NAME, load_digit_pairs
from gsmflow.errors import InputError
from gsmflow.mat import dataset_files, find_stem, keep_in_memory, read_files
from gsmflow.oddities import find_oddities
from gsmflow.portrait import Portrait, paint, portrait_grids
from gsmflow.tables import terminal_table
from gsmflow.util import write_json

__all__ = ["CheckOptions", "Examined", "examine", "run_check"]

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


@dataclass(frozen=True, eq=False)
class Examined:
    """What was found in a dataset.

    Attributes
    ----------
    name
        The dataset's.
    class_names
        For the findings' classes.
    findings
        Errors before warnings.
    portrait
        None where the arrays do not belong together.
    """

    name: str
    class_names: tuple[str, ...]
    findings: tuple[Finding, ...]
    portrait: Portrait | None


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
    if examined.portrait is not None:
        for grid in portrait_grids(examined.portrait):
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


def examine(path: Path, features: str | None, semantics: str | None) -> Examined:
    """All that is to be said of a dataset.

    Parameters
    ----------
    path
        Its folder, or ``DIGITS``.
    features, semantics
        As of `dataset_files`; None for the usual ones, or the only ones that are there.

    Raises
    ------
    InputError
        If the files cannot be found.
    """
    if path == Path(DIGITS_NAME) and not path.exists():
        return _examine_dataset(DIGITS_NAME, load_digit_pairs(), [])
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, expected a dataset's, or {DIGITS_NAME}")
    place = path if path.name else path.resolve()
    files = dataset_files(
        place.parent,
        place.name,
        features=features or find_stem("--features", path),
        semantics=semantics or find_stem("--semantics", path),
    )
    faults: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="gsmflow-check-") as folder:

        def keep(shape: tuple[int, int], pieces: Iterator[FloatArray]) -> FloatArray:
            large = 4 * shape[0] * shape[1] > psutil.virtual_memory().available // 2
            in_file = keep_in_file(Path(folder) / "features.npy")
            return (in_file if large else keep_in_memory)(shape, pieces)

        dataset = read_files(place.name, files, keep, faults.append)
        return _examine_dataset(place.name, dataset, faults)


def _examine_dataset(name: str, dataset: Dataset | None, faults: list[Finding]) -> Examined:
    """Findings in a dataset as read, beside the faults of its reading."""
    if dataset is None:
        return Examined(name, (), tuple(faults), None)
    # What stands in place of a field that cannot be read is not to be judged, and neither is what
    # seems to be missing because of it.
    unread = {finding.about for finding in faults}
    complete = unread <= {"class_names"}
    usable, portrait = usable_part(dataset), None
    findings = [*examine_dataset(dataset)]
    if usable is not None:
        findings += find_oddities(usable)
        portrait = paint(settle_splits(usable))
    findings = [
        *faults,
        *(f for f in findings if f.about not in unread and (complete or f.level == "error")),
    ]
    findings.sort(key=lambda finding: finding.level)
    return Examined(name, dataset.class_names, tuple(findings), portrait)


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
        "portrait": None if examined.portrait is None else asdict(examined.portrait),
    }
    try:
        write_json(path, content)
    except OSError as error:
        raise InputError(
            f"--json: found {path}, which cannot be written ({error.strerror}), expected a file"
        ) from error
