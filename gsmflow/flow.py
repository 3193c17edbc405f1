"""The conditional flow: affine coupling blocks in FrEIA's framework (paper, sec. 3.2).

FrEIA 0.2 clamps the log-scale to ``clamp * 0.636 * atan(s)``; the version that the paper pinned
computed ``clamp * 0.636 * atan(s / clamp)``. Both are the same at the clamp of 1.0 used here;
were the clamp changed, FrEIA 0.2's form is the one meant.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import InvertibleModule
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ConditionBlocks", "ConditionalFlow", "CouplingBlock"]

ConditionBlocks: TypeAlias = Literal["all", "first"]

_CLAMP = 1.0
_ATAN_TO_UNIT = 0.636  # FrEIA's rounding of 2 / pi
_NEGATIVE_SLOPE = 0.2
_INITIAL_SCALE = 0.01


class CouplingBlock(InvertibleModule):
    """An affine coupling block with one subnet per half, as in GLOW (without permutation).

    Each half is scaled and shifted in turn, by amounts that a subnet computes from the other
    half: Linear, LeakyReLU(0.2), Linear. The condition enters as an offset to the hidden layer
    of both subnets, which is the product of the condition with its columns of the first Linear;
    it equals FrEIA's ``GLOWCouplingBlock`` with the condition concatenated to the input, and
    lets the product be computed once per class.

    Parameters
    ----------
    dims_in
        FrEIA's shape of the input without the batch: ``[(d,)]``, ``d >= 2``; odd ``d`` is split
        into ``d // 2`` and the rest.
    dims_c
        FrEIA's shapes of the conditions: ``[(2 * hidden,)]``, or empty without a condition.
    hidden
        Units of each subnet's hidden layer.
    """

    def __init__(
        self, dims_in: Sequence[tuple[int]], dims_c: Sequence[tuple[int]] = (), *, hidden: int
    ) -> None:
        super().__init__(dims_in, dims_c)
        d = dims_in[0][0]
        self.split = [d // 2, d - d // 2]
        first, second = self.split
        self.from_second = _Subnet(second, hidden, 2 * first)
        self.from_first = _Subnet(first, hidden, 2 * second)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """FrEIA's contract: ``x`` is ``[(n, d)]``, ``c`` is ``[(n, 2 * hidden)]`` or empty.

        Returns
        -------
        tuple
            ``((n, d),)`` and the log-determinant ``(n,)`` of the direction that was run.
        """
        first, second = torch.split(x[0], self.split, dim=1)
        to_first, to_second = c[0].chunk(2, dim=1) if c else (None, None)
        if rev:
            log_scale2, shift2 = self.from_first(first, to_second)
            second = (second - shift2) * torch.exp(-log_scale2)
            log_scale1, shift1 = self.from_second(second, to_first)
            first = (first - shift1) * torch.exp(-log_scale1)
        else:
            log_scale1, shift1 = self.from_second(second, to_first)
            first = first * torch.exp(log_scale1) + shift1
            log_scale2, shift2 = self.from_first(first, to_second)
            second = second * torch.exp(log_scale2) + shift2
        log_det = log_scale1.sum(dim=1) + log_scale2.sum(dim=1)
        return (torch.cat((first, second), dim=1),), -log_det if rev else log_det

    def output_dims(self, input_dims: list[tuple[int]]) -> list[tuple[int]]:
        """The output has the shape of the input."""
        return input_dims


class _Subnet(nn.Module):
    """Linear, LeakyReLU(0.2), Linear: one half and an offset to (log-scale, shift) of the other."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.input = nn.Linear(dim_in, hidden)
        self.output = nn.Linear(hidden, dim_out)

    def forward(self, x: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden = self.input(x)
        if offset is not None:
            hidden = hidden + offset
        raw, shift = self.output(functional.leaky_relu(hidden, _NEGATIVE_SLOPE)).chunk(2, dim=1)
        return _CLAMP * _ATAN_TO_UNIT * torch.atan(raw), shift


class ConditionalFlow(nn.Module):
    """An invertible map between features and a standard Gaussian, given each row's class.

    Conditions are given per class, ``(classes, h)``, with the class of every row, so that the
    products with the condition are computed once per class.

    Parameters
    ----------
    feature_dim
        ``d >= 2``.
    condition_dim
        ``h``.
    blocks
        Number of coupling blocks.
    hidden
        Units of each subnet's hidden layer.
    condition_blocks
        ``"all"``: every block sees the condition (paper). ``"first"``: the first alone (the
        paper's ablation).
    generator
        Source of the initial weights, all ``0.01 * N(0, 1)``, biases included.
    """

    def __init__(
        self,
        feature_dim: int,
        condition_dim: int,
        *,
        blocks: int,
        hidden: int,
        condition_blocks: ConditionBlocks = "all",
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        conditioned = blocks if condition_blocks == "all" else 1
        # Torch's layers draw initial weights of their own before these are overwritten.
        with torch.random.fork_rng(devices=[]):
            self.projections = nn.ModuleList(
                nn.Linear(condition_dim, 2 * hidden, bias=False) for _ in range(conditioned)
            )
            self.inn = SequenceINN(feature_dim)
            for k in range(blocks):
                condition = {"cond": k, "cond_shape": (2 * hidden,)} if k < conditioned else {}
                self.inn.append(CouplingBlock, hidden=hidden, **condition)
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=_INITIAL_SCALE, generator=generator)

    def forward(
        self, x: Tensor, condition: Tensor, classes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features to latents.

        Parameters
        ----------
        x
            Features, ``(n, d)``.
        condition
            One condition per class, ``(classes, h)``.
        classes
            Each row's class, as a row of ``condition``, ``(n,)``; None if row ``i`` is of class
            ``i``.

        Returns
        -------
        tuple of Tensor
            Latents ``(n, d)`` and the log-determinant ``(n,)`` of the Jacobian dz/dx.
        """
        z, log_det = self.inn(x, c=self._offsets(condition, classes))
        return z, log_det

    def inverse(self, z: Tensor, condition: Tensor, classes: Tensor | None = None) -> Tensor:
        """Latents ``(n, d)`` to features ``(n, d)``; the other arguments as in `forward`."""
        x, _ = self.inn(z, c=self._offsets(condition, classes), rev=True)
        return torch.as_tensor(x)

    def _offsets(self, condition: Tensor, classes: Tensor | None) -> list[Tensor]:
        per_class = [projection(condition) for projection in self.projections]
        if classes is None:
            return per_class
        if not torch.is_grad_enabled():
            return [offset[classes] for offset in per_class]
        # The gradient of a gather adds rows in an order that a GPU does not fix; a product with
        # the one-hot classes is reproducible, and its gradient is a product too.
        one_hot = functional.one_hot(classes, len(condition)).to(condition.dtype)
        return [one_hot @ offset for offset in per_class]
