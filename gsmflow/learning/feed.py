"""Feeds: scaled training rows on the model's device, taken in batches of any rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gsmflow.core.arrays import row_slices
from gsmflow.core.graphs import Graphs
from gsmflow.core.progress import counting
from gsmflow.data.dataset import Problem, Rows
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName, fit_feature_scaling

__all__ = [
    "FeatureStorage",
    "Feed",
    "JoinedFeed",
    "MappedFeed",
    "MemoryFeed",
    "PairedFeed",
    "Scaled",
    "SelectedFeed",
    "class_means",
    "class_variances",
    "feed_slabs",
    "is_in_memory",
    "join",
    "make_feed",
    "row_slabs",
    "scale_problem",
]

FeatureStorage: TypeAlias = Literal["auto", "memory", "map"]

_CHUNK = 4096
# Up to so many classes, rows are summed class by class as a product with one-hot classes.
_ONE_HOT_CLASSES = 1000


class Feed(Protocol):
    """Labelled rows of scaled features, wherever the features are stored."""

    @property
    def labels(self) -> Tensor:
        """Class of every row, ``(n,)``, on the device of the features that `take` returns."""

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""

    def take(self, rows: Tensor) -> Tensor:
        """Scaled features ``(m, d)`` of rows ``(m,)``, in their order."""


@dataclass(frozen=True, eq=False)
class MemoryFeed:
    """Rows whose scaled features are in the device's memory.

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
        return self.features.index_select(0, rows)  # twice as fast as features[rows]


@dataclass(frozen=True, eq=False)
class MappedFeed:
    """Rows whose features stay unscaled where they are, and are scaled when they are taken.

    Attributes
    ----------
    rows
        Unscaled rows, in a memory map or in memory.
    scaling
        Applied to the features of every batch.
    labels
        Class of every row, ``(n,)``, on the device of the features that `take` returns.
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


def is_in_memory(feed: Feed) -> bool:
    """Whether a feed's batches are taken on its device alone."""
    while isinstance(feed, SelectedFeed | PairedFeed):
        feed = feed.feed
    return isinstance(feed, MemoryFeed)


def make_feed(
    rows: Rows,
    scaling: FeatureScaling,
    device: torch.device,
    storage: FeatureStorage,
    processes: int = 1,
) -> Feed:
    """Scale rows now or when they are taken; both give bit-identical batches.

    Parameters
    ----------
    rows
        Unscaled rows.
    scaling
        The scaling, fitted on these rows.
    device
        The model's device.
    storage
        ``"memory"``: store the scaled features on the device. ``"map"``: scale each batch when it
        is taken. ``"auto"``: ``"memory"`` if that takes at most half of the free memory.
    processes
        Number of processes on this machine that each make such a feed and share its main memory.
    """
    labels = torch.from_numpy(rows.labels).to(device)
    shape = len(rows), rows.feature_dim
    needed = 4 * shape[0] * shape[1] * (1 if device.type == "cuda" else processes)
    if storage == "map" or (storage == "auto" and needed > _free_bytes(device) // 2):
        return MappedFeed(rows, scaling, labels)
    features = torch.empty(shape, device=device)
    for span, slab in rows.slabs():
        features[span] = torch.from_numpy(scaling(slab))
    return MemoryFeed(features, labels)


def _free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


@dataclass(frozen=True, eq=False)
class Scaled:
    """A problem with its feature scaling and its scaled training rows.

    Attributes
    ----------
    problem
        The problem, with unscaled features.
    scaling
        The scaling, fitted on its training rows.
    feed
        The scaled training rows, on a device.
    graphs
        The graphs of that device, for a method that takes steps by itself; None to launch each
        kernel.
    """

    problem: Problem
    scaling: FeatureScaling
    feed: Feed
    graphs: Graphs | None = None

    def on_device(self, array: NDArray[Any]) -> Tensor:
        """An array of the problem, such as its seen classes, on the device of the rows."""
        return torch.from_numpy(array).to(self.feed.labels.device)


def scale_problem(
    problem: Problem,
    name: FeatureScalingName,
    device: torch.device,
    storage: FeatureStorage,
    processes: int = 1,
    graphs: Graphs | None = None,
) -> Scaled:
    """Fit a scaling on a problem's training rows, and make a feed of them.

    Parameters
    ----------
    problem
        A problem with unscaled features.
    name
        The kind of scaling; see `fit_feature_scaling`.
    device, storage, processes
        See `make_feed`.
    graphs
        The graphs of the device, if steps are to be recorded.
    """
    scaling = fit_feature_scaling(problem.train, name)
    feed = make_feed(problem.train, scaling, device, storage, processes)
    return Scaled(problem, scaling, feed, graphs)


@dataclass(frozen=True, eq=False)
class JoinedFeed:
    """The rows of one feed followed by those of another, without copying them.

    Attributes
    ----------
    first, second
        Feeds of equal width, on one device.
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
    """Selected rows of a feed, without copying them; a row may occur several times.

    Attributes
    ----------
    feed
        The feed to select from.
    rows
        The selected row numbers, ``(m,)``, on the feed's device.
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
        """Scaled features ``(m, d)`` of rows ``(m,)``, in their order."""
        return self.feed.take(self.rows[rows])


@dataclass(frozen=True, eq=False)
class PairedFeed:
    """The rows of a feed, each followed by further values of it in its features.

    Attributes
    ----------
    feed
        The feed, of ``(n, d)`` features.
    values
        The further values, ``(n, m)``, on the feed's device.
    """

    feed: Feed
    values: Tensor

    @property
    def labels(self) -> Tensor:
        """Class of every row, ``(n,)``."""
        return self.feed.labels

    @property
    def feature_dim(self) -> int:
        """``d + m``."""
        return self.feed.feature_dim + self.values.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Features and further values ``(k, d + m)`` of rows ``(k,)``, in their order."""
        return torch.cat([self.feed.take(rows), self.values.index_select(0, rows)], dim=1)


def join(first: Feed, second: Feed) -> Feed:
    """The rows of one feed followed by those of another.

    Rows in memory are copied. A row that a `SelectedFeed` repeats is copied once.
    """
    if isinstance(first, SelectedFeed) or isinstance(second, SelectedFeed):
        (base, rows), (other, others) = _selection(first), _selection(second)
        return SelectedFeed(join(base, other), torch.cat([rows, len(base.labels) + others]))
    labels = torch.cat([first.labels, second.labels])
    if isinstance(first, MemoryFeed) and isinstance(second, MemoryFeed):
        return MemoryFeed(torch.cat([first.features, second.features]), labels)
    return JoinedFeed(first, second, labels)


def _selection(feed: Feed) -> tuple[Feed, Tensor]:
    """A feed as a selection: a feed and the numbers of its rows."""
    if isinstance(feed, SelectedFeed):
        return feed.feed, feed.rows
    return feed, torch.arange(len(feed.labels), device=feed.labels.device)


def feed_slabs(feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
    """All rows in order, in slabs of bounded size: features ``(m, d)`` and labels ``(m,)``."""
    labels = feed.labels
    with counting("rows", len(labels), repeated=True) as advance:
        for start in range(0, len(labels), _CHUNK):
            rows = torch.arange(start, min(start + _CHUNK, len(labels)), device=labels.device)
            yield feed.take(rows), labels[rows]
            advance(len(rows))


def row_slabs(feed: Feed, columns: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """All rows in order, features ``(m, d)``, divided as `gsmflow.data.dataset.Rows.slabs` does.

    What is computed slab by slab is then rounded as from the rows that the feed is made of.
    """
    labels = feed.labels
    with counting("rows", len(labels), repeated=True) as advance:
        for rows in row_slices(len(labels), 4 * feed.feature_dim, columns=columns):
            yield rows, feed.take(torch.arange(rows.start, rows.stop, device=labels.device))
            advance(rows.stop - rows.start)


def class_means(feed: Feed, classes: Tensor) -> Tensor:
    """Mean of each class's rows, ``(k, d)``, in one pass over the rows.

    Parameters
    ----------
    feed
        Rows, all of these classes.
    classes
        Ascending class numbers, ``(k,)``, each with at least one row.
    """
    counts = torch.bincount(torch.searchsorted(classes, feed.labels), minlength=len(classes))
    slabs = (
        (features, torch.searchsorted(classes, labels)) for features, labels in feed_slabs(feed)
    )
    sums = _class_sums(slabs, len(classes))
    return sums / counts[:, None].to(sums)


def class_variances(feed: Feed, classes: Tensor, means: Tensor) -> Tensor:
    """Variance of each dimension within each class, ``(k, d)``, in one pass over the rows.

    Parameters
    ----------
    feed, classes
        As in `class_means`.
    means
        The mean row of each class, ``(k, d)``, on the rows' device.
    """

    def squares() -> Iterator[tuple[Tensor, Tensor]]:
        for features, labels in feed_slabs(feed):
            columns = torch.searchsorted(classes, labels)
            yield (features - means[columns]).square(), columns

    counts = torch.bincount(torch.searchsorted(classes, feed.labels), minlength=len(classes))
    return _class_sums(squares(), len(classes)) / counts[:, None]


def _class_sums(slabs: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """Sum over slabs of rows ``(m, d)`` with columns ``(m,)`` of each column's rows, ``(k, d)``."""
    sums = torch.zeros(())
    for rows, columns in slabs:
        if classes > _ONE_HOT_CLASSES:
            sums = sums.to(rows) if sums.ndim else rows.new_zeros(classes, rows.shape[1])
            # Unlike index_add_, this adds in the order of the rows on a GPU too.
            sums.index_put_((columns,), rows, accumulate=True)
        else:
            # A product with the one-hot classes sums in a fixed order on every device.
            one_hot = functional.one_hot(columns, classes).to(rows)
            sums = sums.to(rows) + one_hot.T @ rows
    return sums
