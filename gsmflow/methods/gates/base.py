"""The gate: an out-of-distribution detector that routes each row to one of two experts.

A gate gives every row a number, which is higher for rows that look like an unseen class. A row
whose number is at most the threshold is accepted: the classifier of the seen classes answers for
it. The classifier of the unseen classes answers for every other row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    "route_experts",
]


@dataclass(frozen=True)
class GateKind:
    """A gate that a run can have, at the end of its file as ``GATE``.

    Attributes
    ----------
    name
        The value of ``--gate``.
    config
        A frozen dataclass of its settings. Its field ``share`` is the share of held-out seen rows
        that the threshold accepts.
    """

    name: str
    config: type[Any]


# From features ``(n, d)`` as the dataset has them to the class scores of each row, ``(n, k)``.
Scores: TypeAlias = Callable[[FloatArray], NDArray[Any]]

# Share of accepted seen rows at which FPR95 is measured.
_TRUE_POSITIVE_RATE = 0.95


class Views(NamedTuple):
    """The inputs of a gate: features, and each expert's scores of them.

    Attributes
    ----------
    features
        Features as the dataset has them, ``(n, d)``.
    seen, unseen
        Scores of the seen-class and of the ZSL classifier, ``(n, s)`` and ``(n, u)``.
    """

    features: FloatArray
    seen: NDArray[Any]
    unseen: NDArray[Any]


def route(views: Views, numbers: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    """Scores ``(n, s + u)`` whose best class is that of the expert that the gate chose.

    Each expert's scores are shifted so that its best is 0. The scores of the unseen classes are
    then raised by ``numbers - threshold``. A calibration factor gamma therefore lowers the
    threshold by gamma, and the seen-unseen curve runs through all thresholds.

    Parameters
    ----------
    views
        The rows.
    numbers
        The gate's number of each row, ``(n,)``.
    threshold
        Rows with at most this number are accepted.
    """
    parts = (np.asarray(p, dtype=np.float64) for p in (*views[1:], numbers - threshold))
    return np.asarray(route_experts(*map(torch.from_numpy, parts)).numpy())


def route_experts(seen: Tensor, unseen: Tensor, margins: Tensor) -> Tensor:
    """`route` for tensors, on their device and in their precision.

    Parameters
    ----------
    seen, unseen
        Scores of both experts, ``(n, s)`` and ``(n, u)``.
    margins
        The gate's numbers less the threshold, ``(n,)``.
    """
    seen, unseen = (scores - scores.amax(dim=1, keepdim=True) for scores in (seen, unseen))
    return torch.cat([seen, unseen + margins[:, None]], dim=1)


@dataclass(frozen=True, eq=False)
class Gate:
    """A fitted gate.

    Attributes
    ----------
    number
        Gives a number for each row, ``(n,)``; higher: more likely of an unseen class.
    threshold
        Rows with at most this number are accepted.
    combine
        Combines both experts' scores: from rows, their numbers and the threshold to scores
        ``(n, s + u)``, seen classes first.
    temperature
        The temperature with which a softmax makes probabilities of the combined scores: 1 where
        they are logarithms of probabilities; None where they only say which class is the best.
    """

    number: Callable[[Views], NDArray[Any]]
    threshold: float
    combine: Callable[[Views, NDArray[Any], float], NDArray[np.float64]] = route
    temperature: float | None = None


@dataclass(frozen=True, eq=False)
class Gated:
    """A gate and the two experts that it chooses between.

    Attributes
    ----------
    name
        Name of the gate.
    gate
        The gate.
    seen, unseen
        The experts: each gives scores of features ``(n, d)`` as the dataset has them, ``(n, s)``
        and ``(n, u)``.
    """

    name: str
    gate: Gate
    seen: Scores
    unseen: Scores

    def numbers_and_scores(self, features: FloatArray) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The gate's numbers ``(n,)`` and the combined scores ``(n, s + u)`` of features."""
        views = Views(features, self.seen(features), self.unseen(features))
        numbers = self.gate.number(views)
        return numbers, self.gate.combine(views, numbers, self.gate.threshold)

    def scores(self, features: FloatArray) -> NDArray[np.float64]:
        """Scores ``(n, s + u)`` of seen, then unseen classes, of features ``(n, d)``."""
        return self.numbers_and_scores(features)[1]


@dataclass(frozen=True)
class GateMeasures:
    """Evaluation of a gate alone, on rows of seen and of unseen classes; every row has one weight.

    Attributes
    ----------
    AUROC
        Probability that a row of an unseen class has a higher number than one of a seen class.
    FPR95
        Share of unseen rows accepted by the lowest threshold that accepts 95% of the seen rows.
    threshold
        The threshold of the gate.
    accepted_seen, accepted_unseen
        Shares of seen and of unseen rows that this threshold accepts, in [0, 1].
    """

    AUROC: float
    FPR95: float
    threshold: float
    accepted_seen: float
    accepted_unseen: float


def accepting_threshold(numbers: NDArray[Any], share: float) -> float:
    """The lowest of the numbers ``(n,)`` that accepts at least a share of them, in (0, 1]."""
    return float(np.quantile(numbers, share, method="inverted_cdf"))


def measure_gate(
    numbers: NDArray[Any], is_unseen: NDArray[np.bool_], threshold: float
) -> GateMeasures:
    """Evaluate a gate alone.

    Parameters
    ----------
    numbers
        The gate's number of each row, ``(n,)``.
    is_unseen
        Whether each row is of an unseen class, ``(n,)``; rows of both kinds.
    threshold
        The threshold of the gate.
    """
    # This import takes most of a second, which a run without a gate should not wait for.
    from sklearn.metrics import roc_auc_score, roc_curve

    false_positives, true_positives, _ = roc_curve(~is_unseen, -numbers, drop_intermediate=False)
    accepted = numbers <= threshold
    return GateMeasures(
        AUROC=float(roc_auc_score(is_unseen, numbers)),
        FPR95=float(false_positives[true_positives >= _TRUE_POSITIVE_RATE][0]),
        threshold=threshold,
        accepted_seen=float(accepted[~is_unseen].mean()),
        accepted_unseen=float(accepted[is_unseen].mean()),
    )
