"""The precision of matrix products: fp32, tf32 or bf16; weights and sums stay in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch

from gsmflow.core.errors import InputError

__all__ = ["Precision", "PrecisionName", "autocast", "pick_precision", "tf32_products"]

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]
PrecisionName: TypeAlias = Literal["auto", "fp32", "tf32", "bf16"]


def pick_precision(name: PrecisionName, device: torch.device) -> Precision:
    """The precision of this name; ``"auto"`` takes bf16 where the device multiplies it natively.

    Raises
    ------
    InputError
        If tf32 is asked for on anything but an NVIDIA GPU that has it.
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
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context for forward passes: under bf16 their matrix products are of that precision.

    A weight is copied to bf16 at its first use in the context and the copy kept until the context
    ends, so one context a step, or one for all of a synthesis, costs one copy of the weights.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def tf32_products(precision: Precision) -> Iterator[None]:
    """A context for forward and backward passes: under tf32 GPU products are of that precision."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
