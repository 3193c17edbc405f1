"""Methods compared over datasets: average ranks, Friedman's test, Nemenyi's critical difference.

Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import friedmanchisquare, rankdata, studentized_range

__all__ = ["Friedman", "Ranking", "nemenyi_difference", "rank_methods"]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all methods are equal.

    Attributes
    ----------
    chi_square, p
        Friedman's statistic, corrected for ties, and its p-value.
    f, f_p
        Iman and Davenport's statistic, which is less conservative with few datasets, and its
        p-value. `f` is None where it is infinite: all datasets rank the methods alike.
    """

    chi_square: float
    p: float
    f: float | None
    f_p: float


@dataclass(frozen=True)
class Ranking:
    """Methods by their average rank over datasets; JSON-ready.

    Attributes
    ----------
    methods
        Ascending by rank, then by name.
    ranks
        Their average ranks, in [1, number of methods]; 1 is best.
    datasets
        The datasets, sorted.
    left_out
        Methods that have no figure on one of the datasets, sorted.
    friedman
        The test that all methods are equal; None for two methods, of which it is not made.
    alpha
        Level of the critical difference.
    critical_difference
        Methods whose average ranks are closer do not differ significantly.
    groups
        The largest groups of methods that do not differ significantly, each ascending by rank. A
        method may be in several, and one that differs from all others is in none.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    friedman: Friedman | None
    alpha: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


def rank_methods(figures: Mapping[str, Mapping[str, float]], alpha: float = 0.05) -> Ranking | None:
    """Rank methods on every dataset and compare their average ranks.

    The tests take datasets as independent of each other; other features of the same dataset
    are not, and make differences look surer than they are.

    Parameters
    ----------
    figures
        Method to dataset to a figure, of which the highest is best. Only methods with figures on
        all datasets are ranked.
    alpha
        Level of the critical difference, in (0, 1).

    Returns
    -------
    Ranking or None
        None unless two or more methods have figures on two or more datasets.
    """
    datasets = sorted({dataset for of_method in figures.values() for dataset in of_method})
    methods = sorted(m for m, of_method in figures.items() if len(of_method) == len(datasets))
    if len(methods) < 2 or len(datasets) < 2:
        return None
    values = np.array([[figures[method][dataset] for dataset in datasets] for method in methods])
    averages = rankdata(-values, axis=0).mean(axis=1)
    order = np.argsort(averages, kind="stable")
    names, ranks = [methods[i] for i in order], [float(averages[i]) for i in order]
    difference = nemenyi_difference(len(methods), len(datasets), alpha)
    return Ranking(
        methods=tuple(names),
        ranks=tuple(ranks),
        datasets=tuple(datasets),
        left_out=tuple(sorted(figures.keys() - set(methods))),
        friedman=_friedman(values) if len(methods) > 2 else None,
        alpha=alpha,
        critical_difference=difference,
        groups=tuple(tuple(names[group]) for group in _groups(ranks, difference)),
    )


def nemenyi_difference(methods: int, datasets: int, alpha: float = 0.05) -> float:
    """The critical difference of average ranks: ``q sqrt(k (k + 1) / (6 N))``.

    Parameters
    ----------
    methods, datasets
        ``k >= 2`` and ``N >= 1``.
    alpha
        Level, in (0, 1).
    """
    q = studentized_range.ppf(1 - alpha, methods, np.inf) / math.sqrt(2)
    return float(q) * math.sqrt(methods * (methods + 1) / (6 * datasets))


def _friedman(values: NDArray[np.float64]) -> Friedman:
    """Friedman's test of figures ``(methods, datasets)``."""
    methods, datasets = values.shape
    if (values == values[0]).all():  # of which scipy makes NaN
        return Friedman(chi_square=0.0, p=1.0, f=0.0, f_p=1.0)
    test = friedmanchisquare(*values)
    chi_square = float(test.statistic)
    left = datasets * (methods - 1) - chi_square
    if left < 1e-9 * datasets:
        return Friedman(chi_square, float(test.pvalue), f=None, f_p=0.0)
    f = (datasets - 1) * chi_square / left
    f_p = f_distribution.sf(f, methods - 1, (methods - 1) * (datasets - 1))
    return Friedman(chi_square, float(test.pvalue), f, float(f_p))


def _groups(ranks: Sequence[float], difference: float) -> list[slice]:
    """The largest groups of two and more among ascending ranks that are closer than that."""
    groups, reached = [], 0
    for start, rank in enumerate(ranks):
        stop = start + sum(other - rank < difference for other in ranks[start:])
        if stop > max(reached, start + 1):
            groups.append(slice(start, stop))
            reached = stop
    return groups
