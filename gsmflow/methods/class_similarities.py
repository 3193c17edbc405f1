"""Similarities of classes by their semantics, which several methods combine classifiers with."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import softmax
from sklearn.preprocessing import normalize

from gsmflow.core.arrays import FloatArray, IntArray

__all__ = ["distances_by_median", "relative_distances", "similarities"]


def relative_distances(semantics: FloatArray) -> NDArray[np.float64]:
    """Euclidean distances ``(classes, classes)`` of the semantics ``(classes, a)`` of all classes.

    The semantics have length 1; the distances are divided by their median over all pairs.
    """
    return distances_by_median(normalize(semantics.astype(np.float64)))


def distances_by_median(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances ``(n, n)`` of vectors ``(n, k)``, by their median over all pairs."""
    distances = pdist(vectors)
    return np.asarray(squareform(distances / np.median(distances)))


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
