"""Ridge regression from semantics to class means, with leave-one-class-out predictions."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.linear_algebra import double_device
from gsmflow.learning.feed import Feed, feed_slabs

__all__ = ["MeanRegression", "shrink", "within_class_covariances"]

# Singular values below this share of the largest are taken for rounding errors.
_RANK_TOLERANCE = 1e-7
# Up to so many classes, numbers for all pairs of them are computed.
_FEW_CLASSES = 1000


class MeanRegression:
    """Ridge regression from semantics to class means, for many regularizers at the cost of one.

    The semantics are centred on the mean of the given classes, so that the intercept is not
    penalised. They are then divided by one number, so that the mean squared length over the given
    classes is 1: a regularizer means the same for attributes and for sentence vectors. Every class
    has the same weight, however many rows it has.

    Parameters
    ----------
    means
        Means of two or more classes, ``(k, d)``.
    semantics
        Semantics of every class of the dataset, ``(classes, a)``.
    classes
        The class of each mean, ``(k,)``.
    whitening
        In [0, 1]: each principal direction of the classes' semantics is divided by its standard
        deviation to this power. 0 leaves them as they are; 1 whitens them.
    """

    def __init__(
        self,
        means: NDArray[np.float64],
        semantics: FloatArray,
        classes: IntArray,
        whitening: float = 0.0,
    ) -> None:
        self._class_means = means
        self._overall = means.mean(axis=0)
        all_semantics = semantics.astype(np.float64)
        centre = all_semantics[classes].mean(axis=0)
        # One decomposition gives the regression and its leave-one-out residuals for any ridge.
        left, values, right = np.linalg.svd(all_semantics[classes] - centre, full_matrices=False)
        kept = values > _RANK_TOLERANCE * max(values[0], np.finfo(np.float64).tiny)
        left, values, right = left[:, kept], values[kept], right[kept]
        scale = values**-whitening
        scale /= np.sqrt(np.square(values * scale).sum() / len(classes)) or 1.0
        self._left, self._values = left, values * scale
        self._centre, self._directions = centre, right.T * scale
        self._projected = (all_semantics - centre) @ right.T * scale

    def predict(self, ridge: float) -> NDArray[np.float64]:
        """Predicted mean of every class of the dataset, ``(classes, d)``, for ``ridge > 0``."""
        return np.asarray(self._overall + self._projected @ self._coefficients(ridge))

    def linear(self, ridge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The map of `predict` for any semantics: ``weight (a, d)`` and ``bias (d,)``."""
        weight = self._directions @ self._coefficients(ridge)
        return weight, self._overall - self._centre @ weight

    def _coefficients(self, ridge: float) -> NDArray[np.float64]:
        """Regression coefficients over the principal directions, ``(r, d)``."""
        core = self._left.T @ (self._class_means - self._overall)
        gains = self._values / (self._values**2 + ridge)
        return np.asarray(gains[:, None] * core)

    def cross_fitted(self, ridge: float) -> NDArray[np.float64]:
        """Mean of each given class as predicted from all others, ``(k, d)``.

        Leaving a class out divides its residual by one minus its leverage. The centre and the scale
        of the semantics are not fitted again.
        """
        values, left = self._values**2, self._left
        shares = values / (values + ridge)
        means = self._class_means - self._overall
        # The product of two vectors for each pair of classes is the faster one for few of them.
        few = len(left) <= _FEW_CLASSES
        fitted = left * shares @ left.T @ means if few else left * shares @ (left.T @ means)
        leverage = 1 / len(left) + left**2 @ shares
        residuals = self._class_means - self._overall - fitted
        return np.asarray(self._class_means - residuals / (1 - leverage)[:, None])

    def errors(self, ridge: float) -> NDArray[np.float64]:
        """Mean of each given class minus its `cross_fitted` one, ``(k, d)``."""
        return self._class_means - self.cross_fitted(ridge)

    def error_covariance(self, ridge: float) -> NDArray[np.float64]:
        """Second moments of the errors of the cross-fitted means, ``(d, d)``."""
        errors = self.errors(ridge)
        return np.asarray(errors.T @ errors / len(errors))


def within_class_covariances(
    feed: Feed, classes: Tensor, means: Tensor, groups: Tensor
) -> NDArray[np.float64]:
    """For each group of classes, the sum of their within-class covariances; one pass over the rows.

    Parameters
    ----------
    feed
        Rows, all of these classes.
    classes
        Ascending class numbers, ``(k,)``.
    means
        Mean row of each class, ``(k, d)``.
    groups
        The group of each class, ``(k,)``, numbered from 0.

    Returns
    -------
    array
        ``(groups, d, d)``.
    """
    columns = torch.searchsorted(classes, feed.labels)
    weights = torch.bincount(columns, minlength=len(classes)).to(means).rsqrt()
    shape = int(groups.max()) + 1, feed.feature_dim, feed.feature_dim
    total = torch.zeros(shape, dtype=torch.float64, device=double_device(means.device))
    for features, labels in feed_slabs(feed):
        positions = torch.searchsorted(classes, labels)
        residuals = (features - means[positions]) * weights[positions, None]
        for group in range(len(total)):
            of_group = residuals[groups[positions] == group]
            total[group] += (of_group.T @ of_group).to(total.device)
    return np.asarray(total.cpu().numpy())


def shrink(covariance: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    """The covariance ``(d, d)`` with a factor ``1 - shrinkage`` on all but the diagonal."""
    shrunk = covariance * (1 - shrinkage)
    np.fill_diagonal(shrunk, np.diagonal(covariance))
    return shrunk
