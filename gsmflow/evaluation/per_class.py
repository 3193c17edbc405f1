"""Answers class by class: accuracies and the confusion matrix, as CSV files for a run directory."""

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from gsmflow.core.arrays import IntArray
from gsmflow.core.csv_cells import csv_text, from_cell
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import write_bytes
from gsmflow.evaluation.metrics import confusion_counts, per_class_accuracy
from gsmflow.evaluation.protocol import Outcome

__all__ = [
    "ClassAnswers",
    "ClassTally",
    "answers_by_class",
    "read_confusion",
    "read_per_class",
    "tally_answers",
    "write_confusion",
    "write_per_class",
]


# The most classes whose confusion matrix is written with its zeros, and the header of one without.
_MOST_IN_FULL = 1000
_PAIRS_HEADER = ["true position", "answer position", "rows", "true class", "answer"]


@dataclass(frozen=True)
class ClassAnswers:
    """How the held-out rows of one class were answered; shares are fractions of 1.

    Attributes
    ----------
    name
        The class.
    kind
        Whether it was seen.
    rows
        How many held-out rows it has; where there are none, all that follows is None.
    gzsl, gzsl_calibrated
        Accuracy with answers among all classes, without and with the calibration factor; None
        where none was chosen.
    zsl
        Accuracy with answers among the unseen classes; None for a seen class.
    wrong_answer, wrong_share
        The most frequent wrong answer among all classes without calibration, the earlier class
        if two are as frequent, and its share of the class's rows; None where all rows are right.
    """

    name: str
    kind: Literal["seen", "unseen"]
    rows: int
    gzsl: float | None
    gzsl_calibrated: float | None
    zsl: float | None
    wrong_answer: str | None
    wrong_share: float | None


@dataclass(frozen=True)
class ClassTally:
    """How the rows of one class were answered once; shares are fractions of 1.

    Attributes
    ----------
    name
        The class.
    rows
        How many rows it has; where there are none, all that follows is None.
    accuracy
        The share of its rows that are answered right.
    wrong_answer, wrong_share
        The most frequent wrong answer, the earlier class if two are as frequent, and its share of
        the class's rows; None where all rows are right.
    """

    name: str
    rows: int
    accuracy: float | None
    wrong_answer: str | None
    wrong_share: float | None


def tally_answers(
    labels: IntArray, predictions: IntArray, classes: IntArray, class_names: Sequence[str]
) -> list[ClassTally]:
    """One record of every class, in the order of ``classes``.

    Parameters
    ----------
    labels, predictions
        True and predicted class of each row, ``(n,)``, among ``classes``.
    classes
        The classes, ``(k,)``.
    class_names
        One name per class of the dataset.
    """
    accuracy = _accuracies(labels, predictions)
    counts = confusion_counts(labels, predictions, classes)
    totals, mistakes = counts.sum(axis=1).tolist(), _worst_mistakes(counts)
    tallies = []
    for i, (c, total) in enumerate(zip(classes.tolist(), totals, strict=True)):
        worst, wrong = mistakes.get(i, (0, 0))
        tallies.append(
            ClassTally(
                name=class_names[c],
                rows=total,
                accuracy=accuracy.get(c),
                wrong_answer=class_names[classes[worst]] if wrong else None,
                wrong_share=wrong / total if wrong else None,
            )
        )
    return tallies


def answers_by_class(
    outcome: Outcome, gamma: float | None, class_names: Sequence[str]
) -> list[ClassAnswers]:
    """One record of every class, in the order of the score columns: the seen, then the unseen.

    Parameters
    ----------
    outcome
        A method's scores on held-out rows.
    gamma
        The calibration factor that was chosen on validation classes, if any.
    class_names
        One name per class of the dataset.
    """
    labels, predictions, unseen = outcome.labels, outcome.predictions(), ~outcome.row_is_seen
    calibrated = {} if gamma is None else _accuracies(labels, outcome.predictions(gamma))
    zsl = _accuracies(labels[unseen], outcome.zsl_predictions())
    tallies = tally_answers(labels, predictions, outcome.classes, class_names)
    is_seen = np.isin(outcome.classes, outcome.seen_classes)
    return [
        ClassAnswers(
            name=tally.name,
            kind="seen" if seen else "unseen",
            rows=tally.rows,
            gzsl=tally.accuracy,
            gzsl_calibrated=calibrated.get(c),
            zsl=zsl.get(c),
            wrong_answer=tally.wrong_answer,
            wrong_share=tally.wrong_share,
        )
        for c, seen, tally in zip(outcome.classes.tolist(), is_seen, tallies, strict=True)
    ]


def _worst_mistakes(counts: csr_array) -> dict[int, tuple[int, int]]:
    """The most frequent wrong answer of each class that has one, and how often it was given."""
    entries = counts.tocoo()
    rows, answers, times = entries.row, entries.col, entries.data
    wrong = np.flatnonzero(rows != answers)
    # The most frequent one of a class comes last, and of equal ones the earlier class.
    order = wrong[np.lexsort((-answers[wrong], times[wrong], rows[wrong]))]
    found = zip(*(values[order].tolist() for values in (rows, answers, times)), strict=True)
    return {row: (answer, count) for row, answer, count in found}


def write_per_class(
    path: Path, outcome: Outcome, gamma: float | None, class_names: Sequence[str]
) -> None:
    """Write `answers_by_class` as CSV, a class a line; what is None is an empty cell."""
    header = [field.name for field in fields(ClassAnswers)]
    records = answers_by_class(outcome, gamma, class_names)
    _write_csv(path, [header, *(astuple(record) for record in records)])


def write_confusion(
    path: Path, outcome: Outcome, class_names: Sequence[str], gamma: float | None = None
) -> None:
    """Write the GZSL answers as CSV: rows of each true class (down) with each answer (across).

    Above 1000 classes, a line for each pair that occurs: the true class and the answer by their
    position from 0, how many rows, and both names.

    Parameters
    ----------
    path
        The file.
    outcome
        A method's scores on held-out rows.
    class_names
        One name per class of the dataset; they head the lines and the columns.
    gamma
        The calibration factor, if any.
    """
    counts = confusion_counts(outcome.labels, outcome.predictions(gamma), outcome.classes)
    names = [class_names[c] for c in outcome.classes]
    if len(names) > _MOST_IN_FULL:
        entries = counts.tocoo()
        pairs = zip(entries.row.tolist(), entries.col.tolist(), entries.data.tolist(), strict=True)
        lines = ([row, column, rows, names[row], names[column]] for row, column, rows in pairs)
        _write_csv(path, [_PAIRS_HEADER, *lines])
        return
    named = zip(names, counts.toarray().tolist(), strict=True)
    _write_csv(path, [["true class", *names], *([name, *row] for name, row in named)])


def read_per_class(path: Path) -> list[ClassAnswers]:
    """The records that `write_per_class` wrote.

    Raises
    ------
    InputError
        If the file is damaged, or has no seen class or no unseen one.
    """
    header, *lines = _read_csv(path)
    if header != [field.name for field in fields(ClassAnswers)]:
        raise InputError(
            f"{path}, line 1: found {','.join(header)!r}, expected the header of such a file"
        )
    records = [_record(path, number, line) for number, line in enumerate(lines, start=2)]
    kinds = [record.kind for record in records]
    if kinds != sorted(kinds) or len(set(kinds)) < 2:
        raise InputError(f"{path}: found {len(kinds)} classes, expected seen, then unseen ones")
    return records


def _record(path: Path, number: int, line: Sequence[str]) -> ClassAnswers:
    def share(text: str) -> float | None:
        if text and not 0 <= float(text) <= 1:
            raise ValueError(f"{text} is no share of 1")
        return float(text) if text else None

    try:
        name, kind, rows, gzsl, calibrated, zsl, wrong_answer, wrong_share = line
        if kind not in ("seen", "unseen") or int(rows) < 0:
            raise ValueError(f"{kind} and {rows} are no kind and no number of rows")
        return ClassAnswers(
            name=name,
            kind="seen" if kind == "seen" else "unseen",
            rows=int(rows),
            gzsl=share(gzsl),
            gzsl_calibrated=share(calibrated),
            zsl=share(zsl),
            wrong_answer=wrong_answer or None,
            wrong_share=share(wrong_share),
        )
    except ValueError as error:
        raise InputError(
            f"{path}, line {number}: found {','.join(line)!r} ({error}), expected a class and its "
            "shares"
        ) from error


def read_confusion(path: Path, classes: int) -> csr_array:
    """The counts ``(k, k)`` that `write_confusion` wrote of so many classes, sparse.

    Raises
    ------
    InputError
        If the file is damaged, or of another number of classes.
    """
    header, *lines = _read_csv(path)
    if header == _PAIRS_HEADER:
        with suppress(ValueError):
            cells = np.array([line[:3] for line in lines], dtype=np.int64).reshape(-1, 3)
            if (cells >= 0).all():
                return csr_array(
                    (cells[:, 2], (cells[:, 0], cells[:, 1])), shape=(classes, classes)
                )
    elif len(lines) == classes and all(len(line) == classes + 1 for line in lines):
        with suppress(ValueError):
            counts = np.array([[int(cell) for cell in line[1:]] for line in lines], dtype=np.int64)
            if (counts >= 0).all():
                return csr_array(counts)
    raise InputError(
        f"{path}: found no counts of {classes} classes with {classes} answers each, expected the "
        "file that this run wrote"
    )


def _read_csv(path: Path) -> list[list[str]]:
    """Lines of a CSV file, one at least."""
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected the CSV file that this run wrote"
        ) from error
    return [list(map(from_cell, line)) for line in lines] or [[]]


def _accuracies(labels: IntArray, predictions: IntArray) -> dict[int, float]:
    classes, accuracy = per_class_accuracy(labels, predictions)
    return dict(zip(classes.tolist(), accuracy.tolist(), strict=True))


def _write_csv(path: Path, lines: Iterable[Iterable[object]]) -> None:
    write_bytes(path, csv_text(lines).encode())
