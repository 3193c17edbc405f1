"""K-means of the rows of each class, with the same result on every run."""

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.learning.feed import Feed

__all__ = ["k_means", "sub_centres"]

_RESTARTS = 10
_ITERATIONS = 300


def k_means(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The best of several runs of Lloyd's algorithm, each from centres drawn by k-means++.

    Parameters
    ----------
    rows
        ``(n, d)``, on the CPU, ``n >= 1``. Fewer rows than centres have equal centres.
    count
        Number of centres, ``>= 1``.
    generator
        On the CPU.

    Returns
    -------
    Tensor
        Centres ``(count, d)``, in float64.
    """
    rows = rows.double()
    found = [_lloyd(rows, _spread_rows(rows, count, generator)) for _ in range(_RESTARTS)]
    inertias = [float(_squares(rows, centres).amin(dim=1).sum()) for centres in found]
    return found[inertias.index(min(inertias))]


def sub_centres(feed: Feed, classes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The centres of each class's rows, ``(k, count, d)``, on the CPU in the rows' type.

    Parameters
    ----------
    feed
        Rows.
    classes
        Class numbers, ``(k,)``, each with at least one row.
    count
        Centres per class.
    generator
        On the CPU.
    """
    centres = []
    for label in classes.tolist():
        rows = feed.take((feed.labels == label).nonzero().squeeze(1)).cpu()
        centres.append(k_means(rows, count, generator).to(rows))
    return torch.stack(centres)


def _squares(rows: Tensor, centres: Tensor) -> Tensor:
    """Squared distances, ``(n, k)``."""
    products = rows.square().sum(dim=1)[:, None] - 2 * rows @ centres.T
    return (products + centres.square().sum(dim=1)).clamp_min(0)


def _spread_rows(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows that are drawn one after the other, the far ones from those before most likely."""
    chosen = torch.randint(len(rows), (1,), generator=generator)
    for _ in range(count - 1):
        weights = _squares(rows, rows[chosen]).amin(dim=1)
        # A tiny weight for all: there may be no row apart from those before.
        weights = weights + 1e-12 * weights.max() + torch.finfo(weights.dtype).tiny
        chosen = torch.cat([chosen, torch.multinomial(weights, 1, generator=generator)])
    return rows[chosen]


def _lloyd(rows: Tensor, centres: Tensor) -> Tensor:
    """Centres of which each is the mean of the rows next to it; one without rows stays."""
    before = torch.empty(0, dtype=torch.int64)
    for _ in range(_ITERATIONS):
        nearest = _squares(rows, centres).argmin(dim=1)
        if torch.equal(nearest, before):
            break
        before = nearest
        one_hot = functional.one_hot(nearest, len(centres)).double()
        counts = one_hot.sum(dim=0)[:, None]
        centres = torch.where(counts > 0, (one_hot.T @ rows) / counts.clamp_min(1), centres)
    return centres
