"""Cells of text tables: their delimiter, and whether a cell is a number."""

__all__ = ["delimiter_of", "is_number"]

_DELIMITERS = "\t;,"


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
