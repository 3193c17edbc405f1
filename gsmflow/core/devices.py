"""Torch devices by name."""

import torch

from gsmflow.core.errors import InputError

__all__ = ["pick_device", "synchronize"]


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    InputError
        If the device is not available on this machine.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available[:0] = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise InputError(
            f"--device: found {name}, expected auto or one available here: {', '.join(available)}"
        )
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
