"""Measures of generalized zero-shot learning, in plain numpy.

All accuracies are means over classes, each class counting the same (average per-class top-1, or
top-k where named so; Xian et al., TPAMI 2018), as fractions of 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gsmflow.core.arrays import IntArray

__all__ = [
    "BestAnswers",
    "SeenUnseenCurve",
    "best_answers",
    "best_interval",
    "class_columns",
    "confusion_counts",
    "curve_of_answers",
    "harmonic_mean",
    "mean_class_accuracy",
    "mean_class_top_k_accuracy",
    "per_class_accuracy",
    "seen_unseen_curve",
    "true_class_ranks",
]


def per_class_accuracy(
    labels: NDArray[Any], predictions: NDArray[Any]
) -> tuple[IntArray, NDArray[np.float64]]:
    """Accuracy of every class that has rows.

    Parameters
    ----------
    labels, predictions
        True and predicted class of each row, ``(n,)``, ``n >= 1``.

    Returns
    -------
    tuple
        The classes among ``labels``, ascending, ``(k,)``, and their accuracies, ``(k,)``, in
        [0, 1]. A class that is only predicted does not appear.
    """
    return _share_of_each_class(labels, labels == predictions)


def mean_class_accuracy(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Mean over the classes among ``labels`` of their accuracies, in [0, 1]."""
    _, accuracy = per_class_accuracy(labels, predictions)
    return float(accuracy.mean())


def mean_class_top_k_accuracy(labels: NDArray[Any], ranks: NDArray[Any], k: int) -> float:
    """Mean over the classes among ``labels`` of the share with the true class in the first k.

    Parameters
    ----------
    labels
        True class of each row, ``(n,)``.
    ranks
        The `true_class_ranks`, ``(n,)``.
    k
        Answers that a row has, ``>= 1``; with as many as there are classes, every row is right.
    """
    _, share = _share_of_each_class(labels, ranks < k)
    return float(share.mean())


def true_class_ranks(labels: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any]) -> IntArray:
    """Rank of each row's true class among all by falling score, ``(n,)``, from 0.

    Of equal scores, that of an earlier column comes first, as it does for ``argmax``: the rank is
    0 exactly where ``argmax`` finds the true class.

    Parameters
    ----------
    labels
        True class of each row, ``(n,)``, among ``classes``.
    scores
        ``(n, c)``; a higher score is a stronger belief.
    classes
        Class of each score column, ``(c,)``.
    """
    columns = class_columns(labels, classes)[:, None]
    score = np.take_along_axis(scores, columns, axis=1)
    ahead = (scores > score) | ((scores == score) & (np.arange(len(classes)) < columns))
    return np.asarray(ahead.sum(axis=1), dtype=np.int64)


def confusion_counts(
    labels: NDArray[Any], predictions: NDArray[Any], classes: NDArray[Any]
) -> csr_array:
    """Rows of each true class (down) with each answer (across), ``(k, k)``, sparse.

    It has an entry for each pair that occurs, at most one for each row.

    Parameters
    ----------
    labels, predictions
        True and predicted class of each row, ``(n,)``, among ``classes``.
    classes
        The classes in the order asked for, ``(k,)``.
    """
    k = len(classes)
    pairs = class_columns(labels, classes), class_columns(predictions, classes)
    counts = csr_array((np.ones(len(labels), dtype=np.int64), pairs), shape=(k, k))
    counts.sum_duplicates()
    return counts


def harmonic_mean(unseen: float, seen: float) -> float:
    """``2 u s / (u + s)``; 0 where both are 0."""
    return 2 * unseen * seen / (unseen + seen) if unseen + seen > 0 else 0.0


@dataclass(frozen=True, eq=False)
class SeenUnseenCurve:
    """Accuracies with every calibration factor gamma (calibrated stacking; Chao et al., ECCV 2016).

    gamma is subtracted from the scores of all seen classes. Both accuracies are step functions of
    it. Interval ``i`` of the ``m`` intervals on which they are constant reaches from ``edges[i]``
    to ``edges[i + 1]``.

    Attributes
    ----------
    edges
        ``(m + 1,)``, ascending, from minus to plus infinity.
    seen, unseen
        Mean per-class accuracies of the seen and of the unseen rows over all columns, ``(m,)``;
        ``seen`` never rises, ``unseen`` never falls.
    """

    edges: NDArray[np.float64]
    seen: NDArray[np.float64]
    unseen: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area under the curve of seen over unseen accuracy (AUSUC; Chao et al., ECCV 2016)."""
        return float(np.trapezoid(self.seen, self.unseen))

    def best_gamma(self) -> float:
        """The gamma of highest harmonic mean; see `best_interval`.

        At both ends of the curve one accuracy is 0; where the harmonic mean is 0 throughout, so is
        gamma.
        """
        return best_interval(self.edges, self.harmonic_means())

    def best_harmonic_mean(self) -> float:
        """The harmonic mean with `best_gamma`, in [0, 1]."""
        return float(self.harmonic_means().max())

    def harmonic_means(self) -> NDArray[np.float64]:
        """The harmonic mean of both accuracies in each interval, ``(m,)``, in [0, 1]."""
        total = self.seen + self.unseen
        zero = np.zeros_like(total)
        return np.divide(2 * self.seen * self.unseen, total, out=zero, where=total > 0)


def best_interval(edges: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The middle of the longest interval of the highest value of a step function.

    Neighbouring intervals with the same value count as one. Where the only such interval has no
    end on one side, it is the number beside its other end; 0 where it has none on both sides.

    Parameters
    ----------
    edges
        Ends of the intervals, ascending, from minus to plus infinity, ``(m + 1,)``.
    values
        The value in each interval, its left end included, ``(m,)``.
    """
    best = np.flatnonzero(values >= values.max() - 1e-12)
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    spans = [(float(edges[run[0]]), float(edges[run[-1] + 1])) for run in runs]
    low, high = max(spans, key=lambda span: (np.isfinite(span).all(), span[1] - span[0]))
    if np.isinf(low):
        return 0.0 if np.isinf(high) else float(np.nextafter(high, low))
    return low if np.isinf(high) else (low + high) / 2


@dataclass(frozen=True, eq=False)
class BestAnswers:
    """Each row's best seen and best unseen class: all that its answer at any gamma depends on.

    Attributes
    ----------
    seen, unseen
        The classes, ``(n,)``; of equal scores, that of the earlier column. -1 where there is none.
    seen_scores, unseen_scores
        Their scores, ``(n,)``; minus infinity where there is no class.
    """

    seen: IntArray
    unseen: IntArray
    seen_scores: NDArray[Any]
    unseen_scores: NDArray[Any]

    @classmethod
    def joined(cls, parts: Sequence["BestAnswers"]) -> "BestAnswers":
        """The answers of several sets of rows, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def of_rows(self, rows: NDArray[np.bool_]) -> "BestAnswers":
        """Those of some of the rows alone, ``(n,)``."""
        return BestAnswers(*(getattr(self, field.name)[rows] for field in fields(self)))

    def answers(self, gamma: float | None = None) -> IntArray:
        """The better one of the two, ``(n,)``, with gamma subtracted from the seen score, if any.

        Of equal scores, the seen class.
        """
        seen_scores = self.seen_scores
        if gamma is not None:
            seen_scores = seen_scores.astype(np.float64) - gamma
        return np.where(seen_scores >= self.unseen_scores, self.seen, self.unseen)


def best_answers(
    scores: NDArray[Any], classes: NDArray[Any], seen_classes: NDArray[Any]
) -> BestAnswers:
    """The best seen and the best unseen class of each row.

    Parameters
    ----------
    scores
        ``(n, k)``, finite; a higher score is a stronger belief.
    classes
        Class of each score column, ``(k,)``.
    seen_classes
        The seen classes among them.
    """
    is_seen = np.isin(classes, seen_classes)
    (seen, seen_scores), (unseen, unseen_scores) = (
        _best(scores[:, side], classes[side]) for side in (is_seen, ~is_seen)
    )
    return BestAnswers(seen, unseen, seen_scores, unseen_scores)


def _best(scores: NDArray[Any], classes: NDArray[Any]) -> tuple[IntArray, NDArray[Any]]:
    """The class of the best score of each row ``(n, k)``, and that score."""
    n, k = scores.shape
    if k == 0:
        return np.full(n, -1), np.full(n, -np.inf, dtype=scores.dtype)
    best = scores.argmax(axis=1)
    return classes[best], np.take_along_axis(scores, best[:, None], axis=1)[:, 0]


def seen_unseen_curve(
    scores: NDArray[Any], labels: NDArray[Any], classes: NDArray[Any], seen_classes: NDArray[Any]
) -> SeenUnseenCurve:
    """Trace the curve of scores exactly; see `curve_of_answers`.

    Parameters
    ----------
    scores
        ``(n, k)``, finite; a higher score is a stronger belief.
    labels
        True class of each row, ``(n,)``, with rows of seen and of unseen classes.
    classes
        Class of each score column, ``(k,)``, with seen and unseen ones.
    seen_classes
        The seen classes among them.
    """
    return curve_of_answers(best_answers(scores, classes, seen_classes), labels, seen_classes)


def curve_of_answers(
    best: BestAnswers, labels: NDArray[Any], seen_classes: NDArray[Any]
) -> SeenUnseenCurve:
    """Trace the curve exactly: each row changes its answer at one gamma, its score gap.

    A row's answer is its best unseen class once gamma reaches the gap between its best
    seen and its best unseen score (a tie goes to the unseen class). Sorting the gaps of the rows
    whose answer can be right gives every step: ``O(n log n)``.

    Parameters
    ----------
    best
        The best answers of each row, with a seen and an unseen class.
    labels
        True class of each row, ``(n,)``, with rows of seen and of unseen classes.
    seen_classes
        The seen classes.
    """
    row_is_seen = np.isin(labels, seen_classes)
    gap = best.seen_scores.astype(np.float64) - best.unseen_scores
    answer = np.where(row_is_seen, best.seen, best.unseen)
    right = answer == labels  # with gamma on the side of the gap that suits the row
    # One right row moves its class's accuracy by 1 / (rows of the class), and the mean over
    # classes by that over the number of classes on its side.
    _, rows, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sides = [len(np.unique(labels[row_is_seen == side])) for side in (False, True)]
    step = right / counts[rows] / np.where(row_is_seen, sides[1], sides[0])

    edges, interval = np.unique(gap[right], return_inverse=True)
    m = len(edges)
    seen_loss = np.bincount(interval, weights=(step * row_is_seen)[right], minlength=m)
    unseen_gain = np.bincount(interval, weights=(step * ~row_is_seen)[right], minlength=m)
    # Summed from the end that is zero, so that neither accuracy goes below it by rounding.
    seen = np.append(seen_loss[::-1].cumsum()[::-1], 0.0)
    unseen = np.insert(unseen_gain.cumsum(), 0, 0.0)
    return SeenUnseenCurve(np.concatenate([[-np.inf], edges, [np.inf]]), seen, unseen)


def class_columns(labels: NDArray[Any], classes: NDArray[Any]) -> IntArray:
    """Position of each of the labels ``(n,)`` in ``classes`` ``(k,)``, which has them all."""
    order = np.argsort(classes)
    return order[np.searchsorted(classes, labels, sorter=order)]


def _share_of_each_class(
    labels: NDArray[Any], hits: NDArray[np.bool_]
) -> tuple[IntArray, NDArray[np.float64]]:
    """The classes among labels ``(n,)``, and the share of each one's rows that are hits."""
    classes, rows = np.unique(labels, return_inverse=True)
    return classes, np.bincount(rows, weights=hits) / np.bincount(rows)
