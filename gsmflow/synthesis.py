"""Synthesizing features of classes from a trained model."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Sampler", "synthesize"]

_CHUNK = 4096


class Sampler(Protocol):
    """Anything that draws features ``(n, d)`` for given classes ``(n,)``."""

    def sample(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one feature vector for each class named."""


def synthesize(
    model: Sampler,
    classes: Tensor,
    per_class: int,
    generator: torch.Generator,
    on_samples: Callable[[int], object] = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """Draw ``per_class`` feature vectors of every class.

    Parameters
    ----------
    model
        A trained model.
    classes
        Class numbers, ``(k,)``, on the device to work on.
    per_class
        Samples per class, ``>= 1``.
    generator
        On the same device.
    on_samples
        Called with the number of samples after each chunk, for a progress bar.

    Returns
    -------
    tuple of Tensor
        Features ``(k * per_class, d)`` and their classes, ``(k * per_class,)``, class by class.
    """
    labels = classes.repeat_interleave(per_class)
    features: Tensor | None = None
    for start in range(0, len(labels), _CHUNK):
        chunk = model.sample(labels[start : start + _CHUNK], generator)
        if features is None:
            features = chunk.new_empty(len(labels), chunk.shape[1])
        features[start : start + len(chunk)] = chunk
        on_samples(len(chunk))
    assert features is not None
    return features, labels
