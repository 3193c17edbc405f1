"""The section of generation shifts: when it is left out, and what it says of a sample."""

from pathlib import Path
from typing import Any

import pytest

from gsmflow.core.json_fields import Field
from gsmflow.methods.registry import find_method
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.shifts import SECTION


@pytest.mark.parametrize(("words", "wanted"), [([], True), (["--no-diagnosis"], False)])
def test_no_diagnosis_leaves_the_shifts_out(words: list[str], wanted: bool) -> None:
    recipe = Recipe(dataset="TINY", method=find_method("discriminant").config())
    parsed = parse_recipe({"": recipe}, words, prog="", description="")
    assert SECTION.wanted(parsed) is wanted


@pytest.mark.parametrize(
    ("shifts", "lines"),
    [
        ({}, 0),
        ({"GSMFlow": {"samples_per_class": 5}}, 0),
        ({"GSMFlow": {"classes": 500}, "Gaussian prototypes": {"classes": 500}}, 1),
    ],
)
def test_a_line_says_that_a_sample_was_measured(shifts: dict[str, Any], lines: int) -> None:
    found = SECTION.report.lines(Field(Path("metrics.json"), "", {"shifts": shifts}))
    assert len(found) == lines
    assert all("500 classes" in line for line in found)
