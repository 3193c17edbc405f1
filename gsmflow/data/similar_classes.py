"""The classes most similar to some, by semantics and by features: a mix-up of classes shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.tables import Grid
from gsmflow.data.dataset import Dataset, all_rows
from gsmflow.data.splits import MOST_DIAGNOSED

__all__ = [
    "ClassComparison",
    "SimilarClasses",
    "compare_classes",
    "comparison_grid",
    "finite_or_zero",
    "unit_rows",
]

_SHOWN_CLASSES, _SHOWN_SIMILAR = 5, 3
# With fewer classes, each is similar to all others.
_FEWEST_CLASSES = 4


@dataclass(frozen=True)
class SimilarClasses:
    """A class, and the names of the most similar ones by semantics and by features, in order."""

    name: str
    by_semantics: tuple[str, ...]
    by_features: tuple[str, ...]


@dataclass(frozen=True)
class ClassComparison:
    """How alike classes are by their semantics, and by their features.

    Attributes
    ----------
    shown
        A few classes, evenly spaced.
    compared
        How many classes `agreement` is of: at most 500, evenly spaced.
    agreement
        Spearman's rank correlation, over their pairs, of the cosine of the semantics and the cosine
        of the mean features, in [-1, 1]: near 0 where semantics stand beside the wrong classes.
        None where it is not defined.
    """

    shown: tuple[SimilarClasses, ...]
    compared: int
    agreement: float | None


def compare_classes(dataset: Dataset) -> ClassComparison | None:
    """Compare the classes that have rows; None if they are fewer than four.

    Numbers that are not finite count as 0, and rows of no class of the dataset do not count.

    Parameters
    ----------
    dataset
        As read.
    """
    classes = np.intersect1d(dataset.labels, np.arange(len(dataset.semantics)))
    if len(classes) < _FEWEST_CLASSES:
        return None
    semantics = unit_rows(dataset.semantics[classes])
    means = unit_rows(_class_sums(dataset)[classes])
    names = [dataset.class_names[c] for c in classes]
    shown = tuple(
        SimilarClasses(names[i], *(_most_similar(side, i, names) for side in (semantics, means)))
        for i in _evenly_spaced(len(classes), _SHOWN_CLASSES)
    )
    compared = _evenly_spaced(len(classes), MOST_DIAGNOSED)
    pairs = np.triu_indices(len(compared), k=1)
    cosines = [(side[compared] @ side[compared].T)[pairs] for side in (semantics, means)]
    defined = all(np.ptp(values) > 0 for values in cosines)
    agreement = float(spearmanr(cosines[0], cosines[1]).statistic) if defined else None
    return ClassComparison(shown, len(compared), agreement)


def comparison_grid(comparison: ClassComparison) -> Grid:
    """The shown classes as a table that fits into 80 columns, for names of up to 22 letters."""
    sections = tuple(
        tuple(
            (similar.name if rank == 0 else "", *pair)
            for rank, pair in enumerate(zip(similar.by_semantics, similar.by_features, strict=True))
        )
        for similar in comparison.shown
    )
    known = "not defined" if comparison.agreement is None else f"{comparison.agreement:.2f}"
    return Grid(
        title="the most similar classes of some",
        columns=("class", "by its semantics", "by its features"),
        align="lll",
        sections=sections,
        notes=(
            "by cosine, of the semantics and of the mean features",
            f"agreement of both over the pairs of {comparison.compared} classes: rank correlation "
            f"{known}; near 0, semantics may stand beside the wrong classes",
        ),
    )


def _most_similar(directions: NDArray[np.float64], i: int, names: list[str]) -> tuple[str, ...]:
    """The names of the classes with the highest cosine to class ``i``; earlier ones first."""
    cosines = directions @ directions[i]
    cosines[i] = -np.inf
    order = np.argsort(-cosines, kind="stable")
    return tuple(names[j] for j in order[:_SHOWN_SIMILAR])


def _evenly_spaced(count: int, most: int) -> IntArray:
    """At most so many of the numbers below a count, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _class_sums(dataset: Dataset) -> NDArray[np.float64]:
    """The sum of the rows of each class of the dataset, ``(classes, d)``."""
    count = len(dataset.semantics)
    sums = np.zeros((count, dataset.features.shape[1]))
    for span, slab in all_rows(dataset.features).slabs():
        labels = dataset.labels[span]
        rows = np.flatnonzero((labels >= 0) & (labels < count))
        classes, lines = np.unique(labels[rows], return_inverse=True)
        one_hot = csr_array((np.ones(len(rows)), (lines, rows)), shape=(len(classes), len(slab)))
        sums[classes] += np.asarray(one_hot @ finite_or_zero(slab))
    return sums


def unit_rows(rows: FloatArray | NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows ``(n, d)`` at length 1, with 0 for what is not finite; a row of zeros stays."""
    rows = finite_or_zero(rows)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    out = np.zeros_like(rows)
    np.divide(rows, lengths, where=lengths > 0, out=out)
    return out


def finite_or_zero(rows: FloatArray | NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows in double precision, with 0 for what is NaN or infinite."""
    return np.where(np.isfinite(rows), rows, 0).astype(np.float64)
