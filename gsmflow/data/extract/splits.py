"""Parting classes into seen, validation and unseen ones, and rows into the splits."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.data.splits import draw_from_each_class

__all__ = ["ClassParts", "Shares", "choose_classes", "split_rows"]

# Each draw has its own source, so that one share shifts no other's draw.
_UNSEEN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True)
class Shares:
    """How much is drawn.

    Attributes
    ----------
    unseen
        Share of the classes with rows that is unseen, in [0, 1); one class at least, unless 0.
    val
        Share of the seen classes that plays validation, in (0, 1); one class at least.
    test
        Share of each seen class's rows that is kept for the test, in (0, 1); one row at least, and
        none of a class that has one row alone.
    seed
        Of all draws, ``>= 0``.
    """

    unseen: float
    val: float
    test: float
    seed: int


@dataclass(frozen=True, eq=False)
class ClassParts:
    """Disjoint, ascending classes that are all classes together.

    Attributes
    ----------
    train, val
        Seen; those of ``val`` play unseen while settings are chosen.
    unseen
        Unseen; those without rows among them are judged on nothing.
    """

    train: IntArray
    val: IntArray
    unseen: IntArray


def choose_classes(rows: IntArray, unseen: Collection[int] | None, shares: Shares) -> ClassParts:
    """Part the classes.

    Parameters
    ----------
    rows
        How many rows each class has, ``(classes,)``; a class with none is unseen.
    unseen
        The unseen classes, as named; None to draw them.
    shares
        How many to draw.
    """
    have_rows = np.flatnonzero(rows)
    if unseen is None:
        count = max(int(shares.unseen > 0), round(shares.unseen * len(have_rows)))
        rng = np.random.default_rng([shares.seed, _UNSEEN])
        drawn = rng.choice(have_rows, min(count, len(have_rows)), replace=False)
    else:
        drawn = np.array(sorted(unseen), dtype=np.int64)
    seen = np.setdiff1d(have_rows, drawn)
    count = min(max(1, round(shares.val * len(seen))), len(seen))
    rng = np.random.default_rng([shares.seed, _VALIDATION])
    val = np.sort(rng.choice(seen, count, replace=False))
    return ClassParts(
        train=np.setdiff1d(seen, val), val=val, unseen=np.setdiff1d(np.arange(len(rows)), seen)
    )


def split_rows(labels: IntArray, parts: ClassParts, shares: Shares) -> Mapping[str, IntArray]:
    """Part the rows: all splits of a `Dataset`, by name, ascending.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    parts
        Of the classes.
    shares
        How many to draw.
    """

    def count(rows: int) -> int:
        return min(max(1, round(shares.test * rows)), rows - 1)

    is_unseen = np.isin(labels, parts.unseen)
    seen_rows = np.flatnonzero(~is_unseen)
    rng = np.random.default_rng([shares.seed, _TEST])
    is_test = draw_from_each_class(labels[seen_rows], count, rng)
    trainval = seen_rows[~is_test]
    is_val = np.isin(labels[trainval], parts.val)
    return {
        "trainval": trainval,
        "train": trainval[~is_val],
        "val": trainval[is_val],
        "test_seen": seen_rows[is_test],
        "test_unseen": np.flatnonzero(is_unseen),
    }
