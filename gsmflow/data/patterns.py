"""Frequent causes of many faults at once, each in one sentence with its remedy."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.data.dataset import Dataset

__all__ = ["frequent_causes", "transposed_features", "transposed_semantics"]

_SPLITS = ("trainval", "train", "val", "test_seen", "test_unseen")


def frequent_causes(dataset: Dataset) -> list[tuple[str, str]]:
    """What a dataset as read was most likely made with.

    Transposed features; masks in place of row numbers; numbers that count from 0 where the format
    counts from 1, or the other way round.

    Returns
    -------
    list
        For each cause a field of `Dataset` and what was found there and expected.
    """
    if dataset.features.ndim != 2 or dataset.labels.ndim != 1:
        return []
    n, d = dataset.features.shape
    if len(dataset.labels) == d != n:
        kind: Literal["column", "row"] = "column" if dataset.first_number == 1 else "row"
        return [("features", transposed_features((n, d), kind))]
    masks = [name for name in _SPLITS if _is_mask(getattr(dataset, name), n, dataset.first_number)]
    causes = []
    if masks:
        remedy = "find" if dataset.first_number == 1 else "numpy.flatnonzero"
        others = f" (so are {len(masks) - 1} further lists)" if len(masks) > 1 else ""
        text = (
            f"found 0 or 1 for each of the {n} rows, a mask{others}, expected the numbers of the "
            f"rows, as {remedy} gives them"
        )
        causes.append((masks[0], text))
    lists = [name for name in _SPLITS if name not in masks]
    return causes + _other_first_numbers(dataset, lists)


def transposed_features(
    shape: tuple[int, int], kind: Literal["column", "row"], others: Sequence[str] = ()
) -> str:
    """What is wrong with features that are transposed, and what to do.

    Parameters
    ----------
    shape
        Rows and dimensions as they were read; there is a label for each dimension.
    kind
        What the format has for each label.
    others
        Further fields with the same fault.
    """
    (n, d), also = shape, f" (likewise in {' and '.join(others)})" if others else ""
    return (
        f"found {n} rows of {d} features for {d} labels{also}, expected the transposed matrix, "
        f"with a {kind} for each label"
    )


def transposed_semantics(first_number: int) -> str:
    """What is wrong with semantics that are transposed, and what to do."""
    found, expected = ("row", "column") if first_number == 1 else ("column", "row")
    return f"they have a class per {found}, not per {expected}; transpose them"


def _is_mask(rows: IntArray, n: int, first_number: int) -> bool:
    return len(rows) == n > 2 and bool(np.isin(rows + first_number, (0, 1)).all())


def _other_first_numbers(dataset: Dataset, lists: list[str]) -> list[tuple[str, str]]:
    """Labels, and rows in these splits, that count from 0 in place of 1, or from 1."""
    base, found, about = dataset.first_number, [], []
    rows = np.concatenate([dataset.trainval[:0], *(getattr(dataset, name) for name in lists)])
    for name, what, values, size in (
        ("labels", "classes", dataset.labels, len(dataset.semantics)),
        ("trainval", "rows in the splits", rows, len(dataset.features)),
    ):
        if _has_other_first_number(values, size, base):
            found.append(f"{what} {values.min() + base} to {values.max() + base}")
            about.append(name)
    if not found:
        return []
    remedy = "add 1 to them" if base == 1 else "subtract 1 from them"
    text = f"found {' and '.join(found)}, counted from {1 - base}, expected numbers from {base}"
    return [(about[0], f"{text}: {remedy}")]


def _has_other_first_number(values: IntArray, size: int, base: int) -> bool:
    """Whether indices of ``size`` things are all in range once they are shifted by one."""
    if not len(values):
        return False
    lowest, highest = int(values.min()), int(values.max())
    if base == 1:
        return lowest == -1 and highest + 1 < size
    return lowest == 1 and highest == size
