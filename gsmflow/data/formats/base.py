"""What a dataset format is, and what the readers of all formats share."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.errors import InputError, one_line
from gsmflow.data.checks import Finding
from gsmflow.data.dataset import Dataset

__all__ = [
    "NAMES_FILE",
    "REQUIRED_SPLIT",
    "Choices",
    "Format",
    "Keep",
    "NamedSemantics",
    "Read",
    "Refuse",
    "array_pieces",
    "as_float32",
    "check_class_names",
    "check_matrix",
    "check_numbers",
    "complete_splits",
    "keep_in_memory",
    "listed_fields",
    "names_only_count",
    "raise_error",
    "read_class_names",
    "second_file",
    "try_field",
    "whole_numbers",
]

# Class names beside a dataset's other files: UTF-8, a name a line.
NAMES_FILE = "class_names.txt"

# The split that every dataset lists; any other that is missing is empty, or follows from the rest.
REQUIRED_SPLIT = "trainval"

# At most so many fields of a file are listed in a message.
_LISTED_FIELDS = 12

# What is done with features as they are read: given their shape ``(n, d)`` and their rows in
# order, a piece ``(m, d)`` at a time, gives back all of them as one array.
Keep: TypeAlias = Callable[[tuple[int, int], Iterator[FloatArray]], FloatArray]


# What is done about a field that cannot be read.
Refuse: TypeAlias = Callable[[Finding], object]


_T = TypeVar("_T")


@dataclass(frozen=True)
class Choices:
    """The names that ``--features`` and ``--semantics`` may have in a folder.

    None where a format has one of them only, which is read whatever name is asked for.
    """

    features: frozenset[str] | None
    semantics: frozenset[str] | None


@dataclass(frozen=True, eq=False)
class NamedSemantics:
    """Class semantics read without the rest of a dataset.

    Attributes
    ----------
    values
        ``(classes, a)``.
    class_names
        One name per class; None where there are none, or where they merely count the classes.
    where
        The file and the field, for messages.
    in_dataset
        Whether they are of a dataset's folder, where all files have one order of the classes.
    notes
        What is worth a warning, one sentence each.
    """

    values: FloatArray
    class_names: tuple[str, ...] | None
    where: str
    in_dataset: bool = True
    notes: tuple[str, ...] = ()


class Read(Protocol):
    """Reads a dataset for `check_dataset`."""

    def __call__(
        self, folder: Path, *, features: str, semantics: str, keep: Keep, refuse: Refuse
    ) -> Dataset | None:
        """Read the dataset in a folder.

        Parameters
        ----------
        folder
            The dataset's.
        features, semantics
            Which of the folder's features and semantics; names that `Format.choices` has.
        keep
            Where the features are put.
        refuse
            Called with each fault at which a field cannot be read.

        Returns
        -------
        Dataset or None
            With class numbers for names, and empty splits, in place of those that could not be
            read; None if features, labels or semantics could not.
        """


@dataclass(frozen=True)
class Format:
    """One way in which datasets are stored.

    Attributes
    ----------
    name
        Of the format.
    layout
        Its files, for messages, with ``{features}`` and ``{semantics}`` for the names asked for;
        None for a dataset that is built in, whose name is the format's.
    matches
        Whether a folder has files of this format.
    choices
        Which features and semantics a folder offers.
    files
        The files that `read` would read of a folder with these features and semantics, in a fixed
        order. Those that must be there are listed where they are missing, too.
    read
        Reads a dataset.
    semantics_file
        The file that `read_semantics` would read, there or not. Raises an `InputError` if the
        format cannot have one.
    read_semantics
        Reads the semantics of a name alone, as a second embedding of a dataset's classes, in a
        folder that is read with features of a name. Raises an `InputError` if they are missing or
        unreadable.
    """

    name: str
    layout: str | None
    matches: Callable[[Path], bool]
    choices: Callable[[Path], Choices]
    files: Callable[[Path, str, str], tuple[Path, ...]]
    read: Read
    semantics_file: Callable[[Path, str, str], Path]
    read_semantics: Callable[[Path, str, str], NamedSemantics]


def keep_in_memory(shape: tuple[int, int], pieces: Iterator[FloatArray]) -> FloatArray:
    """Gather the pieces of features in one array ``(n, d)``; a single piece is that array."""
    first = next(pieces)
    if first.shape == shape:
        return first
    features = np.empty(shape, dtype=np.float32)
    start = 0
    for piece in chain([first], pieces):
        features[start : start + len(piece)] = piece
        start += len(piece)
    return features


def raise_error(finding: Finding) -> NoReturn:
    """Raise a fault as an `InputError`."""
    raise InputError(finding.sentence)


def try_field(refuse: Refuse, about: str, read: Callable[[], _T]) -> _T | None:
    """What ``read`` gives, or None if it fails for a fault in a field of this kind."""
    try:
        return read()
    except InputError as error:
        refuse(Finding("error", about, str(error)))
        return None


def as_float32(values: NDArray[Any]) -> FloatArray:
    """Numbers as float32; what overflows becomes infinite, which `check_dataset` refuses."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def array_pieces(values: NDArray[Any]) -> Iterator[FloatArray]:
    """The rows of a matrix as float32, a C-ordered piece of them at a time."""
    if values.dtype == np.float32 and values.flags.c_contiguous:
        yield values
        return
    for rows in row_slices(len(values), values.shape[1] * values.itemsize):
        yield np.ascontiguousarray(as_float32(values[rows]))


def check_numbers(where: str, values: NDArray[Any]) -> None:
    """Refuse what is not an array of real numbers.

    Raises
    ------
    InputError
        If its type is another.
    """
    if values.dtype.kind not in "fiub":
        raise InputError(f"{where}: found {values.dtype}, expected numbers")


def check_matrix(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of a matrix.

    Raises
    ------
    InputError
        If it has not two dimensions.
    """
    if len(shape) != 2:
        raise InputError(f"{where}: found an array of shape {shape}, expected a matrix")
    return shape[0], shape[1]


def listed_fields(names: Sequence[str]) -> str:
    """The first of a file's fields, for messages; ``none`` if it has none."""
    listed = ", ".join(names[:_LISTED_FIELDS]) or "none"
    return f"{listed}, ..." if len(names) > _LISTED_FIELDS else listed


def whole_numbers(where: str, values: NDArray[Any]) -> IntArray:
    """A vector of whole numbers, ``(m,)``; one axis of a matrix may be that vector.

    Raises
    ------
    InputError
        If it is no vector, or has fractions, or numbers that are not finite or too large.
    """
    if values.size and values.size != max(values.shape, default=1):
        kind = "one-hot vectors" if _is_one_hot(values) else "an array"
        remedy = ", the numbers of the ones" if kind == "one-hot vectors" else ""
        raise InputError(
            f"{where}: found {kind} of shape {values.shape}, expected a vector{remedy}"
        )
    flat = values.ravel()
    wide = flat.astype(np.float64) if flat.dtype.kind == "f" else flat
    for wrong in (~np.isfinite(wide), np.abs(wide) >= 2.0**63):
        if wrong.any():
            row = int(wrong.argmax())
            what = "too large a number" if np.isfinite(flat[row]) else "a number that is not finite"
            raise InputError(
                f"{where}: found {flat[row]}, {what}, as value {row + 1}, expected whole numbers"
            )
    whole = flat.astype(np.int64)
    if not np.array_equal(whole, flat):
        raise InputError(f"{where}: found fractions, expected whole numbers")
    return whole


def complete_splits(given: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """All splits by name: those that are given, and what follows for the missing ones.

    Of ``train`` and ``val``, one that is missing is the rest of ``trainval``; every other split
    that is missing is empty.
    """
    none = np.empty(0, dtype=np.int64)
    rows = {REQUIRED_SPLIT: none, "test_seen": none, "test_unseen": none, **given}
    for split, other in (("train", "val"), ("val", "train")):
        if split not in given:
            rest = np.setdiff1d(rows[REQUIRED_SPLIT], given[other]) if other in given else none
            rows[split] = rest
    return rows


def _is_one_hot(values: NDArray[Any]) -> bool:
    if values.ndim != 2 or not np.isin(values, (0, 1)).all():
        return False
    return any(bool((values.sum(axis=axis) == 1).all()) for axis in (0, 1))


def second_file(file: Path) -> Path:
    """The file of a second embedding in a dataset's folder.

    Raises
    ------
    InputError
        If it is missing.
    """
    if not file.is_file():
        raise InputError(
            f"{file}: no such file, expected a second embedding of the classes of "
            f"{file.parent.name}, or a field of its name in a split file"
        )
    return file


def check_class_names(
    where: str, names: Sequence[str], expected: Sequence[str], source: str, first_number: int = 1
) -> None:
    """Refuse class names of a file that are not those of the dataset, in its order.

    Parameters
    ----------
    where
        The file and the field, for messages.
    names
        The names in the file.
    expected
        Those of the dataset.
    source
        Where those were read, for messages.
    first_number
        The number of the first class in messages.

    Raises
    ------
    InputError
        If a name is another, or there are more or fewer.
    """
    if len(names) != len(expected):
        raise InputError(
            f"{where}: found {len(names)} classes, expected {len(expected)} as in {source}"
        )
    for number, (name, known) in enumerate(zip(names, expected, strict=True), first_number):
        if name != known:
            raise InputError(
                f"{where}: found {name!r} as class {number}, expected {known!r} as in {source}"
            )


def names_only_count(names: tuple[str, ...]) -> bool:
    """Whether names say no more than a number, such as ``class 1``, ``class 2``; so do none."""
    found = [re.fullmatch(r"(\D*)(\d{1,18})", name.strip()) for name in names]
    prefixes = {match[1] for match in found if match}
    numbers = [int(match[2]) for match in found if match]
    counted = any(numbers == list(range(c, c + len(names))) for c in (0, 1))
    return counted and len(prefixes) <= 1


def read_class_names(path: Path, classes: int, of: str) -> tuple[str, ...]:
    """A name a line, for each of so many classes.

    Parameters
    ----------
    path
        The file.
    classes
        How many names are expected.
    of
        The field that has so many classes, for messages.

    Raises
    ------
    InputError
        If the file is unreadable, or has another number of names.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected UTF-8 text with a class name a "
            "line"
        ) from error
    names = tuple(" ".join(line.split()) for line in lines)
    if len(names) != classes:
        raise InputError(
            f"{path}: found {len(names)} names, expected {classes}, one for each class of {of}"
        )
    if "" in names:
        raise InputError(f"{path}: found no name in line {names.index('') + 1}, expected one")
    return names
