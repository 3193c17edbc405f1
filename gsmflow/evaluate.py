"""The protocols: ZSL accuracy T1, and GZSL accuracies U and S with their harmonic mean H.

Xian et al., TPAMI 2018. ``T1``: unseen rows, answers among the unseen classes. ``U`` and ``S``:
unseen and seen rows, answers among all classes. A penalty subtracted from the scores of seen
classes (calibrated stacking; Chao et al., ECCV 2016) trades S for U.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gsmflow.dataset import FloatArray, HeldOut, IntArray, Problem
from gsmflow.metrics import (
    SeenUnseenCurve,
    harmonic_mean,
    mean_class_accuracy,
    seen_unseen_curve,
)

__all__ = ["Calibrated", "Measures", "Outcome", "Scorer", "judge", "judge_all"]


class Scorer(Protocol):
    """A trained method: class scores of features ``(n, d)`` as the dataset has them."""

    def gzsl_scores(self, features: FloatArray) -> NDArray[Any]:
        """Scores ``(n, seen + unseen)``, columns in the order of `Problem.classes`."""

    def zsl_scores(self, features: FloatArray) -> NDArray[Any]:
        """Scores ``(n, unseen)``, columns in the order of `Problem.unseen_classes`."""


@dataclass(frozen=True)
class Calibrated:
    """GZSL accuracies after a penalty on seen classes; fractions of 1."""

    penalty: float
    U: float
    S: float
    H: float


@dataclass(frozen=True)
class Measures:
    """What a table shows of one method; fractions of 1.

    ``calibrated`` is None where no penalty was chosen on validation classes.
    """

    T1: float
    U: float
    S: float
    H: float
    AUSUC: float
    calibrated: Calibrated | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """A method's scores on held-out rows.

    Attributes
    ----------
    t1
        ZSL accuracy, in [0, 1].
    scores
        GZSL scores of seen and unseen rows, ``(n, k)``.
    labels
        True classes, ``(n,)``.
    classes, seen_classes
        Class of each column, ``(k,)``, and the seen ones among them.
    """

    t1: float
    scores: NDArray[Any]
    labels: IntArray
    classes: IntArray
    seen_classes: IntArray

    def curve(self) -> SeenUnseenCurve:
        """Accuracies under every penalty."""
        return seen_unseen_curve(self.scores, self.labels, self.classes, self.seen_classes)

    def calibrated(self, penalty: float) -> Calibrated:
        """U, S and H with a penalty subtracted from the scores of the seen classes."""
        scores = self.scores - penalty * np.isin(self.classes, self.seen_classes)
        predictions = self.classes[scores.argmax(axis=1)]
        is_seen = np.isin(self.labels, self.seen_classes)
        seen = mean_class_accuracy(self.labels[is_seen], predictions[is_seen])
        unseen = mean_class_accuracy(self.labels[~is_seen], predictions[~is_seen])
        return Calibrated(penalty, unseen, seen, harmonic_mean(unseen, seen))

    def measures(self, penalty: float | None = None) -> Measures:
        """All measures; ``penalty`` is one chosen on validation classes, if any."""
        plain = self.calibrated(0.0)
        return Measures(
            T1=self.t1,
            U=plain.U,
            S=plain.S,
            H=plain.H,
            AUSUC=self.curve().area,
            calibrated=None if penalty is None else self.calibrated(penalty),
        )


def judge(scorer: Scorer, problem: Problem, held_out: HeldOut) -> Outcome:
    """Score held-out rows of a problem with a method trained on it."""
    return judge_all([scorer], problem, held_out)[0]


def judge_all(scorers: Sequence[Scorer], problem: Problem, held_out: HeldOut) -> list[Outcome]:
    """Score held-out rows with several methods, each row read once for all of them."""
    gzsl: list[list[NDArray[Any]]] = [[] for _ in scorers]
    answers: list[list[IntArray]] = [[] for _ in scorers]
    for part in (held_out.seen, held_out.unseen):
        for _, features in part.slabs():
            for number, scorer in enumerate(scorers):
                gzsl[number].append(scorer.gzsl_scores(features))
                if part is held_out.unseen:
                    columns = scorer.zsl_scores(features).argmax(axis=1)
                    answers[number].append(problem.unseen_classes[columns])
    labels = np.concatenate([held_out.seen.labels, held_out.unseen.labels])
    return [
        Outcome(
            t1=mean_class_accuracy(held_out.unseen.labels, np.concatenate(own_answers)),
            scores=np.concatenate(scores),
            labels=labels,
            classes=problem.classes,
            seen_classes=problem.seen_classes,
        )
        for scores, own_answers in zip(gzsl, answers, strict=True)
    ]
