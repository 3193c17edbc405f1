"""All that is to be said of a dataset: its summary, faults and warnings."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.data.cache import keep_in_file
from gsmflow.data.checks import Finding, examine_dataset, settle_splits, usable_part
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.digits import DIGITS_NAME, load_digit_pairs
from gsmflow.data.formats.files import dataset_files, find_stem, read_files
from gsmflow.data.formats.matlab import keep_in_memory
from gsmflow.data.lint import find_warnings
from gsmflow.data.summary import Summary, summarize

__all__ = ["Examined", "examine"]


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
    summary: Summary | None


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
    usable, summary = usable_part(dataset), None
    findings = [*examine_dataset(dataset)]
    if usable is not None:
        findings += find_warnings(usable)
        summary = summarize(settle_splits(usable))
    findings = [
        *faults,
        *(f for f in findings if f.about not in unread and (complete or f.level == "error")),
    ]
    findings.sort(key=lambda finding: finding.level)
    return Examined(name, dataset.class_names, tuple(findings), summary)
