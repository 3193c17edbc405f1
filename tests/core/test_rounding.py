"""Numbers as texts against exact fractions."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.rounding import fixed


def half_up(value: float, digits: int) -> Fraction:
    steps = abs(Fraction(round(Fraction(value) * 10**6), 10**6)) * 10**digits
    return Fraction(floor(steps + Fraction(1, 2)), 10**digits) * (-1 if value < 0 else 1)


@given(st.floats(-1e6, 1e6), st.integers(0, 3))
def test_number_is_the_nearest_of_so_many_decimals(value: float, digits: int) -> None:
    text = fixed(value, digits)
    assert Fraction(text) == half_up(value, digits)
    assert len(text.partition(".")[2]) == digits
    assert not text.startswith("-") or Fraction(text) < 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (86.75, "86.8"),
        (82.25, "82.3"),
        (100 * 0.8225, "82.3"),
        (82.2499999999, "82.3"),
        (-0.04, "0.0"),
    ],
)
def test_half_is_rounded_up_also_where_sums_are_inexact(value: float, text: str) -> None:
    assert fixed(value) == text


def test_what_is_no_number_stays() -> None:
    assert fixed(float("nan")) == "nan"
