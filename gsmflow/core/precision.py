"""Precision of matrix products: fp32, tf32 or bf16. Weights and sums stay in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gsmflow.core.errors import InputError

__all__ = [
    "Precision",
    "PrecisionName",
    "at_least_float32",
    "autocast",
    "pick_precision",
    "tf32_products",
]

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]
PrecisionName: TypeAlias = Literal["auto", "fp32", "tf32", "bf16"]


def pick_precision(name: PrecisionName, device: torch.device) -> Precision:
    """Return the precision of a name; ``"auto"`` is bf16 if the device multiplies it natively.

    Raises
    ------
    InputError
        If the name is tf32 and the device is no NVIDIA GPU that supports it.
    """
    if name == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if name == "tf32" and not _has_tf32(device):
        raise InputError(
            f"--precision: found tf32 on device {device}, expected fp32 or bf16: tf32 is a format "
            "of NVIDIA GPUs from Ampere on"
        )
    return name


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Older torch does not say what the processor multiplies: fp32 is always right.
        if not hasattr(torch.cpu, "get_capabilities"):
            return False
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context for forward passes; with bf16 their matrix products are computed in bf16.

    Torch copies a weight to bf16 at its first use and keeps the copy until the context ends. One
    context for each training step, or one for a whole synthesis, therefore copies each weight
    once.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def tf32_products(precision: Precision) -> Iterator[None]:
    """A context for forward and backward passes; with tf32, GPU products are computed in tf32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def at_least_float32(values: Tensor) -> Tensor:
    """Values in float32 or float64: bf16 is too coarse for sums of thousands of them."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
