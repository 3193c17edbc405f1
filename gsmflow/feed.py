"""Training rows as a model meets them: scaled, on its device, any batch of them at a time."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Feed", "JoinedFeed", "MemoryFeed", "class_means", "join"]

_CHUNK = 4096


class Feed(Protocol):
    """Labelled rows, wherever their features are kept."""

    @property
    def labels(self) -> Tensor:
        """Class of every row, ``(n,)``, on the device that `take` answers on."""

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""

    def take(self, rows: Tensor) -> Tensor:
        """Scaled features ``(m, d)`` of rows ``(m,)``, in their order."""


@dataclass(frozen=True, eq=False)
class MemoryFeed:
    """Rows whose scaled features lie on the device.

    Attributes
    ----------
    features, labels
        ``(n, d)`` and ``(n,)``, on one device.
    """

    features: Tensor
    labels: Tensor

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.features.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Scaled features ``(m, d)`` of rows ``(m,)``, in their order."""
        return self.features[rows]


@dataclass(frozen=True, eq=False)
class JoinedFeed:
    """The rows of one feed followed by those of another, where they are.

    Attributes
    ----------
    first, second
        Of equal width, on one device.
    labels
        Class of every row, ``(n + m,)``.
    """

    first: Feed
    second: Feed
    labels: Tensor

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.first.feature_dim

    def take(self, rows: Tensor) -> Tensor:
        """Scaled features ``(m, d)`` of rows ``(m,)``, in their order."""
        n = len(self.first.labels)
        is_first = rows < n
        first = self.first.take(rows[is_first])
        features = first.new_empty(len(rows), first.shape[1])
        features[is_first] = first
        features[~is_first] = self.second.take(rows[~is_first] - n)
        return features


def join(first: Feed, second: MemoryFeed) -> Feed:
    """The rows of one feed followed by those of another; copied if both are in memory."""
    labels = torch.cat([first.labels, second.labels])
    if isinstance(first, MemoryFeed):
        return MemoryFeed(torch.cat([first.features, second.features]), labels)
    return JoinedFeed(first, second, labels)


def class_means(feed: Feed, classes: Tensor) -> Tensor:
    """Mean of each class's rows, ``(k, d)``, reading the rows once.

    Parameters
    ----------
    feed
        Rows of these classes alone.
    classes
        Ascending class numbers, ``(k,)``, each with at least one row.
    """
    labels = feed.labels
    sums = counts = torch.zeros(())
    for start in range(0, len(labels), _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, len(labels)), device=labels.device)
        features = feed.take(rows)
        # A product with the one-hot classes adds in a fixed order on every device.
        columns = torch.searchsorted(classes, labels[rows])
        one_hot = functional.one_hot(columns, len(classes)).to(features.dtype)
        sums = sums.to(features) + one_hot.T @ features
        counts = counts.to(features) + one_hot.sum(dim=0)
    return sums / counts[:, None]
