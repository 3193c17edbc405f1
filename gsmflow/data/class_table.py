"""Text tables of classes: a line for each, its name and its numbers or a text, or numbers alone.

The names of a matrix without names stand in a list beside it, as in the official attributes of AWA
(``predicate-matrix-continuous.txt`` and ``classes.txt``) and of CUB.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import path_text
from gsmflow.core.text_cells import delimiter_of, is_number
from gsmflow.data.class_names import names_list_beside, without_ids

__all__ = [
    "EXPECTED",
    "ClassTable",
    "Line",
    "listed_names",
    "read_class_table",
    "read_names",
    "read_text",
    "table_lines",
    "table_numbers",
]

EXPECTED = "a line for each class: its name and its attributes, or its name and a text"
_TEXT_HEADERS = {"text", "texts", "description", "descriptions", "sentence"}
_NAME_HEADERS = {"", "name", "names", "class", "classes", "class_name", "class_names"}
# Long texts in a CSV file are allowed.
_LONGEST_CELL = 2**24

# Its number from 1, and its cells.
Line: TypeAlias = tuple[int, list[str]]


@dataclass(frozen=True, eq=False)
class ClassTable:
    """What a table says of classes.

    Attributes
    ----------
    names
        The class of each line; empty for a matrix without names and without a list beside it.
    names_source
        The file that has the names.
    values
        Numbers ``(classes, a)``, finite; None if the classes have texts.
    texts
        One text for each class; empty if the classes have numbers.
    notes
        What is worth a warning, one sentence each.
    """

    names: tuple[str, ...]
    names_source: Path
    values: FloatArray | None = None
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_class_table(file: Path) -> ClassTable:
    """Read a text table with a line for each class; the content decides what it has.

    Cells are separated by tabs, semicolons, commas or, if there are none of these, spaces. A header
    line is allowed. A table of numbers alone has its names in the list beside it
    (`names_list_beside`); without a list, its first column has them if those are different whole
    numbers.

    Raises
    ------
    InputError
        If it is unreadable, a cell is no finite number, lines differ in length, a text is empty,
        or the list has another number of names.
    """
    rows = table_lines(file)
    if len(rows) > 1 and _is_header(rows[0][1], rows[1][1]):
        rows = rows[1:]
    if not rows:
        raise InputError(f"{file}: found no line, expected {EXPECTED}")
    if all(is_number(cell) for _, cells in rows for cell in cells):
        return _matrix(file, rows)
    names = tuple(cells[0] for _, cells in rows)
    if all(len(cells) == 2 and not is_number(cells[1]) for _, cells in rows):
        for number, cells in rows:
            if not cells[1]:
                raise InputError(
                    f"{file}, line {number}: found no text for {cells[0]}, expected a description"
                )
        return ClassTable(names, file, texts=tuple(cells[1] for _, cells in rows))
    return _named(file, rows)


def _matrix(file: Path, rows: Sequence[Line]) -> ClassTable:
    """A table of numbers alone."""
    listed = names_list_beside(file)
    if listed is not None:
        values = table_numbers(file, rows, named=False)
        return ClassTable(
            listed_names(listed, len(rows), file), listed, values, notes=_notes(file, values)
        )
    first = [cells[0] for _, cells in rows]
    if len(set(first)) == len(first) and all(cell.isdecimal() for cell in first):
        return _named(file, rows)
    values = table_numbers(file, rows, named=False)
    return ClassTable((), file, values, notes=_notes(file, values))


def _named(file: Path, rows: Sequence[Line]) -> ClassTable:
    values = table_numbers(file, rows, named=True)
    return ClassTable(
        tuple(cells[0] for _, cells in rows), file, values, notes=_notes(file, values)
    )


def _notes(file: Path, values: FloatArray) -> tuple[str, ...]:
    """A warning of AWA's sign for what is not known."""
    negative = values < 0
    count = np.count_nonzero(negative)
    if not count or (values[negative] != -1).any() or not (values > 1).any():
        return ()
    return (
        f"{file}: found -1 in {count} of {values.size} cells and no other number below 0: AWA "
        "writes -1 for what is not known, and here it is taken for a number like all others",
    )


def listed_names(listed: Path, count: int, of: Path) -> tuple[str, ...]:
    """The names in a list, one for each of so many rows of a matrix in another file.

    Raises
    ------
    InputError
        If the list is unreadable, or has another number of names.
    """
    names = without_ids(read_names(listed))
    if len(names) != count:
        raise InputError(
            f"{listed}: found {len(names)} names, expected {count}, one for each row of {of}"
        )
    return names


def read_names(file: Path) -> tuple[str, ...]:
    """Read class names, one on each line; empty lines are ignored.

    Raises
    ------
    InputError
        If it is unreadable or empty.
    """
    names = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
    if not names:
        raise InputError(f"{file}: found no name, expected that of a class on each line")
    return names


def read_text(file: Path) -> str:
    """The text of a file in UTF-8.

    Raises
    ------
    InputError
        If it is unreadable.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path_text(file)}: not readable ({error.strerror}), expected a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path_text(file)}: found bytes that are not UTF-8 (the first at {error.start}), "
            "expected a text file in UTF-8"
        ) from error


def table_lines(file: Path) -> list[Line]:
    """The non-empty lines of a table: number and cells of each, blanks in them made one.

    Raises
    ------
    InputError
        If it is unreadable.
    """
    text = read_text(file)
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter_of(head)
    if delimiter is None:
        lines = enumerate(text.splitlines(), start=1)
        return [(number, line.split()) for number, line in lines if line.strip()]
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [" ".join(c.split()) for c in cells]) for cells in reader]
    except csv.Error as error:
        raise InputError(
            f"{file}: not readable as CSV ({one_line(error)}), expected {EXPECTED}"
        ) from error
    finally:
        csv.field_size_limit(before)
    return [(number, cells) for number, cells in rows if any(cells)]


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line is a header: a known title of a text column, or no numbers.

    Titles may also count the columns from 0, as pandas writes them where they have no names.
    """
    if len(first) == 2 and first[1].casefold() in _TEXT_HEADERS:
        return True
    if first[0].casefold() in _NAME_HEADERS and len(first) == len(second):
        counted = [str(column) for column in range(len(first) - 1)]
        if list(first[1:]) == counted and any(map(is_number, second[1:])):
            return True
    return not any(map(is_number, first[1:])) and any(map(is_number, second[1:]))


def table_numbers(file: Path, rows: Sequence[Line], *, named: bool) -> FloatArray:
    """The numbers of a table, ``(m, a)``.

    Parameters
    ----------
    file
        For messages.
    rows
        Its lines ``m >= 1`` without a header, as of `table_lines`.
    named
        Whether the first column has names.

    Raises
    ------
    InputError
        If lines differ in length, or a cell is no finite number.
    """
    width = len(rows[0][1])
    if width < 1 + named:
        raise InputError(
            f"{file}, line {rows[0][0]}: found {rows[0][1][0]} and nothing more, expected "
            f"{EXPECTED}"
        )
    values = np.empty((len(rows), width - named), dtype=np.float32)
    for row, (number, cells) in enumerate(rows):
        if len(cells) != width:
            raise InputError(
                f"{file}, line {number}: found {len(cells)} cells, expected {width} as in line "
                f"{rows[0][0]}"
            )
        with np.errstate(over="ignore"):
            values[row] = [float(c) if is_number(c) else np.nan for c in cells[named:]]
        wrong = np.flatnonzero(~np.isfinite(values[row]))
        if len(wrong):
            column, about = wrong[0] + named, f" for {cells[0]}" if named else ""
            raise InputError(
                f"{file}, line {number}, column {column + 1}: found {cells[column]!r}{about}, "
                "expected a finite number"
            )
    return values
