"""Training rows as a model meets them: scaled, on its device, any batch of them at a time."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Feed", "MemoryFeed", "class_means"]

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
