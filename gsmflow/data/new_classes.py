"""Names and descriptions of classes that are to join a trained run, from a file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import parse_json
from gsmflow.core.text_cells import Header
from gsmflow.data.class_table import read_vector
from gsmflow.data.extract.descriptions import Descriptions, check_names, read_descriptions
from gsmflow.data.npy import read_npy

__all__ = ["NewClasses", "name_vectors", "read_new_classes"]

# Name to vector ``(a,)``, in the order of the file.
NewClasses: TypeAlias = dict[str, FloatArray]


def read_new_classes(source: Path, name: str | None, header: Header = "auto") -> Descriptions:
    """Attributes or texts of one class or of several.

    Parameters
    ----------
    source
        With a name, one vector: ``.npy`` ``(a,)``, ``.json`` a list, or a text file of numbers on
        one line or one on each; or ``.json`` a text. Without, several: ``.json`` a vector or a
        text by name, or a file or folder as for `read_descriptions`.
    name
        Of the one class; None if the file has the names.
    header
        Whether the first line of a text file is a header; ``"auto"`` as of `read_descriptions`
        and `read_vector`.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of another form, or a name stands there twice.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file, expected one with semantics")
    reader = _READERS.get(source.suffix.lower())
    if reader is not None:
        described = _describe(source, reader(source, name))
    elif name is not None:
        described = Descriptions(source, (name,), attributes=read_vector(source, header)[None])
    else:
        return read_descriptions(source, header)
    check_names(described)
    return described


def name_vectors(described: Descriptions, vectors: FloatArray, length: int) -> NewClasses:
    """The semantics of new classes by name.

    Parameters
    ----------
    described
        The classes.
    vectors
        Their semantics, ``(classes, a)``.
    length
        ``a`` of the run's semantics.

    Raises
    ------
    InputError
        If the vectors have another length.
    """
    if vectors.shape[1] != length:
        raise InputError(
            f"{described.source}, class {described.names[0]}: found a vector of "
            f"{vectors.shape[1]} numbers, expected {length}, as the run's semantics have"
        )
    return dict(zip(described.names, vectors, strict=True))


_Pairs: TypeAlias = Sequence[tuple[str, Any]]


def _describe(source: Path, pairs: _Pairs) -> Descriptions:
    """Classes of which each has a vector, or each a text."""
    if not pairs:
        raise InputError(f"{source}: found no class, expected one at least")
    names = tuple(name for name, _ in pairs)
    if all(isinstance(value, str) and value.strip() for _, value in pairs):
        return Descriptions(source, names, texts=tuple((" ".join(v.split()),) for _, v in pairs))
    vectors = [_vector(f"{source}, class {name}", values) for name, values in pairs]
    lengths = {len(one) for one in vectors}
    if len(lengths) > 1:
        raise InputError(
            f"{source}: found vectors of {min(lengths)} and of {max(lengths)} numbers, expected "
            "one length"
        )
    return Descriptions(source, names, attributes=np.stack(vectors))


def _vector(where: str, values: Any) -> FloatArray:
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
            vector = np.asarray(values).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: found something else, expected a list of numbers") from error
    if vector.ndim != 1 or not len(vector):
        raise InputError(f"{where}: found shape {vector.shape}, expected one row of numbers")
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
    return [(_needed(file, name), read_npy(file))]


def _read_json(file: Path, name: str | None) -> _Pairs:
    try:
        content = parse_json(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not JSON ({one_line(error)}), expected semantics") from error
    if not isinstance(content, dict):
        return [(_needed(file, name), content)]
    if name is not None:
        raise InputError(
            f"--name: found {name} with {file}, which has several classes, expected no name, as "
            "the file has them"
        )
    return [(" ".join(key.split()), value) for key, value in content.items()]


_READERS: Mapping[str, Callable[[Path, str | None], _Pairs]] = {
    ".npy": _read_npy,
    ".json": _read_json,
}
