"""Growth of seconds and memory with the number of classes and of synthesized samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.speed.classifying import classify_as_a_run
from benchmarks.speed.measure import Isolate, power_law_exponent
from benchmarks.speed.sizes import Size

__all__ = ["Growth", "measure_synthesis_growth", "sizes_by_samples", "sizes_by_unseen"]


@dataclass(frozen=True)
class Growth:
    """Time and memory of a job at several sizes.

    Attributes
    ----------
    sizes
        Numbers of classes or samples, ascending.
    seconds, mib
        Time and peak memory at each size.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    mib: tuple[float, ...]

    def describe(self) -> dict[str, Any]:
        """All fields and the fitted exponents, JSON-ready."""
        return {
            "sizes": list(self.sizes),
            "seconds": list(self.seconds),
            "mib": list(self.mib),
            "seconds_exponent": power_law_exponent(self.sizes, self.seconds),
            "mib_exponent": power_law_exponent(self.sizes, self.mib),
        }


def sizes_by_samples(size: Size, samples: Sequence[int]) -> dict[int, Size]:
    """Sizes with these numbers of samples of all unseen classes together."""
    return {n: _with_samples(size, n) for n in samples}


def sizes_by_unseen(size: Size, unseen: Sequence[int], samples: int) -> dict[int, Size]:
    """Sizes with these numbers of unseen classes, and with the same number of samples in all."""
    return {n: _with_samples(replace(size, unseen=n), samples) for n in unseen}


def _with_samples(size: Size, samples: int) -> Size:
    per_class = max(1, samples // size.unseen)
    return size.with_settings(samples_per_class=per_class)


def measure_synthesis_growth(
    sizes: Mapping[int, Size],
    device: torch.device,
    isolate: Isolate,
    on_job: Callable[[], object],
) -> Growth:
    """Measure synthesis and classifiers at several sizes.

    Parameters
    ----------
    sizes
        Sizes by the number that grows, ascending.
    device
        Where to compute.
    isolate
        Calls a function whose memory is measured.
    on_job
        Called after each size, for a progress bar.
    """
    jobs = []
    for size in sizes.values():
        jobs.append(isolate(classify_as_a_run, size, str(device), "fp32", 64))
        on_job()
    return Growth(
        tuple(sizes),
        tuple(job["seconds"] for job in jobs),
        tuple(job["host_mib"] + job["device_mib"] for job in jobs),
    )
