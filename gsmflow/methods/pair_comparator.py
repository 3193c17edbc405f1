"""Scores of pairs of rows and classes, by a network whose first layer is computed once for each."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gsmflow.core.precision import at_least_float32, autocast
from gsmflow.methods.layers import dense

__all__ = ["PairComparator"]

# Numbers of the pairs' hidden layer that are in memory at once: 128 MiB in fp32.
_AT_ONCE = 2**25


class PairComparator(nn.Module):
    """A score of a row beside the semantics of a class, by a hidden layer with leaky ReLU.

    The first layer is linear in the row and in the semantics: its two halves are computed once for
    each row and once for each class, and added for each pair.

    Parameters
    ----------
    row_dim, semantics_dim, hidden
        Sizes.
    slope
        Of the leaky ReLU for negative numbers; 0 for a ReLU.
    """

    def __init__(self, row_dim: int, semantics_dim: int, hidden: int, slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope
        self.rows = dense(row_dim, hidden)
        self.semantics = dense(semantics_dim, hidden, bias=False)
        self.score = dense(hidden, 1)

    def forward(self, rows: Tensor, semantics: Tensor) -> Tensor:
        """Scores ``(n, k)`` of rows ``(n, r)`` and of classes with semantics ``(k, a)``."""
        halves = at_least_float32(self.rows(rows)), at_least_float32(self.semantics(semantics))
        weight = self.score.weight[0]
        scores: Tensor = _PairScores.apply(*halves, weight, self.slope)  # type: ignore[no-untyped-call]
        return scores + self.score.bias


class _PairScores(torch.autograd.Function):
    """``w . lrelu(u_i + v_j)`` of all pairs, without the hidden units of all pairs in memory."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, classes: Tensor, weight: Tensor, slope: float) -> Tensor:
        """Scores ``(n, k)`` of halves ``(n, h)`` and ``(k, h)``, and weights ``(h,)``."""
        ctx.save_for_backward(rows, classes, weight)
        ctx.slope = slope
        with autocast("fp32", rows.device):
            scores = [
                torch.where(before > 0, before, slope * before) @ weight
                for before in _pairs(rows, classes)
            ]
        return torch.cat(scores, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradients of rows, classes and weights; hidden units are computed once more."""
        rows, classes, weight = ctx.saved_tensors
        of_rows, of_classes, of_weight = torch.zeros_like(rows), [], torch.zeros_like(weight)
        start = 0
        with autocast("fp32", rows.device):
            for before in _pairs(rows, classes):
                count = before.shape[1]
                share = gradient[:, start : start + count]
                start += count
                slopes = (before > 0).to(before) * (1 - ctx.slope) + ctx.slope
                of_weight += (slopes * before).flatten(0, 1).T @ share.reshape(-1)
                slopes *= share[:, :, None]
                of_rows += slopes.sum(dim=1) * weight
                of_classes.append(slopes.sum(dim=0) * weight)
        return of_rows, torch.cat(of_classes), of_weight, None


def _pairs(rows: Tensor, classes: Tensor) -> Iterator[Tensor]:
    """Sums ``(n, m, h)`` of all rows and of some classes, then of the next ones."""
    at_once = max(1, _AT_ONCE // rows.numel())
    for start in range(0, len(classes), at_once):
        yield rows[:, None] + classes[start : start + at_once]
