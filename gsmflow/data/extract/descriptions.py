"""Read descriptions of classes: attributes or texts, from a file or a folder."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.text_cells import delimiter_of, is_number
from gsmflow.data.extract.images import class_key, path_text

__all__ = ["Descriptions", "read_descriptions", "read_names", "read_vector"]

_EXPECTED = "a line for each class: its name and its attributes, or its name and a text"
_TEXT_HEADERS = {"text", "texts", "description", "descriptions", "sentence"}
_NAME_HEADERS = {"name", "names", "class", "classes"}
_DELIMITER_NAMES = {"\t": "tab", ";": "semicolon", ",": "comma", " ": "space"}
# Long texts in a CSV file are allowed.
_LONGEST_CELL = 2**24


@dataclass(frozen=True, eq=False)
class Descriptions:
    """Attributes or texts of classes.

    Attributes
    ----------
    source
        The file or folder.
    names
        The classes in the order of the file; ascending for a folder.
    attributes
        Attributes ``(classes, a)``; None if the classes have texts.
    texts
        The texts of each class: one or several, none where its name alone describes it. Empty if
        the classes have attributes.
    """

    source: Path
    names: tuple[str, ...]
    attributes: FloatArray | None = None
    texts: tuple[tuple[str, ...], ...] = ()


def read_descriptions(source: Path, *, names_alone: bool = False) -> Descriptions:
    """Read attributes or texts; the content decides which.

    Parameters
    ----------
    source
        A folder with a ``.txt`` file for each class, named as the class, whose paragraphs are
        texts; or a text file with a line for each class: its name and its attributes, or its name
        and a text. Lines of one name have several texts of its class. Cells are separated by
        tabs, semicolons, commas or, if there are none of these, spaces. A header line is allowed.
    names_alone
        Whether a file of names, one on each line, is a description too.

    Raises
    ------
    InputError
        If it is unreadable, a class with attributes occurs twice, a cell is no finite number,
        lines differ in length, or a text is empty or has a delimiter and no quotes.
    """
    if names_alone and source.is_file() and _has_names_alone(source):
        names = read_names(source)
        names = names[1:] if names[0].casefold() in _NAME_HEADERS else names
        described = Descriptions(source, names, texts=((),) * len(names))
    else:
        described = _read_folder(source) if source.is_dir() else _read_table(source)
    first: dict[str, str] = {}
    for name in described.names:
        if not class_key(name):
            raise InputError(f"{source}: found a class without a name, expected {_EXPECTED}")
        if class_key(name) in first:
            raise InputError(
                f"{source}: found the class {name} twice (first as {first[class_key(name)]}), "
                "expected it once; names that differ only in case, spaces or underscores are the "
                "same"
            )
        first[class_key(name)] = name
    return described


def read_names(file: Path) -> tuple[str, ...]:
    """Read class names, one on each line; empty lines are ignored.

    Raises
    ------
    InputError
        If it is unreadable or empty.
    """
    names = tuple(line.strip() for line in _read_text(file).splitlines() if line.strip())
    if not names:
        raise InputError(f"{file}: found no name, expected that of a class on each line")
    return names


def read_vector(file: Path) -> FloatArray:
    """Read the attributes ``(a,)`` of one class without its name: one line, or a number on each.

    Raises
    ------
    InputError
        If it is unreadable, or a cell is no finite number.
    """
    rows, _ = _rows(file)
    if not rows:
        raise InputError(f"{file}: found no line, expected the attributes of one class")
    if len(rows) > 1 and any(len(cells) > 1 for _, cells in rows):
        raise InputError(
            f"{file}: found {len(rows)} lines, expected the attributes of one class on one line, "
            "as --name names one; without --name, each line begins with the name of its class"
        )
    return np.array(
        [
            _number(file, line, column, cell, "the class")
            for line, cells in rows
            for column, cell in enumerate(cells, start=1)
        ]
    )


def _read_text(file: Path) -> str:
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


def _read_folder(folder: Path) -> Descriptions:
    files = sorted(
        path for path in folder.iterdir() if path.suffix == ".txt" and not path.name.startswith(".")
    )
    if not files:
        raise InputError(f"{folder}: found no .txt file, expected one for each class")
    texts = []
    for file in files:
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", _read_text(file))]
        if not any(paragraphs):
            raise InputError(f"{path_text(file)}: found no text, expected a class's description")
        texts.append(tuple(text for text in paragraphs if text))
    return Descriptions(folder, tuple(file.stem for file in files), texts=tuple(texts))


def _has_names_alone(file: Path) -> bool:
    """Whether no line has a delimiter or, after a space, a number."""
    lines = _read_text(file).splitlines()
    return not any(delimiter_of(line) or any(map(is_number, line.split()[1:])) for line in lines)


def _read_table(file: Path) -> Descriptions:
    rows, delimiter = _rows(file)
    titled = len(rows) > 1 and _is_header(rows[0][1], rows[1][1])
    of_texts = titled and rows[0][1][-1].casefold() in _TEXT_HEADERS
    rows = rows[titled:]
    if not rows:
        raise InputError(f"{file}: found no line, expected {_EXPECTED}")
    if of_texts or _have_texts(rows, delimiter):
        return _texts(file, rows, delimiter or " ")
    names = tuple(cells[0] for _, cells in rows)
    return Descriptions(file, names, attributes=_attributes(file, rows))


def _have_texts(rows: Sequence[tuple[int, list[str]]], delimiter: str | None) -> bool:
    """Whether rows have texts: all have one, or most begin with words where numbers would be."""
    seconds = [cells[1] for _, cells in rows if len(cells) > 1 and not is_number(cells[1])]
    if len(seconds) == len(rows) and all(len(cells) == 2 for _, cells in rows):
        return True
    worded = sum(any(map(str.isalpha, cell)) for cell in seconds)
    return delimiter is not None and 2 * worded > len(rows)


def _texts(file: Path, rows: Sequence[tuple[int, list[str]]], delimiter: str) -> Descriptions:
    """The texts of rows; those of one name are texts of one class."""
    texts: dict[str, list[str]] = {}
    for number, cells in rows:
        if len(cells) < 2 or not cells[1]:
            raise InputError(
                f"{file}, line {number}: found no text for {cells[0]}, expected a description"
            )
        if len(cells) > 2:
            raise InputError(
                f"{file}, line {number}: found {len(cells)} cells, expected a name and a text: "
                f"quote the text, as it has a {_DELIMITER_NAMES[delimiter]} in it"
            )
        texts.setdefault(cells[0], []).append(" ".join(cells[1].split()))
    return Descriptions(file, tuple(texts), texts=tuple(map(tuple, texts.values())))


def _rows(file: Path) -> tuple[list[tuple[int, list[str]]], str | None]:
    """The non-empty lines of a table, line number and stripped cells of each; its delimiter."""
    text = _read_text(file)
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter_of(head)
    if delimiter is None:
        lines = enumerate(text.splitlines(), start=1)
        return [(number, line.split()) for number, line in lines if line.strip()], None
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise InputError(
            f"{file}: not readable as CSV ({one_line(error)}), expected {_EXPECTED}"
        ) from error
    finally:
        csv.field_size_limit(before)
    return [(number, cells) for number, cells in rows if any(cells)], delimiter


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line is a header: a known title of a text column, or no numbers."""
    if len(first) == 2 and first[1].casefold() in _TEXT_HEADERS:
        return True
    return not any(map(is_number, first[1:])) and any(map(is_number, second[1:]))


def _attributes(file: Path, rows: Sequence[tuple[int, list[str]]]) -> FloatArray:
    width = len(rows[0][1])
    if width < 2:
        raise InputError(
            f"{file}, line {rows[0][0]}: found {rows[0][1][0]} and nothing more, expected "
            f"{_EXPECTED}"
        )
    values = np.empty((len(rows), width - 1), dtype=np.float32)
    for row, (number, cells) in enumerate(rows):
        if len(cells) != width:
            raise InputError(
                f"{file}, line {number}: found {len(cells)} cells, expected {width} as in line "
                f"{rows[0][0]}"
            )
        for column, cell in enumerate(cells[1:]):
            values[row, column] = _number(file, number, column + 2, cell, cells[0])
    return values


def _number(file: Path, line: int, column: int, cell: str, name: str) -> np.float32:
    with np.errstate(over="ignore"):
        value = np.float32(cell) if is_number(cell) else np.float32(np.nan)
    if not math.isfinite(value):
        raise InputError(
            f"{file}, line {line}, column {column}: found {cell!r} for {name}, expected a finite "
            "number"
        )
    return value
