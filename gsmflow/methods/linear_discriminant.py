"""Linear discriminants: classes of one covariance, told apart by their means."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray

__all__ = ["LinearScores", "discriminant", "discriminant_by_factor", "floored"]

# Added to every variance, so that a constant dimension tells nothing instead of everything.
_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Scores ``x @ weight + bias``.

    Attributes
    ----------
    weight, bias
        ``(d, k)`` and ``(k,)``.
    """

    weight: FloatArray
    bias: FloatArray

    def __call__(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, k)`` of features ``(n, d)``."""
        return np.asarray(features @ self.weight + self.bias, dtype=np.float32)


def discriminant(
    covariance: NDArray[np.float64],
    means: NDArray[np.float64],
    centre: NDArray[np.float64],
    length_exponent: float = 0.0,
) -> LinearScores:
    """The discriminant of classes around their means.

    With whitened features ``z`` and whitened means ``m``, both from the centre, and ``r`` the
    length of ``m``, the score is ``z m / r^e - (1 - e) / 2 r^(2 - e)``. For ``e = 0`` that is the
    log-density of Gaussians up to what is the same for all classes; for ``e = 1`` the cosine up
    to the length of ``z``. A predicted mean's direction can be trusted more than its length, which
    a regression shrinks; between the two the length counts for less.

    Parameters
    ----------
    covariance
        Of every class, ``(d, d)``, positive semi-definite.
    means
        ``(k, d)``.
    centre
        ``(d,)``.
    length_exponent
        ``e``, in [0, 1].
    """
    factor, lower = scipy.linalg.cho_factor(
        floored(covariance), overwrite_a=True, check_finite=False
    )
    return _discriminant((factor, lower), means, centre, length_exponent)


def discriminant_by_factor(
    factor: NDArray[np.float64],
    means: NDArray[np.float64],
    centre: NDArray[np.float64],
    length_exponent: float = 0.0,
) -> LinearScores:
    """`discriminant` from the lower Cholesky factor ``(d, d)`` of the `floored` covariance."""
    return _discriminant((factor, True), means, centre, length_exponent)


def floored(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A copy of a covariance in which every variance is a little larger."""
    # Transposed, it is in LAPACK's order: no copy is made there.
    copy = covariance.T.copy(order="F")
    np.fill_diagonal(copy, np.diagonal(covariance) + _FLOOR)
    return copy


def _discriminant(
    factor: tuple[NDArray[np.float64], bool],
    means: NDArray[np.float64],
    centre: NDArray[np.float64],
    length_exponent: float,
) -> LinearScores:
    directions = means - centre
    weight = scipy.linalg.cho_solve(factor, directions.T, check_finite=False)
    squares = np.einsum("kd,dk->k", directions, weight)
    own = np.where(squares > 0, squares, 1.0)
    weight = weight / own ** (length_exponent / 2)
    bias = -(1 - length_exponent) / 2 * squares / own ** (length_exponent / 2) - centre @ weight
    return LinearScores(weight.astype(np.float32), bias.astype(np.float32))
