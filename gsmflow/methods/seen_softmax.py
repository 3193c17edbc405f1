"""A softmax classifier of the seen classes, which several methods build on."""

from dataclasses import dataclass
from typing import Annotated

from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Scaled
from gsmflow.learning.softmax import SoftmaxClassifier, SoftmaxConfig, fit_softmax

__all__ = ["SeenSoftmaxConfig", "fit_seen_softmax"]


@dataclass(frozen=True)
class SeenSoftmaxConfig:
    """The settings of the classifier of seen classes."""

    seen_lr: Annotated[float, Range(above=0)] = 1e-3
    """Adam's learning rate for the classifier of seen classes."""
    seen_batch_size: Annotated[int, Range(min=1)] = 100
    """Rows per step of the classifier of seen classes."""
    seen_epochs: Annotated[int, Range(min=1)] = 50
    """Passes over the training rows for the classifier of seen classes."""


def fit_seen_softmax(
    scaled: Scaled, config: SeenSoftmaxConfig, generators: Generators
) -> SoftmaxClassifier:
    """Train a linear softmax classifier of the seen classes, in the order of the problem."""
    softmax = SoftmaxConfig(config.seen_lr, config.seen_batch_size, config.seen_epochs)
    random = generators.on_device("seen classifier")
    seen = scaled.problem.seen_classes
    return fit_softmax(scaled.feed, seen, softmax, random, scaled.graphs)
