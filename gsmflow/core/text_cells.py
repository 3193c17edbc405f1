"""Cells of text tables: their delimiter, what is a number, what is missing, what is a header."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from gsmflow.core.errors import InputError

__all__ = [
    "ASK_FOR_HEADER",
    "Header",
    "counts_columns",
    "delimiter_of",
    "has_header",
    "is_missing",
    "is_number",
    "is_title",
]

# Whether the first line is a header; auto: its cells say so.
Header: TypeAlias = Literal["auto", "yes", "no"]

# What the user can do where the cells do not say it.
ASK_FOR_HEADER = "--header yes or --header no says which"

_DELIMITERS = "\t;,"
_MISSING = {"", "-", ".", "?", "#n/a", "n/a", "na", "nan", "nil", "none", "null", "missing"}
# What stands above names.
_TITLES = {"", "class", "classes", "index", "label", "name", "names"}
# So many columns that are numbered from 0 or 1 are no row by chance.
_COUNTED = 4


def delimiter_of(line: str) -> str | None:
    """The delimiter of a line: a tab, else a semicolon, else a comma, else None."""
    return next((mark for mark in _DELIMITERS if mark in line), None)


def is_number(cell: str) -> bool:
    """Whether a cell is a number, an infinity or NaN."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or a word for a missing value, such as NA or NaN."""
    return cell.strip().casefold() in _MISSING


def is_title(cell: str) -> bool:
    """Whether a cell is what stands above names, such as ``name``, or empty."""
    return cell.strip().casefold() in _TITLES


def counts_columns(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2 and so on, or 1, 2, 3: the numbers of their columns."""
    return any(list(cells) == [str(start + i) for i in range(len(cells))] for start in (0, 1))


def has_header(
    where: str,
    cells: Sequence[str],
    remedy: str,
    header: Header = "auto",
    *,
    name: str | None = None,
) -> bool:
    """Whether the first line above rows of numbers is a header.

    It is one if it has no number and no missing cell but an empty first one, or if it numbers the
    columns. A line of missing cells alone is a row.

    Parameters
    ----------
    where
        The file, for messages.
    cells
        Those of the line that are numbers in a row.
    remedy
        What the user can do where it is not clear.
    header
        What the user says.
    name
        What stands before the cells, where that is a row's name.

    Raises
    ------
    InputError
        If it is not clear: some cells are missing and none is a number; or the numbers may be
        those of the columns, or those of a row.
    """
    if header != "auto":
        return header == "yes"
    if all(map(is_missing, cells)):
        return False
    # Above the names of rows, the first cell may be empty.
    missing = sum(map(is_missing, cells if cells[0].strip() else cells[1:]))
    if len(cells) > 1 and counts_columns(cells):
        many = len(cells) >= _COUNTED
        if name is not None and is_title(name):
            return True
        if many is (name is None):
            return many
        found = f"{cells[0]} to {cells[-1]} in the first line"
    elif any(is_number(cell) and not is_missing(cell) for cell in cells):
        return False
    elif not missing:
        return True
    else:
        found = f"no number and {missing} missing of {len(cells)} cells in the first line"
    raise InputError(f"{where}: found {found}, expected a header or a row of numbers; {remedy}")
