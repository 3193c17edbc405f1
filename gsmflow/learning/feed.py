"""Training rows as a model meets them: scaled, on its device, any batch of them at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import psutil
import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.data.dataset import Problem, Rows
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName, fit_feature_scaling

__all__ = [
    "Feed",
    "FeedPlace",
    "JoinedFeed",
    "MappedFeed",
    "MemoryFeed",
    "Scaled",
    "SelectedFeed",
    "class_means",
    "feed_slabs",
    "join",
    "make_feed",
    "scale_problem",
]

FeedPlace: TypeAlias = Literal["auto", "memory", "map"]

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
        return self.features.index_select(0, rows)  # half the time of an index in brackets


@dataclass(frozen=True, eq=False)
class MappedFeed:
    """Rows whose features stay where they lie, and are scaled as they are taken.

    Attributes
    ----------
    rows
        Unscaled, in a memory map or in memory.
    scaling
        Done to the features of every batch.
    labels
        ``(n,)``, on the device that `take` answers on.
    """

    rows: Rows
    scaling: FeatureScaling
    labels: Tensor

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.rows.feature_dim

    def take(self, rows: Tensor) -> Tensor:
        """Scaled features ``(m, d)`` of rows ``(m,)``, in their order."""
        features = self.scaling(self.rows.take(rows.cpu().numpy()))
        return torch.from_numpy(features).to(self.labels.device)


def make_feed(
    rows: Rows,
    scaling: FeatureScaling,
    device: torch.device,
    place: FeedPlace,
    processes: int = 1,
) -> Feed:
    """Scale rows, in memory or as they are taken; batches have the same bits either way.

    Parameters
    ----------
    rows
        Unscaled rows.
    scaling
        Fitted on them.
    device
        Where the model is.
    place
        ``"memory"``: the scaled features lie on the device. ``"map"``: they are made batch by
        batch. ``"auto"``: in memory, unless they would take more than half of what is free.
    processes
        How many processes do the same on this machine, in memory that they share.
    """
    labels = torch.from_numpy(rows.labels).to(device)
    shape = len(rows), rows.feature_dim
    needed = 4 * shape[0] * shape[1] * (1 if device.type == "cuda" else processes)
    if place == "map" or (place == "auto" and needed > _free_bytes(device) // 2):
        return MappedFeed(rows, scaling, labels)
    features = torch.empty(shape, device=device)
    for part, slab in rows.slabs():
        features[part] = torch.from_numpy(scaling(slab))
    return MemoryFeed(features, labels)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


@dataclass(frozen=True, eq=False)
class Scaled:
    """A problem made ready to learn from, once for all that learns from it.

    Attributes
    ----------
    problem
        As it was, with unscaled features.
    scaling
        Fitted on its training rows.
    feed
        The scaled training rows, on a device.
    """

    problem: Problem
    scaling: FeatureScaling
    feed: Feed


def scale_problem(
    problem: Problem,
    name: FeatureScalingName,
    device: torch.device,
    place: FeedPlace,
    processes: int = 1,
) -> Scaled:
    """Fit a scaling on a problem's training rows, and make the feed of them.

    Parameters
    ----------
    problem
        With unscaled features.
    name
        Of the scaling, as `fit_feature_scaling` knows it.
    device, place, processes
        As `make_feed` takes them.
    """
    scaling = fit_feature_scaling(problem.train, name)
    return Scaled(problem, scaling, make_feed(problem.train, scaling, device, place, processes))


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


@dataclass(frozen=True, eq=False)
class SelectedFeed:
    """Some rows of a feed, where they are.

    Attributes
    ----------
    feed
        All rows.
    rows
        Those that these are, ``(m,)``, on the feed's device.
    """

    feed: Feed
    rows: Tensor

    @property
    def labels(self) -> Tensor:
        """Class of every row, ``(m,)``."""
        return self.feed.labels[self.rows]

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.feed.feature_dim

    def take(self, rows: Tensor) -> Tensor:
        """Scaled features of rows, in their order."""
        return self.feed.take(self.rows[rows])


def join(first: Feed, second: Feed) -> Feed:
    """The rows of one feed followed by those of another.

    Rows in memory are copied, those of a `SelectedFeed` once, however often it has them.
    """
    if isinstance(first, SelectedFeed) or isinstance(second, SelectedFeed):
        (base, rows), (other, others) = _selection(first), _selection(second)
        return SelectedFeed(join(base, other), torch.cat([rows, len(base.labels) + others]))
    labels = torch.cat([first.labels, second.labels])
    if isinstance(first, MemoryFeed) and isinstance(second, MemoryFeed):
        return MemoryFeed(torch.cat([first.features, second.features]), labels)
    return JoinedFeed(first, second, labels)


def _selection(feed: Feed) -> tuple[Feed, Tensor]:
    """A feed as rows of another."""
    if isinstance(feed, SelectedFeed):
        return feed.feed, feed.rows
    return feed, torch.arange(len(feed.labels), device=feed.labels.device)


def feed_slabs(feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
    """All rows in order, a bounded number at a time: features ``(m, d)`` and labels ``(m,)``."""
    labels = feed.labels
    for start in range(0, len(labels), _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, len(labels)), device=labels.device)
        yield feed.take(rows), labels[rows]


def class_means(feed: Feed, classes: Tensor) -> Tensor:
    """Mean of each class's rows, ``(k, d)``, reading the rows once.

    Parameters
    ----------
    feed
        Rows of these classes alone.
    classes
        Ascending class numbers, ``(k,)``, each with at least one row.
    """
    sums = counts = torch.zeros(())
    for features, labels in feed_slabs(feed):
        # A product with the one-hot classes adds in a fixed order on every device.
        columns = torch.searchsorted(classes, labels)
        one_hot = functional.one_hot(columns, len(classes)).to(features.dtype)
        sums = sums.to(features) + one_hot.T @ features
        counts = counts.to(features) + one_hot.sum(dim=0)
    return sums / counts[:, None]
