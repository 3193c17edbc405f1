"""Saving a model's tensors together with those of its feature scaling."""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from gsmflow.data.scaling import FeatureScaling, FeatureScalingName
from gsmflow.learning.contract import Model

__all__ = [
    "Shapes",
    "check_numbers",
    "check_shapes",
    "model_tensors",
    "shapes_of",
    "split_scaling",
    "tensors_with_scaling",
]


# The size of each dimension of tensors, by name; JSON-ready.
Shapes: TypeAlias = dict[str, list[int]]

_SCALING = "scaling."


def tensors_with_scaling(model: Model | nn.Module, scaling: FeatureScaling) -> dict[str, Tensor]:
    """A model's tensors by name, with those of the scaling that is applied to its features."""
    return model.state_dict() | {
        f"{_SCALING}shift": torch.from_numpy(scaling.shift),
        f"{_SCALING}spread": torch.from_numpy(scaling.spread),
    }


def split_scaling(
    tensors: dict[str, Tensor], name: FeatureScalingName
) -> tuple[dict[str, Tensor], FeatureScaling]:
    """The inverse of `tensors_with_scaling`: the model's tensors, and the scaling.

    Parameters
    ----------
    tensors
        Tensors of both, by name.
    name
        The kind of scaling.

    Raises
    ------
    KeyError
        If a tensor of the scaling is missing.
    """
    shift, spread = (tensors[f"{_SCALING}{name}"].numpy() for name in ("shift", "spread"))
    return model_tensors(tensors), FeatureScaling(shift, spread, unit_rows=name == "l2")


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` if one of the tensors has a NaN; some scales are infinite by design."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise ValueError(f"{name} has numbers that are NaN")


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shapes of tensors, to be stored apart from them, for `check_shapes`."""
    return {name: list(tensor.shape) for name, tensor in sorted(tensors.items())}


def check_shapes(tensors: Mapping[str, Tensor], expected: Shapes | None) -> None:
    """Raise `ValueError` unless tensors have the shapes that were stored apart from them.

    ``expected`` is None where none were stored, as in runs of earlier versions.
    """
    found = shapes_of(tensors)
    for name, shape in () if expected is None else expected.items():
        if name not in found:
            raise ValueError(f"found no tensor {name}, expected one of shape {tuple(shape)}")
        if found[name] != shape:
            raise ValueError(
                f"found tensor {name} of shape {tuple(found[name])}, expected {tuple(shape)}"
            )


def model_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the model, out of those of `tensors_with_scaling`."""
    return {name: t for name, t in tensors.items() if not name.startswith(_SCALING)}
