"""Rows of features in CSV files, with the names and the labels that may stand beside them."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.text_cells import (
    ASK_FOR_HEADER,
    Header,
    counts_columns,
    delimiter_of,
    has_header,
    is_missing,
    is_number,
)
from gsmflow.data.text_rows import TextLine, parse_batches, text_lines

__all__ = ["CsvLayout", "csv_labels", "csv_layout", "csv_pieces"]

# Headings of a first column that names the rows; of pandas' index, an empty one.
_NAME_HEADINGS = {"", "name", "names", "id", "file", "filename", "image", "path", "row", "index"}
_LABEL_HEADINGS = {"label", "labels", "class"}


@dataclass(frozen=True)
class CsvLayout:
    """How the lines of a CSV file are to be read.

    Attributes
    ----------
    path
        The file.
    delimiter
        What stands between cells.
    header
        Whether the first line is a header.
    named
        Whether the first column names the rows.
    label_column
        The column of the labels, from 0; None if there is none.
    dimension
        How many numbers each row has, by the first line.
    notes
        What the user should know of that, one sentence each.
    """

    path: Path
    delimiter: str
    header: bool
    named: bool
    label_column: int | None
    dimension: int
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[TextLine]:
        """The lines below the header."""
        lines = text_lines(self.path)
        if self.header:
            next(lines)
        return lines


def csv_layout(path: Path, feature_dim: int | None, header: Header = "auto") -> CsvLayout:
    """The layout of a CSV file, by its first two lines.

    Parameters
    ----------
    path
        The file: a row a line, its cells parted by commas, semicolons or tabs. The first column
        names the rows if the header says so (``name``, ``id``, ``file``, ... or nothing), or if it
        has text. A column that the header calls ``label``, ``labels`` or ``class`` has the labels.
    feature_dim
        How many numbers a row should have; None if any number will do.
    header
        Whether the first line is a header; ``"auto"`` as of `has_header`.

    Raises
    ------
    InputError
        If the file is unreadable or has no line, or if it is not clear whether that is a header.
    """
    lines = text_lines(path)
    first, second = next(lines, None), next(lines, None)
    if first is None:
        raise InputError(f"{path}: found no line, expected rows of {feature_dim or 'd'} numbers")
    delimiter = delimiter_of(first.text) or ","
    cells = _cells(path, delimiter, first)
    headed = cells[0].casefold() in _NAME_HEADINGS and len(cells) not in (1, feature_dim)
    labels = [c for c, cell in enumerate(cells) if cell.casefold() in _LABEL_HEADINGS]
    numbered = [cell for c, cell in enumerate(cells) if c not in labels and not (headed and c == 0)]
    counted = header == "auto" and len(numbered) > 1 and counts_columns(numbered)
    titled = counted and (headed or bool(labels))
    below_header = titled or has_header(str(path), numbered, ASK_FOR_HEADER, header)
    label = labels[0] if below_header and len(labels) == 1 else None
    data = second if below_header else first
    named = below_header and headed
    if data is not None and not named and label != 0:
        cell = _cells(path, delimiter, data)[0]
        named = not is_missing(cell) and not is_number(cell)
    notes = [
        f"{path}: the first line, {numbered[0]} to {numbered[-1]} in steps of one, is taken for a "
        "header that numbers the columns"
        for _ in range(counted)
    ]
    dimension = len(cells) - named - (label is not None)
    return CsvLayout(path, delimiter, below_header, named, label, dimension, (*notes,))


class CsvPiece(NamedTuple):
    """Some consecutive rows: their features ``(m, d)``, and their names, None without."""

    features: FloatArray
    names: list[str] | None


def csv_pieces(layout: CsvLayout, columns: int, as_in: str) -> Iterator[CsvPiece]:
    """The rows of a CSV file, a bounded number at a time.

    Parameters
    ----------
    layout
        Its layout.
    columns
        How many numbers each row must have.
    as_in
        What has so many, for messages.

    Raises
    ------
    InputError
        At the first line that has another number of cells, a cell that is no number, or no name;
        or if there is no line below the header.
    """
    names: list[str] = []
    cut = [0] * layout.named + [c for c in (layout.label_column,) if c is not None]
    lines = _without(layout, sorted({*cut}), names) if cut else layout.lines()
    empty = True
    for features in parse_batches(
        layout.path, lines, layout.delimiter, columns, as_in, before=len(cut)
    ):
        empty = False
        own = names.copy() if layout.named else None
        names.clear()
        yield CsvPiece(features, own)
    if empty:
        raise InputError(f"{layout.path}: found no line below the header, expected rows of numbers")


def csv_labels(layout: CsvLayout) -> NDArray[np.str_]:
    """The labels of all rows, ``(n,)``, of a file that has a column of them.

    Raises
    ------
    InputError
        At the first line without a label.
    """
    column = layout.label_column
    assert column is not None
    labels = []
    for line in layout.lines():
        cells = _cells(layout.path, layout.delimiter, line)
        if len(cells) <= column or not cells[column]:
            raise InputError(
                f"{layout.path}, line {line.number}: found no label in column {column + 1}, "
                "expected one"
            )
        labels.append(cells[column])
    return np.array(labels, dtype=np.str_)


def _without(layout: CsvLayout, cut: list[int], names: list[str]) -> Iterator[TextLine]:
    """The lines without some of their cells; names are added to ``names`` as a line is given."""
    for line in layout.lines():
        cells = _cells(layout.path, layout.delimiter, line)
        if layout.named and not cells[0]:
            raise InputError(
                f"{layout.path}, line {line.number}: found no name in column 1, expected a name "
                "and numbers"
            )
        names.append(cells[0])
        rest = [cell for c, cell in enumerate(cells) if c not in cut]
        if not any(rest):
            raise InputError(f"{layout.path}, line {line.number}: found no numbers, expected some")
        yield TextLine(line.number, layout.delimiter.join(rest))


def _cells(path: Path, delimiter: str, line: TextLine) -> list[str]:
    """The cells of a line, which may be quoted."""
    try:
        (cells,) = csv.reader([line.text], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError) as error:
        raise InputError(
            f"{path}, line {line.number}: not CSV ({one_line(error)}), expected cells "
            f"parted by {delimiter!r}"
        ) from error
    return [cell.strip() for cell in cells]
