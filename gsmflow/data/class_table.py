"""Text tables of classes: lines of a name and numbers or a text, of numbers alone, or of names.

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
from gsmflow.core.text_cells import (
    ASK_FOR_HEADER,
    Header,
    delimiter_of,
    has_header,
    is_missing,
    is_number,
    is_title,
)
from gsmflow.data.class_names import names_list_beside, without_ids

__all__ = [
    "EXPECTED",
    "ClassTable",
    "Line",
    "listed_names",
    "read_class_table",
    "read_names",
    "read_text",
    "read_vector",
    "table_lines",
    "table_numbers",
]

EXPECTED = "a line for each class: its name and its attributes, or its name and a text"
_TEXT_HEADERS = {"text", "texts", "description", "descriptions", "sentence"}
_DELIMITER_NAMES = {"\t": "tab", ";": "semicolon", ",": "comma"}
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
        The class of each line, for texts each class once; empty for a matrix without names and
        without a list beside it.
    names_source
        The file that has the names.
    values
        Numbers ``(classes, a)``, finite; None if the classes have texts.
    texts
        The texts of each class: one or several, none where its name is all. Empty if the classes
        have numbers.
    notes
        What is worth a warning, one sentence each.
    """

    names: tuple[str, ...]
    names_source: Path
    values: FloatArray | None = None
    texts: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def read_class_table(
    file: Path, header: Header = "auto", *, names_alone: bool = False
) -> ClassTable:
    """Read a text table with a line for each class; the content decides what it has.

    Cells are separated by tabs, semicolons, commas or, if there are none of these, spaces. A header
    line is allowed. Lines of one name have several texts of its class. A table of numbers
    alone has its names in the list beside it (`names_list_beside`); without a list, its first
    column has them if those are different whole numbers.

    Parameters
    ----------
    file
        The table.
    header
        Whether its first line is a header; ``"auto"`` as of `has_header`.
    names_alone
        Whether a file of names, one on each line, is such a table too.

    Raises
    ------
    InputError
        If it is unreadable, a cell is no finite number, lines differ in length, a text is empty or
        has a delimiter and no quotes, it is not clear whether the first line is a header, or the
        list has another number of names.
    """
    rows, delimiter = table_lines(file)
    if not rows:
        raise InputError(f"{file}: found no line, expected {EXPECTED}")
    if names_alone and delimiter is None and _are_names(rows):
        return _names(file, rows, header)
    titled = len(rows) > 1 and _has_header(file, rows, delimiter, header)
    of_texts = titled and _titles_texts(rows[0][1])
    rows = rows[titled:]
    if of_texts or _have_texts(rows, delimiter):
        return _texts(file, rows, delimiter)
    if all(is_number(cell) for _, cells in rows for cell in cells):
        return _matrix(file, rows)
    return _named(file, rows)


def read_vector(file: Path, header: Header = "auto") -> FloatArray:
    """The numbers ``(a,)`` of one class without its name: one line, or a number on each.

    Parameters
    ----------
    file
        The table.
    header
        Whether its first line is a header; ``"auto"``: no.

    Raises
    ------
    InputError
        If it is unreadable, or a cell is no finite number.
    """
    rows, _ = table_lines(file)
    rows = rows[len(rows) > 1 and header == "yes" :]
    if not rows:
        raise InputError(f"{file}: found no line, expected the attributes of one class")
    if len(rows) > 1 and any(len(cells) > 1 for _, cells in rows):
        raise InputError(
            f"{file}: found {len(rows)} lines, expected the attributes of one class on one line, "
            "as --name names one; without --name, each line begins with the name of its class"
        )
    return table_numbers(file, rows, named=False).ravel()


def _are_names(rows: Sequence[Line]) -> bool:
    """Whether lines without a delimiter have no number but at their beginning."""
    return not any(
        delimiter_of(" ".join(cells)) or any(map(is_number, cells[1:])) for _, cells in rows
    )


def _names(file: Path, rows: Sequence[Line], header: Header) -> ClassTable:
    names = [" ".join(cells) for _, cells in rows]
    if len(names) > 1 and (header == "yes" or (header == "auto" and is_title(names[0]))):
        del names[0]
    return ClassTable(tuple(names), file, texts=((),) * len(names))


def _titles_texts(cells: Sequence[str]) -> bool:
    """Whether a header is that of names and texts."""
    return len(cells) == 2 and cells[1].casefold() in _TEXT_HEADERS


def _have_texts(rows: Sequence[Line], delimiter: str | None) -> bool:
    """Whether rows have texts: all have one, or most begin with words where numbers would be."""
    seconds = [cells[1] for _, cells in rows if len(cells) > 1 and not is_number(cells[1])]
    if len(seconds) == len(rows) and all(len(cells) == 2 for _, cells in rows):
        return True
    worded = sum(any(map(str.isalpha, cell)) and not is_missing(cell) for cell in seconds)
    return delimiter is not None and 2 * worded > len(rows)


def _texts(file: Path, rows: Sequence[Line], delimiter: str | None) -> ClassTable:
    """The texts of rows; those of one name are texts of one class."""
    texts: dict[str, list[str]] = {}
    for number, cells in rows:
        where, name = f"{file}, line {number}", cells[0]
        if len(cells) < 2 or not cells[1]:
            raise InputError(f"{where}: found no text for {name}, expected a description")
        if len(cells) > 2:
            remedy = "separate them by a comma, and quote the text"
            if delimiter is not None:
                remedy = f"quote the text, as it has a {_DELIMITER_NAMES[delimiter]} in it"
            raise InputError(
                f"{where}: found {len(cells)} cells, expected a name and a text: {remedy}"
            )
        texts.setdefault(name, []).append(cells[1])
    return ClassTable(tuple(texts), file, texts=tuple(map(tuple, texts.values())))


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


def table_lines(file: Path) -> tuple[list[Line], str | None]:
    """The non-empty lines of a table: number and cells of each, blanks in them made one.

    Returns
    -------
    tuple
        The lines, and the delimiter of their cells; None for spaces.

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
        return [(number, line.split()) for number, line in lines if line.strip()], None
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
    return [(number, cells) for number, cells in rows if len(cells) > 1 or any(cells)], delimiter


def _has_header(file: Path, rows: Sequence[Line], delimiter: str | None, header: Header) -> bool:
    """Whether the first line is a header: a known title of a text column, or above numbers."""
    first = rows[0][1]
    if header == "auto" and _titles_texts(first):
        return True
    if header == "auto" and _have_texts(rows[1:], delimiter):
        return False
    if is_number(first[0]) and not is_missing(first[0]):
        return has_header(str(file), first, ASK_FOR_HEADER, header)
    return has_header(str(file), first[1:], ASK_FOR_HEADER, header, name=first[0])


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
