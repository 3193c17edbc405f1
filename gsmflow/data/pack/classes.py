"""The classes of a new dataset, their semantics, and the class of each row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.array_files import ENDINGS, open_array_file
from gsmflow.data.class_names import class_key, names_list_beside
from gsmflow.data.class_table import listed_names, read_class_table
from gsmflow.data.formats.base import (
    as_float32,
    check_class_names,
    check_matrix,
    check_numbers,
    read_class_names,
)
from gsmflow.data.formats.gbu import NAMES_FIELD
from gsmflow.data.formats.matlab import MatFile
from gsmflow.data.given_labels import GivenLabels, read_class_names_field

__all__ = ["CountedFrom", "PackedClasses", "Source", "count_from", "label_classes", "read_classes"]

CountedFrom: TypeAlias = Literal["auto", "0", "1"]

_FIELD, _MAT_FIELD = "semantics", "att"
_TABLE_ENDINGS = (".csv", ".tsv", ".txt")
# What may stand above a column of names.
_LABEL_HEADINGS = {"label", "labels", "class", "classes", "name", "names"}


@dataclass(frozen=True)
class Source:
    """A file, and the field in it that is meant; None for the usual one."""

    path: Path
    field: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """From ``FILE`` or ``FILE:FIELD``, the latter for files that have fields."""
        file, colon, field = text.rpartition(":")
        if colon and Path(file).suffix.lower() in (*ENDINGS, ".mat") and not Path(text).exists():
            return cls(Path(file), field)
        return cls(Path(text))


@dataclass(frozen=True, eq=False)
class PackedClasses:
    """The classes in the order of their numbers.

    Attributes
    ----------
    where, names_where
        Where semantics and names were read, for messages.
    semantics
        ``(classes, a)``.
    names
        One name per class; empty if none are known.
    notes
        What is worth a warning, one sentence each.
    """

    where: str
    names_where: str
    semantics: FloatArray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each class by `class_key`.

        Raises
        ------
        InputError
            If two names are the same, or one is empty.
        """
        numbers: dict[str, int] = {}
        for c, name in enumerate(self.names):
            key = class_key(name)
            if not key:
                raise InputError(f"{self.names_where}: found no name for class {c}, expected one")
            if key in numbers:
                raise InputError(
                    f"{self.names_where}: found {name!r} twice, expected each class once; names "
                    "that differ only in case, spaces or underscores are the same"
                )
            numbers[key] = c
        return numbers

    def number_of(self, name: str, where: str) -> int:
        """The number of a named class.

        Raises
        ------
        InputError
            If it is none of them, or names are not known; ``where`` is what the name was given as.
        """
        if not self.names:
            raise InputError(
                f"{where}: found the name {name!r} and no names of the classes, expected names "
                "with the semantics, in a first column or a field class_names, or --class-names"
            )
        number = self.numbers.get(class_key(name))
        if number is None:
            raise InputError(
                f"{where}: found {name!r}, expected one of the {len(self.names)} names in "
                f"{self.names_where}"
            )
        return number


def read_classes(source: Source, names_file: Path | None) -> PackedClasses:
    """Semantics and names of the classes.

    Parameters
    ----------
    source
        A text table as of `read_class_table`; a matrix ``(classes, a)`` in a ``.npy``, with names
        in the list beside it (`names_list_beside`), or in the field ``semantics`` of a ``.npz``,
        ``.pt`` or ``.h5``, with names in the field ``class_names``; or the field ``att`` of a
        ``.mat`` of the GBU layout.
    names_file
        A name a line, in the order of the semantics; None where names stand with them.

    Raises
    ------
    InputError
        If a file is unreadable, or names and semantics do not belong together.
    """
    found = _read_semantics(source, beside=names_file is None)
    count = len(found.semantics)
    if found.names and len(found.names) != count:
        raise InputError(
            f"{found.where}: found semantics of {count} classes and {len(found.names)} names, "
            "expected one for each"
        )
    if names_file is None:
        return found
    listed = read_class_names(names_file, count, found.where)
    if found.names:
        check_class_names(str(names_file), listed, found.names, found.names_where, 0)
    return replace(found, names=listed, names_where=str(names_file))


def _read_semantics(source: Source, *, beside: bool) -> PackedClasses:
    """Semantics, and the names that stand with them or, if these are wanted, beside them."""
    path, ending = source.path, source.path.suffix.lower()
    if ending in _TABLE_ENDINGS:
        table = read_class_table(path)
        if table.values is None:
            raise InputError(f"{path}: found texts, expected numbers; extract encodes texts")
        return PackedClasses(
            str(path), str(table.names_source), table.values, table.names, table.notes
        )
    if ending == ".mat":
        field = source.field or _MAT_FIELD
        mat = MatFile(path, (field, NAMES_FIELD))
        names = mat.strings(NAMES_FIELD) if NAMES_FIELD in mat else ()
        return PackedClasses(mat.where(field), mat.where(NAMES_FIELD), mat.matrix(field).T, names)
    if ending not in ENDINGS:
        known = ", ".join((*_TABLE_ENDINGS, *ENDINGS, ".mat"))
        raise InputError(f"{path}: found another ending, expected one of {known}")
    file = open_array_file(path)
    stored = file.array(source.field, _FIELD)
    check_matrix(stored.where, stored.shape)
    values = stored.read()
    check_numbers(stored.where, values)
    names, names_where = read_class_names_field(file), f"{path}, field 'class_names'"
    listed = names_list_beside(path) if beside and not names else None
    if listed is not None:
        names, names_where = listed_names(listed, len(values), path), str(listed)
    return PackedClasses(stored.where, names_where, as_float32(values), names)


def label_classes(labels: GivenLabels, classes: PackedClasses, counted: CountedFrom) -> IntArray:
    """The class of each row, ``(n,)``, from 0.

    Parameters
    ----------
    labels
        Names, in which case, spaces and underscores do not matter, or numbers.
    classes
        The classes.
    counted
        What numbers count from: 0, 1, or auto if 0 or the number of classes is among them.

    Raises
    ------
    InputError
        If a label is of no class, or it does not show what numbers count from.
    """
    values = labels.values
    if labels.are_names and class_key(values[0]) in _LABEL_HEADINGS - classes.numbers.keys():
        values = values[1:]
    labels = replace(labels, values=values).as_numbers(classes.numbers)
    given, first, of_row = np.unique(labels.values, return_index=True, return_inverse=True)
    names = _as_names(labels, given.tolist(), classes)
    if names is None:
        return _numbered(labels, classes, counted)
    found = [
        classes.number_of(name, f"{labels.where}, row {row + 1}")
        for name, row in zip(names, first.tolist(), strict=True)
    ]
    return np.array(found, dtype=np.int64)[of_row]


def _as_names(
    labels: GivenLabels, given: Sequence[Any], classes: PackedClasses
) -> Sequence[str] | None:
    """The class names that distinct labels stand for; None if they are numbers of classes."""
    if labels.are_names:
        return given
    if labels.class_names:
        return _by_number(labels, given)
    texts = [*map(str, given)]
    # Names may be numbers, too.
    return texts if {*texts} <= classes.numbers.keys() else None


def _by_number(labels: GivenLabels, given: Sequence[Any]) -> list[str]:
    """The names that the labels' own file has for their numbers."""
    count = len(labels.class_names)
    if given[0] < 0 or given[-1] >= count:
        raise InputError(
            f"{labels.where}: found class numbers {given[0]} to {given[-1]}, expected 0 to "
            f"{count - 1}, for the {count} class names there"
        )
    return [labels.class_names[number] for number in given]


def _numbered(labels: GivenLabels, classes: PackedClasses, counted: CountedFrom) -> IntArray:
    count = len(classes.semantics)
    base = labels.first_number
    if base is None:
        what = f"class numbers for {count} classes"
        base = count_from(labels.values, count, counted, labels.where, "--labels-from", what)
    numbers = labels.values - base
    outside = np.flatnonzero((numbers < 0) | (numbers >= count))
    if len(outside):
        raise InputError(
            f"{labels.where}: found class {labels.values[outside[0]]} in row {outside[0] + 1}, "
            f"expected {base} to {count + base - 1}, as {classes.where} has {count} classes"
        )
    return np.asarray(numbers, dtype=np.int64)


def count_from(
    numbers: IntArray, count: int, counted: CountedFrom, where: str, flag: str, what: str
) -> int:
    """What numbers of ``count`` things count from, 0 or 1.

    Parameters
    ----------
    numbers
        ``(m,)``.
    count
        How many things there are.
    counted
        What the user says; auto to find out.
    where, flag, what
        Where the numbers stand, the flag with which the user says it, and what they are, for the
        message.

    Raises
    ------
    InputError
        If they may count from both.
    """
    if counted != "auto":
        return int(counted)
    if not len(numbers) or numbers.min() <= 0:
        return 0
    if numbers.max() >= count:
        return 1
    raise InputError(
        f"{where}: found {what} from {numbers.min()} to {numbers.max()}, which may count from 0 or "
        f"from 1, expected {flag} 0 or {flag} 1"
    )
