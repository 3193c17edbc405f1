"""Scores as probabilities: a softmax with a temperature that is fitted on held-out rows.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. A method's scores may be logits,
log-densities or similarities: divided by one positive number, the temperature, before a softmax,
they are probabilities. The order of the classes stays as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from scipy.optimize import brentq

from gsmflow.core.arrays import IntArray
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.data.splits import SPLIT_SEED, draw_from_each_class
from gsmflow.evaluation.metrics import class_columns
from gsmflow.evaluation.protocol import SlabScores

__all__ = [
    "AnswerProbabilities",
    "KeptScores",
    "ReliabilityBin",
    "Temperatures",
    "calibration_error",
    "class_probabilities",
    "fit_temperature",
    "reliability_bins",
]

# The most scores that a temperature is fitted on: rows times classes.
_MOST_SCORES = 2**22
# The temperature is searched from this share of the smallest difference of two scores upwards, and
# down from the largest one over this share.
_LEAST = 1e-3
# Parts of [0, 1] that answers are divided into by their probability.
_BINS = 15

_Temperature = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class Temperatures:
    """The temperatures of a run's scores, above 0.

    Attributes
    ----------
    among_all
        Of the scores of all classes, less the calibration factor gamma for seen ones.
    among_unseen
        Of the ZSL scores, which are of the unseen classes alone.
    """

    among_all: _Temperature
    among_unseen: _Temperature


def class_probabilities(scores: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """The softmax ``(n, k)`` of scores ``(n, k)`` over a temperature; each row sums to 1."""
    scores = np.asarray(scores, dtype=np.float64)
    powers = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(scores: NDArray[Any], columns: IntArray) -> float:
    """The temperature with which the true classes are likeliest, each class counting the same.

    It minimises the mean over classes of the mean negative log-likelihood of their rows. That is a
    convex function of the inverse temperature, so that its slope is 0 at one place. Two cases have
    no such place. Where every row is right, a lower temperature would always be likelier: the
    runner-up of half of the rows is then given at least one chance in ``n + 1``. Where the true
    classes have no higher scores than the others, all classes get about the same probability.

    Parameters
    ----------
    scores
        ``(n, k)``, finite, ``n >= 1``; a higher score is a stronger belief.
    columns
        The column of each row's class, ``(n,)``.

    Returns
    -------
    float
        Above 0; 1 where all scores of a row are equal.
    """
    below = np.asarray(scores, dtype=np.float64)
    below = below - below.max(axis=1, keepdims=True)
    gaps = -below[below < 0]
    if not len(gaps):
        return 1.0
    of_truth = below[np.arange(len(columns)), columns]
    weights = 1 / np.bincount(columns)[columns]
    weights /= weights.sum()

    def slope(log_factor: float) -> float:
        shares = np.exp(np.exp(log_factor) * below)
        shares /= shares.sum(axis=1, keepdims=True)
        return float(weights @ ((shares * below).sum(axis=1) - of_truth))

    low, high = np.log(_LEAST / gaps.max()), np.log(1 / (_LEAST * gaps.min()))
    if slope(high) <= 0:
        runner_up = -float(np.median(np.partition(below, -2, axis=1)[:, -2]))
        return (runner_up or float(gaps.min())) / math.log(len(below) + 1)
    if slope(low) >= 0:
        return float(gaps.max())
    return float(np.exp(-brentq(slope, low, high, xtol=1e-9)))


class KeptScores:
    """The scores of held-out rows, as they come slab by slab, to fit temperatures on.

    Of many rows and classes, a sample of the rows is kept, as many of each class and the same in
    every run, so that the memory is bounded.

    Parameters
    ----------
    problem
        The problem that the scorer was trained on.
    held_out
        The rows that it is evaluated on.
    """

    def __init__(self, problem: Problem, held_out: HeldOut) -> None:
        labels = np.concatenate([held_out.seen.labels, held_out.unseen.labels])
        most = max(1, _MOST_SCORES // (len(problem.classes) * max(1, len(np.unique(labels)))))
        rng = np.random.default_rng(SPLIT_SEED)
        self._kept = draw_from_each_class(labels, lambda rows: min(rows, most), rng)
        self._labels, self._problem = labels, problem
        self._rows = 0
        self._slabs: list[SlabScores] = []

    def add(self, scores: SlabScores) -> None:
        """Keep the scores of the next rows."""
        kept = self._kept[self._rows : self._rows + len(scores.gzsl)]
        self._rows += len(scores.gzsl)
        plain = scores.gzsl[kept]
        same = scores.to_calibrate is scores.gzsl
        to_calibrate = plain if same else scores.to_calibrate[kept]
        zsl = None if scores.zsl is None else scores.zsl[kept]
        self._slabs.append(SlabScores(plain, to_calibrate, zsl))

    def temperatures(self, gamma: float) -> Temperatures:
        """Fit the temperatures, with a calibration factor gamma, on what was kept."""
        labels, classes = self._labels[self._kept], self._problem.classes
        unseen = self._problem.unseen_classes
        lowered = gamma * np.isin(classes, self._problem.seen_classes)
        of_unseen = labels[np.isin(labels, unseen)]
        scores = np.concatenate([slab.chosen(gamma) for slab in self._slabs])
        zsl_scores = np.concatenate([slab.zsl for slab in self._slabs if slab.zsl is not None])
        return Temperatures(
            fit_temperature(scores - lowered, class_columns(labels, classes)),
            fit_temperature(zsl_scores, class_columns(of_unseen, unseen)),
        )


class AnswerProbabilities:
    """The probability of each row's answer, from the scores as they come slab by slab.

    Parameters
    ----------
    temperature
        The temperature of the scores.
    gamma
        The calibration factor gamma.
    is_seen
        Which classes, the columns of the scores, are seen ones, ``(k,)``.
    """

    def __init__(self, temperature: float, gamma: float, is_seen: NDArray[np.bool_]) -> None:
        self._temperature, self._gamma, self._is_seen = temperature, gamma, is_seen
        self._parts: list[NDArray[np.float64]] = []

    def add(self, scores: SlabScores) -> None:
        """Take the scores of the next rows."""
        lowered = scores.chosen(self._gamma) - self._gamma * self._is_seen
        self._parts.append(class_probabilities(lowered, self._temperature).max(axis=1))

    def of_rows(self) -> NDArray[np.float64]:
        """The probabilities of all rows so far, ``(n,)``, in (0, 1]."""
        return np.concatenate(self._parts)


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers whose probability is in one of the equal parts of [0, 1].

    Attributes
    ----------
    share
        Their share, each class counting the same; shares of all bins sum to 1.
    probability, accuracy
        The means of their probabilities and of whether they are right, weighted so.
    rows
        How many they are.
    """

    share: float
    probability: float
    accuracy: float
    rows: int


def reliability_bins(
    probabilities: NDArray[Any], right: NDArray[np.bool_], labels: NDArray[Any]
) -> list[ReliabilityBin]:
    """Divide answers by their probability into 15 equal parts of [0, 1]; empty ones are left out.

    Parameters
    ----------
    probabilities
        Of the answers, ``(n,)``, in [0, 1]; a part has its upper end, and the first one 0 too.
    right
        Which answers are right, ``(n,)``.
    labels
        True classes, ``(n,)``; all rows of a class together have the weight of any other class.
    """
    _, of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / counts[of_row] / len(counts)
    places = np.ceil(probabilities * _BINS).astype(np.int64).clip(1, _BINS) - 1
    found = []
    for place in np.unique(places):
        rows = places == place
        share = float(weights[rows].sum())
        probability, accuracy = (
            float(weights[rows] @ values[rows]) / share for values in (probabilities, right)
        )
        found.append(ReliabilityBin(share, probability, accuracy, int(rows.sum())))
    return found


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error, in [0, 1] (Naeini et al., AAAI 2015).

    It is the mean distance of accuracy and probability over bins, weighted by their shares.
    """
    return sum(part.share * abs(part.accuracy - part.probability) for part in bins)
