"""Cells that a spreadsheet would run, and their way back."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.csv_cells import as_cells, csv_text, from_cell

SIGNS = st.sampled_from(["=", "+", "-", "@", "'", "\t", "1", "a", "'="])


@given(st.lists(SIGNS | st.text(max_size=3), max_size=4).map("".join))
def test_no_text_is_a_formula_and_all_come_back(text: str) -> None:
    (cell,) = as_cells([text])
    assert isinstance(cell, str)
    assert from_cell(cell) == text
    if cell[:1] in set("=+-@\t\r"):
        float(cell)  # a number, which runs nothing


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1"])
def test_formulas_are_prefixed(text: str) -> None:
    assert as_cells([text]) == [f"'{text}"]


def test_numbers_and_plain_names_are_unchanged() -> None:
    values = [-1.5, "-1.5", None, "'tis", "zebra", 3]
    assert as_cells(values) == values
    (line,) = csv.reader(io.StringIO(csv_text([["=a,b", -1]])))
    assert line == ["'=a,b", "-1"]
