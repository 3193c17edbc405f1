"""Synthesizing features from a trained model, all at once or as a stream of bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from gsmflow.core.precision import Precision, autocast, tf32_products
from gsmflow.data.scaling import FeatureScaling

__all__ = ["FeatureSampler", "Rescaled", "Reservoir", "Sampler", "Scarcity", "synthesize"]

# Rows that are synthesized at once; a GPU needs more of them to be busy.
_CHUNK = 4096
_CHUNK_ON_GPU = 32768
# With 650 rows of a class at a time, classifiers were as good as with all 5000; with 60 of 300, U
# was three points lower.
_ENOUGH_OF_A_CLASS = 500


class FeatureSampler(Protocol):
    """Draws one feature vector for each position in a list of classes."""

    def __call__(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Features ``(n, d)`` for positions ``(n,)``, on the generator's device."""


@runtime_checkable
class Sampler(Protocol):
    """A source of features of given classes."""

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Prepare to draw features of classes ``(k,)``.

        What depends on the class alone is computed here, once.
        """


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A sampler whose features are converted from one scaling to another.

    Attributes
    ----------
    model
        The sampler.
    source, target
        The scaling of its features, and the scaling to convert to.
    """

    model: Sampler
    source: FeatureScaling
    target: FeatureScaling

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Draws features of classes ``(k,)`` in the target scaling."""
        draw_source = self.model.sampler(classes)

        def rescaled(positions: Tensor, generator: torch.Generator) -> Tensor:
            features = self.source.inverse(draw_source(positions, generator).cpu().numpy())
            return torch.from_numpy(self.target(features)).to(positions.device)

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
        Class numbers, ``(k,)``, on the device of the samples.
    per_class
        Samples per class, ``>= 1``.
    generator
        On the same device.
    precision
        Precision of the matrix products.
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


class Scarcity(NamedTuple):
    """A reservoir that holds so few rows of a class at once that classifiers are worse.

    Attributes
    ----------
    held, per_class
        Rows of a class that it holds, and that are synthesized in total.
    enough_bytes
        The size in memory of a reservoir that holds enough.
    """

    held: int
    per_class: int
    enough_bytes: int


class Reservoir:
    """A bounded store of synthesized rows, renewed while a classifier is trained on it.

    It holds equally many rows of every class. Once it is full, each new sample replaces the oldest
    of its class, until ``per_class`` samples of every class have been synthesized.

    Parameters
    ----------
    model
        A trained model.
    classes
        Class numbers, ``(k,)``, on the device of the samples.
    per_class
        Samples per class that are synthesized in total, ``>= 1``.
    capacity
        Maximum number of rows to hold; one of every class is held in any case.
    generator
        On the same device.
    precision
        Precision of the matrix products.
    on_samples
        Called with the number of samples after each chunk, for a progress bar.

    Attributes
    ----------
    features, labels
        The rows that are currently held, ``(m, d)`` and ``(m,)``; `advance` replaces them in place.
    total
        Number of samples that are synthesized in total, ``k * per_class``.
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
        self._chunk = _CHUNK_ON_GPU if classes.device.type == "cuda" else _CHUNK
        self.total = self._k * per_class
        rounds = min(per_class, max(1, capacity // self._k))
        self.labels = classes.repeat(rounds)
        with autocast(precision, classes.device), tf32_products(precision):
            self._draw = model.sampler(classes)
        first = self._synthesize(min(self._chunk, len(self.labels)))
        self.features = first.new_empty(len(self.labels), first.shape[1])
        self.features[: len(first)] = first
        self._make(len(self.labels))

    @property
    def streams(self) -> bool:
        """Whether it cannot hold all samples at once."""
        return len(self.labels) < self.total

    @property
    def scarcity(self) -> Scarcity | None:
        """How far it is from holding enough rows of a class at once; None if it holds enough."""
        held, per_class = len(self.labels) // self._k, self.total // self._k
        enough = min(per_class, _ENOUGH_OF_A_CLASS)
        if held >= enough:
            return None
        return Scarcity(held, per_class, enough * self._k * self.features[0].nbytes)

    def advance(self, share: float) -> None:
        """Synthesize up to this share (0 to 1) of the samples that did not fit at first."""
        held = len(self.labels)
        goal = held + int(share * (self.total - held))
        # Whole chunks are fastest; the rest comes with the last call.
        self._make(goal if share >= 1 else goal - (goal - self._made) % self._chunk)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Random held rows: features ``(count, d)`` and classes ``(count,)``."""
        device = self.labels.device
        rows = torch.randint(len(self.labels), (count,), generator=self._generator, device=device)
        return self.features[rows], self.labels[rows]

    def _make(self, goal: int) -> None:
        while self._made < goal:
            start = self._made % len(self.labels)
            count = min(self._chunk, goal - self._made, len(self.labels) - start)
            self.features[start : start + count] = self._synthesize(count)

    def _synthesize(self, count: int) -> Tensor:
        device = self.labels.device
        positions = torch.arange(self._made, self._made + count, device=device) % self._k
        with autocast(self._precision, device), tf32_products(self._precision):
            features = self._draw(positions, self._generator)
        self._made += count
        self._on_samples(count)
        return features
