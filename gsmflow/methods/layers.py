"""Dense layers of networks: making them, their initial weights, and dropout with given numbers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from gsmflow.core.rng import BatchRandom

__all__ = ["InitialWeightsName", "dense", "draw_weights", "dropout", "perceptron"]

InitialWeightsName: TypeAlias = Literal["torch", "xavier", "normal"]

_NORMAL_DEVIATION = 0.02


def dense(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer whose weights are not drawn yet: they are NaN, so that a forgotten draw is seen."""
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.constant_(parameter, torch.nan)
    return layer


def perceptron(sizes: Sequence[int], *, relu_output: bool = False) -> nn.Sequential:
    """Layers between these sizes with ReLU after each but the last, or after the last as well."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [dense(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers if relu_output else layers[:-1])


def draw_weights(
    module: nn.Module, name: InitialWeightsName, generator: torch.Generator | None
) -> None:
    """Draw the weights of all dense layers of a module.

    Parameters
    ----------
    module
        The module.
    name
        ``"torch"``: weights and biases uniform within ``1 / sqrt(inputs)``, as torch's layers
        start. ``"xavier"``: weights from Xavier's uniform distribution, biases 0. ``"normal"``:
        weights from a normal distribution of deviation 0.02, biases 0.
    generator
        Source of the weights.
    """
    for layer in module.modules():
        if not isinstance(layer, nn.Linear):
            continue
        if name == "torch":
            bound = layer.in_features**-0.5
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            continue
        if name == "xavier":
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        else:
            nn.init.normal_(layer.weight, std=_NORMAL_DEVIATION, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def dropout(values: Tensor, share: float, draws: BatchRandom | None) -> Tensor:
    """Set a random share of values ``(n, k)`` to 0 and divide the others by the share that is kept.

    Parameters
    ----------
    values
        Hidden units.
    share
        In [0, 1).
    draws
        Source of random numbers; None leaves the values as they are, as outside of training.
    """
    if draws is None or share == 0:
        return values
    kept = draws.uniform_like(values) >= share
    return values * kept / (1 - share)
