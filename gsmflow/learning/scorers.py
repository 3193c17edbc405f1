"""What stands between features as a dataset has them and the scores of a model's classes."""

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
    "feature_map",
    "own_scorer",
    "seen_log_density",
]

_ENCODING_CHUNK = 16384


def feature_map(scaling: FeatureScaling, model: Model, device: torch.device) -> FeatureMap:
    """From features as the dataset has them to what the classifiers of a model score.

    Parameters
    ----------
    scaling
        What the model was trained behind.
    model, device
        The model, and where it is.
    """
    if not isinstance(model, Encoding):
        return scaling
    encoder = model.encoder

    @torch.no_grad()
    def encoded(features: FloatArray) -> FloatArray:
        rows = torch.from_numpy(scaling(features))
        parts = torch.split(rows, _ENCODING_CHUNK)
        chunks = [encoder(part.to(device)).cpu() for part in parts]
        return np.asarray(torch.cat(chunks).numpy(), dtype=np.float32)

    return encoded


@dataclass(frozen=True, eq=False)
class ModelScorer:
    """A model that classifies by itself, behind its feature scaling.

    Attributes
    ----------
    scaling
        What the model was trained behind.
    model, device
        The model, and where it is.
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
    """A `ModelScorer` whose model scores apart for figures under a calibration factor."""

    def calibrated_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, seen + unseen)`` of unscaled features ``(n, d)`` for calibrated figures."""
        assert isinstance(self.model, ClassifyingCalibrated)
        rows = torch.from_numpy(self.scaling(features)).to(self.device)
        return self.model.calibrated_class_scores(rows)


@dataclass(frozen=True)
class BayesConfig:
    """The classifier `Bayes`, which has no settings."""


def own_scorer(
    model: Model,
    scaling: FeatureScaling,
    classes: tuple[IntArray, IntArray],
    device: torch.device,
    *,
    bayes: bool,
) -> Scorer | None:
    """What scores without a classifier that learns from the model's rows, if anything does.

    Parameters
    ----------
    model, device
        The model, and where it is.
    scaling
        What it was trained behind.
    classes
        Seen and unseen ones, in the order of the score columns.
    bayes
        Whether its densities are the scores.
    """
    if isinstance(model, Classifying):
        apart = isinstance(model, ClassifyingCalibrated)
        return (CalibratedModelScorer if apart else ModelScorer)(scaling, model, device)
    if bayes:
        assert isinstance(model, Density)
        return Bayes(scaling, model, np.concatenate(classes), classes[1], device)
    return None


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
    from scipy.special import logsumexp  # as seldom needed as it is slow to import

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
