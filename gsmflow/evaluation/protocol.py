"""The protocols: ZSL accuracy T1, and GZSL accuracies U and S with their harmonic mean H.

Xian et al., TPAMI 2018. ``T1``: unseen rows, answers among the unseen classes. ``U`` and ``S``:
unseen and seen rows, answers among all classes. Calibrated stacking (Chao et al., ECCV 2016)
subtracts a calibration factor gamma from the scores of the seen classes, which trades S for U.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.arrays import IntArray
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.data.scaling import FeatureScaling
from gsmflow.evaluation.metrics import (
    SeenUnseenCurve,
    harmonic_mean,
    mean_class_accuracy,
    mean_class_top_k_accuracy,
    seen_unseen_curve,
)
from gsmflow.learning.contract import CalibratedScorer, Scorer
from gsmflow.learning.feed import Feed, make_feed, row_slabs

__all__ = [
    "Calibrated",
    "Outcome",
    "ScaledHeldOut",
    "TopK",
    "evaluate",
    "evaluate_all",
    "evaluate_candidates",
    "scale_held_out",
]


@dataclass(frozen=True)
class Calibrated:
    """GZSL accuracies with a calibration factor; fractions of 1."""

    gamma: float
    U: float
    S: float
    H: float


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
    calibrated_scores
        GZSL scores for calibrated stacking, ``(n, k)``, of a method that has others for it; None
        where they are `scores`. The seen-unseen curve and its area are computed from them, too.
    """

    scores: NDArray[Any]
    zsl_scores: NDArray[Any]
    labels: IntArray
    classes: IntArray
    seen_classes: IntArray
    calibrated_scores: NDArray[Any] | None = None

    @property
    def unseen_classes(self) -> IntArray:
        """The unseen ones among the classes, in the order of their columns, ``(unseen,)``."""
        return self.classes[~np.isin(self.classes, self.seen_classes)]

    @property
    def row_is_seen(self) -> NDArray[np.bool_]:
        """Whether each row is of a seen class, ``(n,)``."""
        return np.isin(self.labels, self.seen_classes)

    @property
    def scores_to_calibrate(self) -> NDArray[Any]:
        """The scores of which calibrated stacking subtracts gamma, ``(n, k)``."""
        return self.scores if self.calibrated_scores is None else self.calibrated_scores

    @property
    def t1(self) -> float:
        """ZSL accuracy, in [0, 1]."""
        return mean_class_accuracy(self.labels[~self.row_is_seen], self.zsl_predictions())

    @cached_property
    def unseen_accuracy(self) -> float:
        """U: GZSL accuracy of the unseen rows, in [0, 1]."""
        return self._accuracy(~self.row_is_seen)

    @cached_property
    def seen_accuracy(self) -> float:
        """S: GZSL accuracy of the seen rows, in [0, 1]."""
        return self._accuracy(self.row_is_seen)

    @property
    def harmonic_mean(self) -> float:
        """H: the harmonic mean of U and S, in [0, 1]."""
        return harmonic_mean(self.unseen_accuracy, self.seen_accuracy)

    def _accuracy(self, rows: NDArray[np.bool_]) -> float:
        return mean_class_accuracy(self.labels[rows], self._predictions[rows])

    @cached_property
    def _predictions(self) -> IntArray:
        answers: IntArray = self.classes[self.scores.argmax(axis=1)]
        return answers

    def shifted(self, gamma: float) -> "Outcome":
        """The outcome of calibrated stacking: gamma subtracted from the scores of seen classes."""
        is_seen = np.isin(self.classes, self.seen_classes)
        scores = self.scores_to_calibrate - gamma * is_seen
        return replace(self, scores=scores, calibrated_scores=None)

    def predictions(self, gamma: float | None = None) -> IntArray:
        """GZSL answers ``(n,)``: of the plain scores, or with a calibration factor."""
        return self._predictions if gamma is None else self.shifted(gamma).predictions()

    def zsl_predictions(self) -> IntArray:
        """ZSL answers of the unseen rows, ``(m,)``."""
        answers: IntArray = self.unseen_classes[self.zsl_scores.argmax(axis=1)]
        return answers

    def curve(self) -> SeenUnseenCurve:
        """Accuracies with every calibration factor."""
        return self._curve

    @cached_property
    def _curve(self) -> SeenUnseenCurve:
        # gamma, AUSUC, the picture and the page ask for the same curve.
        return seen_unseen_curve(
            self.scores_to_calibrate, self.labels, self.classes, self.seen_classes
        )

    def calibrated(self, gamma: float) -> Calibrated:
        """U, S and H with a calibration factor."""
        shifted = self.shifted(gamma)
        return Calibrated(
            gamma, shifted.unseen_accuracy, shifted.seen_accuracy, shifted.harmonic_mean
        )

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


def evaluate(scorer: Scorer, problem: Problem, held_out: HeldOut) -> Outcome:
    """Score held-out rows of a problem with a method trained on it."""
    return evaluate_all([scorer], problem, held_out)[0]


def evaluate_all(scorers: Sequence[Scorer], problem: Problem, held_out: HeldOut) -> list[Outcome]:
    """Score held-out rows with several methods, each row read once for all of them.

    `Outcome.calibrated_scores` are those of a scorer that is a `CalibratedScorer`.
    """
    gzsl: list[list[NDArray[Any]]] = [[] for _ in scorers]
    zsl: list[list[NDArray[Any]]] = [[] for _ in scorers]
    calibrated: list[list[NDArray[Any]]] = [[] for _ in scorers]
    for part in (held_out.seen, held_out.unseen):
        for _, features in part.slabs():
            for number, scorer in enumerate(scorers):
                gzsl[number].append(scorer.gzsl_scores(features))
                if isinstance(scorer, CalibratedScorer):
                    calibrated[number].append(scorer.calibrated_scores(features))
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
            calibrated_scores=np.concatenate(others) if others else None,
        )
        for gzsl_scores, zsl_scores, others in zip(gzsl, zsl, calibrated, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class ScaledHeldOut:
    """Held-out rows that are scaled once, to evaluate candidate after candidate on them.

    Attributes
    ----------
    seen, unseen
        The scaled rows, on a device.
    labels
        True classes of the seen and then of the unseen rows, ``(n,)``.
    """

    seen: Feed
    unseen: Feed
    labels: IntArray


def scale_held_out(
    held_out: HeldOut, scaling: FeatureScaling, device: torch.device
) -> ScaledHeldOut:
    """Scale held-out rows; where they would fill half of the free memory, whenever they are read.

    Parameters
    ----------
    held_out
        The rows.
    scaling
        The scaling of the candidates' training rows.
    device
        Where the candidates are scored.
    """
    seen, unseen = (
        make_feed(rows, scaling, device, "auto") for rows in (held_out.seen, held_out.unseen)
    )
    labels = np.concatenate([held_out.seen.labels, held_out.unseen.labels])
    return ScaledHeldOut(seen, unseen, labels)


def evaluate_candidates(
    gzsl: Callable[[Tensor], Tensor],
    zsl: Callable[[Tensor], Tensor],
    problem: Problem,
    held_out: ScaledHeldOut,
    dtype: torch.dtype = torch.float32,
) -> list[Outcome]:
    """Score scaled held-out rows with several candidates, each row read once for all of them.

    Parameters
    ----------
    gzsl, zsl
        From scaled features ``(m, d)`` to GZSL scores ``(candidates, m, seen + unseen)`` and to ZSL
        scores ``(candidates, m, unseen)``, in the column order of `Scorer`.
    problem
        The problem that the candidates were trained on.
    held_out
        The rows.
    dtype
        The type of the features that both are given.
    """
    gzsl_scores, zsl_scores = [], []
    for part in (held_out.seen, held_out.unseen):
        for _, slab in row_slabs(part):
            features = slab.to(dtype)
            gzsl_scores.append(gzsl(features))
            if part is held_out.unseen:
                zsl_scores.append(zsl(features))
    # One transfer for all slabs and candidates: a GPU is not waited for in between.
    of_each = (torch.cat(scores, dim=1).cpu().numpy() for scores in (gzsl_scores, zsl_scores))
    return [
        Outcome(scores, unseen_scores, held_out.labels, problem.classes, problem.seen_classes)
        for scores, unseen_scores in zip(*of_each, strict=True)
    ]
