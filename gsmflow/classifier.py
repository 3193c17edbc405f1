"""The softmax classifier: one linear layer, trained on real seen and synthesized unseen rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gsmflow.dataset import FloatArray, IntArray
from gsmflow.scaling import FeatureScaling

__all__ = ["ClassifierConfig", "SoftmaxClassifier", "SoftmaxPair", "fit_softmax"]

_SCORING_CHUNK = 16384


@dataclass(frozen=True)
class ClassifierConfig:
    """The settings of the softmax classifier; defaults are FLO's published ones."""

    classifier_lr: float = 5e-3
    """Adam's learning rate (betas 0.5, 0.999)."""
    classifier_batch_size: int = 1000
    """Rows per step of the classifier."""
    classifier_epochs: int = 30
    """Passes over the classifier's rows, real and synthesized."""


@dataclass(frozen=True, eq=False)
class SoftmaxClassifier:
    """A trained linear softmax classifier.

    Attributes
    ----------
    weight, bias
        ``(k, d)`` and ``(k,)``.
    classes
        The class of each score column, ``(k,)``.
    """

    weight: Tensor
    bias: Tensor
    classes: IntArray

    def scores(self, features: FloatArray) -> FloatArray:
        """Class scores before the softmax (logits), ``(n, k)``, of scaled features ``(n, d)``."""
        chunks = [
            torch.from_numpy(features[start : start + _SCORING_CHUNK]).to(self.weight)
            @ self.weight.T
            + self.bias
            for start in range(0, len(features), _SCORING_CHUNK)
        ]
        return np.asarray(torch.cat(chunks).cpu().numpy(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class SoftmaxPair:
    """The two classifiers of the protocols, behind the feature scaling that they were trained on.

    Attributes
    ----------
    scaling
        Applied to features before scoring.
    gzsl
        Over seen and unseen classes.
    zsl
        Over the unseen classes alone.
    """

    scaling: FeatureScaling
    gzsl: SoftmaxClassifier
    zsl: SoftmaxClassifier

    def gzsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, seen + unseen)`` of unscaled features ``(n, d)``."""
        return self.gzsl.scores(self.scaling(features))

    def zsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, unseen)`` of unscaled features ``(n, d)``."""
        return self.zsl.scores(self.scaling(features))


def fit_softmax(
    features: Tensor,
    labels: Tensor,
    classes: IntArray,
    config: ClassifierConfig,
    generator: torch.Generator,
    on_epoch: Callable[[], object] = lambda: None,
) -> SoftmaxClassifier:
    """Train a linear softmax classifier with Adam and cross-entropy; the last epoch's is kept.

    Parameters
    ----------
    features, labels
        Training rows, ``(n, d)`` and ``(n,)``, on one device.
    classes
        The classes to tell apart, ``(k,)``; every label must be among them.
    config
        Settings.
    generator
        Source of the initial weights (Xavier normal; biases are zero) and of the batches, on the
        rows' device.
    on_epoch
        Called after each epoch, for a progress bar.
    """
    n, d = features.shape
    device = features.device
    columns = torch.from_numpy(classes).to(device)
    order_of_columns = columns.argsort()
    targets = order_of_columns[torch.searchsorted(columns[order_of_columns], labels)]
    weight = nn.Parameter(torch.empty(len(classes), d, device=device, dtype=features.dtype))
    bias = nn.Parameter(torch.zeros(len(classes), device=device, dtype=features.dtype))
    nn.init.xavier_normal_(weight, generator=generator)
    optimizer = torch.optim.Adam(
        (weight, bias), lr=config.classifier_lr, betas=(0.5, 0.999), fused=True
    )
    for _ in range(config.classifier_epochs):
        order = torch.randperm(n, generator=generator, device=device)
        for rows in torch.split(order, config.classifier_batch_size):
            logits = nn.functional.linear(features[rows], weight, bias)
            loss = nn.functional.cross_entropy(logits, targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        on_epoch()
    return SoftmaxClassifier(weight.detach(), bias.detach(), classes)
