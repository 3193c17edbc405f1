import io
import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from gsmflow.core.tables import Grid, MeanStd, latex, markdown, terminal_table

GRID = Grid(
    title="A · percent",
    columns=("method", "features", "U", "H cal."),
    align="llrr",
    sections=(
        (("ESZSL", "att_splits", MeanStd(12.34), None),),
        (
            ("GSMFlow", "att_splits", MeanStd(51.54, 2.06), MeanStd(100.0, 0.0)),
            ("GSMFlow", "mine", MeanStd(0.04), MeanStd(99.96)),
        ),
    ),
    notes=("1: first", "2: second"),
)
MARKUP = r"50% of $x$ & #1_a {b} ~c^d \e | <f> *g* `h` [i](j) __k__ ~~l~~ &amp; ±"


def markup_grid() -> Grid:
    return Grid(MARKUP, (MARKUP, "x"), "lr", (((MARKUP, None), ("next", MeanStd(1.0))),), (MARKUP,))


def printed(grid: Grid, width: int) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), markup=False, emoji=False)
    console.print(terminal_table(grid))
    return console.export_text()


class TableParser(HTMLParser):
    """The text in each table cell, heading and list item of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.others: list[str] = []
        self.inside = ""
        self.marks: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = "cell"
        elif tag in ("h3", "li"):
            self.others.append("")
            self.inside = "other"
        elif tag not in ("table", "thead", "tbody", "ul"):
            self.marks.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "h3", "li"):
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "cell":
            self.rows[-1][-1] += data
        elif self.inside == "other":
            self.others[-1] += data


def rendered(text: str) -> TableParser:
    """Text as rendered by an independent Markdown reader."""
    reader = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    return TableParser(reader.render(text))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (MeanStd(51.54), "51.5"),
        (MeanStd(51.54, 2.06), "51.5 ± 2.1"),
        (MeanStd(100.0, 0.0), "100.0 ± 0.0"),
        (MeanStd(0.0), "0.0"),
    ],
)
def test_number_has_one_decimal(number: MeanStd, text: str) -> None:
    assert number.text(" ± ") == text


def test_markdown_is_parsed_by_an_independent_reader() -> None:
    page = rendered(markdown(GRID))
    assert page.rows == [
        ["method", "features", "U", "H cal."],
        ["ESZSL", "att_splits", "12.3", "-"],
        ["", "", "", ""],
        ["GSMFlow", "att_splits", "51.5 ± 2.1", "100.0 ± 0.0"],
        ["GSMFlow", "mine", "0.0", "100.0"],
    ]
    assert page.others == ["A · percent", "1: first", "2: second"]


def test_markdown_characters_are_escaped() -> None:
    page = rendered(markdown(markup_grid()))
    assert page.rows == [[MARKUP, "x"], [MARKUP, "-"], ["next", "1.0"]]
    assert page.others == [MARKUP, MARKUP]
    assert not page.marks


def test_underscore_inside_a_word_is_not_escaped_in_markdown() -> None:
    assert "| att_splits |" in markdown(GRID)


def test_latex_has_booktabs_rules_around_sections() -> None:
    lines = [line for line in latex(GRID).splitlines() if not line.startswith("%")]
    assert lines == [
        r"\begin{tabular}{@{}llrr@{}}",
        r"\toprule",
        r"method & features & U & H cal. \\",
        r"\midrule",
        r"ESZSL & att\_splits & $12.3$ & -- \\",
        r"\midrule",
        r"GSMFlow & att\_splits & $51.5 \pm 2.1$ & $100.0 \pm 0.0$ \\",
        r"GSMFlow & mine & $0.0$ & $100.0$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\smallskip{\footnotesize 1: first}",
        "",
        r"\smallskip{\footnotesize 2: second}",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50%", r"50\%"),
        ("a & b", r"a \& b"),
        ("res_net", r"res\_net"),
        ("#1 $x$ {y}", r"\#1 \$x\$ \{y\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("a\\b", r"a\textbackslash{}b"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("±: std", r"$\pm$: std"),
        # At the start of a row LaTeX would read these as arguments of the row above.
        ("[a]", "{[}a]"),
        ("*a", "{*}a"),
    ],
)
def test_latex_characters_are_escaped(text: str, written: str) -> None:
    grid = Grid("t", (text, "x"), "lr", (((text, None),),), (text,))
    lines = latex(grid).splitlines()
    assert f"{written} & x \\\\" in lines
    assert f"{written} & -- \\\\" in lines
    assert f"\\smallskip{{\\footnotesize {written}}}" in lines


def test_latex_row_has_one_cell_for_each_column() -> None:
    rows = [line for line in latex(markup_grid()).splitlines() if line.endswith(r" \\")]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)


def test_terminal_has_standard_deviation_below_mean_and_rules_between_sections() -> None:
    lines = [line.rstrip() for line in printed(GRID, 100).splitlines()]
    assert [line.split() for line in lines] == [
        ["A", "·", "percent"],
        ["method", "features", "U", "H", "cal."],
        [lines[2]],
        ["ESZSL", "att_splits", "12.3", "-"],
        [lines[2]],
        ["GSMFlow", "att_splits", "51.5", "100.0"],
        ["±2.1", "±0.0"],
        ["GSMFlow", "mine", "0.0", "100.0"],
        ["1:", "first"],
        ["2:", "second"],
    ]
    assert set(lines[2]) == {"─"}
    assert lines[5].index("51.5") == lines[6].index("±2.1")


def test_narrow_terminal_wraps_words_but_not_numbers() -> None:
    long = "a name that is far too long for a narrow terminal " * 2
    sections = (((long, long, MeanStd(51.5, 2.1), MeanStd(12.3)),),)
    grid = Grid(GRID.title, GRID.columns, GRID.align, sections)
    assert re.findall(r"\d+\.\d", printed(grid, 50)) == ["51.5", "12.3", "2.1"]
    assert max(map(len, printed(grid, 50).splitlines())) <= 50
