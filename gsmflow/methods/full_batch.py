"""Sums over all training rows: losses, minimised by L-BFGS, and second moments."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.linear_algebra import double_device, product
from gsmflow.core.progress import counting
from gsmflow.learning.feed import Feed, feed_slabs

__all__ = ["minimise", "minimise_in_coordinates", "second_moments", "sum_with_gradients"]


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    iterations: int,
    *,
    tolerance: float = 1e-9,
    history: int = 10,
) -> None:
    """Change parameters to those of least loss, by L-BFGS.

    Parameters
    ----------
    parameters
        Leaf tensors.
    loss
        Gives the loss at the current parameters, a scalar, and adds its gradient to theirs.
    iterations
        The most iterations.
    tolerance
        The last is the one in which loss and parameters change by less than this.
    history
        Steps whose gradients are kept.
    """
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=iterations,
        tolerance_grad=0,
        tolerance_change=tolerance,
        history_size=history,
        line_search_fn="strong_wolfe",
    )

    with counting("evaluations of the loss") as advance:

        @torch.enable_grad()
        def closure() -> Tensor:
            optimizer.zero_grad()
            advance()
            return loss()

        optimizer.step(closure)  # type: ignore[no-untyped-call]


def minimise_in_coordinates(
    coordinates: Tensor,
    to_weights: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor], Tensor],
    iterations: int,
    *,
    others: Sequence[Tensor] = (),
    tolerance: float = 1e-9,
    history: int = 10,
) -> Tensor:
    """The weights of least loss, searched in coordinates in which L-BFGS needs fewer iterations.

    Parameters
    ----------
    coordinates
        Where the search begins.
    to_weights
        A linear map from coordinates to weights.
    loss
        Gives the loss at weights, a leaf tensor, and adds its gradients to theirs and to those of
        the others.
    others
        Further leaf tensors that are changed, as they are.
    iterations, tolerance, history
        See `minimise`.
    """
    coordinates.requires_grad_()

    def at_coordinates() -> Tensor:
        mapped = to_weights(coordinates)
        weights = mapped.detach().requires_grad_()
        total = loss(weights)
        mapped.backward(weights.grad)  # type: ignore[no-untyped-call]
        return total

    parameters = [coordinates, *others]
    minimise(parameters, at_coordinates, iterations, tolerance=tolerance, history=history)
    return to_weights(coordinates.detach())


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


def second_moments(feed: Feed, *, bias: bool = False) -> Tensor:
    """The mean of ``x x'`` over all rows, ``(d, d)``, in double precision; see `double_device`.

    With ``bias``, ``x`` has a 1 as a last feature, and the result is ``(d + 1, d + 1)``.
    """
    d = feed.feature_dim + bias
    total = torch.zeros(d, d, dtype=torch.float64, device=double_device(feed.labels.device))
    for features, _ in feed_slabs(feed):
        x = functional.pad(features.to(total), (0, int(bias)), value=1.0)
        total += product(x.T, x)
    return total / len(feed.labels)
