"""The conditional flow of GSMFlow: affine coupling blocks in FrEIA's framework (paper, sec. 3.2).

FrEIA 0.2 clamps the log-scale to ``clamp * 0.636 * atan(s)``; the version that the paper used
computes ``clamp * 0.636 * atan(s / clamp)``. The two are equal at the clamp of 1.0 used here. This
file follows FrEIA 0.2.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import InvertibleModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
    of both subnets: the product of the condition with its columns of the first Linear. This equals
    FrEIA's ``GLOWCouplingBlock`` with the condition concatenated to the input, but the product can
    be computed once per class.

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
        # In place: no gradient needs the overwritten values, and these lines are memory-bound.
        hidden = self.input(x)
        if offset is not None:
            hidden.add_(offset)
        functional.leaky_relu_(hidden, _NEGATIVE_SLOPE)
        # Autocast may have made this bf16; log-scale and shift get the precision of the rows.
        raw, shift = self.output(hidden).to(x.dtype).chunk(2, dim=1)
        return _CLAMP * _ATAN_TO_UNIT * torch.atan(raw), shift


class _Projection(torch.autograd.Function):
    """``condition @ weight.T``, twice: gradients of the second copy reach the weight alone."""

    @staticmethod
    def forward(ctx: Any, condition: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(condition, weight)
        offset = functional.linear(condition, weight)
        return offset, offset.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_both: Tensor, to_weight: Tensor) -> tuple[Tensor | None, Tensor]:
        condition, weight = ctx.saved_tensors
        # These products are in the precision of the forward pass.
        to_condition = None
        if ctx.needs_input_grad[0]:
            to_condition = (to_both @ weight.to(to_both.dtype)).to(condition.dtype)
        total = (to_both + to_weight).T @ condition.to(to_both.dtype)
        return to_condition, total.to(weight.dtype)


class ConditionalFlow(nn.Module):
    """An invertible map between features and a standard Gaussian, given each row's class.

    The products with the condition are computed once per class, by `offsets`; rows are mapped
    with these and with the class of every row.

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
        # Making a layer draws from torch's global generator; the fork leaves that unchanged.
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

    def offsets(self, condition: Tensor) -> list[Tensor]:
        """The offsets that the condition adds in each conditioned block, once per class.

        Parameters
        ----------
        condition
            One condition per class, ``(classes, h)``.

        Returns
        -------
        list of Tensor
            ``(classes, 2 * hidden)`` for each conditioned block.
        """
        return [projection(condition) for projection in self.projections]

    def offsets_and_apart(self, condition: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """``offsets(condition)`` and ``offsets(condition.detach())`` at the cost of one of them.

        Gradients of the second copy reach the projections but not the condition. The product with
        the condition, and that of the projections' gradient, are computed once for both.
        """
        weights = [projection.get_parameter("weight") for projection in self.projections]
        apply: Callable[..., tuple[Tensor, Tensor]] = _Projection.apply
        pairs = [apply(condition, weight) for weight in weights]
        return [offset for offset, _ in pairs], [detached for _, detached in pairs]

    def forward(
        self, x: Tensor, offsets: Sequence[Tensor], classes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features to latents.

        Parameters
        ----------
        x
            Features, ``(n, d)``.
        offsets
            Offsets of each class, from `offsets`.
        classes
            Each row's class, as a row of the offsets, ``(n,)``; None if row ``i`` is of class
            ``i``.

        Returns
        -------
        tuple of Tensor
            Latents ``(n, d)`` and the log-determinant ``(n,)`` of the Jacobian dz/dx.
        """
        z, log_det = self.inn(x, c=_offsets_of_rows(offsets, classes))
        return z, log_det

    def inverse(
        self, z: Tensor, offsets: Sequence[Tensor], classes: Tensor | None = None
    ) -> Tensor:
        """Latents ``(n, d)`` to features ``(n, d)``; the other arguments as in `forward`."""
        x, _ = self.inn(z, c=_offsets_of_rows(offsets, classes), rev=True)
        return torch.as_tensor(x)


def _offsets_of_rows(offsets: Sequence[Tensor], classes: Tensor | None) -> Sequence[Tensor]:
    """The offsets of each row's class, ``(n, 2 * hidden)`` for each conditioned block."""
    if classes is None:
        return offsets
    if not torch.is_grad_enabled():
        return [offset[classes] for offset in offsets]
    # Not offset[classes]: its gradient adds rows in no fixed order on a GPU, and is slower on a
    # CPU. A product with the one-hot classes is reproducible, and so is its gradient.
    # Not torch's one_hot: on a CPU it reads the classes to check them.
    every = torch.arange(len(offsets[0]), device=classes.device)
    one_hot = (classes[:, None] == every).to(offsets[0].dtype)
    return [one_hot @ offset for offset in offsets]
