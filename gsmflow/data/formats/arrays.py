"""Datasets of plain arrays: what the formats share that count rows and classes from 0.

``features (n, d)``, ``labels (n,)``, ``semantics (classes, a)`` and the splits ``trainval``,
``test_seen``, ``test_unseen``, ``train`` and ``val``. Labels are whole numbers from 0 or class
names; a split is a list of rows from 0 or a mask ``(n,)``. Of ``train`` and ``val``, one that is
missing is the rest of ``trainval``; without both, `check_dataset` draws validation classes. Test
splits that are missing are empty.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import is_number
from gsmflow.data.checks import Finding
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.base import (
    REQUIRED_SPLIT,
    Keep,
    NamedSemantics,
    Refuse,
    array_pieces,
    as_float32,
    check_matrix,
    check_numbers,
    complete_splits,
    names_only_count,
    try_field,
    whole_numbers,
)

__all__ = [
    "SPLITS",
    "Fields",
    "named_semantics",
    "read_arrays",
    "read_matrix",
    "text_array",
]

SPLITS = (REQUIRED_SPLIT, "test_seen", "test_unseen", "train", "val")


class Fields(Protocol):
    """Where the arrays of a dataset are read from."""

    def where(self, field: str) -> str:
        """The file and the field, for messages."""

    def __contains__(self, field: str) -> bool:
        """Whether there is such a split; raises an `InputError` as `array`."""

    def array(self, field: str) -> NDArray[Any]:
        """Numbers or texts; raises an `InputError` if the field is missing or unreadable."""

    def class_names(self, classes: int) -> tuple[str, ...]:
        """Names of so many classes, none if there are none; raises an `InputError` as `array`."""


def read_arrays(
    name: str,
    fields: Fields,
    *,
    features_name: str,
    semantics_name: str,
    keep: Keep,
    refuse: Refuse,
) -> Dataset | None:
    """Read a dataset of plain arrays; ``keep``, ``refuse`` and result as of `Read`."""
    attempt = partial(try_field, refuse)
    stored = attempt("features", partial(read_matrix, fields, "features"))
    semantics = attempt("semantics", lambda: as_float32(read_matrix(fields, "semantics")))
    names: tuple[str, ...] | None = ()
    if semantics is not None:
        names = attempt("class_names", partial(fields.class_names, len(semantics)))
    splits = _read_splits(fields, None if stored is None else len(stored), refuse)
    labels = attempt("labels", partial(_read_labels, fields, names, refuse))
    if stored is None or semantics is None or labels is None or splits is None:
        return None
    pieces = _copied_pieces(stored) if isinstance(stored, np.memmap) else array_pieces(stored)
    features = attempt("features", lambda: keep((len(stored), stored.shape[1]), pieces))
    if features is None:
        return None
    return Dataset(
        name=name,
        features=features,
        labels=labels,
        semantics=np.ascontiguousarray(semantics),
        class_names=names or tuple(f"class {c}" for c in range(len(semantics))),
        trainval=splits["trainval"],
        train=splits["train"],
        val=splits["val"],
        test_seen=splits["test_seen"],
        test_unseen=splits["test_unseen"],
        features_name=features_name,
        semantics_name=semantics_name,
        source={
            field: fields.where(field)
            for field in ("features", "labels", "semantics", "class_names", *SPLITS)
        },
        first_number=0,
    )


def read_matrix(fields: Fields, field: str) -> NDArray[Any]:
    """A field that is a matrix of numbers.

    Raises
    ------
    InputError
        If it is another array, missing or unreadable.
    """
    values, where = fields.array(field), fields.where(field)
    check_numbers(where, values)
    check_matrix(where, values.shape)
    return values


def named_semantics(fields: Fields) -> NamedSemantics:
    """The semantics of a file or a folder, with their class names where these say something."""
    values = as_float32(read_matrix(fields, "semantics"))
    names = fields.class_names(len(values))
    return NamedSemantics(
        values, None if names_only_count(names) else names, fields.where("semantics")
    )


def text_array(where: str, values: NDArray[Any]) -> NDArray[Any]:
    """An array with its bytes, if it has such, read as text.

    Raises
    ------
    InputError
        If they are not UTF-8.
    """
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: found bytes that are not UTF-8, expected text") from error


def _copied_pieces(values: NDArray[Any]) -> Iterator[FloatArray]:
    """The rows of a memory-mapped matrix; nothing points into its file afterwards."""
    for rows in row_slices(len(values), values.shape[1] * max(4, values.itemsize)):
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
            yield np.array(values[rows], dtype=np.float32, order="C")


def _read_labels(fields: Fields, names: tuple[str, ...] | None, refuse: Refuse) -> IntArray | None:
    """Class numbers, -1 for a name that is no class's.

    None if they are names, and the names of the classes could not be read.
    """
    values, where = fields.array("labels"), fields.where("labels")
    if values.dtype.kind != "U":
        check_numbers(where, values)
        return whole_numbers(where, values)
    if values.size != max(values.shape, default=1):
        raise InputError(f"{where}: found an array of shape {values.shape}, expected a vector")
    texts = values.ravel().tolist()
    if names is None:
        return None
    if not texts:
        return np.empty(0, dtype=np.int64)
    number_of = {name: c for c, name in enumerate(names)}
    unknown = np.array([row for row, text in enumerate(texts) if text not in number_of], np.int64)
    if len(unknown) and all(map(is_number, texts)):
        return whole_numbers(where, np.array([float(text) for text in texts]))
    if not names:
        raise InputError(
            f"{where}: found names (the first: {texts[0]!r}) and no class names with the "
            "semantics, expected whole numbers from 0, or both"
        )
    if len(number_of) < len(names):
        twice = next(name for c, name in enumerate(names) if number_of[name] != c)
        raise InputError(
            f"{fields.where('class_names')}: found {twice!r} twice, expected each name once, as "
            f"{where} names the classes"
        )
    if len(unknown):
        sentence = (
            f"{where}: found {texts[unknown[0]]!r} in row {unknown[0]}, expected one of the names "
            f"in {fields.where('class_names')}"
        )
        refuse(Finding("error", "labels", sentence, rows=unknown))
    return np.array([number_of.get(text, -1) for text in texts], dtype=np.int64)


def _read_splits(fields: Fields, n: int | None, refuse: Refuse) -> dict[str, IntArray] | None:
    """Rows of each split; ``n`` is the number of all rows, if it is known.

    None if it cannot be read which splits there are.
    """
    none, found = np.empty(0, dtype=np.int64), dict[str, IntArray]()
    given = try_field(refuse, "trainval", partial(_given_splits, fields))
    if given is None:
        return None
    for split in given:
        rows = try_field(refuse, split, partial(_read_rows, fields, split, n))
        found[split] = none if rows is None else rows
    return complete_splits(found)


def _given_splits(fields: Fields) -> list[str]:
    return [split for split in SPLITS if split in fields or split == REQUIRED_SPLIT]


def _read_rows(fields: Fields, split: str, n: int | None) -> IntArray:
    values, where = fields.array(split), fields.where(split)
    if values.dtype.kind == "b":
        if values.size != max(values.shape, default=1) or n not in (None, values.size):
            raise InputError(
                f"{where}: found a mask of shape {values.shape}, expected one value for each of "
                f"the {n} rows of features"
            )
        return np.flatnonzero(values.ravel())
    if values.dtype.kind == "U":
        texts = values.ravel().tolist()
        for text in texts:
            if not is_number(text):
                raise InputError(f"{where}: found {text!r}, expected row numbers from 0")
        values = np.array([float(text) for text in texts])
    check_numbers(where, values)
    return whole_numbers(where, values)
