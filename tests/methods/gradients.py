"""The gradients of a model's loss, compared with finite differences."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.builders import seeded


def assert_gradients(
    model: nn.Module, loss: Callable[[], Tensor], *, step: float, relative: float, absolute: float
) -> None:
    """Each parameter's gradient along a random direction equals the central difference."""
    loss().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, generator=seeded(4), dtype=parameter.dtype)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
                losses.append(loss().item())
                parameter -= sign * step * direction
        found = (parameter.grad * direction).sum().item()
        expected = (losses[0] - losses[1]) / (2 * step)
        assert found == pytest.approx(expected, rel=relative, abs=absolute), name
