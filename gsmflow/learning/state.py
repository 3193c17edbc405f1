"""A model's tensors together with those of its feature scaling."""

import torch
from torch import Tensor, nn

from gsmflow.data.scaling import FeatureScaling, FeatureScalingName
from gsmflow.learning.contract import Model

__all__ = ["own_tensors", "split_scaling", "tensors_with_scaling"]


_SCALING = "scaling."


def tensors_with_scaling(model: Model | nn.Module, scaling: FeatureScaling) -> dict[str, Tensor]:
    """A model's tensors by name, with those of the feature scaling that it works behind."""
    return model.state_dict() | {
        f"{_SCALING}shift": torch.from_numpy(scaling.shift),
        f"{_SCALING}spread": torch.from_numpy(scaling.spread),
    }


def split_scaling(
    tensors: dict[str, Tensor], name: FeatureScalingName
) -> tuple[dict[str, Tensor], FeatureScaling]:
    """What `tensors_with_scaling` put together: the model's own tensors, and the scaling.

    Parameters
    ----------
    tensors
        Both, by name.
    name
        Of the scaling.

    Raises
    ------
    KeyError
        If there is no scaling among them.
    """
    shift, spread = (tensors[f"{_SCALING}{name}"].numpy() for name in ("shift", "spread"))
    return own_tensors(tensors), FeatureScaling(shift, spread, unit_rows=name == "l2")


def own_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of `tensors_with_scaling` that are the model's own."""
    return {name: t for name, t in tensors.items() if not name.startswith(_SCALING)}
