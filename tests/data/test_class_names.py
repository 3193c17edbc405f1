"""Spellings of class names, lists of them, and the rows of vectors in their order."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.class_names import (
    class_key,
    names_list_beside,
    rows_of_classes,
    without_ids,
    without_own_id,
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("polar bear", "Polar_Bear", True),
        ("polar bear", "polarbear", False),
        ("STRASSE", "straße", True),
        ("antelope", "antilope", False),
    ],
)
def test_class_key_ignores_case_and_underscores(one: str, other: str, same: bool) -> None:
    assert (class_key(one) == class_key(other)) == same


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["1\tantelope", "2\tgrizzly+bear"], ("antelope", "grizzly+bear")),
        (["0 a b", "1 c"], ("a b", "c")),
        (["1 001.Black_footed_Albatross"], ("001.Black_footed_Albatross",)),
        (["001.Albatross", "002.Auk"], ("001.Albatross", "002.Auk")),
        (["3 dogs", "5 dogs"], ("3 dogs", "5 dogs")),
        (["antelope", "2 bears"], ("antelope", "2 bears")),
        ([], ()),
    ],
)
def test_numbers_that_count_the_lines_are_no_part_of_names(
    lines: list[str], names: tuple[str, ...]
) -> None:
    assert without_ids(lines) == names
    assert without_own_id("12 otter") == "otter"
    assert without_own_id("12") == "12"


def test_list_lies_beside_a_matrix_or_above_the_folder_of_attributes(tmp_path: Path) -> None:
    folder = tmp_path / "attributes"
    folder.mkdir()
    matrix = folder / "matrix.txt"
    assert names_list_beside(matrix) is None
    (tmp_path / "classes.txt").touch()
    assert names_list_beside(matrix) == tmp_path / "classes.txt"
    (folder / "class_names.txt").touch()
    assert names_list_beside(matrix) == folder / "class_names.txt"
    assert names_list_beside(folder / "class_names.txt") == tmp_path / "classes.txt"
    (tmp_path / "other").mkdir()
    assert names_list_beside(tmp_path / "other" / "matrix.txt") is None


@given(st.permutations(range(6)))
def test_rows_follow_the_classes_whatever_the_spelling(order: list[int]) -> None:
    classes = [f"{c + 1:03}.Kind_{'abcdef'[c]}" for c in range(6)]
    for spell in (str, str.lower, lambda n: n.replace("_", " "), lambda n: n[4:].replace("_", "-")):
        names = [spell(classes[c]) for c in order] + ["further"]
        rows = rows_of_classes("file", names, classes, "source")
        np.testing.assert_array_equal(rows, np.argsort(order))


@pytest.mark.parametrize(
    ("names", "classes", "sentence"),
    [
        ("ab", "abcdef", "file: found no vector of c, d, e and 1 more, expected one of each class"),
        ("abab", "ab", "file: found a, b twice, expected the name of each class once"),
        ("ab", "aab", "source: found a twice, expected"),
        (["Kind A", "kind_a", "b"], ["kind a", "b"], "file: found kind a twice, expected"),
    ],
)
def test_names_that_miss_or_are_twice_are_listed(
    names: list[str], classes: list[str], sentence: str
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        rows_of_classes("file", list(names), list(classes), "source")
