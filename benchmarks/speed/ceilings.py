"""Measure what a device can do at most: copying its memory, and products of large matrices."""

from collections.abc import Callable
from statistics import median

import torch

from benchmarks.speed.measure import in_turn, make_product, native_precisions

__all__ = ["COPY", "make_copy", "measure_ceilings"]

COPY = "copy"
_MIB = 2**20
# A single copy takes a GPU less time than is needed to time it well.
_COPIES_ON_A_GPU = 20


def make_copy(mib: int, device: torch.device) -> tuple[Callable[[], None], int]:
    """A copy within a device's memory, and the bytes that one call reads and writes."""
    source = torch.ones(mib * _MIB, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    count = 1 if device.type == "cpu" else _COPIES_ON_A_GPU

    def copy() -> None:
        for _ in range(count):
            target.copy_(source)

    return copy, count * 2 * source.nbytes


def measure_ceilings(
    device: torch.device,
    *,
    copy_mib: int,
    product_size: int,
    repetitions: int,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, dict[str, float]]:
    """Time a copy and products in all native precisions in turn.

    Parameters
    ----------
    device
        The device.
    copy_mib
        MiB to copy, more than its caches hold.
    product_size
        Rows of the square matrices.
    repetitions
        Timings of each, after a warm-up.
    on_round
        Called after each round, for a progress bar.

    Returns
    -------
    dict
        ``best`` and ``median`` of ``"copy"``, bytes read and written a second, and of each
        precision's product, FLOP/s.
    """
    jobs = {COPY: make_copy(copy_mib, device)}
    jobs |= {p: make_product(product_size, p, device) for p in native_precisions(device)}
    functions = [(name, call) for name, (call, _) in jobs.items()]
    seconds = in_turn(functions, repetitions, device, on_round)
    return {
        name: {"best": amount / min(seconds[name]), "median": amount / median(seconds[name])}
        for name, (_, amount) in jobs.items()
    }
