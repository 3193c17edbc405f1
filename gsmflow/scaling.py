"""Feature scaling, fitted on training rows alone."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.dataset import FloatArray

__all__ = ["FeatureScaling", "FeatureScalingName", "fit_feature_scaling"]

FeatureScalingName: TypeAlias = Literal["none", "minmax", "centred", "standardised", "l2"]


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


def fit_feature_scaling(training: FloatArray, name: FeatureScalingName) -> FeatureScaling:
    """Fit a scaling on training rows.

    Parameters
    ----------
    training
        Features of the training rows, ``(n, d)``.
    name
        ``"none"``: as they are. ``"minmax"``: each dimension to [0, 1] over the training rows.
        ``"centred"``: each dimension to mean 0, all divided by one common standard deviation.
        ``"standardised"``: each dimension to mean 0 and standard deviation 1. ``"l2"``: each row
        to length 1. Where a dimension's own spread is divided by, a constant one becomes 0.
    """
    d = training.shape[1]
    shift: NDArray[Any] = np.zeros(d, dtype=np.float64)
    spread: NDArray[Any] = np.ones(d, dtype=np.float64)
    if name == "minmax":
        shift = training.min(axis=0)
        spread = training.max(axis=0) - shift
    elif name in ("centred", "standardised"):
        shift = training.mean(axis=0, dtype=np.float64)
        # In one pass the constant dimensions would get a rounding error for their spread.
        constant = training.min(axis=0) == training.max(axis=0)
        deviation = np.where(constant, 0, training.std(axis=0, dtype=np.float64))
        common = np.full(d, np.sqrt(np.mean(deviation**2)))
        spread = deviation if name == "standardised" else common
    spread = np.where(spread > 0, spread, np.inf)
    return FeatureScaling(
        shift=shift.astype(np.float32),
        spread=spread.astype(np.float32),
        unit_rows=name == "l2",
    )
