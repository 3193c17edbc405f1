"""Settings: bounds, checked JSON values of every type, and the texts below the fields."""

import json
import math
from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.core.settings import (
    Range,
    as_json,
    check_names,
    check_settings,
    check_value,
    field_texts,
    field_types,
    plain_type,
    read_settings,
    shortened,
)

NUMBERS = st.floats() | st.integers(-10, 10).map(float)
BOUNDS = st.none() | st.integers(-5, 5).map(float)


@dataclass(frozen=True, kw_only=True)
class Base:
    """The first text in a class is its docstring, and belongs to no field."""

    blocks: Annotated[int, Range(min=1)] = 3
    """Coupling blocks."""
    share: Annotated[float | None, Range(above=0, max=1)] = None
    """Share of the rows
    that are held out; None: none."""


@dataclass(frozen=True, kw_only=True)
class Settings(Base):
    """Settings with a field of every type."""

    share: Annotated[float | None, Range(above=0, max=0.5)] = None
    """Share of the classes."""
    silent: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate changes."""
    sizes: tuple[int, ...] = (8, 4)
    """Widths."""
    rates: tuple[float, ...] = field(default=())
    """Learning rates."""
    names: tuple[str, ...] = ()
    """Names."""
    data: Path = Path("data")
    """Folder."""
    cache: bool = True
    """Whether to use a cache."""
    title: str = "a"
    """Title."""


@given(min=BOUNDS, max=BOUNDS, above=BOUNDS, value=NUMBERS)
def test_range_contains_finite_values_within_its_bounds(
    min: float | None,  # noqa: A002
    max: float | None,  # noqa: A002
    above: float | None,
    value: float,
) -> None:
    low = -math.inf if min is None else min
    high = math.inf if max is None else max
    below = -math.inf if above is None else above
    expected = math.isfinite(value) and low <= value <= high and below < value
    assert Range(min, max, above).contains(value) == expected


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        (Range(min=1), "a number of at least 1"),
        (Range(above=0), "a number above 0"),
        (Range(max=0.5), "a number at most 0.5"),
        (Range(), "a finite number"),
        (Range(min=0, max=0.5), "a number of at least 0 and at most 0.5"),
        (Range(above=0, max=1), "a number above 0 and at most 1"),
    ],
)
def test_range_describes_its_bounds(bounds: Range, text: str) -> None:
    assert str(bounds) == text


VALID: list[tuple[Any, Any, Any]] = [
    (bool, True, True),
    (int, 3, 3),
    (float, 2, 2.0),
    (float, 0.5, 0.5),
    (str, "a", "a"),
    (Path, "a/b", Path("a/b")),
    (Path, Path("a"), Path("a")),
    (Literal["a", "b"], "b", "b"),
    (Literal["a", 3], 3, 3),
    (float | None, None, None),
    (float | None, 0.5, 0.5),
    (int | None, 3, 3),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[float, ...], [0.5, 2], (0.5, 2)),
    (tuple[str, ...], ["a"], ("a",)),
    (tuple[int, ...], (), ()),
    (Annotated[int, Range(min=1)], 1, 1),
    (Annotated[float | None, Range(above=0)], None, None),
]


@pytest.mark.parametrize(("hint", "value", "expected"), VALID)
def test_valid_value_has_the_type_of_its_field(hint: Any, value: Any, expected: Any) -> None:
    found = check_value("here", hint, value)
    assert found == expected
    assert type(found) is type(expected)


INVALID: list[tuple[Any, Any, str]] = [
    (bool, 1, "found 1, expected true or false"),
    (bool, None, "found null, expected true or false"),
    (int, True, "found true, expected a whole number"),
    (int, 1.0, "found 1.0, expected a whole number"),
    (int, "1", 'found "1", expected a whole number'),
    (float, False, "found false, expected a number"),
    (float, "x", 'found "x", expected a number'),
    (str, 1, "found 1, expected a text"),
    (Path, 1, "found 1, expected a path"),
    (Literal["a", "b"], "c", 'found "c", expected one of a, b'),
    (float | None, "x", 'found "x", expected a number or nothing'),
    (float | None, True, "found true, expected a number or nothing"),
    (tuple[int, ...], 1, "found 1, expected a list, each entry a whole number"),
    (tuple[int, ...], [1, True], "found [1, true], expected a list, each entry a whole number"),
    (tuple[float, ...], [0.5, "x"], 'found [0.5, "x"], expected a list, each entry a number'),
    (tuple[str, ...], "ab", 'found "ab", expected a list, each entry a text'),
    (Annotated[int, Range(min=1)], 0, "found 0, expected a number of at least 1"),
    (Annotated[float, Range(above=0)], math.nan, "found nan, expected a number above 0"),
    (Annotated[float, Range(above=0)], math.inf, "found inf, expected a number above 0"),
    (Annotated[float | None, Range(above=0)], 0, "found 0, expected a number above 0"),
    (Annotated[int, Range(min=1)], "x", 'found "x", expected a whole number'),
]


@pytest.mark.parametrize(("hint", "value", "message"), INVALID)
def test_invalid_value_is_refused_with_its_place(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_value("a.json, field 'x'", hint, value)
    assert str(caught.value) == f"a.json, field 'x': {message}"


@given(
    hint=st.sampled_from([int, float, bool, str]),
    value=st.integers(-9, 9) | st.booleans() | st.floats(allow_nan=False) | st.text() | st.none(),
)
def test_plain_type_accepts_json_values_of_that_type_only(hint: type[Any], value: Any) -> None:
    if type(value) is hint or (hint is float and type(value) is int):
        found = check_value("here", hint, value)
        assert (type(found), found) == (hint, value)
    else:
        with pytest.raises(InputError, match=r"^here: found .*, expected "):
            check_value("here", hint, value)


def test_types_and_bounds_of_fields() -> None:
    types = field_types(Settings)
    assert plain_type(types["blocks"]) == (int, Range(min=1))
    assert plain_type(types["share"]) == (float | None, Range(above=0, max=0.5))
    assert plain_type(types["cache"]) == (bool, None)
    assert list(types) == list(asdict(Settings()))


def test_texts_below_fields_include_those_of_base_classes() -> None:
    assert field_texts(Base) == {
        "blocks": "Coupling blocks.",
        "share": "Share of the rows that are held out; None: none.",
    }
    texts = field_texts(Settings)
    assert texts["blocks"] == "Coupling blocks."
    assert texts["share"] == "Share of the classes."
    assert texts["rates"] == "Learning rates."
    assert texts.keys() == asdict(Settings()).keys() - {"silent"}


@pytest.mark.parametrize(
    ("prefix", "settings", "message"),
    [
        ("", Settings(blocks=0), "--blocks: found 0, expected a number of at least 1"),
        ("", Settings(share=0.6), "--share: found 0.6, expected a number above 0 and at most 0.5"),
        ("gate_", Settings(blocks=-1), "--gate-blocks: found -1, expected a number of at least 1"),
    ],
)
def test_field_out_of_range_is_refused_with_its_flag(
    prefix: str, settings: Settings, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_settings(settings, prefix)
    assert str(caught.value) == message
    check_settings(Settings(share=0.5), prefix)


STORED = st.fixed_dictionaries(
    {},
    optional={
        "blocks": st.integers(1, 100),
        "share": st.none() | st.floats(0, 0.5, exclude_min=True),
        "schedule": st.sampled_from(["constant", "cosine"]),
        "sizes": st.lists(st.integers()),
        "rates": st.lists(st.floats(allow_nan=False, allow_infinity=False)),
        "names": st.lists(st.text()),
        "data": st.sampled_from(["data", "a/b"]),
        "cache": st.booleans(),
    },
)


@given(stored=STORED)
def test_settings_survive_json(stored: dict[str, Any]) -> None:
    settings = read_settings(Settings, stored, "recipe.json")
    assert as_json(settings) == as_json(Settings()) | stored
    assert read_settings(Settings, json.loads(json.dumps(as_json(settings))), "") == settings


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([1], "recipe.json: found [1], expected values by name"),
        ({"blocks": 2, "bloks": 1}, "recipe.json: found a field 'bloks', expected one of blocks, "),
        ({"blocks": 1.5}, "recipe.json, field 'blocks': found 1.5, expected a whole number"),
        ({"blocks": 0}, "recipe.json, field 'blocks': found 0, expected a number of at least 1"),
        ({"sizes": 8}, "recipe.json, field 'sizes': found 8, expected a list"),
    ],
)
def test_stored_settings_that_do_not_fit_are_refused(stored: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_settings(Settings, stored, "recipe.json")
    assert str(caught.value).startswith(message)


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    check_names(["a"], ["a", "b"], "here")
    with pytest.raises(InputError, match=r"^here: found a field 'c', expected one of a, b$"):
        check_names(["a", "c"], iter(["a", "b"]), "here")


def test_dataclass_without_fields_has_no_settings() -> None:
    empty = make_dataclass("Empty", [])
    assert as_json(read_settings(empty, {}, "here")) == {}


@given(value=st.text() | st.lists(st.integers()))
def test_long_value_is_shortened_in_messages(value: Any) -> None:
    text = shortened(value)
    whole = json.dumps(value)
    assert text == whole if len(whole) <= 40 else text == whole[:40] + "..."
