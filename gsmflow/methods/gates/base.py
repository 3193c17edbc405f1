"""What a gate is: a number for every row, a threshold, and what becomes of two experts' scores.

A row whose number is at most the threshold is accepted: the classifier of the seen classes answers
for it, and the classifier of the unseen classes for every other row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray

__all__ = [
    "Gate",
    "GateKind",
    "GateMeasures",
    "Gated",
    "Scores",
    "Views",
    "accepting_threshold",
    "measure_gate",
    "route",
]


@dataclass(frozen=True)
class GateKind:
    """A gate that a run can have, at the end of its file as ``GATE``.

    Attributes
    ----------
    name
        What ``--gate`` takes.
    config
        A frozen dataclass of its settings; its ``share`` is that of held-out seen rows which the
        threshold accepts.
    """

    name: str
    config: type[Any]


# What is told of each row of features ``(n, d)`` as the dataset has them.
Scores: TypeAlias = Callable[[FloatArray], NDArray[Any]]

_TRUE_POSITIVES = 0.95


class Views(NamedTuple):
    """What there is to know of rows: features ``(n, d)``, and each expert's scores of them.

    Attributes
    ----------
    features
        As the dataset has them.
    seen, unseen
        Scores of the seen-class and of the ZSL classifier, ``(n, s)`` and ``(n, u)``.
    """

    features: FloatArray
    seen: NDArray[Any]
    unseen: NDArray[Any]


def route(views: Views, numbers: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    """Scores ``(n, s + u)`` whose best class is that of the expert that the gate chose.

    Each expert's scores are moved so that its best is 0; the unseen classes' are then raised by
    ``numbers - threshold``. A penalty on the seen classes is therefore a lower threshold, and the
    seen-unseen curve is that of all thresholds.

    Parameters
    ----------
    views
        The rows.
    numbers
        The gate's, ``(n,)``.
    threshold
        Rows with at most this number are accepted.
    """
    seen, unseen = (s - s.max(axis=1, keepdims=True).astype(np.float64) for s in views[1:])
    return np.concatenate([seen, unseen + (numbers - threshold)[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Gate:
    """Tells rows of unseen classes from rows of seen ones.

    Attributes
    ----------
    number
        A number for each row, ``(n,)``; higher: more likely of an unseen class.
    threshold
        Rows with at most this number are accepted.
    combine
        Scores ``(n, s + u)``, seen classes first, of rows, their numbers and the threshold.
    """

    number: Callable[[Views], NDArray[Any]]
    threshold: float
    combine: Callable[[Views, NDArray[Any], float], NDArray[np.float64]] = route


@dataclass(frozen=True, eq=False)
class Gated:
    """A gate and the two experts that it chooses between.

    Attributes
    ----------
    name
        Of the gate.
    gate
        The gate.
    seen, unseen
        Scores of features ``(n, d)`` as the dataset has them, ``(n, s)`` and ``(n, u)``.
    """

    name: str
    gate: Gate
    seen: Scores
    unseen: Scores

    def numbers_and_scores(self, features: FloatArray) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The gate's numbers ``(n,)`` of rows, and the scores ``(n, s + u)`` that follow."""
        views = Views(features, self.seen(features), self.unseen(features))
        numbers = self.gate.number(views)
        return numbers, self.gate.combine(views, numbers, self.gate.threshold)

    def scores(self, features: FloatArray) -> NDArray[np.float64]:
        """Scores ``(n, s + u)`` of seen, then unseen classes, of features ``(n, d)``."""
        return self.numbers_and_scores(features)[1]


@dataclass(frozen=True)
class GateMeasures:
    """A gate alone, judged on rows of seen and of unseen classes, each row counting the same.

    Attributes
    ----------
    AUROC
        Chance that a row of an unseen class has a higher number than one of a seen class.
    FPR95
        Share of unseen rows accepted by the lowest threshold that accepts 95% of the seen rows.
    threshold
        The gate's own.
    accepted_seen, accepted_unseen
        Shares of seen and of unseen rows that it accepts with its own threshold.
    """

    AUROC: float
    FPR95: float
    threshold: float
    accepted_seen: float
    accepted_unseen: float


def accepting_threshold(numbers: NDArray[Any], share: float) -> float:
    """The lowest of the numbers ``(n,)`` at or below which there is a share of them, in (0, 1]."""
    return float(np.quantile(numbers, share, method="inverted_cdf"))


def measure_gate(
    numbers: NDArray[Any], is_unseen: NDArray[np.bool_], threshold: float
) -> GateMeasures:
    """Judge a gate alone.

    Parameters
    ----------
    numbers
        The gate's, ``(n,)``.
    is_unseen
        Whether each row is of an unseen class, ``(n,)``; some are, some are not.
    threshold
        The gate's own.
    """
    # Most of a second, which a run without a gate is not to wait for.
    from sklearn.metrics import roc_auc_score, roc_curve

    false, true, _ = roc_curve(~is_unseen, -numbers, drop_intermediate=False)
    accepted = numbers <= threshold
    return GateMeasures(
        AUROC=float(roc_auc_score(is_unseen, numbers)),
        FPR95=float(false[true >= _TRUE_POSITIVES][0]),
        threshold=threshold,
        accepted_seen=float(accepted[~is_unseen].mean()),
        accepted_unseen=float(accepted[is_unseen].mean()),
    )
