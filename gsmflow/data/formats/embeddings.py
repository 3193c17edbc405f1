"""A dataset described by other semantics than those of its splits, or by several, joined."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.nearest import first_names
from gsmflow.data.class_names import rows_of_classes
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.base import (
    NAMES_FILE,
    NamedSemantics,
    check_class_names,
    names_only_count,
)

__all__ = ["JOINED", "described_by", "in_order", "join_parts", "scaled_as_joined"]

# What stands between the files of joined embeddings, in messages.
JOINED = " and "


def described_by(dataset: Dataset, parts: Sequence[NamedSemantics]) -> Dataset:
    """A dataset with other semantics.

    Parameters
    ----------
    dataset
        As it was read.
    parts
        Its new semantics: one embedding, or several to be joined in this order.

    Raises
    ------
    InputError
        If one of them is of other classes.
    """
    values = [in_order(dataset, part) for part in parts]
    before = dataset.where("semantics")
    notes = dataset.notes
    if all(part.where != before for part in parts):
        notes = tuple(note for note in notes if not note.startswith(f"{before}: "))
    return replace(
        dataset,
        semantics=values[0] if len(values) == 1 else join_parts(values),
        semantics_parts=() if len(values) == 1 else tuple(v.shape[1] for v in values),
        source={**dataset.source, "semantics": JOINED.join(part.where for part in parts)},
        notes=(*notes, *(note for part in parts for note in part.notes)),
    )


def in_order(dataset: Dataset, part: NamedSemantics) -> FloatArray:
    """Semantics of all classes of a dataset, in its order, ``(classes, a)``.

    Raises
    ------
    InputError
        If a class is missing or named twice, there are more or fewer vectors than classes where
        names do not tell, or a number is not finite. A second embedding in the dataset's own
        folder must have its order.
    """
    values, count = part.values, len(dataset.semantics)
    source = dataset.where("class_names")
    if part.class_names is not None and not part.in_dataset:
        classes = dataset.class_names
        if names_only_count(classes) and not set(classes) <= set(part.class_names):
            raise InputError(
                f"{part.where}: found vectors by name for a dataset whose classes have none (the "
                f"first is {classes[0]!r}), expected {NAMES_FILE} in its folder, or vectors "
                "without names in its order"
            )
        values = values[rows_of_classes(part.where, part.class_names, classes, source)]
    if len(values) != count:
        raise InputError(
            f"{part.where}: found {len(values)} classes, expected {count} as in "
            f"{dataset.where('semantics')}"
        )
    if part.class_names is not None and part.in_dataset:
        check_class_names(
            part.where, part.class_names, dataset.class_names, source, dataset.first_number
        )
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        names = first_names([dataset.class_names[c] for c in broken])
        raise InputError(
            f"{part.where}: found NaN or infinity for {names}, expected finite numbers"
        )
    return np.ascontiguousarray(values)


def join_parts(parts: Sequence[FloatArray]) -> FloatArray:
    """Embeddings ``(classes, a)``, ``(classes, b)`` side by side, each vector of length 1.

    A vector of zeros stays one.
    """
    return np.concatenate([_unit(part) for part in parts], axis=-1)


def scaled_as_joined(vector: FloatArray, lengths: Sequence[int]) -> FloatArray:
    """A vector ``(a + b,)`` of a new class, scaled as those of joined embeddings are.

    Parameters
    ----------
    vector
        The embeddings' vectors one after the other, as they are in their files.
    lengths
        ``a, b``, as `Dataset.semantics_parts` has them; none for a single embedding, which is not
        scaled.
    """
    if not lengths:
        return vector
    return join_parts(np.split(vector, np.cumsum(lengths)[:-1]))


def _unit(vectors: FloatArray) -> FloatArray:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
