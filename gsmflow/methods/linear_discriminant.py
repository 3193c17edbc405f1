"""Linear discriminant analysis in closed form: one covariance for all classes."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray

__all__ = ["LinearScores", "discriminant", "discriminant_by_factor", "floored"]

# Added to every variance, so that a constant dimension carries no information. Without it, its
# variance of 0 would give it infinite weight.
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
    """The linear discriminant of classes with given means and one covariance.

    Let ``z`` be the whitened features and ``m`` a whitened class mean, both relative to the centre,
    and ``r`` the length of ``m``. The score is ``z m / r^e - (1 - e) / 2 r^(2 - e)``. For
    ``e = 0`` it is the Gaussian log-density up to a constant over classes; for ``e = 1`` it is the
    cosine times the length of ``z``. A regression predicts the direction of a mean better than its
    length, which it shrinks; a larger ``e`` makes the length count for less.

    Parameters
    ----------
    covariance
        The covariance of every class, ``(d, d)``, positive semi-definite.
    means
        The class means, ``(k, d)``.
    centre
        The origin of directions, such as the mean of the seen classes' means, ``(d,)``.
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
    """A copy of a covariance ``(d, d)`` with 1e-6 added to every variance."""
    # The transpose is in LAPACK's memory order, so that LAPACK makes no copy.
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
    lengths = np.where(squares > 0, squares, 1.0) ** (length_exponent / 2)  # r^e
    weight = weight / lengths
    bias = -(1 - length_exponent) / 2 * squares / lengths - centre @ weight
    return LinearScores(weight.astype(np.float32), bias.astype(np.float32))
