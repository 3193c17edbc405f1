"""Files of class vectors that belong to no dataset: ``.npy``, ``.mat``, and text tables.

``.npy`` has ``(classes, a)``; its names may stand in a list beside it (`names_list_beside`).
``.mat`` has one matrix, or ``att`` among others, with a class per column as the GBU layout has it,
and the names in ``allclasses_names`` or ``class_names``. A text table is what `read_class_table`
reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.data.class_names import names_list_beside
from gsmflow.data.class_table import listed_names, read_class_table
from gsmflow.data.formats.base import (
    NamedSemantics,
    as_float32,
    check_matrix,
    check_numbers,
    listed_fields,
    names_only_count,
)
from gsmflow.data.formats.matlab import MatFile, field_names
from gsmflow.data.formats.plain import load_npy
from gsmflow.data.patterns import transposed_semantics

__all__ = ["read_vectors"]

_SEMANTICS_FIELD = "att"
_NAMES_FIELDS = ("allclasses_names", "class_names")


def read_vectors(file: Path, classes: Sequence[str]) -> NamedSemantics:
    """Read a file of class vectors.

    Parameters
    ----------
    file
        It is there; its ending says what it is.
    classes
        Names of the dataset's classes, one for each vector that it must have if it has no names.

    Returns
    -------
    NamedSemantics
        Without names where they merely count the vectors and the dataset's classes have others.

    Raises
    ------
    InputError
        If it is unreadable, or has another number of vectors.
    """
    found = _READERS.get(file.suffix.lower(), _read_text)(file)
    names = found.class_names
    if names is not None and (not names_only_count(names) or set(classes) <= set(names)):
        return found
    count, a = found.values.shape
    if count != len(classes):
        first_number = 1 if file.suffix.lower() == ".mat" else 0
        remedy = f": {transposed_semantics(first_number)}" if a == len(classes) else ""
        raise InputError(
            f"{found.where}: found {count} vectors without names, expected {len(classes)}, one for "
            f"each class{remedy}"
        )
    note = (
        f"{found.where}: found vectors without names, which are read in the order of the dataset's "
        "classes; nothing confirms it"
    )
    return replace(found, class_names=None, notes=(*found.notes, note))


def _read_npy(file: Path) -> NamedSemantics:
    values = load_npy(file, mapped=False)
    check_numbers(str(file), values)
    check_matrix(str(file), values.shape)
    return _with_list_beside(file, as_float32(values), str(file))


def _read_mat(file: Path) -> NamedSemantics:
    fields = sorted(name for name in field_names(file) if not name.startswith(("#", "__")))
    has_semantics = _SEMANTICS_FIELD in fields
    mat = MatFile(file, (_SEMANTICS_FIELD, *_NAMES_FIELDS) if has_semantics else tuple(fields))
    field = _SEMANTICS_FIELD if _SEMANTICS_FIELD in mat else _only_matrix(mat, fields)
    values, where = mat.matrix(field).T, mat.where(field)
    named = next((name for name in _NAMES_FIELDS if name in mat), None)
    if named is None:
        return _with_list_beside(file, values, where)
    names = mat.strings(named)
    if len(names) != len(values):
        remedy = f": {transposed_semantics(1)}" if len(names) == values.shape[1] else ""
        raise InputError(
            f"{where}: found {len(values)} columns for {len(names)} names in {named}, expected a "
            f"column each{remedy}"
        )
    return _named(values, names, where)


def _only_matrix(mat: MatFile, fields: list[str]) -> str:
    """The one field that is a matrix of numbers."""
    matrices = []
    for field in fields:
        values = mat.raw(field)
        is_matrix = isinstance(values, np.ndarray) and values.ndim == 2 and min(values.shape) > 1
        if is_matrix and values.dtype.kind in "fiu":
            matrices.append(field)
    if len(matrices) != 1:
        raise InputError(
            f"{mat.path}: found {len(matrices)} matrices of numbers among its fields "
            f"({listed_fields(fields)}), expected one, or a field '{_SEMANTICS_FIELD}'"
        )
    return matrices[0]


def _read_text(file: Path) -> NamedSemantics:
    table = read_class_table(file)
    if table.values is None:
        raise InputError(
            f"{file}: found texts, expected a vector for each class; extract encodes texts"
        )
    return _named(table.values, table.names, str(file), table.notes)


def _with_list_beside(file: Path, values: FloatArray, where: str) -> NamedSemantics:
    listed = names_list_beside(file)
    return _named(values, listed_names(listed, len(values), file) if listed else (), where)


def _named(
    values: FloatArray, names: tuple[str, ...], where: str, notes: tuple[str, ...] = ()
) -> NamedSemantics:
    return NamedSemantics(values, names or None, where, in_dataset=False, notes=notes)


_READERS: Mapping[str, Callable[[Path], NamedSemantics]] = {".npy": _read_npy, ".mat": _read_mat}
