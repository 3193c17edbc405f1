"""ESZSL, the closed-form linear baseline (Romera-Paredes and Torr, ICML 2015).

A bilinear score ``x V s`` of features and semantics, with
``V = (X'X + gamma I)^-1 X'Y S (S'S + lambda I)^-1``, where ``Y`` is +1 at a row's class and -1
elsewhere. Features are standardised per dimension on the training rows, which lifts it a lot.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.data.scaling import FeatureScaling, fit_feature_scaling
from gsmflow.evaluation.protocol import Outcome, evaluate_all

__all__ = ["ESZSL", "Criterion", "ESZSLChoice", "ESZSLSolver", "choose_regularizers"]

Criterion: TypeAlias = Literal["T1", "H", "calibrated_H"]

_GAMMAS = tuple(10.0**e for e in range(7))
_LAMBDAS = tuple(10.0**e for e in range(-5, 4))


@dataclass(frozen=True, eq=False)
class ESZSL:
    """A fitted ESZSL.

    Attributes
    ----------
    problem
        What it was fitted on.
    scaling
        Applied to features before scoring.
    class_weights
        ``V s`` of every class of the dataset, ``(d, classes)``.
    """

    problem: Problem
    scaling: FeatureScaling
    class_weights: NDArray[np.float64]

    def gzsl_scores(self, features: FloatArray) -> NDArray[np.float64]:
        """Scores ``(n, seen + unseen)`` of unscaled features ``(n, d)``."""
        return np.asarray(self.scaling(features) @ self.class_weights[:, self.problem.classes])

    def zsl_scores(self, features: FloatArray) -> NDArray[np.float64]:
        """Scores ``(n, unseen)`` of unscaled features ``(n, d)``."""
        unseen = self.problem.unseen_classes
        return np.asarray(self.scaling(features) @ self.class_weights[:, unseen])


class ESZSLSolver:
    """Solves ESZSL for many pairs of regularizers at the price of one.

    Both regularized inverses share the eigenvectors of ``X'X`` and ``S'S``, which are found once.

    Parameters
    ----------
    problem
        Its training rows and the semantics of its seen classes are fitted.
    """

    def __init__(self, problem: Problem) -> None:
        train = problem.train
        self._problem = problem
        self._scaling = fit_feature_scaling(train, "standardised")
        semantics = problem.semantics.astype(np.float64)
        s = semantics[problem.seen_classes]
        columns = np.searchsorted(problem.seen_classes, train.labels)
        d = train.feature_dim
        products, class_sums = np.zeros((d, d)), np.zeros((len(problem.seen_classes), d))
        for rows, features in train.slabs():
            x = self._scaling(features).astype(np.float64)
            products += x.T @ x
            np.add.at(class_sums, columns[rows], x)
        # X'Y with Y in {-1, +1}: twice the class sums, less the sum of all rows.
        xy = 2 * class_sums.T - class_sums.sum(axis=0)[:, None]
        self._x_values, self._x_vectors = np.linalg.eigh(products)
        self._s_values, s_vectors = np.linalg.eigh(s.T @ s)
        self._core = self._x_vectors.T @ xy @ s @ s_vectors
        self._class_vectors = s_vectors.T @ semantics.T

    def solve(self, gamma: float, lam: float) -> ESZSL:
        """The solution for regularizers ``gamma > 0`` of features, ``lam > 0`` of semantics."""
        core = self._core / (self._x_values + gamma)[:, None] / (self._s_values + lam)
        class_weights = self._x_vectors @ (core @ self._class_vectors)
        return ESZSL(self._problem, self._scaling, class_weights)


@dataclass(frozen=True)
class ESZSLChoice:
    """Regularizers that were best on validation classes by one criterion.

    ``penalty`` is the seen-class penalty of best H there; ``value`` the criterion reached.
    """

    gamma: float
    lam: float
    penalty: float
    value: float


def choose_regularizers(problem: Problem, held_out: HeldOut) -> dict[Criterion, ESZSLChoice]:
    """Choose ESZSL's regularizers on a validation problem, apart for each figure of a table.

    ZSL accuracy, H, and H under the best penalty are different tasks with different best
    regularizers; choosing for each makes the baseline as strong as it can be.

    Returns
    -------
    dict
        The pair from a grid of powers of ten (gamma 1 to 1e6, lambda 1e-5 to 1e3) that is best
        by each criterion.
    """
    solver = ESZSLSolver(problem)
    best: dict[Criterion, ESZSLChoice] = {}
    for gamma in _GAMMAS:
        fitted = [solver.solve(gamma, lam) for lam in _LAMBDAS]
        for lam, outcome in zip(_LAMBDAS, evaluate_all(fitted, problem, held_out), strict=True):
            penalty, values = _criteria(outcome)
            for criterion, value in values.items():
                if criterion not in best or value > best[criterion].value:
                    best[criterion] = ESZSLChoice(gamma, lam, penalty, value)
    return best


def _criteria(outcome: Outcome) -> tuple[float, dict[Criterion, float]]:
    penalty = outcome.curve().best_gamma()
    return penalty, {
        "T1": outcome.t1,
        "H": outcome.calibrated(0.0).H,
        "calibrated_H": outcome.calibrated(penalty).H,
    }
