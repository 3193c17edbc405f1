"""The protocols: ZSL accuracy T1, and GZSL accuracies U and S with their harmonic mean H.

Xian et al., TPAMI 2018. ``T1``: unseen rows, answers among the unseen classes. ``U`` and ``S``:
unseen and seen rows, answers among all classes. A penalty subtracted from the scores of seen
classes (calibrated stacking; Chao et al., ECCV 2016) trades S for U.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import IntArray
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.evaluation.metrics import (
    SeenUnseenCurve,
    harmonic_mean,
    mean_class_accuracy,
    mean_class_top_k_accuracy,
    seen_unseen_curve,
)
from gsmflow.learning.contract import Scorer

__all__ = ["Calibrated", "Measures", "Outcome", "TopK", "evaluate", "evaluate_all"]


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


@dataclass(frozen=True)
class TopK:
    """Accuracies where an answer is the ``k`` classes of highest score; fractions of 1."""

    k: int
    T1: float
    U: float
    S: float
    H: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """A method's scores on held-out rows.

    Attributes
    ----------
    scores
        GZSL scores of seen and unseen rows, ``(n, k)``.
    zsl_scores
        ZSL scores of the unseen rows, in their order, ``(m, unseen)``; columns in the order of
        `unseen_classes`.
    labels
        True classes, ``(n,)``.
    classes, seen_classes
        Class of each GZSL column, ``(k,)``, and the seen ones among them.
    """

    scores: NDArray[Any]
    zsl_scores: NDArray[Any]
    labels: IntArray
    classes: IntArray
    seen_classes: IntArray

    @property
    def unseen_classes(self) -> IntArray:
        """The unseen ones among the classes, in the order of their columns, ``(unseen,)``."""
        return self.classes[~np.isin(self.classes, self.seen_classes)]

    @property
    def row_is_seen(self) -> NDArray[np.bool_]:
        """Whether each row is of a seen class, ``(n,)``."""
        return np.isin(self.labels, self.seen_classes)

    @property
    def t1(self) -> float:
        """ZSL accuracy, in [0, 1]."""
        return mean_class_accuracy(self.labels[~self.row_is_seen], self.zsl_predictions())

    def predictions(self, penalty: float = 0.0) -> IntArray:
        """GZSL answers ``(n,)``, with a penalty subtracted from the scores of the seen classes."""
        scores = self.scores - penalty * np.isin(self.classes, self.seen_classes)
        answers: IntArray = self.classes[scores.argmax(axis=1)]
        return answers

    def zsl_predictions(self) -> IntArray:
        """ZSL answers of the unseen rows, ``(m,)``."""
        answers: IntArray = self.unseen_classes[self.zsl_scores.argmax(axis=1)]
        return answers

    def curve(self) -> SeenUnseenCurve:
        """Accuracies under every penalty."""
        return seen_unseen_curve(self.scores, self.labels, self.classes, self.seen_classes)

    def calibrated(self, penalty: float) -> Calibrated:
        """U, S and H with a penalty subtracted from the scores of the seen classes."""
        predictions, is_seen = self.predictions(penalty), self.row_is_seen
        seen = mean_class_accuracy(self.labels[is_seen], predictions[is_seen])
        unseen = mean_class_accuracy(self.labels[~is_seen], predictions[~is_seen])
        return Calibrated(penalty, unseen, seen, harmonic_mean(unseen, seen))

    def top_k(self, k: int) -> TopK:
        """T1, U, S and H where a row is right with its class among the first ``k >= 1``."""
        is_seen = self.row_is_seen
        seen, unseen = (
            mean_class_top_k_accuracy(self.labels[rows], self.scores[rows], self.classes, k)
            for rows in (is_seen, ~is_seen)
        )
        t1 = mean_class_top_k_accuracy(
            self.labels[~is_seen], self.zsl_scores, self.unseen_classes, k
        )
        return TopK(k, t1, unseen, seen, harmonic_mean(unseen, seen))

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


def evaluate(scorer: Scorer, problem: Problem, held_out: HeldOut) -> Outcome:
    """Score held-out rows of a problem with a method trained on it."""
    return evaluate_all([scorer], problem, held_out)[0]


def evaluate_all(scorers: Sequence[Scorer], problem: Problem, held_out: HeldOut) -> list[Outcome]:
    """Score held-out rows with several methods, each row read once for all of them."""
    gzsl: list[list[NDArray[Any]]] = [[] for _ in scorers]
    zsl: list[list[NDArray[Any]]] = [[] for _ in scorers]
    for part in (held_out.seen, held_out.unseen):
        for _, features in part.slabs():
            for number, scorer in enumerate(scorers):
                gzsl[number].append(scorer.gzsl_scores(features))
                if part is held_out.unseen:
                    zsl[number].append(scorer.zsl_scores(features))
    labels = np.concatenate([held_out.seen.labels, held_out.unseen.labels])
    return [
        Outcome(
            scores=np.concatenate(gzsl_scores),
            zsl_scores=np.concatenate(zsl_scores),
            labels=labels,
            classes=problem.classes,
            seen_classes=problem.seen_classes,
        )
        for gzsl_scores, zsl_scores in zip(gzsl, zsl, strict=True)
    ]
