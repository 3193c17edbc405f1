"""Similarities of classes by their semantics, which several methods combine classifiers with."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import softmax
from sklearn.preprocessing import normalize

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError

__all__ = ["distances_by_median", "relative_distances", "similarities"]


def relative_distances(semantics: FloatArray) -> NDArray[np.float64]:
    """Euclidean distances ``(classes, classes)`` of the semantics ``(classes, a)`` of all classes.

    The semantics have length 1; the distances are divided by their median over all pairs.

    Raises
    ------
    InputError
        If most pairs of classes have semantics of one direction.
    """
    distances, median = _pair_distances(normalize(semantics.astype(np.float64)))
    if median == 0:
        raise InputError(
            "semantics: found the same direction in most pairs of classes, expected different "
            "ones: this method weighs classes by their distances"
        )
    return np.asarray(squareform(distances / median))


def distances_by_median(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances ``(n, n)`` of vectors ``(n, k)``, by their median over all pairs.

    Where the median is 0, they are not divided.
    """
    distances, median = _pair_distances(vectors)
    return np.asarray(squareform(distances / (median if median > 0 else 1.0)))


def _pair_distances(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Distances of all pairs of vectors, ``(n (n - 1) / 2,)``, and their median."""
    distances = pdist(vectors)
    return distances, float(np.median(distances))


def similarities(
    distances: NDArray[np.float64], classes: IntArray, sharpness: float
) -> NDArray[np.float64]:
    """Normalised similarities ``(all, k)`` of all classes with some classes; each row's sum is 1.

    Parameters
    ----------
    distances
        Distances of all classes, ``(all, all)``.
    classes
        Numbers of the classes, ``(k,)``.
    sharpness
        The similarities are proportional to ``exp(-sharpness distance^2)``; ``>= 0``.
    """
    return np.asarray(softmax(-sharpness * distances[:, classes] ** 2, axis=1))
