"""Isometric Gaussians of classes: one variance for each class, the same in every dimension.

Socher et al., "Zero-Shot Learning Through Cross-Modal Transfer", NeurIPS 2013: a mapped row that is
unlikely under the Gaussians of all seen classes is taken for a row of an unseen class.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["IsometricGaussians", "fit_isometric_gaussians"]

# The lowest variance, for a class whose rows all coincide with its mean.
_LOWEST = 1e-12


class IsometricGaussians(NamedTuple):
    """A Gaussian for each of k classes.

    Attributes
    ----------
    means
        ``(k, a)``.
    variances
        The variance of every dimension, ``(k,)``.
    """

    means: Tensor
    variances: Tensor

    def log_densities(self, rows: Tensor) -> Tensor:
        """Log-density in nats of rows ``(n, a)`` under each Gaussian, ``(n, k)``."""
        squares = torch.cdist(rows, self.means).square() / self.variances
        constants = rows.shape[1] * (math.log(2 * math.pi) + self.variances.log())
        return -(squares + constants) / 2

    def novelty(self, rows: Tensor) -> Tensor:
        """Minus the highest log-density of each row ``(n, a)``, ``(n,)``."""
        return -self.log_densities(rows).amax(dim=1)


def fit_isometric_gaussians(
    slabs: Iterable[tuple[Tensor, Tensor]], classes: Tensor, means: Tensor
) -> IsometricGaussians:
    """Gaussians with given means, and with the mean squared deviation of a class's rows from its.

    Parameters
    ----------
    slabs
        The rows, slab by slab: rows ``(m, a)`` and their classes ``(m,)``.
    classes
        Ascending class numbers, ``(k,)``, each with at least one row.
    means
        The mean of each class, ``(k, a)``.
    """
    sums = torch.zeros(len(classes)).to(means)
    counts = torch.zeros_like(sums)
    for rows, labels in slabs:
        columns = torch.searchsorted(classes, labels)
        # A product with the one-hot classes sums in a fixed order on every device.
        one_hot = functional.one_hot(columns, len(classes)).to(sums)
        sums += one_hot.T @ (rows - means[columns]).square().mean(dim=1)
        counts += one_hot.sum(dim=0)
    return IsometricGaussians(means, (sums / counts).clamp(min=_LOWEST))
