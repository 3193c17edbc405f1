"""A model's exact densities p(x | class): the Bayes classifier, and the density of seen classes."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from gsmflow.dataset import FloatArray, IntArray
from gsmflow.interface import Density
from gsmflow.scaling import FeatureScaling

__all__ = ["Bayes", "class_log_densities", "seen_log_density"]

_CHUNK = 4096


@torch.no_grad()
def class_log_densities(model: Density, features: Tensor, classes: IntArray) -> FloatArray:
    """``log p(x | class)`` in nats, ``(n, k)``, of scaled features ``(n, d)`` and classes ``(k,)``.

    It takes ``n k`` passes through the model.
    """
    densities = np.empty((len(features), len(classes)), dtype=np.float32)
    for column, number in enumerate(classes):
        for start in range(0, len(features), _CHUNK):
            rows = features[start : start + _CHUNK]
            own = torch.full((len(rows),), int(number), device=rows.device)
            densities[start : start + _CHUNK, column] = model.log_prob(rows, own).cpu().numpy()
    return densities


def seen_log_density(model: Density, features: Tensor, seen: IntArray) -> FloatArray:
    """Log-density in nats, ``(n,)``, of the seen classes' equal mixture at features ``(n, d)``."""
    densities = class_log_densities(model, features, seen)
    return np.asarray(logsumexp(densities, axis=1) - np.log(len(seen)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Bayes:
    """The generative classifier of equal class priors: the class under which a row is most likely.

    Attributes
    ----------
    scaling
        Of the features.
    model, device
        Its densities are the scores; where it is.
    classes, unseen_classes
        Of the columns of GZSL and of ZSL scores.
    """

    scaling: FeatureScaling
    model: Density
    classes: IntArray
    unseen_classes: IntArray
    device: torch.device

    def gzsl_scores(self, features: FloatArray) -> FloatArray:
        """``log p(x | class)``, ``(n, seen + unseen)``, of unscaled features ``(n, d)``."""
        return self._scores(features, self.classes)

    def zsl_scores(self, features: FloatArray) -> FloatArray:
        """``log p(x | class)``, ``(n, unseen)``, of unscaled features ``(n, d)``."""
        return self._scores(features, self.unseen_classes)

    def _scores(self, features: FloatArray, classes: IntArray) -> FloatArray:
        rows = torch.from_numpy(self.scaling(features)).to(self.device)
        return class_log_densities(self.model, rows, classes)
