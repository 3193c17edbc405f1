"""CSV files that we write: a spreadsheet runs none of their cells.

A spreadsheet takes a text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a return for a
formula. An apostrophe before it says that it is text; readers take it off again.
"""

import csv
import io
from collections.abc import Iterable

from gsmflow.core.text_cells import is_number

__all__ = ["as_cells", "csv_text", "from_cell"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_cells(values: Iterable[object]) -> list[object]:
    """The values of a line, with an apostrophe before each text that a spreadsheet would run."""
    return [_guarded(value) if isinstance(value, str) else value for value in values]


def from_cell(cell: str) -> str:
    """A text as it was before `as_cells`."""
    return cell[1:] if cell[:1] == "'" and _is_formula(cell) else cell


def csv_text(lines: Iterable[Iterable[object]]) -> str:
    """Lines as CSV, with `as_cells` of each."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(as_cells, lines))
    return text.getvalue()


def _guarded(text: str) -> str:
    return f"'{text}" if _is_formula(text) and not is_number(text) else text


def _is_formula(text: str) -> bool:
    """Whether a text begins with a sign of a formula, after apostrophes or none."""
    return text.lstrip("'").startswith(_FORMULA)
