"""How seconds and memory grow with classes and with synthesized samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.speed.classifying import classify_as_a_run
from benchmarks.speed.measure import Isolate, power_law_exponent
from benchmarks.speed.sizes import Size
from benchmarks.speed.steps import step_memory, time_classes

__all__ = ["Grown", "grow_samples", "grow_step", "grow_unseen"]


@dataclass(frozen=True)
class Grown:
    """What a job took at several sizes.

    Attributes
    ----------
    sizes
        Numbers of classes or samples, ascending.
    seconds, mib
        At each of them.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    mib: tuple[float, ...]

    def describe(self) -> dict[str, Any]:
        """All of it, with the fitted exponents, JSON-ready."""
        return {
            "sizes": list(self.sizes),
            "seconds": list(self.seconds),
            "mib": list(self.mib),
            "seconds_exponent": power_law_exponent(self.sizes, self.seconds),
            "mib_exponent": power_law_exponent(self.sizes, self.mib),
        }


def grow_step(
    size: Size,
    seen: Sequence[int],
    prototype_classes: int,
    device: torch.device,
    *,
    steps: int,
    repetitions: int,
    isolate: Isolate,
    on_round: Callable[[], object] = lambda: None,
) -> Grown:
    """A training step in fp32 at several numbers of seen classes.

    Parameters
    ----------
    size
        Of all else.
    seen
        Numbers of seen classes.
    prototype_classes
        As in the recipe: with at most the least of ``seen``, steps differ in nothing else.
    device
        Where.
    steps, repetitions
        Steps in a timing, and timings of each number of classes, in turn.
    isolate
        What calls a function whose memory is measured.
    on_round
        Called after each round of timings, for a progress bar.
    """
    seconds = time_classes(
        size,
        seen,
        prototype_classes,
        device,
        steps=steps,
        repetitions=repetitions,
        on_round=on_round,
    )
    memory = [isolate(step_memory, size, n, prototype_classes, str(device)) for n in seen]
    return Grown(tuple(seen), tuple(seconds[n] for n in seen), tuple(memory))


def grow_samples(
    size: Size,
    samples: Sequence[int],
    device: torch.device,
    isolate: Isolate,
    on_job: Callable[[], object],
) -> Grown:
    """Synthesis and classifiers at several numbers of samples in all, through one reservoir."""
    return _grow({n: _with_samples(size, n) for n in samples}, device, isolate, on_job)


def grow_unseen(
    size: Size,
    unseen: Sequence[int],
    samples: int,
    device: torch.device,
    isolate: Isolate,
    on_job: Callable[[], object],
) -> Grown:
    """Synthesis and classifiers at several numbers of unseen classes that share the samples."""
    return _grow(
        {n: _with_samples(replace(size, unseen=n), samples) for n in unseen},
        device,
        isolate,
        on_job,
    )


def _with_samples(size: Size, samples: int) -> Size:
    per_class = max(1, samples // size.unseen)
    return replace(size, recipe=replace(size.recipe, samples_per_class=per_class))


def _grow(
    sizes: Mapping[int, Size],
    device: torch.device,
    isolate: Isolate,
    on_job: Callable[[], object],
) -> Grown:
    jobs = []
    for size in sizes.values():
        jobs.append(isolate(classify_as_a_run, size, str(device), "fp32", 64))
        on_job()
    return Grown(
        tuple(sizes),
        tuple(job["seconds"] for job in jobs),
        tuple(job["host_mib"] + job["device_mib"] for job in jobs),
    )
