"""Tables of metrics for a terminal, in Markdown and in LaTeX."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich import box
from rich.table import Table

from gsmflow.core.rounding import fixed

__all__ = [
    "Best",
    "Cell",
    "Grid",
    "MeanStd",
    "latex",
    "markdown",
    "markdown_table",
    "terminal_table",
]


@dataclass(frozen=True)
class MeanStd:
    """A number in percent, with its spread if it is a mean over seeds or class splits.

    Attributes
    ----------
    mean
        The number.
    std
        Its standard deviation; None where there is none.
    interval
        The ends of the 95% interval of a mean over class splits; None for other numbers.
    """

    mean: float
    std: float | None = None
    interval: tuple[float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields by name, without the interval if there is none."""
        fields = {"mean": self.mean, "std": self.std}
        return fields if self.interval is None else {**fields, "interval": self.interval}

    def text(self, plus_minus: str) -> str:
        """The number with one decimal; ``plus_minus`` separates mean and standard deviation."""
        mean = fixed(self.mean)
        return mean if self.std is None else f"{mean}{plus_minus}{fixed(self.std)}"


@dataclass(frozen=True)
class Best:
    """A number that no other of its column is significantly better than."""

    figure: MeanStd

    def text(self, plus_minus: str) -> str:
        """The number with a star after it; the standard deviation follows."""
        text = self.figure.text(f"*{plus_minus}")
        return f"{text}*" if self.figure.std is None else text


Cell: TypeAlias = "str | MeanStd | Best | None"


@dataclass(frozen=True)
class Grid:
    """A table, independent of its output format.

    Attributes
    ----------
    title
        The title.
    columns
        The heading of each column.
    align
        One letter for each column: ``l`` for left-aligned, ``r`` for right-aligned.
    sections
        Groups of rows, separated by rules. A row has one cell for each column; None is a missing
        value.
    notes
        Sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    align: str
    sections: tuple[tuple[tuple[Cell, ...], ...], ...]
    notes: tuple[str, ...] = ()


def terminal_table(grid: Grid) -> Table:
    """A table for the console, with standard deviations below their means to save width."""
    table = Table(
        title=grid.title,
        title_justify="left",
        caption="\n".join(grid.notes),
        caption_justify="left",
        box=box.HORIZONTALS,
        show_edge=False,
        padding=0,
    )
    for column, side in zip(grid.columns, grid.align, strict=True):
        if side == "r":
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for section in grid.sections:
        for row in section:
            table.add_row(*(_text(cell, "\n±", missing="-") for cell in row))
        table.add_section()
    return table


def markdown(grid: Grid) -> str:
    """A table as Markdown: a heading, the table, and a list of the notes.

    Markdown has no rules between rows, so an empty row separates two sections.
    """
    rows: list[list[str]] = []
    for section in grid.sections:
        rows += [[""] * len(grid.columns)] if rows else []
        rows += [[_markdown_cell(cell) for cell in row] for row in section]
    columns = [_escape_markdown(name) for name in grid.columns]
    lines = [f"### {_escape_markdown(grid.title)}", ""]
    lines += markdown_table(columns, grid.align, rows)
    lines += ["", *(f"- {_escape_markdown(note)}" for note in grid.notes)]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(columns: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table.

    Parameters
    ----------
    columns
        The heading of each column.
    align
        One letter for each column, ``l`` or ``r``.
    rows
        Rows of cells, which are Markdown already.
    """
    rule = ["---:" if side == "r" else "---" for side in align]
    return ["| " + " | ".join(row) + " |" for row in (columns, rule, *rows)]


def latex(grid: Grid) -> str:
    r"""A table as a LaTeX ``tabular`` with booktabs rules, and the notes below it.

    The text belongs in a ``table`` environment of a document with ``\usepackage{booktabs}``.
    """
    lines = [
        "% Needs \\usepackage{booktabs}; \\input this file in a table environment.",
        f"% {grid.title}",
        f"\\begin{{tabular}}{{@{{}}{grid.align}@{{}}}}",
        "\\toprule",
        _latex_row(grid.columns),
    ]
    for section in grid.sections:
        lines += ["\\midrule", *(_latex_row(row) for row in section)]
    lines += ["\\bottomrule", "\\end{tabular}"]
    for note in grid.notes:
        lines += ["", f"\\smallskip{{\\footnotesize {_escape_latex(note)}}}"]
    return "\n".join(lines) + "\n"


def _text(cell: Cell, plus_minus: str, *, missing: str) -> str:
    if cell is None:
        return missing
    return cell if isinstance(cell, str) else cell.text(plus_minus)


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, Best):
        return f"**{cell.figure.text(' ± ')}**"
    return _escape_markdown(_text(cell, " ± ", missing="-"))


# An underscore inside a word is not markup.
_MARKDOWN_CHARACTERS = re.compile(r"[\\|*`<\[~&$]|\b_+|_+\b")

_LATEX_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    # At the start of a row LaTeX would read these as arguments of the line break before it.
    "[": "{[}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _escape_markdown(text: str) -> str:
    return _MARKDOWN_CHARACTERS.sub(
        lambda match: "".join(f"\\{character}" for character in match[0]), text
    )


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_CHARACTERS.get(character, character) for character in text)


def _latex_row(row: Sequence[Cell]) -> str:
    return " & ".join(_latex_cell(cell) for cell in row) + r" \\"


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, MeanStd):
        return "$" + cell.text(r" \pm ") + "$"
    if isinstance(cell, Best):
        return r"$\mathbf{" + cell.figure.text(r" \pm ") + "}$"
    return _escape_latex(_text(cell, "", missing="--"))
