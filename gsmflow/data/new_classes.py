"""Names and semantics of classes that are to join a trained run, from a file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.text_cells import is_number
from gsmflow.data.class_table import table_lines
from gsmflow.data.formats.plain import load_npy

__all__ = ["NewClasses", "read_new_classes"]

# Name to vector ``(a,)``, in the order of the file.
NewClasses: TypeAlias = dict[str, FloatArray]


def read_new_classes(file: Path, name: str | None, length: int) -> NewClasses:
    """Semantics of one class or of several.

    Parameters
    ----------
    file
        With a name, one vector: ``.npy`` ``(a,)``, ``.json`` a list, ``.csv`` numbers on one line
        or one on each. Without, several: ``.json`` a vector by name, ``.csv`` a line for each
        class, its name and its numbers, below a header or not.
    name
        Of the one class; None if the file has the names.
    length
        ``a``, which every vector must have.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of another form, or a name stands there twice.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{file}: found another ending, expected one of {', '.join(_READERS)}")
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected one with semantics")
    found: NewClasses = {}
    for class_name, values in reader(file, name):
        where = f"{file}, class {' '.join(class_name.split())}"
        if not class_name.strip() or class_name in found:
            fault = "it twice" if class_name else "no name"
            raise InputError(f"{where}: found {fault}, expected it once")
        found[class_name] = _vector(where, values, length)
    if not found:
        raise InputError(f"{file}: found no class, expected one at least")
    return found


_Pairs: TypeAlias = Sequence[tuple[str, Any]]


def _vector(where: str, values: Any, length: int) -> FloatArray:
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
            vector = np.asarray(values).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: found {one_line(error)}, expected numbers") from error
    if vector.shape != (length,):
        raise InputError(
            f"{where}: found shape {vector.shape}, expected ({length},), as the run's semantics"
        )
    finite = np.isfinite(vector)
    if not finite.all():
        position = int(np.flatnonzero(~finite)[0])
        raise InputError(
            f"{where}: found {vector[position]} in dimension {position + 1}, expected finite "
            "numbers"
        )
    return vector


def _needed(file: Path, name: str | None) -> str:
    if name is None:
        raise InputError(
            f"--name: found none with {file}, which has one vector and no name, expected one"
        )
    return name


def _read_npy(file: Path, name: str | None) -> _Pairs:
    values = load_npy(file, mapped=False)
    return [(_needed(file, name), values)]


def _read_json(file: Path, name: str | None) -> _Pairs:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({one_line(error)}), expected semantics") from error
    if isinstance(content, dict):
        _refuse_name(file, name)
        return [*content.items()]
    return [(_needed(file, name), content)]


def _read_csv(file: Path, name: str | None) -> _Pairs:
    lines = [cells for _, cells in table_lines(file)]
    if name is not None:
        as_column = all(len(line) == 1 for line in lines)
        if len(lines) > 1 and not as_column:
            _refuse_name(file, name)
        return [(name, [cell for line in lines for cell in line])]
    if len(lines) > 1 and not any(map(is_number, lines[0][1:])):
        del lines[0]  # a header
    return [(line[0], line[1:]) for line in lines]


def _refuse_name(file: Path, name: str | None) -> None:
    if name is not None:
        raise InputError(
            f"--name: found {name} with {file}, which has several classes, expected no name, as "
            "the file has them"
        )


_READERS: Mapping[str, Callable[[Path, str | None], _Pairs]] = {
    ".npy": _read_npy,
    ".json": _read_json,
    ".csv": _read_csv,
}
