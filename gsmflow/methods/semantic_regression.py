"""Regression of features onto the semantics of their classes: a network with one hidden layer.

Socher et al., "Zero-Shot Learning Through Cross-Modal Transfer", NeurIPS 2013. A row ``x`` is
mapped to ``w(x) = V tanh(W x + b) + c``, near the semantics ``s_y`` of its class. The objective is
``mean |w(x) - s_y|^2 / 2 + penalty / 2 |theta|^2`` over the rows, with all weights and biases in
``theta``. L-BFGS minimises it on all rows at once, as in the code of the co-authors; its penalty on
the activity of the hidden units is left out. The search for ``W`` is in coordinates in which the
features vary alike in all directions: 200 iterations then go further than 500 without them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.linear_algebra import symmetric_eigen
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Feed, feed_slabs
from gsmflow.methods.full_batch import (
    minimise_in_coordinates,
    second_moments,
    sum_with_gradients,
)

__all__ = [
    "SemanticRegression",
    "SemanticRegressionConfig",
    "fit_semantic_regression",
    "mapped_slabs",
]

# Pairs of steps and gradients from which L-BFGS estimates the curvature.
_HISTORY = 20
# Share of the features' mean squared length that is added to their second moment in every
# direction: those in which they hardly vary would be stretched without limit.
_DAMPING = 1e-4


@dataclass(frozen=True)
class SemanticRegressionConfig:
    """The settings of the regression."""

    hidden: Annotated[int, Range(min=1)] = 200
    """Hidden units of the network from features to semantics."""
    penalty: Annotated[float, Range(min=0)] = 1e-4
    """Weight of the squared weights and biases beside the squared error, for semantics whose mean
    length over the rows is 1."""
    iterations: Annotated[int, Range(min=1)] = 200
    """Iterations of L-BFGS, each on all rows; fewer if it converges before."""


class SemanticRegression(NamedTuple):
    """A regression from features to semantics.

    Attributes
    ----------
    hidden_weight, hidden_bias
        ``W (h, d)`` and ``b (h,)``.
    output_weight, output_bias
        ``V (a, h)`` and ``c (a,)``.
    """

    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor

    def map(self, features: Tensor) -> Tensor:
        """``w(x)``, ``(n, a)``, of scaled features ``(n, d)``."""
        hidden = torch.tanh(functional.linear(features, self.hidden_weight, self.hidden_bias))
        return functional.linear(hidden, self.output_weight, self.output_bias)

    @classmethod
    def zeros(cls, feature_dim: int, hidden: int, semantics_dim: int) -> "SemanticRegression":
        """A regression of these sizes to load weights into, all 0, on the CPU."""
        return cls(
            torch.zeros(hidden, feature_dim),
            torch.zeros(hidden),
            torch.zeros(semantics_dim, hidden),
            torch.zeros(semantics_dim),
        )


def fit_semantic_regression(
    feed: Feed, semantics: Tensor, config: SemanticRegressionConfig, generators: Generators
) -> SemanticRegression:
    """Fit a regression to the semantics of the rows' classes, on the device of the rows.

    Targets are divided by their mean length, and the output layer is multiplied by it afterwards,
    so that the penalty means the same on every scale of the semantics.

    Parameters
    ----------
    feed
        Scaled training rows.
    semantics
        Semantics of every class by its number, ``(classes, a)``, on any device.
    config
        Settings.
    generators
        Source of the initial weights, uniform within ``sqrt(6 / (inputs + outputs + 1))`` of each
        layer. Biases start at 0.
    """
    labels = feed.labels
    targets = semantics.to(labels.device)
    length = float(targets.norm(dim=1)[labels].mean())
    scale = length if length > 0 else 1.0
    targets = targets / scale
    weights = _initial(feed.feature_dim, config.hidden, targets.shape[1], generators)
    hidden_weight, *others = (w.to(labels.device) for w in weights)
    for parameter in others:
        parameter.requires_grad_()
    stretch, inverse = _stretching(feed)

    def loss(weight: Tensor) -> Tensor:
        regression = SemanticRegression(weight, *others)

        def of_rows(features: Tensor, of_slab: Tensor) -> Tensor:
            return (regression.map(features) - targets[of_slab]).square().sum() / 2 / len(labels)

        squares = torch.stack([w.square().sum() for w in regression]).sum()
        return sum_with_gradients(feed, config.penalty / 2 * squares, of_rows)

    fitted = minimise_in_coordinates(
        hidden_weight @ inverse,
        lambda z: z @ stretch,
        loss,
        config.iterations,
        others=others,
        history=_HISTORY,
    )
    hidden_bias, output_weight, output_bias = (parameter.detach() for parameter in others)
    return SemanticRegression(fitted, hidden_bias, output_weight * scale, output_bias * scale)


def _stretching(feed: Feed) -> tuple[Tensor, Tensor]:
    """From coordinates ``(h, d)`` to weights ``(h, d)``, a factor ``(d, d)``, and its inverse."""
    values, vectors = symmetric_eigen(second_moments(feed))
    values = values.clamp(min=0)
    deviations = (values + _DAMPING * values.sum()).sqrt()
    device = feed.labels.device
    stretch, inverse = (vectors / deviations).T, vectors * deviations
    return stretch.float().to(device), inverse.float().to(device)


def mapped_slabs(regression: SemanticRegression, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
    """Mapped rows ``(m, a)`` and their labels ``(m,)``, slab by slab, in the order of the feed."""
    for features, labels in feed_slabs(feed):
        yield regression.map(features), labels


def _initial(
    feature_dim: int, hidden: int, semantics_dim: int, generators: Generators
) -> SemanticRegression:
    """The initial weights, on the CPU."""
    generator = generators.on_cpu("initial weights")
    weights = SemanticRegression.zeros(feature_dim, hidden, semantics_dim)
    for weight in (weights.hidden_weight, weights.output_weight):
        bound = (6 / (sum(weight.shape) + 1)) ** 0.5
        weight.uniform_(-bound, bound, generator=generator)
    return weights
