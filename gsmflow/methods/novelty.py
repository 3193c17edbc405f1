"""Novelty: how unlike all classes a row is, by relative Mahalanobis distances.

Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", ICML workshop
2021. The number of a row is its squared distance to the nearest class under the covariance within
classes, less that to the mean of all classes under the covariance of all rows. It needs no outliers
and no scores, so that it serves every method.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.arrays import FloatArray
from gsmflow.core.linear_algebra import cholesky, double_device, inverse_of_lower, product
from gsmflow.data.scaling import FeatureScaling
from gsmflow.learning.feed import Scaled, class_means
from gsmflow.methods.mean_regression import MeanRegression, within_class_covariances

__all__ = ["Novelty", "fit_novelty"]

# The same share for both covariances: then that of all rows is the larger one in every direction,
# and the number grows with the distance from all classes in every direction.
_SHRINKAGE = 0.1
# Of the regression that predicts the means of classes without rows.
_RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Novelty:
    """The fitted numbers: a quadratic form less the best of a linear one of each class.

    Attributes
    ----------
    scaling
        The feature scaling of the training rows.
    seen
        How many of the classes were seen; they come first.
    centre
        Mean of the means of the seen classes, ``(d,)``.
    quadratic
        Inverse covariance within classes less that of all rows, ``(d, d)``.
    weight, bias
        Of the classes, ``(d, k)`` and ``(k,)``.
    """

    scaling: FeatureScaling
    seen: int
    centre: Tensor
    quadratic: Tensor
    weight: Tensor
    bias: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All of its tensors by name, in single precision."""
        names = ("centre", "quadratic", "weight", "bias")
        return {name: getattr(self, name).float() for name in names}

    def numbers(self, features: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The numbers ``(n,)`` of unscaled features ``(n, d)``; higher: more unlike all classes.

        Returns
        -------
        tuple
            With all classes, and with the seen ones alone.
        """
        rows = torch.from_numpy(self.scaling(features)).to(self.centre.device)
        rows = rows.double() - self.centre
        of_all_rows = (rows @ self.quadratic * rows).sum(dim=1)
        of_classes = self.bias - 2 * rows @ self.weight
        parts = of_classes, of_classes[:, : self.seen]
        every, seen = ((of_all_rows + part.amin(dim=1)).cpu().numpy() for part in parts)
        return every, seen


def fit_novelty(scaled: Scaled) -> Novelty:
    """Fit to the training rows of a problem; the means of unseen classes are predicted.

    A ridge regression from semantics to the means of the seen classes predicts them. All classes
    have the same weight in the covariances. These are shrunk towards a multiple of the identity.

    Parameters
    ----------
    scaled
        The problem, and its scaled training rows.
    """
    problem, feed = scaled.problem, scaled.feed
    seen = scaled.on_device(problem.seen_classes)
    means = class_means(feed, seen)
    within = within_class_covariances(feed, seen, means, torch.zeros_like(seen))[0] / len(seen)
    of_seen = means.double().cpu().numpy()
    regression = MeanRegression(of_seen, problem.semantics, problem.seen_classes)
    of_unseen = regression.predict(_RIDGE)[problem.unseen_classes]
    centre = of_seen.mean(axis=0)
    between = (of_seen - centre).T @ (of_seen - centre) / len(seen)
    device = double_device(means.device)
    inverse, of_all = (
        _inverse(torch.from_numpy(covariance).to(device), float(np.trace(within + between)))
        for covariance in (within, within + between)
    )
    places = torch.from_numpy(np.concatenate([of_seen, of_unseen]) - centre).to(device)
    weight = product(inverse, places.T.contiguous())
    return Novelty(
        scaling=scaled.scaling,
        seen=len(seen),
        centre=torch.from_numpy(centre).to(device),
        quadratic=inverse - of_all,
        weight=weight,
        bias=(places.T * weight).sum(dim=0),
    )


def _inverse(covariance: Tensor, variance: float) -> Tensor:
    """The inverse of a shrunk covariance ``(d, d)``, which has full rank then.

    ``variance`` is that of all rows, of which the covariance gets at least a tiny share: without it
    one row of each class has none within.
    """
    d = len(covariance)
    tiny = float(np.finfo(np.float32).tiny)
    level = max(float(covariance.trace()), 1e-6 * variance, tiny) / d
    shrunk = (1 - _SHRINKAGE) * covariance
    shrunk.diagonal().add_(_SHRINKAGE * level)
    factor = inverse_of_lower(cholesky(shrunk))
    return product(factor.T.contiguous(), factor)
