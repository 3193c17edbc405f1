"""Rows drawn class by class, the same in every run."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import IntArray

__all__ = [
    "MOST_DIAGNOSED",
    "SPLIT_SEED",
    "draw_fifth",
    "draw_from_each_class",
    "draw_share",
    "places_among",
    "repeat_each_class",
    "rows_by_class",
    "sample_classes",
    "shuffle_each_class",
]


# Which rows play validation-seen, and which classes play validation where a dataset names none,
# must not change with a run's seed: otherwise two seeds would be evaluated on different problems.
SPLIT_SEED = 20210

# The most classes of which generation shifts and the map of features are made: both cost classes
# squared.
MOST_DIAGNOSED = 500

_HELD_OUT_SHARE = 0.2


def draw_fifth(labels: IntArray) -> NDArray[np.bool_]:
    """Which rows ``(n,)`` are held out: a fifth of each class, drawn with a fixed seed."""
    return draw_share(labels, _HELD_OUT_SHARE, np.random.default_rng(SPLIT_SEED))


def draw_share(labels: IntArray, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the same share of the rows of each class, at least one row and not all of them.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    share
        In (0, 1); a class of a single row lends none.
    rng
        Source of the draw.

    Returns
    -------
    NDArray
        Which rows were drawn, ``(n,)``.
    """

    def count(rows: int) -> int:
        return min(max(1, round(share * rows)), rows - 1)

    return draw_from_each_class(labels, count, rng)


def draw_from_each_class(
    labels: IntArray, count: Callable[[int], int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw rows class by class.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    count
        How many to draw of a class with so many rows.
    rng
        Source of the draw.

    Returns
    -------
    NDArray
        Which rows were drawn, ``(n,)``.
    """
    _, class_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    counts = np.array([count(int(size)) for size in sizes], dtype=np.int64)
    return shuffle_each_class(labels, rng) < counts[class_of]


def shuffle_each_class(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Rank of each row, from 0, in a random order of its class's rows.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    rng
        Source of the order.

    Returns
    -------
    IntArray
        ``(n,)``; the rows of a rank below ``k`` are a sample of ``k`` rows of each class.
    """
    ranks = np.empty(len(labels), dtype=np.int64)
    for members in rows_by_class(labels):
        ranks[rng.permutation(members)] = np.arange(len(members))
    return ranks


def rows_by_class(labels: IntArray) -> list[IntArray]:
    """The ascending rows of each class among ``labels (n,)``, classes ascending."""
    _, sizes = np.unique(labels, return_counts=True)
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])


def sample_classes(seen: IntArray, unseen: IntArray) -> tuple[IntArray, IntArray]:
    """The seen and the unseen classes that are diagnosed: all, or a sample of 500 in total.

    A half of the sample is of each kind; where one kind has fewer, the other one fills it. The
    sample is the same in every run.

    Parameters
    ----------
    seen, unseen
        Ascending class numbers, ``(seen,)`` and ``(unseen,)``.

    Returns
    -------
    tuple
        Ascending class numbers.
    """
    if len(seen) + len(unseen) <= MOST_DIAGNOSED:
        return seen, unseen
    rng, half = np.random.default_rng(SPLIT_SEED), MOST_DIAGNOSED // 2
    counts = (
        max(half, MOST_DIAGNOSED - len(others)) if len(classes) > half else len(classes)
        for classes, others in ((seen, unseen), (unseen, seen))
    )
    of_seen, of_unseen = (
        np.sort(rng.choice(classes, count, replace=False))
        for classes, count in zip((seen, unseen), counts, strict=True)
    )
    return of_seen, of_unseen


def repeat_each_class(labels: IntArray, count: int) -> IntArray:
    """Numbers of rows such that every class has so many, of the rows that there are.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    count
        Rows of each class; a class that has more keeps them all.

    Returns
    -------
    IntArray
        Ascending ranks in their classes, one of every class after the other: each row as often as
        any other of its class, to within one.
    """
    repeated = [np.resize(rows, max(count, len(rows))) for rows in rows_by_class(labels)]
    ranks = np.concatenate([np.arange(len(members)) for members in repeated])
    return np.concatenate(repeated)[np.argsort(ranks, kind="stable")]


def places_among(rows: IntArray, kept: IntArray) -> IntArray:
    """The places of rows ``(m,)`` in a list of kept ones, in their order; others are left out.

    Parameters
    ----------
    rows
        Row numbers.
    kept
        The rows that are kept, ascending, ``(n,)``.
    """
    return np.searchsorted(kept, rows[np.isin(rows, kept)])
