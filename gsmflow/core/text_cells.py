"""Cells of text tables: what parts them, and whether one is a number."""

__all__ = ["delimiter_of", "is_number"]

_DELIMITERS = "\t;,"


def delimiter_of(line: str) -> str | None:
    """What parts the cells of a line: a tab, else a semicolon, else a comma; None without any."""
    return next((mark for mark in _DELIMITERS if mark in line), None)


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, an infinity or NaN."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
