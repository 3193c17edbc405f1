"""Measure seconds, memory and matrix products."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import numpy as np
import psutil
import torch

from gsmflow.core.devices import synchronize
from gsmflow.core.errors import InputError
from gsmflow.core.precision import Precision, pick_precision, tf32_products

__all__ = [
    "Isolate",
    "Usage",
    "in_child",
    "in_this_process",
    "in_turn",
    "make_product",
    "native_precisions",
    "power_law_exponent",
    "watch",
]

_Result = TypeVar("_Result")


class Isolate(Protocol):
    """Calls a function of a module: `in_child` or `in_this_process`."""

    def __call__(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Return the function's result."""


_MIB = 2**20
_SAMPLING_SECONDS = 0.005
# A single product takes a GPU less time than its launch.
_PRODUCTS_ON_A_GPU = 50


@dataclass(frozen=True)
class Usage:
    """Time and memory of a job.

    Attributes
    ----------
    seconds
        Wall-clock time.
    host_mib
        Peak of the process's resident memory minus that before the job, MiB.
    device_mib
        The same for the memory that torch allocated on a GPU; 0 on a CPU.
    """

    seconds: float
    host_mib: float
    device_mib: float

    @property
    def mib(self) -> float:
        """Peak memory on host and device together, MiB."""
        return self.host_mib + self.device_mib


def native_precisions(device: torch.device) -> list[Precision]:
    """The precisions that a device multiplies natively, fp32 first."""
    found: list[Precision] = ["fp32"]
    if pick_precision("auto", device) == "bf16":
        found += ["tf32", "bf16"] if device.type == "cuda" else ["bf16"]
    return found


def in_turn(
    functions: Sequence[tuple[str, Callable[[], object]]],
    repetitions: int,
    device: torch.device,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time functions in turn, A B A B, so that a change of the machine's speed affects all.

    Parameters
    ----------
    functions
        Names and functions; a name may occur several times in a round.
    repetitions
        Timed rounds, after one warm-up round.
    device
        Where the functions compute.
    on_round
        Called after each round and after the warm-up, for a progress bar.

    Returns
    -------
    dict
        Seconds of every call, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name, _ in functions}
    for round_ in range(repetitions + 1):
        for name, call in functions:
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
        on_round()
    return seconds


def make_product(
    n: int, precision: Precision, device: torch.device
) -> tuple[Callable[[], None], int]:
    """A product of two ``(n, n)`` matrices, and the operations of one call.

    A call multiplies once on a CPU, and several times on a GPU, where one product is too short.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # Random values: with equal ones a GPU takes less power and reaches a higher clock.
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(n, n, generator=generator, device=device).to(dtype) for _ in range(2)
    )
    result = torch.empty_like(left)
    count = 1 if device.type == "cpu" else _PRODUCTS_ON_A_GPU

    def product() -> None:
        with tf32_products(precision):
            for _ in range(count):
                torch.mm(left, right, out=result)

    return product, count * 2 * n**3


def watch(job: Callable[[], object], device: torch.device) -> Usage:
    """Run a job and measure its time and its peak memory above that before the job."""
    process = psutil.Process()
    on_gpu = device.type == "cuda"
    synchronize(device)
    device_before = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        device_before = torch.cuda.memory_allocated(device)
    before = process.memory_info().rss
    peaks = [before]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLING_SECONDS):
            peaks[0] = max(peaks[0], process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    start = time.perf_counter()
    try:
        job()
        synchronize(device)
    finally:
        seconds = time.perf_counter() - start
        done.set()
        sampler.join()
    peak = max(peaks[0], process.memory_info().rss)
    device_peak = torch.cuda.max_memory_allocated(device) if on_gpu else 0
    return Usage(seconds, (peak - before) / _MIB, (device_peak - device_before) / _MIB)


def in_child(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function of a module in a new process, so that its memory is measured alone.

    Raises
    ------
    InputError
        If the process was killed, as a system without enough memory does.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_with_threads, torch.get_num_threads(), function, arguments).result()
        except BrokenProcessPool as error:
            raise InputError(
                f"bench: found the process of {function.__name__} killed, expected enough memory "
                "for it; the plain baseline needs less with fewer --samples-per-class"
            ) from error


def in_this_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function in this process, which is faster but measures memory less exactly."""
    return function(*arguments)


def _with_threads(
    threads: int, function: Callable[..., _Result], arguments: Sequence[Any]
) -> _Result:
    torch.set_num_threads(threads)
    return function(*arguments)


def power_law_exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """The exponent ``b`` of ``value = a * size ** b``, by least squares on the logarithms.

    None if a value is not positive.
    """
    if min(values) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
