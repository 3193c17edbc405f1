"""The page of methods has a row for each, with a link to its file."""

from pathlib import Path

from gsmflow.methods.registry import METHODS

PAGE = Path("docs/methods.md")


def test_page_has_a_row_with_its_file_for_every_method() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| [")]
    expected = [
        f"| [`{name}`](../{module.replace('.', '/')}.py) |" for name, module in METHODS.items()
    ]
    assert sorted(row[: row.index(") |") + 3] for row in rows) == sorted(expected)
