"""Synthesizing features of classes from a trained model, all at once or in a bounded stream."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gsmflow.core.precision import Precision, autocast, tf32_products
from gsmflow.data.scaling import FeatureScaling

__all__ = ["FeatureSampler", "Rescaled", "Reservoir", "Sampler", "synthesize"]

_CHUNK = 4096


class FeatureSampler(Protocol):
    """Draws one feature vector for each position in a list of classes."""

    def __call__(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Features ``(n, d)`` for positions ``(n,)``."""


@runtime_checkable
class Sampler(Protocol):
    """Anything that draws features of classes."""

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """What draws features of classes ``(k,)``, all that depends on a class done once."""


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A sampler whose features are brought from its own scaling into another.

    Attributes
    ----------
    model
        The sampler.
    own, other
        The scaling of its features, and the one that they are brought into.
    """

    model: Sampler
    own: FeatureScaling
    other: FeatureScaling

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """What draws features of classes ``(k,)``."""
        draw = self.model.sampler(classes)

        def rescaled(positions: Tensor, generator: torch.Generator) -> Tensor:
            features = self.own.inverse(draw(positions, generator).cpu().numpy())
            return torch.from_numpy(self.other(features)).to(positions.device)

        return rescaled


def synthesize(
    model: Sampler,
    classes: Tensor,
    per_class: int,
    generator: torch.Generator,
    *,
    precision: Precision = "fp32",
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
    precision
        Of the matrix products.
    on_samples
        Called with the number of samples after each chunk, for a progress bar.

    Returns
    -------
    tuple of Tensor
        Features ``(k * per_class, d)`` and their classes, ``(k * per_class,)``, round by round:
        one of every class, then one more of every class.
    """
    reservoir = Reservoir(
        model,
        classes,
        per_class,
        capacity=len(classes) * per_class,
        generator=generator,
        precision=precision,
        on_samples=on_samples,
    )
    return reservoir.features, reservoir.labels


class Reservoir:
    """A bounded store of synthesized rows, renewed while something learns from it.

    Every class has equally many places. Once all are filled, a new sample takes the place of the
    oldest of its class, until ``per_class`` of each have been synthesized, each once.

    Parameters
    ----------
    model
        A trained model.
    classes
        Class numbers, ``(k,)``, on the device to work on.
    per_class
        Samples per class that are synthesized in all, ``>= 1``.
    capacity
        Rows that are held at most; at least one of every class is.
    generator
        On the same device.
    precision
        Of the matrix products.
    on_samples
        Called with the number of samples after each chunk, for a progress bar.

    Attributes
    ----------
    features, labels
        The rows that are held now, ``(m, d)`` and ``(m,)``; `advance` replaces them in place.
    total
        Number of samples that are synthesized in all, ``k * per_class``.
    """

    def __init__(
        self,
        model: Sampler,
        classes: Tensor,
        per_class: int,
        *,
        capacity: int,
        generator: torch.Generator,
        precision: Precision = "fp32",
        on_samples: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._k = len(classes)
        self._generator = generator
        self._precision = precision
        self._on_samples = on_samples
        self._made = 0
        self.total = self._k * per_class
        rounds = min(per_class, max(1, capacity // self._k))
        self.labels = classes.repeat(rounds)
        with autocast(precision, classes.device), tf32_products(precision):
            self._draw = model.sampler(classes)
        first = self._synthesize(min(_CHUNK, len(self.labels)))
        self.features = first.new_empty(len(self.labels), first.shape[1])
        self.features[: len(first)] = first
        self._make(len(self.labels))

    @property
    def streams(self) -> bool:
        """Whether it cannot hold all samples at once."""
        return len(self.labels) < self.total

    def advance(self, share: float) -> None:
        """Go on until this share (0 to 1) of the samples that were not held at first is made."""
        held = len(self.labels)
        goal = held + int(share * (self.total - held))
        # In whole chunks, which are fastest, but for the last.
        self._make(goal if share >= 1 else goal - (goal - self._made) % _CHUNK)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Rows that are held now, at random: features ``(count, d)`` and classes ``(count,)``."""
        device = self.labels.device
        rows = torch.randint(len(self.labels), (count,), generator=self._generator, device=device)
        return self.features[rows], self.labels[rows]

    def _make(self, goal: int) -> None:
        while self._made < goal:
            start = self._made % len(self.labels)
            count = min(_CHUNK, goal - self._made, len(self.labels) - start)
            self.features[start : start + count] = self._synthesize(count)

    def _synthesize(self, count: int) -> Tensor:
        device = self.labels.device
        positions = torch.arange(self._made, self._made + count, device=device) % self._k
        with autocast(self._precision, device), tf32_products(self._precision):
            features = self._draw(positions, self._generator)
        self._made += count
        self._on_samples(count)
        return features
