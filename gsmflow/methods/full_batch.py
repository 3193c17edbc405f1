"""Sums over all training rows: convex losses, minimised by L-BFGS, and second moments."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gsmflow.core.linear_algebra import double_device, product
from gsmflow.learning.feed import Feed, feed_slabs

__all__ = ["minimise", "second_moments", "sum_with_gradients"]


def minimise(parameters: Sequence[Tensor], loss: Callable[[], Tensor], iterations: int) -> None:
    """Change parameters to those of least loss, by L-BFGS.

    Parameters
    ----------
    parameters
        Leaf tensors.
    loss
        Gives the loss at the current parameters, a scalar, and adds its gradient to theirs.
    iterations
        The most iterations; fewer are taken where the loss no longer changes.
    """
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        return loss()

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def sum_with_gradients(
    feed: Feed, penalty: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """A penalty plus the sum of a loss over all rows; their gradients are added slab by slab.

    Parameters
    ----------
    feed
        The rows.
    penalty
        A scalar.
    loss
        From features ``(m, d)`` and labels ``(m,)`` of some rows to the sum of their losses.
    """
    penalty.backward()  # type: ignore[no-untyped-call]
    total = penalty.detach()
    for features, labels in feed_slabs(feed):
        part = loss(features, labels)
        part.backward()  # type: ignore[no-untyped-call]
        total += part.detach()
    return total


def second_moments(feed: Feed) -> Tensor:
    """The mean of ``x x'`` over all rows, ``(d, d)``, in double precision; see `double_device`."""
    d = feed.feature_dim
    total = torch.zeros(d, d, dtype=torch.float64, device=double_device(feed.labels.device))
    for features, _ in feed_slabs(feed):
        x = features.to(total)
        total += product(x.T, x)
    return total / len(feed.labels)
