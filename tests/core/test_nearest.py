import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.nearest import first_names, nearest, such_as

NAMES = ("extract", "train", "predict", "report")


@pytest.mark.parametrize(
    ("found", "expected"),
    [("trian", "train"), ("Predcit", "predict"), ("xyz", None), ("", None)],
)
def test_misspelt_name_has_the_nearest(found: str, expected: str | None) -> None:
    assert nearest(found, NAMES) == expected
    assert such_as(found, NAMES) == ("" if expected is None else f", such as {expected}")


@given(st.lists(st.text("abcdefg-", min_size=1), min_size=1, unique=True), st.data())
def test_name_in_other_case_is_its_own_nearest(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    assert nearest(name.upper(), names) == name


def test_nothing_is_near_where_nothing_is_known() -> None:
    assert nearest("a", ()) is None


@pytest.mark.parametrize(
    ("count", "word", "expected"),
    [
        (1, "and", "extract"),
        (3, "and", "extract, train, predict"),
        (4, "and", "extract, train, predict and 1 more"),
        (2, "or", "extract or train"),
        (4, "or", "extract or train or predict or 1 more"),
    ],
)
def test_of_many_names_the_first_are_listed(count: int, word: str, expected: str) -> None:
    assert first_names(NAMES[:count], word) == expected
