"""Rows of numbers in text files, with errors that name the line and the column."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import is_number

__all__ = ["TextLine", "parse_batches", "split_cells", "text_lines"]

# Lines that are parsed at once take no more text than this.
_TEXT_BYTES = 2**24


class TextLine(NamedTuple):
    """A line of a file, and its number from 1."""

    number: int
    text: str


def text_lines(path: Path) -> Iterator[TextLine]:
    """The lines of a text file that are not empty, by number.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, start=1):
                if text.strip(" \r\n"):  # tabs may part cells that are missing
                    yield TextLine(number, text.rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: found bytes that are not UTF-8, expected a text file of numbers"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: not readable ({error.strerror}), expected a text file of numbers"
        ) from error


def parse_batches(
    path: Path,
    lines: Iterator[TextLine],
    delimiter: str,
    columns: int,
    as_in: str,
    before: int = 0,
) -> Iterator[FloatArray]:
    """Numbers of all lines, ``(m, columns)`` for a bounded number of lines at a time.

    Parameters
    ----------
    path
        The file, for messages.
    lines
        Its lines without a header.
    delimiter
        What stands between cells.
    columns
        How many cells each line must have.
    as_in
        What has so many, for messages.
    before
        How many cells of each line stand before these and are not in its text, for messages.

    Raises
    ------
    InputError
        At the first line that has another number of cells, or a cell that is no number.
    """
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return
    step = max(1, _TEXT_BYTES // (len(first.text) + 16 * columns))
    batch = [first, *islice(lines, step - 1)]
    while batch:
        yield _parse(path, batch, delimiter, columns, as_in, before)
        batch = list(islice(lines, step))


def _parse(
    path: Path,
    lines: Sequence[TextLine],
    delimiter: str,
    columns: int,
    as_in: str,
    before: int,
) -> FloatArray:
    texts = [line.text for line in lines]
    try:
        with np.errstate(over="ignore"):
            parsed = np.loadtxt(
                texts,
                dtype=np.float32,
                delimiter=delimiter,
                comments=None,
                quotechar='"',
                ndmin=2,
            )
        if parsed.shape == (len(lines), columns):
            return parsed
    except ValueError:
        pass  # the line that is at fault is looked for below
    for line in lines:
        where, cells = f"{path}, line {line.number}", split_cells(line.text, delimiter)
        if len(cells) != columns:
            named = " of numbers" if before else ""
            raise InputError(
                f"{where}: found {len(cells)} cells{named}, expected {columns}, {as_in}"
            )
        for column, cell in enumerate(cells, start=1 + before):
            if not is_number(cell):
                raise InputError(f"{where}, column {column}: found {cell!r}, expected a number")
    raise InputError(f"{path}, line {lines[0].number}: found no rows of numbers, expected some")


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line, without blanks and quotes around them."""
    return [cell.strip().strip('"') for cell in line.split(delimiter)]
