"""What stands between features as a dataset has them and the scores of a model's classes."""

from dataclasses import dataclass

import numpy as np
import torch

from gsmflow.classifier import FeatureMap
from gsmflow.dataset import FloatArray, IntArray
from gsmflow.density import Bayes
from gsmflow.evaluate import Scorer
from gsmflow.interface import Classifying, Density, Model
from gsmflow.scaling import FeatureScaling

__all__ = ["ModelScorer", "feature_map", "own_scorer"]

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
    encoder = model.encoder
    if encoder is None:
        return scaling

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
        return ModelScorer(scaling, model, device)
    if bayes:
        assert isinstance(model, Density)
        return Bayes(scaling, model, np.concatenate(classes), classes[1], device)
    return None
