"""How far synthesized features lie from the real ones: the three generation shifts of the paper.

Chen et al., "Mitigating Generation Shifts for Generalized Zero-Shot Learning", ACM MM 2021, names
them. Here they are measured class by class, all in the space of the scaled features:

- *semantic inconsistency*: synthesized samples of an unseen class that lie nearest to the real mean
  of another;
- *variance decay*: synthesized samples of a class that scatter less than its real rows;
- *structural permutation*: classes that are near each other among the real means, and far from each
  other among the synthesized ones, or the reverse.

They are read together: samples that hardly scatter at all are easily consistent.

All of it reads real rows of unseen classes: it describes a finished run, is computed only after the
test split was opened, and nothing is ever chosen by it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.precision import Precision
from gsmflow.data.splits import sample_classes
from gsmflow.learning.feed import Feed, SelectedFeed
from gsmflow.learning.sampling import Sampler, synthesize

__all__ = ["ClassMoments", "Consistency", "RealClasses", "Shifts", "measure_real", "measure_shifts"]

_Doubles: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Where the rows of each class lie, and how far they scatter.

    Attributes
    ----------
    means
        ``(k, d)``.
    variances
        The sum over dimensions of the unbiased variance, ``(k,)``; NaN for a class of one row.
    """

    means: _Doubles
    variances: _Doubles


@dataclass(frozen=True, eq=False)
class Consistency:
    """Share of each unseen class's rows whose nearest real class mean is their own, ``(unseen,)``.

    Attributes
    ----------
    among_all, among_unseen
        Nearest of the means of all classes, and of the unseen ones alone.
    """

    among_all: _Doubles
    among_unseen: _Doubles


@dataclass(frozen=True, eq=False)
class RealClasses:
    """What synthesized features are held against.

    Attributes
    ----------
    seen_classes, unseen_classes
        Ascending class numbers, ``(seen,)`` and ``(unseen,)``.
    moments
        Of the real rows of the seen, then of the unseen classes.
    consistency
        Of the real unseen rows themselves, which synthesized ones need not surpass.
    """

    seen_classes: IntArray
    unseen_classes: IntArray
    moments: ClassMoments
    consistency: Consistency

    @property
    def classes(self) -> IntArray:
        """Seen then unseen classes, ``(k,)``."""
        return np.concatenate([self.seen_classes, self.unseen_classes])


@dataclass(frozen=True, eq=False)
class Shifts:
    """The generation shifts of one method, class by class.

    Attributes
    ----------
    real
        What was measured against.
    samples_per_class
        How many samples of each class were synthesized for it.
    moments
        Of the synthesized samples of the seen, then of the unseen classes.
    consistency
        Of the synthesized samples of the unseen classes.
    semantics
        Of the seen, then of the unseen classes, ``(k, a)``.
    """

    real: RealClasses
    samples_per_class: int
    moments: ClassMoments
    consistency: Consistency
    semantics: FloatArray

    @property
    def variance_ratios(self) -> _Doubles:
        """Synthesized over real variance of the seen, then of the unseen classes, ``(k,)``.

        NaN where one of them is not known (a single row) or the real one is 0.
        """
        synthesized, real = self.moments.variances, self.real.moments.variances
        ratios = np.full(len(real), np.nan)
        np.divide(synthesized, real, out=ratios, where=real > 0)
        return ratios

    def mean_variance_ratios(self) -> tuple[float, float]:
        """The mean ratio of the seen and of the unseen classes, NaN where no class has one.

        It is the geometric mean, by which half and twice the variance cancel.
        """
        ratios, seen = self.variance_ratios, len(self.real.seen_classes)
        return _geometric_mean(ratios[:seen]), _geometric_mean(ratios[seen:])

    def distances(self, *, unseen_alone: bool) -> dict[str, _Doubles]:
        """Euclidean distance of every pair of classes, ``(pairs,)``.

        Between their ``"synthesized"`` means, their ``"real"`` means and their ``"semantics"``;
        pairs of unseen classes alone, or of all classes.
        """
        first = len(self.real.seen_classes) if unseen_alone else 0
        points: dict[str, NDArray[Any]] = {
            "synthesized": self.moments.means,
            "real": self.real.moments.means,
            "semantics": self.semantics,
        }
        return {name: pdist(means[first:]) for name, means in points.items()}

    def rank_correlations(self, *, unseen_alone: bool) -> dict[str, float]:
        """Spearman's rank correlation of every two of the three kinds of `distances`.

        NaN where it is not defined: with fewer than three classes, or distances that are all equal.
        """
        distances = self.distances(unseen_alone=unseen_alone)
        return {
            f"{a}_{b}": _rank_correlation(distances[a], distances[b])
            for a, b in combinations(distances, 2)
        }

    def summary(self) -> dict[str, Any]:
        """The figures of a run, JSON-ready; what is not defined is None.

        Returns
        -------
        dict
            ``samples_per_class``; ``consistency``: means over the unseen classes, of synthesized
            and of real rows; ``variance_ratio``: geometric means over classes;
            ``rank_correlation``: of the distances between ``unseen`` and between ``all`` classes.
        """
        seen_ratio, unseen_ratio = self.mean_variance_ratios()
        real = self.real.consistency
        return {
            "samples_per_class": self.samples_per_class,
            "consistency": {
                "among_all": float(self.consistency.among_all.mean()),
                "among_unseen": float(self.consistency.among_unseen.mean()),
                "real_among_all": float(real.among_all.mean()),
                "real_among_unseen": float(real.among_unseen.mean()),
            },
            "variance_ratio": {
                "seen": _number_or_none(seen_ratio),
                "unseen": _number_or_none(unseen_ratio),
            },
            "rank_correlation": {
                name: {
                    pair: _number_or_none(value)
                    for pair, value in self.rank_correlations(unseen_alone=unseen_alone).items()
                }
                for name, unseen_alone in (("unseen", True), ("all", False))
            },
        }


def measure_real(seen: Feed, unseen: Feed) -> RealClasses:
    """Measure the real rows, once for all methods that are held against them.

    The rows of one class at a time are in memory beside the feeds. Of more than 500 classes, a
    sample is measured; see `sample_classes`.

    Parameters
    ----------
    seen
        The scaled training rows.
    unseen
        The held-out rows of the unseen classes, scaled as those.
    """
    sampled = sample_classes(_classes(seen), _classes(unseen))
    seen, unseen = (
        _select(feed, classes) for feed, classes in zip((seen, unseen), sampled, strict=True)
    )
    described = [[_describe(rows) for rows in _by_class(feed)] for feed in (seen, unseen)]
    moments = _moments([*described[0], *described[1]])
    first = len(described[0])
    shares = [
        _shares_nearest_true_mean(rows, moments.means, first + number, first)
        for number, rows in enumerate(_by_class(unseen))
    ]
    return RealClasses(_classes(seen), _classes(unseen), moments, _consistency(shares))


def measure_shifts(
    model: Sampler,
    real: RealClasses,
    semantics: FloatArray,
    per_class: int,
    generator: torch.Generator,
    *,
    precision: Precision = "fp32",
    on_samples: Callable[[int], object] = lambda count: None,
) -> Shifts:
    """Synthesize samples of all classes and measure how they differ from the real rows.

    The samples of a few classes at a time are in memory, of one class at least.

    Parameters
    ----------
    model
        A trained model.
    real
        The real rows' side, from `measure_real`.
    semantics
        Of every class of the dataset, ``(classes, a)``; one factor on all of them changes nothing.
    per_class
        Samples per class; 2 or more for a variance.
    generator
        On the device to work on.
    precision
        Of the matrix products.
    on_samples
        Called with the number of samples after each chunk, for a progress bar.
    """
    classes, means, first = real.classes, real.moments.means, len(real.seen_classes)
    described, shares = [], []
    for part in row_slices(len(classes), 4 * per_class * means.shape[1]):
        drawn = torch.from_numpy(classes[part]).to(generator.device)
        features, _ = synthesize(
            model, drawn, per_class, generator, precision=precision, on_samples=on_samples
        )
        # They come round by round, one of every class.
        rounds = features.cpu().double().numpy().reshape(per_class, len(drawn), -1)
        for number, rows in enumerate(rounds.swapaxes(0, 1), start=part.start):
            described.append(_describe(rows))
            if number >= first:
                shares.append(_shares_nearest_true_mean(rows, means, number, first))
    return Shifts(real, per_class, _moments(described), _consistency(shares), semantics[classes])


def _classes(feed: Feed) -> IntArray:
    return np.asarray(torch.unique(feed.labels).cpu().numpy(), dtype=np.int64)


def _select(feed: Feed, classes: IntArray) -> Feed:
    """The rows of some classes; the feed itself where there are no others."""
    chosen = torch.isin(feed.labels, torch.from_numpy(classes).to(feed.labels.device))
    return feed if chosen.all() else SelectedFeed(feed, chosen.nonzero()[:, 0])


def _by_class(feed: Feed) -> Iterator[_Doubles]:
    """Features ``(m, d)`` of each class's rows, classes ascending."""
    for c in torch.unique(feed.labels):
        yield feed.take(torch.nonzero(feed.labels == c)[:, 0]).cpu().double().numpy()


def _describe(rows: _Doubles) -> tuple[_Doubles, float]:
    """Mean ``(d,)`` and sum of variances of rows ``(m, d)`` of one class."""
    # Without the first row, so that equal rows have a variance of 0 and no rounding error for it.
    spread = rows - rows[0]
    variance = spread.var(axis=0, ddof=1).sum() if len(rows) > 1 else np.nan
    return rows.mean(axis=0), float(variance)


def _moments(described: list[tuple[_Doubles, float]]) -> ClassMoments:
    means, variances = zip(*described, strict=True)
    return ClassMoments(np.stack(means), np.array(variances))


def _shares_nearest_true_mean(
    rows: _Doubles, means: _Doubles, true: int, first: int
) -> tuple[float, float]:
    """Shares of rows ``(m, d)`` nearest to mean ``true`` of all means, and of those from ``first``.

    Of equally near means, the earlier one counts.
    """
    # The squared distance to each mean, less a term that depends on the row alone.
    distances = np.square(means).sum(axis=1) - 2 * rows @ means.T
    among_all = distances.argmin(axis=1) == true
    among_unseen = distances[:, first:].argmin(axis=1) == true - first
    return float(among_all.mean()), float(among_unseen.mean())


def _consistency(shares: list[tuple[float, float]]) -> Consistency:
    among_all, among_unseen = np.array(shares).T
    return Consistency(among_all, among_unseen)


def _geometric_mean(ratios: _Doubles) -> float:
    known = ratios[~np.isnan(ratios)]
    if not len(known):
        return np.nan
    with np.errstate(divide="ignore"):  # a ratio of 0 makes the mean 0
        return float(np.exp(np.log(known).mean()))


def _rank_correlation(a: _Doubles, b: _Doubles) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(spearmanr(a, b).statistic)


def _number_or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
