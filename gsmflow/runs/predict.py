"""The best classes of each row, by a trained run."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.methods.gates.base import Gated
from gsmflow.runs.checkpoint import TrainedRun

__all__ = ["Answer", "answer_rows", "answerable_classes"]


class Answer(NamedTuple):
    """One class for one row.

    Attributes
    ----------
    name, kind
        The class, and whether it is seen.
    score
        Less the penalty, if it is seen; with a gate, as the gate combines the experts'.
    """

    name: str
    kind: Literal["seen", "unseen"]
    score: float


def answer_rows(
    run: TrainedRun,
    features: FloatArray,
    penalty: float = 0.0,
    only: Literal["all", "unseen"] = "all",
    top_k: int = 1,
    gated: Gated | None = None,
) -> Iterator[list[Answer]]:
    """The best classes of each row, best first.

    Parameters
    ----------
    run
        A trained run.
    features
        As its dataset has them, ``(n, d)``.
    penalty
        Subtracted from the scores of seen classes.
    only
        ``"unseen"``: answers and scores of the run's classifier of unseen classes alone, without
        a gate.
    top_k
        How many of each row, at most.
    gated
        The run's gate; None to answer without one.
    """
    classes = answerable_classes(run, only)
    is_seen = np.isin(classes, run.kept.seen_classes)
    names = [run.kept.class_names[c] for c in classes]
    scored = run.scorer.gzsl_scores if gated is None else gated.scores
    if only == "unseen":
        scored = run.scorer.zsl_scores
    for part in row_slices(len(features), 8 * max(features.shape[1], len(classes))):
        scores = scored(features[part]) - penalty * is_seen
        best = _best(scores, top_k)
        for own, columns in zip(scores, best, strict=True):
            yield [
                Answer(names[c], "seen" if is_seen[c] else "unseen", float(own[c])) for c in columns
            ]


def answerable_classes(run: TrainedRun, only: Literal["all", "unseen"]) -> IntArray:
    """The classes that may be answers, the columns of their scores."""
    return run.classes if only == "all" else run.kept.unseen_classes


def _best(scores: NDArray[Any], top_k: int) -> NDArray[Any]:
    """Columns of the highest scores of each row, ``(n, k)``; the first of equals before others."""
    if top_k == 1:
        return np.asarray(scores.argmax(axis=1))[:, None]
    return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
