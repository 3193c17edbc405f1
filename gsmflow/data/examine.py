"""Everything that `check` reports of a dataset: its summary, faults and warnings."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from gsmflow.core.errors import InputError
from gsmflow.data.cache import keep_where_it_fits
from gsmflow.data.checks import Finding, examine_dataset, settle_splits, usable_part
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.embeddings import JOINED
from gsmflow.data.formats.files import (
    BUILT_IN,
    has_dataset,
    read_unchecked,
    refuse_file,
    usual_name,
)
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
    summary
        None where the arrays do not belong together.
    first_number
        The number of the first row and of the first class in the files: 1 or 0.
    """

    name: str
    class_names: tuple[str, ...]
    findings: tuple[Finding, ...]
    summary: Summary | None
    first_number: int = 1


def examine(path: Path, features: str | None, semantics: str | None) -> Examined:
    """Summarize a dataset, and list its faults and warnings.

    Parameters
    ----------
    path
        Its folder, or the name of a built-in one.
    features, semantics
        As of `dataset_files`; None for the usual ones, or the only ones that are there.

    Raises
    ------
    InputError
        If the files cannot be found.
    """
    refuse_file(path)
    if not path.is_dir() and not has_dataset(path):
        raise InputError(
            f"{path}: no such folder, expected a dataset's, or {' or '.join(BUILT_IN)}"
        )
    folder = path if path.name else path.resolve()
    faults: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="gsmflow-check-") as temporary:
        dataset = read_unchecked(
            folder.parent,
            folder.name,
            features=features or usual_name("features", path),
            semantics=semantics or usual_name("semantics", path),
            keep=keep_where_it_fits(Path(temporary) / "features.npy"),
            refuse=faults.append,
        )
        return _examine_dataset(folder.name, dataset, faults)


def _examine_dataset(name: str, dataset: Dataset | None, faults: list[Finding]) -> Examined:
    """Findings in a dataset as read, beside the faults of its reading."""
    if dataset is None:
        return Examined(name, (), tuple(faults), None)
    # The stand-in for a field that cannot be read is not examined, and what seems to be missing
    # because of it is no fault.
    unread = {finding.about for finding in faults}
    complete = unread <= {"class_names"}
    usable, summary = usable_part(dataset), None
    about_semantics = tuple(f"{file}: " for file in dataset.where("semantics").split(JOINED))
    findings = [
        Finding("warning", "semantics" if note.startswith(about_semantics) else "labels", note)
        for note in dataset.notes
    ]
    findings += examine_dataset(dataset)
    if usable is not None:
        findings += find_warnings(usable)
        summary = summarize(settle_splits(usable))
    findings = [
        *faults,
        *(f for f in findings if f.about not in unread and (complete or f.level == "error")),
    ]
    findings.sort(key=lambda finding: finding.level)
    return Examined(name, dataset.class_names, tuple(findings), summary, dataset.first_number)
