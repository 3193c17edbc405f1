"""A dataset in figures: its sizes, its values, and how near unseen classes are to seen ones."""

from dataclasses import dataclass

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.tables import Grid
from gsmflow.data.dataset import Dataset, all_rows
from gsmflow.data.similar_classes import (
    ClassComparison,
    compare_classes,
    comparison_grid,
    finite_or_zero,
    unit_rows,
)

__all__ = ["Neighbour", "SplitSize", "Summary", "Values", "summarize", "summary_grids"]

_SPLITS = {
    "trainval": "training",
    "train": "- train",
    "val": "- validation",
    "test_seen": "test, seen",
    "test_unseen": "test, unseen",
}
_SHOWN_PAIRS = 4


@dataclass(frozen=True)
class SplitSize:
    """How many rows a split has, of how many classes, and how evenly they share it.

    ``fewest``, ``median`` and ``most`` are rows of a class, over the classes that it has.
    """

    name: str
    rows: int
    classes: int
    fewest: int
    median: float
    most: int


@dataclass(frozen=True)
class Values:
    """Of a matrix, over its finite values; lengths are L2 norms of rows, zeros a fraction of 1."""

    rows: int
    dimensions: int
    lowest: float
    mean: float
    highest: float
    zeros: float
    shortest: float
    longest: float


@dataclass(frozen=True)
class Neighbour:
    """An unseen class, the seen class with the most similar semantics, and their cosine."""

    unseen: str
    seen: str
    cosine: float


@dataclass(frozen=True)
class Summary:
    """A dataset in figures.

    Attributes
    ----------
    name, features_name, semantics_name
        As of `Dataset`.
    seen_classes, unseen_classes
        How many there are.
    splits
        With ``train`` and ``val`` as they are used.
    features, semantics
        Their values.
    neighbours
        One for each unseen class that has a length, the most similar first.
    comparison
        The most similar classes of some; None with fewer than four classes.
    """

    name: str
    features_name: str
    semantics_name: str
    seen_classes: int
    unseen_classes: int
    splits: tuple[SplitSize, ...]
    features: Values
    semantics: Values
    neighbours: tuple[Neighbour, ...]
    comparison: ClassComparison | None


def summarize(dataset: Dataset) -> Summary:
    """Summarize a dataset whose splits are usable."""
    return Summary(
        name=dataset.name,
        features_name=dataset.features_name,
        semantics_name=dataset.semantics_name,
        seen_classes=len(dataset.seen_classes),
        unseen_classes=len(dataset.unseen_classes),
        splits=tuple(_split_size(name, dataset.labels[getattr(dataset, name)]) for name in _SPLITS),
        features=_values(dataset.features),
        semantics=_values(dataset.semantics),
        neighbours=_neighbours(dataset),
        comparison=compare_classes(dataset),
    )


def _split_size(name: str, labels: IntArray) -> SplitSize:
    _, counts = np.unique(labels, return_counts=True)
    if not len(counts):
        return SplitSize(name, 0, 0, 0, 0.0, 0)
    fewest, most = int(counts.min()), int(counts.max())
    return SplitSize(name, len(labels), len(counts), fewest, float(np.median(counts)), most)


def _values(matrix: FloatArray) -> Values:
    lowest, highest, total, zeros, count = np.inf, -np.inf, 0.0, 0, 0
    lengths = []
    for _, slab in all_rows(matrix).slabs():
        finite = slab[np.isfinite(slab)].astype(np.float64)
        lowest = min(lowest, finite.min(initial=np.inf))
        highest = max(highest, finite.max(initial=-np.inf))
        total += finite.sum()
        zeros += int((finite == 0).sum())
        count += finite.size
        lengths.append(np.linalg.norm(finite_or_zero(slab), axis=1))
    every = np.concatenate(lengths)
    return Values(
        rows=matrix.shape[0],
        dimensions=matrix.shape[1],
        lowest=float(lowest) if count else 0.0,
        mean=float(total / max(count, 1)),
        highest=float(highest) if count else 0.0,
        zeros=zeros / max(count, 1),
        shortest=float(every.min()),
        longest=float(every.max()),
    )


def _neighbours(dataset: Dataset) -> tuple[Neighbour, ...]:
    directions = unit_rows(dataset.semantics)
    known = np.flatnonzero(directions.any(axis=1))
    seen, unseen = (
        np.intersect1d(classes, known) for classes in (dataset.seen_classes, dataset.unseen_classes)
    )
    if not len(seen):
        return ()
    names, pairs = dataset.class_names, []
    of_seen = directions[seen]
    for part in row_slices(len(unseen), 8 * directions.shape[1], columns=len(seen)):
        cosines = directions[unseen[part]] @ of_seen.T
        pairs += [
            Neighbour(names[c], names[seen[k]], float(cosine[k]))
            for c, k, cosine in zip(unseen[part], cosines.argmax(axis=1), cosines, strict=True)
        ]
    return tuple(sorted(pairs, key=lambda pair: -pair.cosine))


def summary_grids(summary: Summary) -> list[Grid]:
    """Tables of a summary that fit into 80 columns."""
    grids = [_split_grid(summary), _value_grid(summary), _neighbour_grid(summary)]
    return grids if summary.comparison is None else [*grids, comparison_grid(summary.comparison)]


def _split_grid(summary: Summary) -> Grid:
    rows = tuple(
        (
            _SPLITS[split.name],
            *(f"{number:,}" for number in (split.rows, split.classes, split.fewest)),
            f"{split.median:,.0f}",
            f"{split.most:,}",
        )
        for split in summary.splits
    )
    return Grid(
        title=f"{summary.name} · {summary.seen_classes} seen and {summary.unseen_classes} "
        "unseen classes",
        columns=("split", "rows", "classes", "fewest", "median", "most"),
        align="lrrrrr",
        sections=(rows,),
        notes=("fewest, median, most: rows of a class",),
    )


def _value_grid(summary: Summary) -> Grid:
    named = (
        (f"features {summary.features_name}", summary.features),
        (f"semantics {summary.semantics_name}", summary.semantics),
    )
    rows = tuple(
        (
            name,
            f"{values.rows:,} × {values.dimensions:,}",
            *(f"{number:.3g}" for number in (values.lowest, values.mean, values.highest)),
            f"{values.zeros:.1%}",
            f"{values.shortest:.3g} to {values.longest:.3g}",
        )
        for name, values in named
    )
    return Grid(
        title="values",
        columns=("of", "size", "lowest", "mean", "highest", "zeros", "length"),
        align="lrrrrrr",
        sections=(rows,),
        notes=("length: L2 norm of a row",),
    )


def _neighbour_grid(summary: Summary) -> Grid:
    rows = tuple((pair.unseen, pair.seen, f"{pair.cosine:.3f}") for pair in summary.neighbours)
    if len(rows) > 2 * _SHOWN_PAIRS:
        sections: tuple[tuple[tuple[str, ...], ...], ...] = (
            rows[:_SHOWN_PAIRS],
            rows[-_SHOWN_PAIRS:],
        )
    else:
        sections = (rows,)
    return Grid(
        title="semantic similarity of unseen classes, the most and the least similar",
        columns=("unseen class", "nearest seen class", "cosine"),
        align="llr",
        sections=sections,
    )
