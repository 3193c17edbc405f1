"""Adaptive confidence smoothing: two experts' scores and a learned gate become probabilities.

COSMO (Atzmon and Chechik, CVPR 2019). One expert knows the seen classes, one the unseen ones; a
logistic regression on their confidences says how likely a row is of an unseen class, and smooths
the expert that is probably outside its domain towards the uniform distribution. All of it is
learned from the scores of held-out rows, of seen classes and of classes that play unseen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gsmflow.core.arrays import IntArray
from gsmflow.core.settings import Range
from gsmflow.evaluation.metrics import harmonic_mean, mean_class_accuracy
from gsmflow.methods.gates.base import GateKind

__all__ = ["GATE", "NUMBERS", "CosmoConfig", "Smoothing", "fit_smoothing", "score_temperature"]

# What a `Smoothing` is kept as; the weights are those of the two experts' best scores.
NUMBERS = ("seen_weight", "unseen_weight", "bias", "seen_temperature", "unseen_temperature")

_LOG_TEMPERATURES = (-7.0, 7.0)
# What may be added to the log-odds so that H is best on the rows that were learned from.
_SHIFTS = np.linspace(-4, 4, 81)


@dataclass(frozen=True)
class CosmoConfig:
    """The settings of the gate `cosmo`."""

    share: Annotated[float, Range(above=0, max=1)] = 0.95
    """Share of held-out seen rows that the gate's threshold accepts."""


@dataclass(frozen=True, eq=False)
class Smoothing:
    """The gate, and what makes probabilities of both experts' scores.

    Attributes
    ----------
    weight, bias
        Of the log-odds of a row being of an unseen class, over the best score of either expert:
        ``(2,)`` and a number.
    seen_temperature, unseen_temperature
        What each expert's scores are multiplied by to become log-probabilities.
    """

    weight: NDArray[np.float64]
    bias: float
    seen_temperature: float
    unseen_temperature: float

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> "Smoothing":
        """What gave these numbers, which have the names in `NUMBERS`."""
        own = [numbers[name] for name in NUMBERS]
        return cls(np.array(own[:2]), *own[2:])

    def numbers(self) -> dict[str, float]:
        """All that was learned, by the names in `NUMBERS`."""
        own = *self.weight.tolist(), self.bias, self.seen_temperature, self.unseen_temperature
        return dict(zip(NUMBERS, own, strict=True))

    def log_odds(self, seen: NDArray[Any], unseen: NDArray[Any]) -> NDArray[np.float64]:
        """Log-odds of each row being of an unseen class, ``(n,)``.

        Parameters
        ----------
        seen, unseen
            Scores of the two experts, ``(n, s)`` and ``(n, u)``.
        """
        odds: NDArray[np.float64] = _confidences(seen, unseen) @ self.weight + self.bias
        return odds

    def scores(self, seen: NDArray[Any], unseen: NDArray[Any]) -> NDArray[np.float64]:
        """Log-probabilities of seen, then unseen classes, ``(n, s + u)``.

        ``p(y) = p(D) (p(D) p(y | D) + (1 - p(D)) / |D|)`` for a class of the domain ``D``, seen
        or unseen: the expert's answer counts as much as its domain is likely, and the rest of its
        mass is spread evenly. They do not sum to 1.
        """
        odds = self.log_odds(seen, unseen)[:, None]
        experts = self.experts(seen, unseen)
        return np.concatenate(
            [
                _smoothed(own, sign * odds, own.shape[1])
                for own, sign in zip(experts, (-1, 1), strict=True)
            ],
            axis=1,
        )

    def experts(self, seen: NDArray[Any], unseen: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Log-probabilities within each domain, ``(n, s)`` and ``(n, u)``."""
        pairs = (seen, self.seen_temperature), (unseen, self.unseen_temperature)
        return [log_softmax(scores.astype(np.float64) * factor, axis=1) for scores, factor in pairs]


def fit_smoothing(seen: NDArray[Any], unseen: NDArray[Any], columns: IntArray) -> Smoothing:
    """Learn the gate and the temperatures from the scores of held-out rows.

    The logistic regression counts seen and unseen rows the same. It sees the best score of either
    expert alone: what depends on the number of classes, such as a sum over them, would shift
    between the classes that it learns from and those that it is used with. Its bias is moved so
    that H is best on the rows given.

    Parameters
    ----------
    seen, unseen
        Scores of the two experts, ``(n, s)`` and ``(n, u)``.
    columns
        Column of each row's class among those of both, seen first, ``(n,)``; rows of both kinds.
    """
    s = seen.shape[1]
    is_unseen = columns >= s
    told = _confidences(seen, unseen)
    scaler = StandardScaler().fit(told)
    logistic = LogisticRegression(class_weight="balanced", max_iter=1000)
    logistic.fit(scaler.transform(told), is_unseen)
    weight = logistic.coef_[0] / scaler.scale_
    fitted = Smoothing(
        weight=weight,
        bias=float(logistic.intercept_[0] - weight @ scaler.mean_),
        seen_temperature=score_temperature([(seen[~is_unseen], columns[~is_unseen])]),
        unseen_temperature=score_temperature([(unseen[is_unseen], columns[is_unseen] - s)]),
    )
    return replace(fitted, bias=fitted.bias + _best_shift(fitted, seen, unseen, columns))


def _best_shift(
    fitted: Smoothing, seen: NDArray[Any], unseen: NDArray[Any], columns: IntArray
) -> float:
    """What to add to the log-odds so that H is best, of a range of steps."""
    s = seen.shape[1]
    is_unseen = columns >= s
    odds = fitted.log_odds(seen, unseen)
    # The smoothing changes which expert is followed, never an expert's own best answer.
    best = [own.max(axis=1) for own in fitted.experts(seen, unseen)]
    answers = seen.argmax(axis=1), s + unseen.argmax(axis=1)

    def value(shift: float) -> float:
        of_seen = _smoothed(best[0], -odds - shift, s)
        of_unseen = _smoothed(best[1], odds + shift, unseen.shape[1])
        given = np.where(of_seen >= of_unseen, *answers)
        accuracies = [
            mean_class_accuracy(columns[own], given[own]) for own in (is_unseen, ~is_unseen)
        ]
        return harmonic_mean(*accuracies)

    return float(max(_SHIFTS, key=value))


def _smoothed(
    own: NDArray[np.float64], odds: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    """Log-probabilities from those within a domain of so many classes, and the domain's odds."""
    domain, other = log_expit(odds), log_expit(-odds)
    smoothed: NDArray[np.float64] = domain + np.logaddexp(domain + own, other - np.log(classes))
    return smoothed


def score_temperature(parts: Sequence[tuple[NDArray[Any], IntArray]]) -> float:
    """The factor on scores under which the right columns are most likely.

    Parameters
    ----------
    parts
        Scores ``(n, k)`` and the right column of each row ``(n,)``; ``k`` may differ.
    """

    def loss(log_factor: float) -> float:
        total = 0.0
        for scores, columns in parts:
            told = log_softmax(scores.astype(np.float64) * np.exp(log_factor), axis=1)
            total -= told[np.arange(len(columns)), columns].sum()
        return total

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def _confidences(seen: NDArray[Any], unseen: NDArray[Any]) -> NDArray[np.float64]:
    return np.stack([seen.max(axis=1), unseen.max(axis=1)], axis=1).astype(np.float64)


GATE = GateKind("cosmo", CosmoConfig)
