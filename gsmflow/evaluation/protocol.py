"""The protocols: ZSL accuracy T1, and GZSL accuracies U and S with their harmonic mean H.

Xian et al., TPAMI 2018. ``T1``: unseen rows, answers among the unseen classes. ``U`` and ``S``:
unseen and seen rows, answers among all classes. Calibrated stacking (Chao et al., ECCV 2016)
subtracts a calibration factor gamma from the scores of the seen classes, which trades S for U.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.progress import counting
from gsmflow.data.dataset import HeldOut, Problem, Rows
from gsmflow.data.scaling import FeatureScaling
from gsmflow.evaluation.metrics import (
    BestAnswers,
    SeenUnseenCurve,
    best_answers,
    curve_of_answers,
    harmonic_mean,
    mean_class_accuracy,
    mean_class_top_k_accuracy,
    true_class_ranks,
)
from gsmflow.learning.contract import CalibratedScorer, Scorer
from gsmflow.learning.feed import Feed, make_feed, row_slabs

__all__ = [
    "Calibrated",
    "OnScores",
    "Outcome",
    "ScaledHeldOut",
    "SlabScores",
    "TopK",
    "evaluate",
    "evaluate_all",
    "evaluate_candidates",
    "evaluate_top_k",
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
    """A method's answers on held-out rows: of each row, the best seen and the best unseen class.

    All scores ``(n, classes)`` are never in memory at once, whatever the number of classes.

    Attributes
    ----------
    best
        The best answers by the GZSL scores of seen and unseen rows, ``(n,)``.
    zsl_answers
        The best unseen class of the unseen rows by their ZSL scores, in their order, ``(m,)``.
    labels
        True classes, ``(n,)``.
    classes, seen_classes
        Class of each GZSL column, the seen ones first, ``(k,)``, and the seen ones among them.
    best_to_calibrate
        The best answers by the scores for calibrated stacking, of a method that has others for it;
        None where they are `best`. The seen-unseen curve and its area are computed from them, too.
    """

    best: BestAnswers
    zsl_answers: IntArray
    labels: IntArray
    classes: IntArray
    seen_classes: IntArray
    best_to_calibrate: BestAnswers | None = None

    @classmethod
    def of_scores(
        cls,
        scores: NDArray[Any],
        zsl_scores: NDArray[Any],
        labels: IntArray,
        classes: IntArray,
        seen_classes: IntArray,
    ) -> "Outcome":
        """The outcome of GZSL scores ``(n, k)`` and ZSL scores ``(m, unseen)`` in memory."""
        unseen_classes = classes[~np.isin(classes, seen_classes)]
        zsl_answers = unseen_classes[zsl_scores.argmax(axis=1)]
        best = best_answers(scores, classes, seen_classes)
        return cls(best, zsl_answers, labels, classes, seen_classes)

    @property
    def unseen_classes(self) -> IntArray:
        """The unseen ones among the classes, in the order of their columns, ``(unseen,)``."""
        return self.classes[~np.isin(self.classes, self.seen_classes)]

    @property
    def row_is_seen(self) -> NDArray[np.bool_]:
        """Whether each row is of a seen class, ``(n,)``."""
        return np.isin(self.labels, self.seen_classes)

    @property
    def answers_to_calibrate(self) -> BestAnswers:
        """The best answers whose seen scores calibrated stacking subtracts gamma from."""
        return self.best if self.best_to_calibrate is None else self.best_to_calibrate

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
        return self.best.answers()

    def shifted(self, gamma: float) -> "Outcome":
        """The outcome of calibrated stacking: gamma subtracted from the scores of seen classes.

        A gamma of 0 is no calibration: the plain scores, also where there are others for it.
        """
        if gamma == 0:
            return replace(self, best_to_calibrate=None)
        best = self.answers_to_calibrate
        scores = best.seen_scores.astype(np.float64) - gamma
        return replace(self, best=replace(best, seen_scores=scores), best_to_calibrate=None)

    def of_rows(self, rows: NDArray[np.bool_]) -> "Outcome":
        """The outcome on some of the rows alone, ``(n,)``."""
        others = self.best_to_calibrate
        return replace(
            self,
            best=self.best.of_rows(rows),
            zsl_answers=self.zsl_answers[rows[~self.row_is_seen]],
            labels=self.labels[rows],
            best_to_calibrate=None if others is None else others.of_rows(rows),
        )

    def predictions(self, gamma: float | None = None) -> IntArray:
        """GZSL answers ``(n,)``: of the plain scores, or with a calibration factor."""
        return self._predictions if gamma is None else self.shifted(gamma).predictions()

    def zsl_predictions(self) -> IntArray:
        """ZSL answers of the unseen rows, ``(m,)``."""
        return self.zsl_answers

    def curve(self) -> SeenUnseenCurve:
        """Accuracies with every calibration factor."""
        return self._curve

    @cached_property
    def _curve(self) -> SeenUnseenCurve:
        # gamma, AUSUC, the picture and the page ask for the same curve.
        return curve_of_answers(self.answers_to_calibrate, self.labels, self.seen_classes)

    def calibrated(self, gamma: float) -> Calibrated:
        """U, S and H with a calibration factor."""
        shifted = self.shifted(gamma)
        return Calibrated(
            gamma, shifted.unseen_accuracy, shifted.seen_accuracy, shifted.harmonic_mean
        )


@dataclass(frozen=True, eq=False)
class SlabScores:
    """The scores of some rows.

    Attributes
    ----------
    gzsl
        GZSL scores, ``(m, k)``.
    to_calibrate
        The scores for calibrated stacking, ``(m, k)``; of most methods the same array.
    zsl
        ZSL scores of unseen rows, ``(m, unseen)``; None for seen rows.
    """

    gzsl: NDArray[Any]
    to_calibrate: NDArray[Any]
    zsl: NDArray[Any] | None

    def chosen(self, gamma: float) -> NDArray[Any]:
        """The scores ``(m, k)`` that gamma is subtracted from; with 0, the plain ones."""
        return self.gzsl if gamma == 0 else self.to_calibrate


# Called with the scores of each slab of rows, those of seen classes first.
OnScores: TypeAlias = Callable[[SlabScores], object]


def _unobserved(scores: SlabScores) -> None:
    """Do nothing."""


def evaluate(
    scorer: Scorer, problem: Problem, held_out: HeldOut, on_scores: OnScores | None = None
) -> Outcome:
    """Score held-out rows of a problem with a method trained on it.

    Parameters
    ----------
    scorer, problem, held_out
        The method, the problem that it was trained on, and the rows.
    on_scores
        Called with the scores of each slab of rows, in order; None: nothing is called.
    """
    observers = [] if on_scores is None else [on_scores]
    return evaluate_all([scorer], problem, held_out, observers)[0]


def evaluate_all(
    scorers: Sequence[Scorer],
    problem: Problem,
    held_out: HeldOut,
    on_scores: Sequence[OnScores] = (),
) -> list[Outcome]:
    """Score held-out rows with several methods, each row read once for all of them.

    `Outcome.best_to_calibrate` is by the scores of a scorer that is a `CalibratedScorer`.
    ``on_scores`` is called as by `evaluate`, one for each method; empty: none is called.
    """
    observers = [*on_scores] or [_unobserved] * len(scorers)
    classes, seen_classes = problem.classes, problem.seen_classes
    gzsl: list[list[BestAnswers]] = [[] for _ in scorers]
    zsl: list[list[IntArray]] = [[] for _ in scorers]
    calibrated: list[list[BestAnswers]] = [[] for _ in scorers]
    labels = np.concatenate([held_out.seen.labels, held_out.unseen.labels])
    with counting("rows", len(labels)) as advance:
        for part in (held_out.seen, held_out.unseen):
            for _, features in part.slabs(len(classes)):
                for number, scorer in enumerate(scorers):
                    zsl_scores = None
                    plain = to_calibrate = scorer.gzsl_scores(features)
                    gzsl[number].append(best_answers(plain, classes, seen_classes))
                    if isinstance(scorer, CalibratedScorer):
                        to_calibrate = scorer.calibrated_scores(features)
                        best = best_answers(to_calibrate, classes, seen_classes)
                        calibrated[number].append(best)
                    if part is held_out.unseen:
                        zsl_scores = scorer.zsl_scores(features)
                        zsl[number].append(problem.unseen_classes[zsl_scores.argmax(axis=1)])
                    observers[number](SlabScores(plain, to_calibrate, zsl_scores))
                advance(len(features))
    return [
        Outcome(
            best=BestAnswers.joined(of_gzsl),
            zsl_answers=np.concatenate(of_zsl),
            labels=labels,
            classes=classes,
            seen_classes=seen_classes,
            best_to_calibrate=BestAnswers.joined(others) if others else None,
        )
        for of_gzsl, of_zsl, others in zip(gzsl, zsl, calibrated, strict=True)
    ]


def evaluate_top_k(scorer: Scorer, problem: Problem, held_out: HeldOut, k: int) -> TopK:
    """T1, U, S and H where a row is right with its class among the first ``k >= 1``."""

    def share(rows: Rows, score: Callable[[FloatArray], NDArray[Any]], columns: IntArray) -> float:
        ranks = [
            true_class_ranks(rows.labels[place], score(features), columns)
            for place, features in rows.slabs(len(columns))
        ]
        return mean_class_top_k_accuracy(rows.labels, np.concatenate(ranks), k)

    seen, unseen = (
        share(rows, scorer.gzsl_scores, problem.classes)
        for rows in (held_out.seen, held_out.unseen)
    )
    t1 = share(held_out.unseen, scorer.zsl_scores, problem.unseen_classes)
    return TopK(k, t1, unseen, seen, harmonic_mean(unseen, seen))


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
    seen, parts = len(problem.seen_classes), []
    for part in (held_out.seen, held_out.unseen):
        for _, slab in row_slabs(part, len(problem.classes)):
            features = slab.to(dtype)
            scores = gzsl(features)
            zsl_best = zsl(features).argmax(dim=2) if part is held_out.unseen else None
            parts.append((scores[..., :seen].max(dim=2), scores[..., seen:].max(dim=2), zsl_best))
    # One transfer for all slabs and candidates: a GPU is not waited for in between.
    seen_scores, seen_columns, unseen_scores, unseen_columns, zsl_columns = (
        torch.cat(tensors, dim=1).cpu().numpy()
        for tensors in (
            [of_seen.values for of_seen, _, _ in parts],
            [of_seen.indices for of_seen, _, _ in parts],
            [of_unseen.values for _, of_unseen, _ in parts],
            [of_unseen.indices for _, of_unseen, _ in parts],
            [best for _, _, best in parts if best is not None],
        )
    )
    return [
        Outcome(
            BestAnswers(
                problem.seen_classes[seen_columns[i]],
                problem.unseen_classes[unseen_columns[i]],
                seen_scores[i],
                unseen_scores[i],
            ),
            problem.unseen_classes[zsl_columns[i]],
            held_out.labels,
            problem.classes,
            problem.seen_classes,
        )
        for i in range(len(seen_scores))
    ]
