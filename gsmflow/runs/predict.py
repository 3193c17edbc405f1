"""Predictions of a finished run: the best classes of each row, with their scores."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.learning.contract import CalibratedScorer
from gsmflow.methods.gates.base import Gated
from gsmflow.runs.checkpoint import TrainedRun

__all__ = ["Answer", "answer_rows", "answerable_classes", "score_slabs"]


class Answer(NamedTuple):
    """One class for one row.

    Attributes
    ----------
    name, kind
        The class, and whether it is seen.
    score
        The score, less gamma if the class is seen; with a gate, the gate's combination of
        its experts' scores.
    """

    name: str
    kind: Literal["seen", "unseen"]
    score: float


def answer_rows(
    run: TrainedRun,
    features: FloatArray,
    gamma: float | None = None,
    only: Literal["all", "unseen"] = "all",
    top_k: int = 1,
    gated: Gated | None = None,
) -> Iterator[list[Answer]]:
    """The best classes of each row, best first.

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
    """
    classes = answerable_classes(run, only)
    is_seen = np.isin(classes, run.kept.seen_classes)
    names = [run.kept.class_names[c] for c in classes]
    for scores in score_slabs(run, features, gamma, only, gated):
        best = _best(scores, top_k)
        for row_scores, columns in zip(scores, best, strict=True):
            yield [
                Answer(names[c], "seen" if is_seen[c] else "unseen", float(row_scores[c]))
                for c in columns
            ]


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
        `CalibratedScorer` has other scores for it. None: no calibration.
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
    elif gated is None and gamma is not None and isinstance(run.scorer, CalibratedScorer):
        score = run.scorer.calibrated_scores
    for rows in row_slices(len(features), 8 * max(features.shape[1], len(classes))):
        yield score(features[rows]) - lowered


def answerable_classes(run: TrainedRun, only: Literal["all", "unseen"]) -> IntArray:
    """The classes that can be predicted, in the order of the score columns."""
    return run.classes if only == "all" else run.kept.unseen_classes


def _best(scores: NDArray[Any], top_k: int) -> NDArray[Any]:
    """The columns of the k highest scores of each row, ``(n, k)``; of equal scores the first."""
    if top_k == 1:
        return np.asarray(scores.argmax(axis=1))[:, None]
    return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
