"""Settings: frozen dataclasses that are read from JSON and checked against bounds.

The bounds of a field are part of its annotation, ``blocks: Annotated[int, Range(min=1)] = 3``.
The text below a field is its help.
"""

import ast
import inspect
import json
import re
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
    "flag_in",
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
        The value must be greater than this; None for no such bound.
    """

    min: float | None = None
    max: float | None = None
    above: float | None = None

    def contains(self, value: float) -> bool:
        """Whether a value is finite and within the bounds."""
        return (
            abs(value) < float("inf")
            and (self.min is None or value >= self.min)
            and (self.above is None or value > self.above)
            and (self.max is None or value <= self.max)
        )

    def __str__(self) -> str:
        bounds = (("of at least", self.min), ("above", self.above), ("at most", self.max))
        texts = [f"{text} {bound}" for text, bound in bounds if bound is not None]
        return f"a number {' and '.join(texts)}" if texts else "a finite number"


@cache
def field_types(config: type[Any]) -> Mapping[str, Any]:
    """The annotated type of each field of a dataclass, by field name."""
    hints = get_type_hints(config, include_extras=True)
    return {f.name: hints[f.name] for f in fields(config)}


@cache
def field_texts(config: type[Any]) -> Mapping[str, str]:
    """The help text below each field of a dataclass, in one line, by field name.

    The texts are read from the source. Those of base classes are included; a subclass replaces
    the text of a field that it defines again.
    """
    texts: dict[str, str] = {}
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
                texts[node.target.id] = " ".join(str(text.value.value).split())
    return texts


def plain_type(hint: Any) -> tuple[Any, Range | None]:
    """A field's type without annotations, and its bounds, if any."""
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *extras = get_args(hint)
    return kind, next((extra for extra in extras if isinstance(extra, Range)), None)


def flag_of(name: str) -> str:
    """The flag of a setting: ``--batch-size`` for ``batch_size``."""
    return "--" + name.replace("_", "-")


def flag_in(word: str) -> str | None:
    """The flag that a word of a command line is, without its value; None if it is none."""
    is_flag = re.fullmatch(r"--[A-Za-z][\w-]*(=.*)?", word, re.DOTALL) is not None
    return word.partition("=")[0].replace("_", "-") if is_flag else None


def check_value(where: str, hint: Any, value: Any) -> Any:
    """Check a JSON value against a field's type and bounds, and convert it to that type.

    Parameters
    ----------
    where
        File and field, or flag, for messages.
    hint
        The field's type, as `field_types` returns it.
    value
        The value that was found.

    Raises
    ------
    InputError
        If the value is of another type or out of range.
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
    """Whether a JSON value is of a type, and a description of the type."""
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
    # JSON writes a whole float as 1, and in Python a bool is an int.
    kinds = {float: (int, float), Path: (str, Path)}.get(kind, (kind,))
    return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool)), _KINDS[kind]


def check_settings(config: Any, prefix: str = "") -> None:
    """Raise `InputError` if a field is out of range.

    Parameters
    ----------
    config
        A dataclass of settings.
    prefix
        Put before the field's name in messages, which name the flag: ``--gate-share`` for the
        prefix ``"gate_"`` and the field ``share``.
    """
    for name, hint in field_types(type(config)).items():  # type: ignore[arg-type]
        if plain_type(hint)[1] is not None:
            check_value(flag_of(prefix + name), hint, getattr(config, name))


def read_settings(config: type[_Config], stored: object, where: str) -> _Config:
    """Make a dataclass of settings from JSON; fields that are absent keep their defaults.

    Parameters
    ----------
    config
        The dataclass.
    stored
        Values by field.
    where
        The file and field that hold them, for messages.

    Raises
    ------
    InputError
        If a field is unknown, or a value is of another type or out of range.
    """
    hints = field_types(config)  # type: ignore[arg-type]
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: found {shortened(stored)}, expected values by name")
    check_names(stored, hints, where)
    return config(
        **{k: check_value(f"{where}, field '{k}'", hints[k], v) for k, v in stored.items()}
    )


def check_names(stored: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `InputError` if a name is not known."""
    allowed = list(known)
    for name in stored:
        if name not in allowed:
            raise InputError(
                f"{where}: found a field '{name}', expected one of {', '.join(allowed)}"
            )


def as_json(config: Any) -> dict[str, Any]:
    """All fields of a dataclass of settings, JSON-ready."""
    return {f.name: _json_value(getattr(config, f.name)) for f in fields(config)}


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def shortened(value: Any) -> str:
    """A value as JSON text, of at most 40 characters and an ellipsis."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else f"{text[:40]}..."
