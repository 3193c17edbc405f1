"""Settings: frozen dataclasses whose fields carry their bounds, read from JSON and checked.

A bound stands on its field, ``blocks: Annotated[int, Range(min=1)] = 3``, and the text under the
field is its help.
"""

import ast
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from gsmflow.core.errors import InputError

__all__ = [
    "Range",
    "as_json",
    "check_names",
    "check_settings",
    "check_value",
    "field_texts",
    "field_types",
    "flag_of",
    "plain_type",
    "read_settings",
    "shortened",
]

_Config = TypeVar("_Config")

_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


@dataclass(frozen=True)
class Range:
    """Bounds of a number.

    Attributes
    ----------
    min, max
        Lowest and highest value; None for no bound.
    above
        What the value must exceed; None for no such bound.
    """

    min: float | None = None
    max: float | None = None
    above: float | None = None

    def contains(self, value: float) -> bool:
        """Whether a value is finite and within the bounds."""
        return (
            value != float("inf")
            and (self.min is None or value >= self.min)
            and (self.above is None or value > self.above)
            and (self.max is None or value <= self.max)
            and value == value
        )

    def __str__(self) -> str:
        low = f"of at least {self.min}" if self.above is None else f"above {self.above}"
        return f"a number {low}" + ("" if self.max is None else f" and at most {self.max}")


def field_types(config: type[Any]) -> Mapping[str, Any]:
    """The type of each field of a dataclass by its name, with what it is annotated with."""
    hashable: Any = config  # as every class is, which mypy does not see
    return _read_types(hashable)


def field_texts(config: type[Any]) -> Mapping[str, str]:
    """The text under each field of a dataclass, in one line, by the field's name."""
    hashable: Any = config
    return _read_texts(hashable)


# A command line asks for them once a setting, and they are read from the source.
@cache
def _read_types(config: Any) -> Mapping[str, Any]:
    hints = get_type_hints(config, include_extras=True)
    return {f.name: hints[f.name] for f in fields(config)}


@cache
def _read_texts(config: Any) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if kind is object or not hasattr(kind, "__dataclass_fields__"):
            continue
        (definition,) = ast.parse(dedent(inspect.getsource(kind))).body
        assert isinstance(definition, ast.ClassDef)
        for node, text in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[node.target.id] = " ".join(str(text.value.value).split())
    return found


def plain_type(hint: Any) -> tuple[Any, Range | None]:
    """A field's type without its annotations, and its bounds if it has some."""
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *extras = get_args(hint)
    return kind, next((extra for extra in extras if isinstance(extra, Range)), None)


def flag_of(name: str) -> str:
    """The flag of a setting: ``--batch-size`` for ``batch_size``."""
    return "--" + name.replace("_", "-")


def check_value(where: str, hint: Any, value: Any) -> Any:
    """A value as JSON has it, in the type of its field.

    Parameters
    ----------
    where
        Its place, for messages.
    hint
        The field's type, as `field_types` gives it.
    value
        What was found there.

    Raises
    ------
    InputError
        If it is of another type or out of range.
    """
    kind, bounds = plain_type(hint)
    fits, expected = _fits(kind, value)
    if not fits:
        raise InputError(f"{where}: found {shortened(value)}, expected {expected}")
    if bounds is not None and value is not None and not bounds.contains(value):
        raise InputError(f"{where}: found {value}, expected {bounds}")
    if get_origin(kind) is tuple:
        return tuple(value)
    return kind(value) if kind in (float, Path) else value


def _fits(kind: Any, value: Any) -> tuple[bool, str]:
    """Whether a JSON value is of a type, and what was expected in words."""
    if get_origin(kind) is Literal:
        return value in get_args(kind), f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        fits = isinstance(value, (list, tuple)) and all(_fits(inner, v)[0] for v in value)
        return fits, f"a list, each entry {_KINDS[inner]}"
    options = [option for option in get_args(kind) if option is not NoneType]
    if options:  # such as ``float | None``
        fits, expected = _fits(options[0], value)
        return fits or value is None, f"{expected} or nothing"
    # JSON has one kind of number, and Python counts a truth value as a whole one.
    kinds = {float: (int, float), Path: (str, Path)}.get(kind, (kind,))
    return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool)), _KINDS[kind]


def check_settings(config: Any, prefix: str = "") -> None:
    """Raise `InputError` if a field is out of range; messages name its flag, behind a prefix."""
    for name, hint in field_types(type(config)).items():
        if plain_type(hint)[1] is not None:
            check_value(flag_of(prefix + name), hint, getattr(config, name))


def read_settings(config: type[_Config], stored: object, where: str) -> _Config:
    """A dataclass of settings from JSON; fields that are not there keep their defaults.

    Parameters
    ----------
    config
        The dataclass.
    stored
        Values by field.
    where
        The place of them, for messages.

    Raises
    ------
    InputError
        If a field is unknown, or a value of another type or out of range.
    """
    hints = field_types(config)
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: found {shortened(stored)}, expected values by name")
    check_names(stored, hints, where)
    return config(
        **{k: check_value(f"{where}, field '{k}'", hints[k], v) for k, v in stored.items()}
    )


def check_names(stored: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `InputError` where a field is none of those that are known."""
    allowed = list(known)
    for name in stored:
        if name not in allowed:
            raise InputError(
                f"{where}: found a field '{name}', expected one of {', '.join(allowed)}"
            )


def as_json(config: Any) -> dict[str, Any]:
    """All fields of a dataclass of settings, as JSON has them."""
    return {f.name: _json_value(getattr(config, f.name)) for f in fields(config)}


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def shortened(value: Any) -> str:
    """A value as a JSON file has it, cut short."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else f"{text[:40]}..."
