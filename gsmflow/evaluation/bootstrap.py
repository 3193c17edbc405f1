"""How sure the figures of methods on one dataset are: a paired bootstrap over classes, rows, seeds.

Every draw makes another test split out of the one there is: classes with replacement, the seen ones
among the seen and the unseen ones among the unseen, rows of each drawn class with replacement, and
seeds with replacement. All methods are measured on the same draws, so the difference of two methods
varies less than either of them (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.evaluation.protocol import Outcome

__all__ = ["Estimate", "RightAnswers", "bootstrap", "holm", "right_answers"]

_Floats: TypeAlias = NDArray[np.float64]
_Flags: TypeAlias = NDArray[np.bool_]
_Side: TypeAlias = Literal["seen", "unseen"]

# What the arrays of one block of draws may take, in bytes.
_BLOCK_BYTES = 2**27
# Differences that are as small are rounding: one row of 10^7 moves a mean by more.
_ROUNDING = 1e-9

# Mean accuracies by key: the rows they are of, and the answers they count.
_ACCURACIES: dict[str, tuple[_Side, str]] = {
    "T1": ("unseen", "zsl"),
    "U": ("unseen", "gzsl"),
    "S": ("seen", "gzsl"),
    "U_calibrated": ("unseen", "gzsl_calibrated"),
    "S_calibrated": ("seen", "gzsl_calibrated"),
}
_HARMONIC_MEANS = {"H": ("U", "S"), "H_calibrated": ("U_calibrated", "S_calibrated")}


@dataclass(frozen=True, eq=False)
class RightAnswers:
    """Which test rows one trained model answers right.

    Attributes
    ----------
    gzsl
        With answers among all classes, ``(n,)``.
    zsl
        Of the unseen rows, in their order, with answers among the unseen classes, ``(m,)``; None
        where they are not known.
    gzsl_calibrated
        With answers among all classes and the calibration factor, ``(n,)``; None without one.
    """

    gzsl: _Flags
    zsl: _Flags | None = None
    gzsl_calibrated: _Flags | None = None


@dataclass(frozen=True)
class Estimate:
    """A measure of one method, with how sure it is; JSON-ready.

    Attributes
    ----------
    mean
        The measure itself: the mean over seeds, a fraction of 1.
    low, high
        Ends of its interval.
    best
        Whether no method is shown to be better, as `bootstrap` describes it.
    p
        Two-sided p-value of the difference to the method with the highest mean; None for that one.
    p_holm
        The same, corrected by `holm` for the number of methods that are compared with it.
    """

    mean: float
    low: float
    high: float
    best: bool
    p: float | None
    p_holm: float | None


def right_answers(outcome: Outcome, gamma: float | None = None) -> RightAnswers:
    """Which rows an outcome has right.

    Parameters
    ----------
    outcome
        A method's scores on held-out rows.
    gamma
        The calibration factor that was chosen on validation classes, if any.
    """
    labels = outcome.labels
    unseen = labels[~outcome.row_is_seen]
    return RightAnswers(
        gzsl=outcome.predictions() == labels,
        zsl=outcome.zsl_predictions() == unseen if len(unseen) else None,
        gzsl_calibrated=None if gamma is None else outcome.predictions(gamma) == labels,
    )


def bootstrap(
    labels: NDArray[Any],
    class_is_seen: _Flags,
    methods: Mapping[str, Mapping[int, RightAnswers]],
    generator: np.random.Generator,
    *,
    draws: int = 2000,
    level: float = 0.95,
) -> dict[str, dict[str, Estimate]]:
    """Intervals of every measure of methods on one dataset, and which methods are best.

    The measures are those of the tables: T1, U and S are means over classes, H is the harmonic mean
    of U and S for each seed, and all are means over seeds.

    **Which are best.** The method with the highest mean, the first by name of several that have it,
    and all methods whose difference to it has an interval that includes 0. That is not corrected
    for the number of methods, nor for the choice of the highest among them: with many methods, one
    or another best one is not marked. `Estimate.p_holm` is corrected for the number; to be below
    0.05 with ``m`` methods, it needs ``40 m`` draws.

    **What is not in it.** Another draw of training rows, or another split into seen and unseen
    classes. A method with one seed has no variation over seeds.

    Parameters
    ----------
    labels
        True class of each test row, ``(n,)``, in [0, C).
    class_is_seen
        Whether each class is seen, ``(C,)``. Classes without rows do not count. Where one kind has
        no rows, what is measured on the other is left.
    methods
        Method to seed to its right answers on these rows. Methods share the draws of seeds: those
        with the same seeds exactly, those with others as far as possible. One with a single seed,
        because nothing in it is random, counts with it for every seed.
    generator
        Of the draws; the same one gives the same intervals, in whatever order the methods are.
    draws
        How many.
    level
        Of the intervals, which are the percentiles of the draws.

    Returns
    -------
    dict
        Method to measure, by its key in tables of figures (``T1``, ``U``, ``S``, ``H``,
        ``U_calibrated``, ...), to what was found. A measure is missing for a method without
        the answers for it.

    Raises
    ------
    InputError
        If a method has no seed, or answers for another number of rows.
    """
    row_is_seen = class_is_seen[labels]
    _check(methods, {"gzsl": len(labels), "zsl": int((~row_is_seen).sum())})
    sides: tuple[tuple[_Side, _Flags], ...] = (("seen", row_is_seen), ("unseen", ~row_is_seen))
    rows = {side: _Rows.of(labels, here) for side, here in sides if here.any()}
    answered = _gather(methods, rows, row_is_seen)
    seeds = {method: sorted(answers) for method, answers in methods.items()}

    observed = _figures(
        answered,
        {side: part.every_row_once() for side, part in rows.items()},
        {method: np.full((1, len(own)), 1 / len(own)) for method, own in seeds.items()},
    )
    parts = [
        _figures(
            answered,
            {side: part.resample(block, generator) for side, part in rows.items()},
            _resample_seeds(seeds, block, generator),
        )
        for block in _blocks(draws, answered)
    ]
    found: dict[str, dict[str, Estimate]] = {method: {} for method in methods}
    for measure, means in observed.items():
        drawn = {m: np.concatenate([part[measure][m] for part in parts]) for m in means}
        estimates = _estimate({m: float(mean[0]) for m, mean in means.items()}, drawn, level)
        for method, estimate in estimates.items():
            found[method][measure] = estimate
    return found


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number (Holm, Scand. J. Statist. 1979).

    Those that stay below 0.05 are all right with a probability of 95%.

    Parameters
    ----------
    p_values
        By the name of the comparison, in [0, 1].

    Returns
    -------
    dict
        The same names with corrected values, in [0, 1].
    """
    corrected, last = {}, 0.0
    for i, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        last = max(last, min(1.0, (len(p_values) - i) * p))
        corrected[name] = last
    return corrected


def _check(methods: Mapping[str, Mapping[int, RightAnswers]], sizes: Mapping[str, int]) -> None:
    for method, answers in methods.items():
        if not answers:
            raise InputError(f"{method}: found no seed, expected the answers of one or more")
        for seed, right in answers.items():
            for name, flags in vars(right).items():
                size = sizes[name.removesuffix("_calibrated")]
                if flags is not None and flags.shape != (size,):
                    raise InputError(
                        f"{method}, seed {seed}, {name}: found answers of shape {flags.shape}, "
                        f"expected one for each of {size} rows"
                    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The test rows of one kind of classes.

    Attributes
    ----------
    order
        The rows, class by class, ``(m,)``.
    sizes
        How many each class has, ``(k,)``.
    """

    order: IntArray
    sizes: IntArray

    @classmethod
    def of(cls, labels: NDArray[Any], here: _Flags) -> "_Rows":
        rows = np.flatnonzero(here)
        _, sizes = np.unique(labels[rows], return_counts=True)
        return cls(rows[np.argsort(labels[rows], kind="stable")], sizes)

    def every_row_once(self) -> _Floats:
        """Weights ``(1, m)`` with which right answers sum to their mean over classes."""
        return np.repeat(1 / (len(self.sizes) * self.sizes), self.sizes)[None]

    def resample(self, draws: int, generator: np.random.Generator) -> _Floats:
        """Such weights of drawn classes and rows, ``(draws, m)``."""
        classes = len(self.sizes)
        times = generator.multinomial(classes, np.full(classes, 1 / classes), size=draws)
        weights = np.empty((draws, len(self.order)))
        start = 0
        for size, drawn in zip(self.sizes, times.T, strict=True):
            # A class that is drawn several times has its rows drawn anew each time.
            counts = generator.multinomial(drawn * size, np.full(size, 1 / size))
            weights[:, start : start + size] = counts / (classes * size)
            start += size
        return weights


@dataclass(frozen=True, eq=False)
class _Answered:
    """The answers that one measure counts, of the methods that have them.

    Attributes
    ----------
    side
        The kind of rows.
    right
        1 where right, ``(m, columns)``, rows as in `_Rows`.
    columns
        Method to its columns, one for each seed, ascending.
    """

    side: _Side
    right: _Floats
    columns: Mapping[str, slice]


def _gather(
    methods: Mapping[str, Mapping[int, RightAnswers]],
    rows: Mapping[_Side, _Rows],
    row_is_seen: _Flags,
) -> dict[str, _Answered]:
    gathered = {}
    for measure, (side, kind) in _ACCURACIES.items():
        if side not in rows:
            continue
        # ZSL answers are numbered among the unseen rows.
        numbers = np.arange(len(row_is_seen)) if kind != "zsl" else np.cumsum(~row_is_seen) - 1
        order = numbers[rows[side].order]
        right: list[_Flags] = []
        columns: dict[str, slice] = {}
        for method, answers in methods.items():
            own = [getattr(answers[seed], kind) for seed in sorted(answers)]
            if all(flags is not None for flags in own):
                columns[method] = slice(len(right), len(right) + len(own))
                right += [flags[order] for flags in own]
        if right:
            gathered[measure] = _Answered(side, np.stack(right, axis=1).astype(float), columns)
    return gathered


def _blocks(draws: int, answered: Mapping[str, _Answered]) -> Iterator[int]:
    """Divide draws into blocks whose arrays are of bounded size; give how many each has."""
    shapes = [part.right.shape for part in answered.values()]
    numbers_of_draw = 2 * max(m for m, _ in shapes) + 2 * sum(columns for _, columns in shapes)
    step = max(1, _BLOCK_BYTES // (8 * numbers_of_draw))
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _resample_seeds(
    seeds: Mapping[str, list[int]], draws: int, generator: np.random.Generator
) -> dict[str, _Floats]:
    """Weights of every method's drawn seeds, ``(draws, own seeds)``, each line of sum 1.

    At each of the places to fill, a method takes that of its seeds with the highest priority.
    Priorities are random and the same for all methods: each one draws among its own seeds with
    replacement, and takes the same as another wherever it can.
    """
    every = sorted({seed for own in seeds.values() for seed in own})
    priorities = generator.random((draws, len(every), len(every)))
    weights = {}
    for method, own in seeds.items():
        theirs = priorities[:, : len(own), np.searchsorted(every, own)]
        taken = theirs.argmax(axis=2)[..., None] == np.arange(len(own))
        weights[method] = taken.mean(axis=1)
    return weights


def _figures(
    answered: Mapping[str, _Answered],
    weights: Mapping[_Side, _Floats],
    seed_weights: Mapping[str, _Floats],
) -> dict[str, dict[str, _Floats]]:
    """Measure to method to its mean over seeds in every draw, ``(draws,)``."""
    of_columns = {name: weights[part.side] @ part.right for name, part in answered.items()}
    columns = {name: part.columns for name, part in answered.items()}
    for name, (unseen, seen) in _HARMONIC_MEANS.items():
        if unseen in of_columns and seen in of_columns:
            of_columns[name] = _harmonic_means(of_columns[unseen], of_columns[seen])
            columns[name] = columns[unseen]
    return {
        name: {
            method: (values[:, place] * seed_weights[method]).sum(axis=1)
            for method, place in columns[name].items()
        }
        for name, values in of_columns.items()
    }


def _harmonic_means(unseen: _Floats, seen: _Floats) -> _Floats:
    total = unseen + seen
    return np.divide(2 * unseen * seen, total, out=np.zeros_like(total), where=total > 0)


def _estimate(
    means: Mapping[str, float], drawn: Mapping[str, _Floats], level: float
) -> dict[str, Estimate]:
    """Of one measure: the means of methods, and their figures in every draw, ``(draws,)``."""
    ends = (0.5 - level / 2, 0.5 + level / 2)
    highest = max(means.values())
    first = min(method for method, mean in means.items() if mean > highest - _ROUNDING)
    behind = {method: drawn[first] - drawn[method] for method in means}
    p_values = {method: _p_value(behind[method]) for method in means if method != first}
    corrected = holm(p_values)
    intervals = {method: np.quantile(drawn[method], ends) for method in means}
    return {
        method: Estimate(
            mean=mean,
            low=float(intervals[method][0]),
            high=float(intervals[method][1]),
            best=float(np.quantile(behind[method], ends[0])) <= _ROUNDING,
            p=p_values.get(method),
            p_holm=corrected.get(method),
        )
        for method, mean in means.items()
    }


def _p_value(differences: _Floats) -> float:
    """Two-sided, that differences ``(draws,)`` are of mean 0; the data count as one more draw."""
    tails = ((differences <= _ROUNDING).sum(), (differences >= -_ROUNDING).sum())
    return min(1.0, 2 * (1 + int(min(tails))) / (1 + len(differences)))
