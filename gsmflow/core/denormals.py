"""Numbers so near to 0 that a processor computes with them at a tenth of its speed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["flushing_denormals"]


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """A context in which such numbers are 0 on a CPU that can do so.

    Below 1.2e-38, numbers in single precision are denormal. Adam's moments of a weight without
    gradients shrink to them, and so do weights that a penalty alone acts on: a training then slows
    down from epoch to epoch.
    """
    tiny = torch.full((1,), 1e-40)
    were_flushed = not (tiny * 1).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)
