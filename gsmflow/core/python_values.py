"""What a user gives in Python: paths, and arrays that may be torch tensors."""

import os
from pathlib import Path

import torch
from numpy.typing import ArrayLike

from gsmflow.core.errors import InputError

__all__ = ["as_path", "without_gradient"]


def as_path(where: str, value: object) -> Path:
    """A path that was given as the parameter ``where``, or an `InputError` if it is none."""
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise InputError(f"{where}: found {value!r}, expected a path")


def without_gradient(values: ArrayLike) -> ArrayLike:
    """An array as NumPy takes it: of a torch tensor the values, on the CPU; others unchanged."""
    if not isinstance(values, torch.Tensor):
        return values
    on_cpu = values.detach().cpu()
    # NumPy has no bfloat16.
    return on_cpu.float() if on_cpu.dtype == torch.bfloat16 else on_cpu
