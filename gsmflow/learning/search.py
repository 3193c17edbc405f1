"""Search ranges of settings, relative to a recipe's values.

A method declares the ranges of its settings with these; `gsmflow.tuning.space` samples from them.
"""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Between", "OneOf", "SearchRange", "Times", "TimesOneOf", "ZeroOrBetween"]

# A condition on a range: the name of a setting, and the value that makes the range apply.
When: TypeAlias = tuple[str, object]


@dataclass(frozen=True)
class Times:
    """The recipe's value times ``low`` to ``high``, on a logarithmic scale; a 0 stays 0."""

    low: float
    high: float
    when: When | None = None


@dataclass(frozen=True)
class TimesOneOf:
    """The recipe's integer times one of the factors."""

    factors: tuple[float, ...]
    when: When | None = None


@dataclass(frozen=True)
class Between:
    """Any number from ``low`` to ``high``, or to the recipe's value beyond them."""

    low: float
    high: float
    when: When | None = None


@dataclass(frozen=True)
class ZeroOrBetween:
    """0, or ``low`` to ``high`` (or the recipe's value beyond them) on a logarithmic scale."""

    low: float
    high: float
    when: When | None = None


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    options: tuple[str | bool, ...]
    when: When | None = None


SearchRange: TypeAlias = Times | TimesOneOf | Between | ZeroOrBetween | OneOf
