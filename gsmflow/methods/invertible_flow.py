"""An invertible map of features without a condition, of coupling blocks in FrEIA's framework.

Each block scales and shifts every dimension by learned amounts, permutes the dimensions, and
applies the coupling block of `gsmflow.methods.coupling_flow`.
"""

from collections.abc import Sequence

import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import InvertibleModule
from torch import Tensor, nn

from gsmflow.methods.coupling_flow import CouplingBlock

__all__ = ["DimensionScaling", "InvertibleFlow", "Permutation"]

_INITIAL_SCALE = 0.01


class DimensionScaling(InvertibleModule):
    """Each dimension times a positive factor, plus a shift; at first the identity.

    Parameters
    ----------
    dims_in
        FrEIA's shape of the input without the batch: ``[(d,)]``.
    """

    def __init__(self, dims_in: Sequence[tuple[int]]) -> None:
        super().__init__(dims_in)
        self.log_scale, self.shift = (nn.Parameter(torch.zeros(dims_in[0][0])) for _ in range(2))

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """FrEIA's contract for rows ``[(n, d)]``."""
        log_det = self.log_scale.sum().expand(len(x[0]))
        if rev:
            return ((x[0] - self.shift) * torch.exp(-self.log_scale),), -log_det
        return (x[0] * torch.exp(self.log_scale) + self.shift,), log_det

    def output_dims(self, input_dims: list[tuple[int]]) -> list[tuple[int]]:
        """The output has the shape of the input."""
        return input_dims


class Permutation(InvertibleModule):
    """The dimensions in another order.

    Parameters
    ----------
    dims_in
        FrEIA's shape of the input without the batch: ``[(d,)]``.
    generator
        Source of the order.
    """

    order: Tensor
    inverse_order: Tensor

    def __init__(self, dims_in: Sequence[tuple[int]], *, generator: torch.Generator | None) -> None:
        super().__init__(dims_in)
        self.register_buffer("order", torch.randperm(dims_in[0][0], generator=generator))
        self.register_buffer("inverse_order", self.order.argsort())

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """FrEIA's contract for rows ``[(n, d)]``."""
        order = self.inverse_order if rev else self.order
        return (x[0].index_select(1, order),), x[0].new_zeros(len(x[0]))

    def output_dims(self, input_dims: list[tuple[int]]) -> list[tuple[int]]:
        """The output has the shape of the input."""
        return input_dims


class InvertibleFlow(nn.Module):
    """Blocks of `DimensionScaling`, `Permutation` and `CouplingBlock`.

    Parameters
    ----------
    feature_dim
        ``d >= 2``.
    blocks
        Number of blocks.
    hidden
        Units of the hidden layer of each coupling block's subnets.
    generator
        Source of the initial weights of the coupling blocks, all ``0.01 * N(0, 1)``, biases
        included, and of the orders of the dimensions.
    """

    def __init__(
        self, feature_dim: int, *, blocks: int, hidden: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        # Making layers draws from torch's global generator; the fork leaves that unchanged.
        with torch.random.fork_rng(devices=[]):
            self.inn = SequenceINN(feature_dim)
            for _ in range(blocks):
                self.inn.append(DimensionScaling)
                self.inn.append(Permutation, generator=generator)
                self.inn.append(CouplingBlock, hidden=hidden)
            for block in self.inn:
                if isinstance(block, CouplingBlock):
                    for parameter in block.parameters():
                        nn.init.normal_(parameter, std=_INITIAL_SCALE, generator=generator)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(n, d)`` of features ``(n, d)``, and the log-determinant ``(n,)`` of dz/dx."""
        z, log_det = self.inn(x)
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Features ``(n, d)`` of latents ``(n, d)``."""
        x, _ = self.inn(z, rev=True)
        return torch.as_tensor(x)
