"""Feature scaling, fitted on training rows alone."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.data.dataset import Rows, all_rows

__all__ = ["FeatureScaling", "FeatureScalingName", "fit_feature_scaling", "scale_fault"]

FeatureScalingName: TypeAlias = Literal["none", "minmax", "centred", "standardised", "l2"]

# Within these, sums of squares over a million rows are far from where float32 ends.
_LARGEST, _SMALLEST_SPREAD = 1e12, 1e-12


def scale_fault(lowest: NDArray[Any], highest: NDArray[Any]) -> str | None:
    """What is wrong with the scale of values that float32 is to hold the squares of, if anything.

    Parameters
    ----------
    lowest, highest
        Smallest and largest value of each dimension, ``(d,)``.

    Returns
    -------
    str or None
        What was found and expected, for a message. None too where values are not finite or do not
        vary, which has messages of its own.
    """
    low, high = lowest.astype(np.float64), highest.astype(np.float64)
    largest, spread = float(np.maximum(-low, high).max()), float((high - low).max())
    if _LARGEST < largest < np.inf:
        return (
            f"found values up to {largest:.3g} in size, expected none above {_LARGEST:g}, so that "
            "float32 holds sums of squares: rescale them"
        )
    if 0 < spread < _SMALLEST_SPREAD:
        return (
            f"found values that vary by {spread:.3g} at most, expected {_SMALLEST_SPREAD:g} or "
            "more, so that float32 holds their squares: rescale them"
        )
    return None


@dataclass(frozen=True, eq=False)
class FeatureScaling:
    """The map ``(x - shift) / spread``, after dividing each row by its length if ``unit_rows``.

    Attributes
    ----------
    shift, spread
        One value per dimension, ``(d,)``. Where ``spread`` is infinite the result is 0.
    unit_rows
        Whether each row is divided by its L2 norm (a row of zeros stays zero).
    """

    shift: FloatArray
    spread: FloatArray
    unit_rows: bool = False

    def __call__(self, features: FloatArray) -> FloatArray:
        """Scale features ``(n, d)`` into a new array."""
        if self.unit_rows:
            length = np.linalg.norm(features, axis=1, keepdims=True)
            features = np.divide(features, length, where=length > 0, out=np.zeros_like(features))
        return np.asarray((features - self.shift) / self.spread, dtype=np.float32)

    def inverse(self, scaled: FloatArray) -> FloatArray:
        """Undo the scaling, for showing synthesized features: constant dimensions take their value.

        The length of rows that ``unit_rows`` divided away is not brought back.
        """
        spread = np.where(np.isfinite(self.spread), self.spread, 0)
        return np.asarray(scaled * spread + self.shift, dtype=np.float32)


def fit_feature_scaling(training: Rows | FloatArray, name: FeatureScalingName) -> FeatureScaling:
    """Fit a scaling on training rows.

    Parameters
    ----------
    training
        The training rows or their features, ``(n, d)``; they are read a slab at a time.
    name
        ``"none"``: as they are. ``"minmax"``: each dimension to [0, 1] over the training rows.
        ``"centred"``: each dimension to mean 0, all divided by one common standard deviation.
        ``"standardised"``: each dimension to mean 0 and standard deviation 1. ``"l2"``: each row
        to length 1. Where each dimension is divided by its spread, a constant one becomes 0.
    """
    rows = training if isinstance(training, Rows) else all_rows(training)
    d = rows.feature_dim
    shift: NDArray[Any] = np.zeros(d, dtype=np.float64)
    spread: NDArray[Any] = np.ones(d, dtype=np.float64)
    if name == "minmax":
        shift, highest = rows.extremes()
        spread = highest - shift
    elif name in ("centred", "standardised"):
        shift, deviation = _moments(rows)
        common = np.full(d, np.sqrt(np.mean(deviation**2)))
        spread = deviation if name == "standardised" else common
    spread = np.where(spread > 0, spread, np.inf)
    return FeatureScaling(
        shift=shift.astype(np.float32),
        spread=spread.astype(np.float32),
        unit_rows=name == "l2",
    )


def _moments(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each dimension, ``(d,)`` each."""
    mean = np.zeros(rows.feature_dim)
    for _, slab in rows.slabs():
        mean += slab.sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    variance = np.zeros(rows.feature_dim)
    for _, slab in rows.slabs():
        variance += ((slab - mean) ** 2).sum(axis=0)
    # The constant dimensions would get a rounding error for their spread.
    lowest, highest = rows.extremes()
    return mean, np.where(lowest == highest, 0, np.sqrt(variance / len(rows)))
