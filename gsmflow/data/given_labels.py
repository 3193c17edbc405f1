"""Labels from a file of their own, or from the file of the rows that they belong to."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import Header, is_number
from gsmflow.data.array_files import ENDINGS, ArrayFile, open_array_file, read_texts
from gsmflow.data.class_names import class_key
from gsmflow.data.csv_rows import csv_labels, csv_layout
from gsmflow.data.formats.base import check_numbers, whole_numbers
from gsmflow.data.formats.matlab import MatFile
from gsmflow.data.formats.plain import read_column

__all__ = ["GivenLabels", "labels_beside", "read_class_names_field", "read_labels"]

_FIELD, _CLASS_NAMES_FIELD = "labels", "class_names"
_TEXT_ENDINGS = (".txt", ".csv")


@dataclass(frozen=True, eq=False)
class GivenLabels:
    """Labels as a file has them.

    Attributes
    ----------
    where
        The file and the field, for messages.
    values
        ``(n,)``: texts, or whole numbers.
    class_names
        The names that numbers stand for, counted from 0; empty if the file has none.
    first_number
        What the numbers count from; None if the file's kind does not say.
    """

    where: str
    values: NDArray[Any]
    class_names: tuple[str, ...] = ()
    first_number: int | None = None

    @property
    def are_names(self) -> bool:
        """Whether they are texts."""
        return self.values.dtype.kind == "U"

    def as_numbers(self, class_keys: Collection[str] = ()) -> "GivenLabels":
        """The same with numbers for texts that are all whole numbers, as those of text files are.

        Parameters
        ----------
        class_keys
            Names of classes, by `class_key`: texts that are all among them stay texts.

        Raises
        ------
        InputError
            If they are all numbers, and some have fractions.
        """
        if not self.are_names:
            return self
        texts = {*self.values.tolist()}
        if not all(map(is_number, texts)) or {*map(class_key, texts)} <= {*class_keys}:
            return self
        numbers = whole_numbers(self.where, self.values.astype(np.float64))
        return replace(self, values=numbers)


def read_labels(path: Path, field: str | None = None) -> GivenLabels:
    """Labels from a file.

    Parameters
    ----------
    path
        ``.txt`` or ``.csv``: one a line. ``.npy``, ``.npz``, ``.pt``, ``.h5``: texts or whole
        numbers ``(n,)``. ``.mat``: numbers, counted from 1.
    field
        The field of the file; None for ``labels``, or the only one.

    Raises
    ------
    InputError
        If the file is missing, of another kind or unreadable, or the field is no vector of texts
        or whole numbers.
    """
    ending = path.suffix.lower()
    if ending == ".mat":
        return _from_mat(path, field or _FIELD)
    if ending in _TEXT_ENDINGS:
        if field is not None:
            raise InputError(
                f"{path}: found the field '{field}' asked for, expected none of a text"
            )
        return _vector(str(path), read_column(path))
    if ending not in ENDINGS:
        known = ", ".join((*_TEXT_ENDINGS, *ENDINGS, ".mat"))
        raise InputError(f"{path}: found another ending, expected one of {known}")
    file = open_array_file(path)
    stored = file.array(field, _FIELD)
    return _vector(stored.where, stored.read(), read_class_names_field(file))


def labels_beside(path: Path, header: Header = "auto") -> GivenLabels | None:
    """The labels in a file of rows, or None if there are none.

    They are the field ``labels``, or in a ``.csv`` file the column that its header calls so.

    Parameters
    ----------
    path
        The file.
    header
        Whether the first line of a ``.csv`` is a header; ``"auto"`` as of `csv_layout`.

    Raises
    ------
    InputError
        As of `read_labels`.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        layout = csv_layout(path, None, header)
        if layout.label_column is None:
            return None
        return _vector(f"{path}, column {layout.label_column + 1}", csv_labels(layout))
    if ending == ".mat":
        has_labels = _FIELD in MatFile(path, (_FIELD,))
    else:
        has_labels = ending in ENDINGS and _FIELD in open_array_file(path)
    return read_labels(path, _FIELD) if has_labels else None


def read_class_names_field(file: ArrayFile) -> tuple[str, ...]:
    """The class names in a file of arrays, ``(classes,)``; none if it has none.

    Raises
    ------
    InputError
        If the field ``class_names`` is no vector of texts.
    """
    if _CLASS_NAMES_FIELD not in file:
        return ()
    stored = file.find(_CLASS_NAMES_FIELD)
    count = stored.shape[0] if stored.shape else 0
    return tuple(read_texts(stored, count).tolist())


def _from_mat(path: Path, field: str) -> GivenLabels:
    mat = MatFile(path, (field,))
    return GivenLabels(mat.where(field), mat.indices(field) + 1, first_number=1)


def _vector(where: str, values: NDArray[Any], class_names: tuple[str, ...] = ()) -> GivenLabels:
    if values.size != max(values.shape, default=0) or not values.size:
        raise InputError(
            f"{where}: found an array of shape {values.shape}, expected a vector of labels"
        )
    if values.dtype.kind == "U":
        return GivenLabels(where, values.ravel(), class_names)
    check_numbers(where, values)
    return GivenLabels(where, whole_numbers(where, values).astype(np.int64), class_names)
