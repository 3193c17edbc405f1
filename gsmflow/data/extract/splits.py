"""Split classes into training, validation and unseen classes, and rows into the splits."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.data.splits import draw_from_each_class

__all__ = ["ClassParts", "Shares", "choose_classes", "split_rows"]

# Each draw has its own random stream, so that a change of one share changes no other draw.
_UNSEEN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True)
class Shares:
    """Sizes of the splits.

    Attributes
    ----------
    unseen
        Share of the classes with rows that become unseen, in [0, 1); at least one class, unless
        it is 0.
    val
        Share of the seen classes that become validation classes, in (0, 1); at least one class.
    test
        Share of each seen class's rows that become test rows, in (0, 1); at least one row, but
        none of a class with a single row.
    seed
        Seed of all draws, ``>= 0``.
    """

    unseen: float
    val: float
    test: float
    seed: int


@dataclass(frozen=True, eq=False)
class ClassParts:
    """A partition of all classes; each field is ascending.

    Attributes
    ----------
    train, val
        Seen classes; those of ``val`` take the role of unseen classes while settings are chosen.
    unseen
        Unseen classes; some may have no rows, hence no test rows.
    """

    train: IntArray
    val: IntArray
    unseen: IntArray


def choose_classes(rows: IntArray, unseen: Collection[int] | None, shares: Shares) -> ClassParts:
    """Split the classes.

    Parameters
    ----------
    rows
        Number of rows of each class, ``(classes,)``; a class without rows is unseen.
    unseen
        The unseen classes that the user named; None to draw them.
    shares
        Sizes of the splits.
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


def split_rows(labels: IntArray, classes: ClassParts, shares: Shares) -> Mapping[str, IntArray]:
    """Split the rows: all splits of a `Dataset` by name, each ascending.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    classes
        The split of the classes.
    shares
        Sizes of the splits.
    """

    def count(rows: int) -> int:
        return min(max(1, round(shares.test * rows)), rows - 1)

    is_unseen = np.isin(labels, classes.unseen)
    seen_rows = np.flatnonzero(~is_unseen)
    rng = np.random.default_rng([shares.seed, _TEST])
    is_test = draw_from_each_class(labels[seen_rows], count, rng)
    trainval = seen_rows[~is_test]
    is_val = np.isin(labels[trainval], classes.val)
    return {
        "trainval": trainval,
        "train": trainval[~is_val],
        "val": trainval[is_val],
        "test_seen": seen_rows[is_test],
        "test_unseen": np.flatnonzero(is_unseen),
    }
