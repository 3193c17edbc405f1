"""A fixed transform of the features that brings the classes closer to Gaussians."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from gsmflow.learning.feed import Feed, feed_slabs

__all__ = ["EncodedFeed", "FeatureTransform", "FeatureTransformer", "fit_transformer"]

FeatureTransform: TypeAlias = Literal["none", "sqrt", "unit"]


class FeatureTransformer(nn.Module):
    """A transform of each row, then the same standardisation for all rows.

    Parameters
    ----------
    transform
        ``"none"``; ``"sqrt"``: the square root of each value, with its sign; ``"unit"``: each row
        divided by its length, times the square root of its dimension.
    shift, spread
        Mean and standard deviation of the transformed features, ``(d,)``; where the spread is
        infinite the result is 0.
    length
        Mean length of the rows before the transform, a scalar; `decode` uses it for ``"unit"``.
    """

    shift: Tensor
    spread: Tensor
    length: Tensor

    def __init__(
        self, transform: FeatureTransform, shift: Tensor, spread: Tensor, length: Tensor
    ) -> None:
        super().__init__()
        self.transform = transform
        self.register_buffer("shift", shift)
        self.register_buffer("spread", spread)
        self.register_buffer("length", length)

    def forward(self, features: Tensor) -> Tensor:
        """Encode features ``(n, d)``."""
        return (_transformed(features, self.transform) - self.shift) / self.spread

    def decode(self, encoded: Tensor) -> Tensor:
        """The inverse of `forward`, ``(n, d)``; rows of ``"unit"`` get the mean length."""
        values: Tensor = encoded * torch.where(self.spread.isinf(), 0, self.spread) + self.shift
        if self.transform == "sqrt":
            return values.sign() * values.square()
        if self.transform == "unit":
            return values * self.length / math.sqrt(values.shape[1])
        return values


def fit_transformer(feed: Feed, transform: FeatureTransform) -> FeatureTransformer:
    """Fit the standardisation that follows a transform, in two passes over the rows."""
    device = feed.labels.device
    n, total = len(feed.labels), torch.zeros(feed.feature_dim, device=device)
    length = torch.zeros((), device=device)
    for features, _ in feed_slabs(feed):
        total += _transformed(features, transform).sum(dim=0)
        length += features.norm(dim=1).sum()
    shift, squares = total / n, torch.zeros_like(total)
    for features, _ in feed_slabs(feed):
        squares += (_transformed(features, transform) - shift).square().sum(dim=0)
    spread = (squares / n).sqrt()
    # A dimension that is constant up to rounding carries no information: it is encoded as 0.
    constant = spread <= 1e-6 * shift.abs().clamp(min=1e-30)
    return FeatureTransformer(
        transform, shift, torch.where(constant, torch.inf, spread), length / n
    )


class EncodedFeed:
    """Rows of a feed, encoded as they are taken.

    Parameters
    ----------
    feed
        Rows of scaled features.
    encoder
        From features ``(n, d)`` to encoded ones, on the feed's device.
    rows
        The row numbers to keep, ``(n,)``; None for all.

    Attributes
    ----------
    labels
        Class of every row, ``(n,)``.
    feature_dim
        Width of the encoded features.
    """

    def __init__(self, feed: Feed, encoder: nn.Module, rows: Tensor | None = None) -> None:
        self._feed = feed
        self._encoder = encoder
        self._rows = torch.arange(len(feed.labels)).to(feed.labels) if rows is None else rows
        self.labels = feed.labels[self._rows]
        self.feature_dim = self.take(self._rows[:0]).shape[1]

    @torch.no_grad()
    def take(self, rows: Tensor) -> Tensor:
        """Encoded features ``(m, d)`` of rows ``(m,)``, in their order."""
        encoded: Tensor = self._encoder(self._feed.take(self._rows[rows]))
        return encoded


def _transformed(features: Tensor, transform: FeatureTransform) -> Tensor:
    """The transform of each row, before the standardisation."""
    if transform == "sqrt":
        return features.sign() * features.abs().sqrt()
    if transform == "unit":
        lengths: Tensor = features.norm(dim=1, keepdim=True)
        return features / lengths.clamp(min=1e-12) * math.sqrt(features.shape[1])
    return features
