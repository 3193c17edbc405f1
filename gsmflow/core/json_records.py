"""Our JSON files as dataclasses: one reader that checks every type, and names what is wrong.

msgspec checks a value against a dataclass. Of its errors, this file makes sentences that name the
field, what was found there and what was expected.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import read_json

__all__ = ["as_record", "read_record"]

_Record = TypeVar("_Record")
# Names of fields and places in lists on the way to a value.
_Place: TypeAlias = "Sequence[str | int]"

_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "an object",
    "str": "a text",
}
_BOUNDS = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}


def read_record(path: Path, kind: type[_Record]) -> _Record:
    """Read a JSON file that a run wrote, as a dataclass whose types its values must have.

    Parameters
    ----------
    path
        The file.
    kind
        The dataclass. Fields that it does not have are ignored; those with a default may be
        missing. Bounds stand in the types, as `msgspec.Meta`.

    Raises
    ------
    InputError
        As of `read_json`, or if a value is of another type or out of its bounds.
    """
    return as_record(str(path), read_json(path), kind)


def as_record(where: str, value: object, kind: type[_Record]) -> _Record:
    """A JSON value as `read_record` reads one; ``where`` it stands, for messages."""
    try:
        return msgspec.convert(value, type=kind)
    except RecursionError as error:
        raise InputError(f"{where}: found values nested too deep, expected a run's") from error
    except msgspec.ValidationError as error:
        what, _, path = one_line(error).replace("`", "").partition(" - at ")
        place = _resolved(value, kind, path)
        missing = re.fullmatch("Object missing required field (.*)", what)
        found = "nothing" if missing else _shown(_value_at(value, place))
        place = [*place, missing[1]] if missing else place
        field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
        of = f", field '{field.removeprefix('.')}'" if place else ""
        raise InputError(f"{where}{of}: found {found}, expected {_expected(what)}") from error


def _expected(what: str) -> str:
    """What msgspec expected, in words."""
    match = re.fullmatch("Expected (.*?)(, got .*)?", what)
    if match is None:
        return "one that a run wrote"
    bound = re.fullmatch(r"(\w+) ([<>]=?) (\S+)", match[1])
    if bound:
        return f"{_WORDS.get(bound[1], bound[1])} {_BOUNDS[bound[2]]} {float(bound[3]):g}"
    return " or ".join(_WORDS.get(word, word) for word in match[1].split(" | "))


def _shown(value: object) -> str:
    if isinstance(value, str | int | float):
        return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
    return "nothing" if value is None else type(value).__name__


def _resolved(value: object, kind: type[Any], path: str) -> list[str | int]:
    """The place of a fault; where msgspec leaves out a name, the first whose value has it."""
    place: list[str | int] = []
    for name, number in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path):
        if number != "...":
            place.append(name or int(number))
            continue
        inner = _value_at(value, place)
        assert isinstance(inner, dict)
        place.append(next(key for key in inner if _is_faulty(value, kind, place, key)))
    return place


def _is_faulty(value: object, kind: type[Any], place: _Place, key: str) -> bool:
    """Whether a value has a fault if the object at a place has this key alone."""
    inner = _value_at(value, place)
    assert isinstance(inner, dict)
    try:
        msgspec.convert(_replaced(value, place, {key: inner[key]}), type=kind)
    except msgspec.ValidationError:
        return True
    return False


def _value_at(value: Any, place: _Place) -> object:
    for key in place:
        value = value[key]
    return value


def _replaced(value: Any, place: _Place, new: object) -> object:
    """A value with another one at a place; nothing is changed."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _replaced(value[place[0]], place[1:], new)
    return copy
