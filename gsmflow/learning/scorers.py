"""From unscaled features to class scores: scaling, encoder, and scoring by the model itself."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.data.scaling import FeatureScaling
from gsmflow.learning.contract import (
    Classifying,
    ClassifyingCalibrated,
    Density,
    Encoding,
    Model,
    Scorer,
)
from gsmflow.learning.softmax import FeatureMap

__all__ = [
    "Bayes",
    "BayesConfig",
    "CalibratedModelScorer",
    "ModelScorer",
    "class_log_densities",
    "direct_scorer",
    "feature_map",
    "seen_log_density",
]

_ENCODING_CHUNK = 16384


def feature_map(scaling: FeatureScaling, model: Model, device: torch.device) -> FeatureMap:
    """The map from unscaled features to the inputs of a model's classifiers.

    Parameters
    ----------
    scaling
        The feature scaling of the model's training.
    model, device
        The model, and its device.
    """
    if not isinstance(model, Encoding):
        return scaling
    encoder = model.encoder

    @torch.no_grad()
    def encoded(features: FloatArray) -> FloatArray:
        rows = torch.from_numpy(scaling(features))
        chunks = torch.split(rows, _ENCODING_CHUNK)
        encodings = [encoder(chunk.to(device)).cpu() for chunk in chunks]
        return np.asarray(torch.cat(encodings).numpy(), dtype=np.float32)

    return encoded


@dataclass(frozen=True, eq=False)
class ModelScorer:
    """The scorer of a model that classifies by itself.

    Attributes
    ----------
    scaling
        The feature scaling of the model's training.
    model, device
        The model, and its device.
    """

    scaling: FeatureScaling
    model: Classifying
    device: torch.device

    def gzsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, seen + unseen)`` of unscaled features ``(n, d)``."""
        return self._scores(features)[0]

    def zsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, unseen)`` of unscaled features ``(n, d)``."""
        return self._scores(features)[1]

    def _scores(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.model.class_scores(torch.from_numpy(self.scaling(features)).to(self.device))


@dataclass(frozen=True, eq=False)
class CalibratedModelScorer(ModelScorer):
    """A `ModelScorer` of a model that has other scores for calibrated stacking."""

    def calibrated_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, seen + unseen)`` of unscaled features, to subtract gamma from."""
        assert isinstance(self.model, ClassifyingCalibrated)
        rows = torch.from_numpy(self.scaling(features)).to(self.device)
        return self.model.calibrated_class_scores(rows)


@dataclass(frozen=True)
class BayesConfig:
    """The classifier `Bayes`, which has no settings."""


def direct_scorer(
    model: Model,
    scaling: FeatureScaling,
    classes: tuple[IntArray, IntArray],
    device: torch.device,
    *,
    bayes: bool,
) -> Scorer | None:
    """The scorer that needs no trained classifier; None if a classifier must be trained.

    Parameters
    ----------
    model, device
        The model, and its device.
    scaling
        The feature scaling of the model's training.
    classes
        Seen and unseen classes, in the order of the score columns.
    bayes
        Whether to classify by the model's densities.
    """
    if isinstance(model, Classifying):
        if isinstance(model, ClassifyingCalibrated):
            return CalibratedModelScorer(scaling, model, device)
        return ModelScorer(scaling, model, device)
    if bayes:
        assert isinstance(model, Density)
        return Bayes(scaling, model, np.concatenate(classes), classes[1], device)
    return None


_CHUNK = 4096


@torch.no_grad()
def class_log_densities(model: Density, features: Tensor, classes: IntArray) -> FloatArray:
    """``log p(x | class)`` in nats, ``(n, k)``, of scaled features ``(n, d)`` and classes ``(k,)``.

    The cost is ``n k`` forward passes of the model.
    """
    densities = np.empty((len(features), len(classes)), dtype=np.float32)
    for column, number in enumerate(classes):
        for start in range(0, len(features), _CHUNK):
            rows = features[start : start + _CHUNK]
            labels = torch.full((len(rows),), int(number), device=rows.device)
            densities[start : start + _CHUNK, column] = model.log_prob(rows, labels).cpu().numpy()
    return densities


def seen_log_density(model: Density, features: Tensor, seen: IntArray) -> FloatArray:
    """Log-density in nats, ``(n,)``, of scaled features ``(n, d)`` under the seen classes.

    The density is the mixture of the seen classes with equal weights.
    """
    from scipy.special import logsumexp  # slow to import and seldom needed

    densities = class_log_densities(model, features, seen)
    return np.asarray(logsumexp(densities, axis=1) - np.log(len(seen)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Bayes:
    """Bayes classification with a model's densities and equal class priors.

    Attributes
    ----------
    scaling
        The feature scaling of the model's training.
    model, device
        The model, whose log-densities are the scores, and its device.
    classes, unseen_classes
        The classes of the columns of GZSL and of ZSL scores.
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
