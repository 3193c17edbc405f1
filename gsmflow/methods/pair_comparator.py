"""A network that scores pairs of a row and a class, without a row of numbers for each pair."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.precision import at_least_float32
from gsmflow.methods.layers import dense

__all__ = ["PairComparator"]


class PairComparator(nn.Module):
    """From rows and semantics to a score of each pair, with one hidden layer.

    The layers are those of a network whose input is a row joined with the semantics of a class.
    Its first layer is linear, so its products are computed once for each row and once for each
    class, and added.

    Parameters
    ----------
    row_dim, semantics_dim, hidden
        Sizes.
    slope
        The slope of the hidden layer's leaky ReLU; 0: ReLU.
    """

    def __init__(self, row_dim: int, semantics_dim: int, hidden: int, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope
        self.rows = dense(row_dim, hidden)
        self.semantics = dense(semantics_dim, hidden, bias=False)
        self.score = dense(hidden, 1)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw the weights and biases as torch's layers of the joined input would start."""
        inputs = self.rows.in_features + self.semantics.in_features
        for layer, n in ((self.rows, inputs), (self.semantics, inputs), (self.score, None)):
            bound = (n or layer.in_features) ** -0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, rows: Tensor, semantics: Tensor) -> Tensor:
        """Scores ``(n, k)`` of rows ``(n, row_dim)`` and semantics ``(k, a)``."""
        hidden = self.rows(rows)[:, None] + self.semantics(semantics)
        # In place: no gradient needs the overwritten values, and these lines are memory-bound.
        if self.slope == 0:
            torch.relu_(hidden)
        else:
            functional.leaky_relu_(hidden, self.slope)
        return at_least_float32(self.score(hidden).squeeze(2))
