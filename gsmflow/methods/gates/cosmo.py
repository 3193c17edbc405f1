"""The gate `cosmo`: adaptive confidence smoothing of two experts' scores.

COSMO (Atzmon and Chechik, CVPR 2019). One expert classifies seen classes, the other unseen ones. A
logistic regression on their confidences estimates how likely a row is of an unseen class. The
expert that is probably outside its domain is smoothed towards the uniform distribution. Everything
is fitted on the scores of held-out rows, of seen classes and of classes treated as unseen.
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

# Names of a `Smoothing`'s saved numbers; the weights are those of the two experts' best scores.
NUMBERS = ("seen_weight", "unseen_weight", "bias", "seen_temperature", "unseen_temperature")

_LOG_TEMPERATURES = (-7.0, 7.0)
# Candidates for the shift of the log-odds that maximises H on the rows that are fitted.
_SHIFTS = np.linspace(-4, 4, 81)


@dataclass(frozen=True)
class CosmoConfig:
    """The settings of the gate `cosmo`."""

    share: Annotated[float, Range(above=0, max=1)] = 0.95
    """Share of held-out seen rows that the gate's threshold accepts."""


@dataclass(frozen=True, eq=False)
class Smoothing:
    """The fitted gate, and the temperatures of both experts.

    Attributes
    ----------
    weight, bias
        Coefficients ``(2,)`` and intercept of the log-odds that a row is of an unseen class. The
        inputs are the best score of either expert.
    seen_temperature, unseen_temperature
        Factors on each expert's scores, after which a softmax gives probabilities.
    """

    weight: NDArray[np.float64]
    bias: float
    seen_temperature: float
    unseen_temperature: float

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> "Smoothing":
        """The smoothing of saved numbers, by the names in `NUMBERS`."""
        values = [numbers[name] for name in NUMBERS]
        return cls(np.array(values[:2]), *values[2:])

    def numbers(self) -> dict[str, float]:
        """All fitted numbers, by the names in `NUMBERS`."""
        values = *self.weight.tolist(), self.bias, self.seen_temperature, self.unseen_temperature
        return dict(zip(NUMBERS, values, strict=True))

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
        """Logarithms of smoothed probabilities of seen, then unseen classes, ``(n, s + u)``.

        ``p(y) = p(D) (p(D) p(y | D) + (1 - p(D)) / |D|)`` for a class of the domain ``D``, seen
        or unseen: the weight of the expert's answer is the probability of its domain, and the rest
        of the expert's mass is uniform. The probabilities of a row do not sum to 1.

        Parameters
        ----------
        seen, unseen
            Scores of the two experts, ``(n, s)`` and ``(n, u)``.
        """
        log_odds = self.log_odds(seen, unseen)[:, None]
        log_seen, log_unseen = self.experts(seen, unseen)
        return np.concatenate(
            [
                _smoothed(log_seen, -log_odds, seen.shape[1]),
                _smoothed(log_unseen, log_odds, unseen.shape[1]),
            ],
            axis=1,
        )

    def experts(self, seen: NDArray[Any], unseen: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Log-probabilities within each domain, ``(n, s)`` and ``(n, u)``."""
        pairs = (seen, self.seen_temperature), (unseen, self.unseen_temperature)
        return [log_softmax(scores.astype(np.float64) * factor, axis=1) for scores, factor in pairs]


def fit_smoothing(seen: NDArray[Any], unseen: NDArray[Any], columns: IntArray) -> Smoothing:
    """Fit the gate and the temperatures on the scores of held-out rows.

    The logistic regression weighs seen and unseen rows equally. Its only inputs are the best score
    of either expert: an input that depends on the number of classes, such as a sum over them, would
    shift between the classes of the fit and those of the test. Its intercept is then moved so that
    H is best on the given rows.

    Parameters
    ----------
    seen, unseen
        Scores of the two experts, ``(n, s)`` and ``(n, u)``.
    columns
        The column of each row's class, seen classes first, ``(n,)``; rows of both kinds.
    """
    s = seen.shape[1]
    is_unseen = columns >= s
    confidences = _confidences(seen, unseen)
    scaler = StandardScaler().fit(confidences)
    logistic = LogisticRegression(class_weight="balanced", max_iter=1000)
    logistic.fit(scaler.transform(confidences), is_unseen)
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
    """The shift of the log-odds, of those in `_SHIFTS`, with the best H."""
    s = seen.shape[1]
    is_unseen = columns >= s
    log_odds = fitted.log_odds(seen, unseen)
    # Smoothing decides which expert is followed. It never changes an expert's best class.
    best_seen, best_unseen = (scores.max(axis=1) for scores in fitted.experts(seen, unseen))
    seen_answers, unseen_answers = seen.argmax(axis=1), s + unseen.argmax(axis=1)

    def harmonic_mean_with(shift: float) -> float:
        of_seen = _smoothed(best_seen, -log_odds - shift, s)
        of_unseen = _smoothed(best_unseen, log_odds + shift, unseen.shape[1])
        answers = np.where(of_seen >= of_unseen, seen_answers, unseen_answers)
        accuracies = [
            mean_class_accuracy(columns[rows], answers[rows]) for rows in (is_unseen, ~is_unseen)
        ]
        return harmonic_mean(*accuracies)

    return float(max(_SHIFTS, key=harmonic_mean_with))


def _smoothed(
    log_probabilities: NDArray[np.float64], log_odds: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    """Logarithms of smoothed probabilities; see `Smoothing.scores`.

    Parameters
    ----------
    log_probabilities
        Log-probabilities within the domain, any shape.
    log_odds
        Log-odds of the domain, of a shape that broadcasts.
    classes
        Number of classes of the domain.
    """
    domain, other = log_expit(log_odds), log_expit(-log_odds)
    smoothed: NDArray[np.float64] = domain + np.logaddexp(
        domain + log_probabilities, other - np.log(classes)
    )
    return smoothed


def score_temperature(groups: Sequence[tuple[NDArray[Any], IntArray]]) -> float:
    """The factor on scores that maximises the likelihood of the correct columns.

    Parameters
    ----------
    groups
        Groups of rows: scores ``(n, k)`` and the correct column of each row ``(n,)``. ``k`` may
        differ between groups.
    """

    def loss(log_factor: float) -> float:
        total = 0.0
        for scores, columns in groups:
            log_probabilities = log_softmax(scores.astype(np.float64) * np.exp(log_factor), axis=1)
            total -= log_probabilities[np.arange(len(columns)), columns].sum()
        return total

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def _confidences(seen: NDArray[Any], unseen: NDArray[Any]) -> NDArray[np.float64]:
    """The best score of either expert, ``(n, 2)``."""
    return np.stack([seen.max(axis=1), unseen.max(axis=1)], axis=1).astype(np.float64)


GATE = GateKind("cosmo", CosmoConfig)
