"""Predictions of a finished run: the best classes of each row, and how many are right."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.errors import InputError
from gsmflow.data.class_names import class_key
from gsmflow.data.given_labels import GivenLabels
from gsmflow.evaluation.metrics import harmonic_mean, mean_class_accuracy
from gsmflow.evaluation.per_class import ClassTally, tally_answers
from gsmflow.evaluation.probabilities import class_probabilities
from gsmflow.learning.contract import CalibratedScorer
from gsmflow.methods.gates.base import Gated
from gsmflow.runs.checkpoint import TrainedRun
from gsmflow.runs.novelty import Rejection
from gsmflow.runs.sample import find_class

__all__ = [
    "NONE_OF_THESE",
    "Answer",
    "Evaluation",
    "answer_rows",
    "answerable_classes",
    "evaluate_answers",
    "score_slabs",
    "temperature_of",
    "true_classes",
]


# The answer to a row that is unlike all classes.
NONE_OF_THESE = "none of these"


class Answer(NamedTuple):
    """One class for one row, or `NONE_OF_THESE`: without kind, score and probability, number -1.

    Attributes
    ----------
    name, kind
        The class, and whether it is seen.
    score
        The score, less gamma if the class is seen; with a gate, the gate's combination of
        its experts' scores.
    number
        The class's number in the dataset, from 0.
    probability
        The class's share of a softmax over all classes that could be an answer, in [0, 1]; None
        where `temperature_of` knows no temperature.
    """

    name: str
    kind: Literal["seen", "unseen"] | None
    score: float | None
    number: int
    probability: float | None


def answer_rows(
    run: TrainedRun,
    features: FloatArray,
    gamma: float | None = None,
    only: Literal["all", "unseen"] = "all",
    top_k: int = 1,
    gated: Gated | None = None,
    rejection: Rejection | None = None,
) -> Iterator[list[Answer]]:
    """The best classes of each row, best first; `NONE_OF_THESE` alone for a rejected row.

    Parameters
    ----------
    run
        A finished run.
    features
        Unscaled features as in its dataset, ``(n, d)``.
    gamma, only, gated
        As in `score_slabs`.
    top_k
        The largest number of classes for each row.
    rejection
        Says which rows are rejected; None to reject none.
    """
    rejected = _rejected_rows(features, rejection)
    classes = answerable_classes(run, only)
    is_seen = np.isin(classes, run.kept.seen_classes)
    names = [run.kept.class_names[c] for c in classes]
    temperature = temperature_of(run, gamma, only, gated)
    for scores in score_slabs(run, features, gamma, only, gated):
        best = _best(scores, top_k)
        probabilities: NDArray[Any] = np.full(scores.shape, None)
        if temperature is not None:
            probabilities = class_probabilities(scores, temperature)
        for i, columns in enumerate(best):
            if next(rejected):
                yield [Answer(NONE_OF_THESE, None, None, -1, None)]
                continue
            yield [
                Answer(
                    names[c],
                    "seen" if is_seen[c] else "unseen",
                    float(scores[i, c]),
                    int(classes[c]),
                    probabilities[i, c],
                )
                for c in columns
            ]


def _rejected_rows(features: FloatArray, rejection: Rejection | None) -> Iterator[bool]:
    """Whether each row is rejected, in order."""
    if rejection is None:
        return repeat(False)
    slices = row_slices(len(features), 4 * features.shape[1], columns=features.shape[1])
    return chain.from_iterable(rejection(features[rows]).tolist() for rows in slices)


def temperature_of(
    run: TrainedRun,
    gamma: float | None = None,
    only: Literal["all", "unseen"] = "all",
    gated: Gated | None = None,
) -> float | None:
    """The temperature of the scores that answers are chosen by; None where none is known.

    It was fitted with the run's own gamma, and serves for any other. Where a method has other
    scores for calibration, it serves for those that it was fitted on alone. The gate says whether
    its scores have one.

    Parameters
    ----------
    run, gamma, only, gated
        As in `score_slabs`.
    """
    if only == "all" and gated is not None:
        return gated.gate.temperature
    known = run.temperatures
    if known is None:
        return None
    if only == "unseen":
        return known.among_unseen
    if isinstance(run.scorer, CalibratedScorer) and bool(gamma) != bool(run.gamma):
        return None
    return known.among_all


def score_slabs(
    run: TrainedRun,
    features: FloatArray,
    gamma: float | None = None,
    only: Literal["all", "unseen"] = "all",
    gated: Gated | None = None,
) -> Iterator[NDArray[Any]]:
    """The scores that answers are chosen by, of some rows ``(m, k)`` at a time, in order.

    Columns are those of `answerable_classes`.

    Parameters
    ----------
    run
        A finished run.
    features
        Unscaled features as in its dataset, ``(n, d)``.
    gamma
        The calibration factor gamma, subtracted from the scores of seen classes; a
        `CalibratedScorer` has other scores for it. None or 0: no calibration.
    only
        ``"unseen"``: the run's classifier of unseen classes alone, without a gate.
    gated
        The run's gate; None to answer without one.
    """
    classes = answerable_classes(run, only)
    lowered = 0.0 if gamma is None else gamma * np.isin(classes, run.kept.seen_classes)
    score = run.scorer.gzsl_scores if gated is None else gated.scores
    if only == "unseen":
        score = run.scorer.zsl_scores
    elif gated is None and gamma and isinstance(run.scorer, CalibratedScorer):
        score = run.scorer.calibrated_scores
    for rows in row_slices(len(features), 8 * max(features.shape[1], len(classes))):
        yield score(features[rows]) - lowered


def true_classes(run: TrainedRun, labels: GivenLabels, rows: int | None) -> IntArray:
    """The true class of each row, ``(n,)``, by its number in the run's dataset.

    Parameters
    ----------
    run
        A finished run.
    labels
        Names of classes, in which case, spaces and underscores do not matter; or the dataset's
        class numbers, from 0 unless the labels say otherwise.
    rows
        How many labels are expected; None for any number.

    Raises
    ------
    InputError
        If there are more or fewer, or the run does not know a class.
    """
    if rows not in (None, len(labels.values)):
        raise InputError(
            f"{labels.where}: found {len(labels.values)} labels, expected {rows}, one for each row"
        )
    labels = labels.as_numbers()
    given, first, of_row = np.unique(labels.values, return_index=True, return_inverse=True)
    by_key = {class_key(run.kept.class_names[c]): int(c) for c in run.classes}
    exact = {run.kept.class_names[c]: int(c) for c in run.classes}
    names = labels.class_names if labels.class_names else run.kept.class_names
    known = np.empty(len(given), dtype=np.int64)
    for i, (value, row) in enumerate(zip(given.tolist(), first.tolist(), strict=True)):
        where = f"{labels.where}, row {row + 1}"
        name = value if labels.are_names else _name_of(value, labels, names, where)
        number = exact.get(name, by_key.get(class_key(name)))
        known[i] = find_class(run, name, where) if number is None else number
    return known[of_row]


def _name_of(value: int, labels: GivenLabels, names: tuple[str, ...], where: str) -> str:
    """The name of a class that a label has the number of."""
    base = labels.first_number or 0
    if not base <= value < base + len(names):
        raise InputError(
            f"{where}: found class {value}, expected {base} to {base + len(names) - 1}, the "
            "numbers of the classes"
        )
    return names[value - base]


@dataclass(frozen=True)
class Evaluation:
    """How many answers are right; shares are fractions of 1.

    Attributes
    ----------
    rows
        How many rows were evaluated.
    accuracy
        The share of them that are answered right.
    class_mean
        The mean over the classes that occur of their accuracies.
    seen, unseen
        The same over the seen and over the unseen classes that occur; None where none does.
    seen_classes, unseen_classes
        A record of each class that occurs.
    """

    rows: int
    accuracy: float
    class_mean: float
    seen: float | None
    unseen: float | None
    seen_classes: tuple[ClassTally, ...]
    unseen_classes: tuple[ClassTally, ...]

    @property
    def harmonic_mean(self) -> float | None:
        """The harmonic mean of ``seen`` and ``unseen``; None where there is only one of them."""
        if self.seen is None or self.unseen is None:
            return None
        return harmonic_mean(self.unseen, self.seen)


def evaluate_answers(run: TrainedRun, labels: IntArray, predictions: IntArray) -> Evaluation:
    """Compare answers with true classes.

    Parameters
    ----------
    run
        A finished run.
    labels, predictions
        True and predicted class of each row, ``(n,)``, ``n >= 1``, of `TrainedRun.classes`. A
        prediction of -1, for a rejected row, is wrong.
    """
    seen, unseen = run.kept.seen_classes, run.kept.unseen_classes
    names = (*run.kept.class_names, NONE_OF_THESE)
    rejected = len(names) - 1
    predictions = np.where(predictions < 0, rejected, predictions)
    tallies = tally_answers(labels, predictions, np.append(run.classes, rejected), names)[:-1]

    def mean(rows: NDArray[np.bool_]) -> float | None:
        return mean_class_accuracy(labels[rows], predictions[rows]) if rows.any() else None

    return Evaluation(
        rows=len(labels),
        accuracy=float((labels == predictions).mean()),
        class_mean=mean_class_accuracy(labels, predictions),
        seen=mean(np.isin(labels, seen)),
        unseen=mean(np.isin(labels, unseen)),
        seen_classes=tuple(tally for tally in tallies[: len(seen)] if tally.rows),
        unseen_classes=tuple(tally for tally in tallies[len(seen) :] if tally.rows),
    )


def answerable_classes(run: TrainedRun, only: Literal["all", "unseen"]) -> IntArray:
    """The classes that can be predicted, in the order of the score columns."""
    return run.classes if only == "all" else run.kept.unseen_classes


def _best(scores: NDArray[Any], top_k: int) -> NDArray[Any]:
    """The columns of the k highest scores of each row, ``(n, k)``; of equal scores the first."""
    if top_k == 1:
        return np.asarray(scores.argmax(axis=1))[:, None]
    return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
