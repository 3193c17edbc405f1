"""The parts of the benchmark."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.speed.ceilings import measure_ceilings
from benchmarks.speed.classifying import classify_as_a_run, classify_plainly
from benchmarks.speed.gan_steps import measure_gan_steps
from benchmarks.speed.growth import (
    Growth,
    measure_synthesis_growth,
    sizes_by_samples,
    sizes_by_unseen,
)
from benchmarks.speed.measure import Isolate, in_child, in_this_process, native_precisions
from benchmarks.speed.reading import FORMATS, WAYS, measure_reading, write_made_up
from benchmarks.speed.running import IMPORTS, measure_run, time_imports
from benchmarks.speed.sizes import Scale, Size, for_device, step_operations
from benchmarks.speed.steps import (
    describe_peak,
    describe_steps,
    measure_steps,
    profile_steps,
    step_memory,
    time_classes,
    ways_on,
)
from gsmflow.recipes.fit import reservoir_bytes

__all__ = ["Bench", "Part", "measure_parts"]

_READS = 3
_STARTS = 3
_PROFILED_STEPS, _PROFILE_ROWS = 10, 12
_MIB = 2**20


@dataclass(frozen=True, eq=False)
class Bench:
    """The settings of all parts.

    Attributes
    ----------
    scale, device
        The sizes, and where to compute.
    repetitions
        Timings of each function that is timed in turn.
    samples_per_class
        Samples in the part ``synthesis``; None for the recipe's.
    console
        For progress.
    """

    scale: Scale
    device: torch.device
    repetitions: int
    samples_per_class: int | None
    console: Console

    @property
    def steps(self) -> int:
        """Training steps in one timing."""
        return for_device(self.scale.steps, self.device)

    @property
    def isolate(self) -> Isolate:
        """Calls a function whose memory is measured."""
        return in_child if self.scale.processes else in_this_process


@dataclass(frozen=True)
class Part:
    """Results of a part, JSON-ready.

    Attributes
    ----------
    results
        The measurements.
    settings
        The measured sizes.
    repetitions
        Number of measurements, in words.
    """

    results: dict[str, Any]
    settings: dict[str, Any]
    repetitions: str


def measure_parts(bench: Bench, names: Collection[str]) -> Iterator[dict[str, Part]]:
    """Measure parts by name; yield each, or those measured together, as soon as it is done."""
    if "step" in names or "peak" in names:
        yield _steps(bench, baseline="step" in names, peak="peak" in names)
    for name, measure in _OTHERS.items():
        if name in names:
            yield {name: measure(bench)}


def _steps(bench: Bench, *, baseline: bool, peak: bool) -> dict[str, Part]:
    """Measure steps, baseline and matrix products in turn, under the same conditions."""
    sizes = {size.name: size for size in bench.scale.sizes}
    seconds = {}
    for name, size in sizes.items():
        with _clock(bench, f"training steps, {name}", bench.repetitions + 1) as advance:
            seconds[name] = measure_steps(
                size,
                bench.device,
                ways_on(bench.device),
                baseline=baseline,
                product_size=bench.scale.product if peak else None,
                steps=bench.steps,
                repetitions=bench.repetitions,
                on_round=advance,
            )
    settings = {name: _describe(size) for name, size in sizes.items()}
    repetitions = f"medians of {bench.repetitions} timings in turn, each of {bench.steps} steps"
    parts = {}
    if baseline:
        results = {name: describe_steps(found) for name, found in seconds.items()}
        parts["step"] = Part(results, settings, repetitions)
    if peak:
        results = {name: describe_peak(found, sizes[name]) for name, found in seconds.items()}
        products = f"products of {bench.scale.product} x {bench.scale.product} before and after"
        parts["peak"] = Part(results, settings, f"{repetitions}, {products}")
    return parts


def _gan(bench: Bench) -> Part:
    size, steps = bench.scale.gan, max(1, bench.steps // 2)
    with _clock(bench, "training steps of f-CLSWGAN", bench.repetitions + 1) as advance:
        seconds = measure_gan_steps(
            size, bench.device, steps=steps, repetitions=bench.repetitions, on_round=advance
        )
    config = size.recipe.method
    settings = {
        "seen": size.seen,
        "semantics_dim": size.semantics_dim,
        "feature_dim": size.feature_dim,
        "hidden": config.hidden,
        "critic_steps": config.critic_steps,
        "batch_size": size.recipe.training.batch_size,
    }
    repetitions = f"medians of {bench.repetitions} timings in turn, each of {steps} steps"
    return Part({size.name: describe_steps(seconds)}, settings, repetitions)


def _synthesis(bench: Bench) -> Part:
    size, device, product = bench.scale.sizes[0], str(bench.device), bench.scale.product
    if bench.samples_per_class is not None:
        size = size.with_settings(samples_per_class=bench.samples_per_class)
    ours = {}
    with _clock(bench, "synthesis and classifiers, baseline"):
        plain = bench.isolate(classify_plainly, size, device, product)
    for precision in native_precisions(bench.device):
        with _clock(bench, f"synthesis and classifiers, ours in {precision}"):
            ours[precision] = bench.isolate(classify_as_a_run, size, device, precision, product)
    samples, classifier = size.method.samples_per_class, size.recipe.trained_classifier
    settings = _describe(size) | {
        "unseen": size.unseen,
        "rows": size.rows,
        "samples_per_class": samples,
        "classifier_batch_size": classifier.batch_size,
        "classifier_epochs": classifier.epochs,
        "reservoir_mib": reservoir_bytes(size.recipe, bench.device) // _MIB,
    }
    what = f"{size.unseen} classes of {samples:,} samples"
    return Part({"plain": plain, "ours": ours}, settings, f"{what}, once each")


def _growth(bench: Bench) -> Part:
    scale, device, isolate = bench.scale, bench.device, bench.isolate
    steps = max(1, bench.steps // 2)
    step = {
        str(count): _step_growth(bench, count, steps).describe()
        for count in scale.prototype_classes
    }
    sizes = sizes_by_samples(scale.stream, scale.samples)
    with _clock(bench, "synthesis as the samples grow", len(sizes)) as advance:
        samples = measure_synthesis_growth(sizes, device, isolate, advance).describe()
    sizes = sizes_by_unseen(scale.stream, scale.unseen, scale.unseen_samples)
    with _clock(bench, "synthesis as the classes grow", len(sizes)) as advance:
        unseen = measure_synthesis_growth(sizes, device, isolate, advance).describe()
    capacity = reservoir_bytes(scale.stream.recipe, device) // (4 * scale.stream.feature_dim)
    results = {"step": step, "samples": samples | {"capacity": capacity}, "unseen": unseen}
    settings = {"step": _describe(scale.sizes[0]), "synthesis": _describe(scale.stream)}
    repetitions = (
        f"steps: medians of {bench.repetitions} timings in turn, each of {steps} steps; "
        "syntheses and all memory: once each"
    )
    return Part(results, settings, repetitions)


def _step_growth(bench: Bench, prototype_classes: int, steps: int) -> Growth:
    """A training step in fp32 as the seen classes grow."""
    size, seen, device = bench.scale.sizes[0], bench.scale.seen, bench.device
    text = f"a step as the classes grow, {prototype_classes} prototypes"
    with _clock(bench, text, bench.repetitions + 1) as advance:
        seconds = time_classes(
            size,
            seen,
            prototype_classes,
            device,
            steps=steps,
            repetitions=bench.repetitions,
            on_round=advance,
        )
        memory = [bench.isolate(step_memory, size, n, prototype_classes, str(device)) for n in seen]
    return Growth(tuple(seen), tuple(seconds[n] for n in seen), tuple(memory))


def _reading(bench: Bench) -> Part:
    feature_dim, rows = bench.scale.features
    results: dict[str, Any] = {}
    for kind in FORMATS:
        with (
            _clock(bench, f"writing and reading a file of MATLAB {kind}", 1 + len(WAYS)) as advance,
            TemporaryDirectory() as name,
        ):
            root = Path(name)
            file_mib = bench.isolate(write_made_up, root, kind, feature_dim, rows)
            advance()
            ways = {}
            for way in WAYS:
                reads = bench.isolate(measure_reading, root, way, _READS)
                ways[way] = [asdict(usage) for usage in reads]
                advance()
            results[kind] = {"file_mib": file_mib, "ways": ways}
    settings = {
        "feature_dim": feature_dim,
        "rows": rows,
        "features_mib": 4 * feature_dim * rows / _MIB,
    }
    what = f"{feature_dim} x {rows:,} doubles, compressed"
    times = f"{_READS} reads each of a file that was just written, once into the cache"
    return Part(results, settings, f"{what}, {times}")


def _run(bench: Bench) -> Part:
    scale = bench.scale
    size, epochs = scale.sizes[0], for_device(scale.epochs, bench.device)
    changed = dict(scale.run_settings)
    if bench.device.type == "cuda":
        # So few epochs are not compiled unasked, but the published number is.
        changed |= {"cuda_graphs": "on", "compile": "on"}
    with _clock(bench, "starting Python with the package", _STARTS):
        seconds = time_imports(_STARTS)
    with _clock(bench, f"a run of train_AWA2.py, epochs: {epochs}"):
        results = bench.isolate(measure_run, size, epochs, changed, str(bench.device))
    start = {"stage": IMPORTS, "seconds": seconds, "published": seconds}
    results["stages"].insert(0, start)
    mib = results["host_mib"] + results["device_mib"]
    settings = _describe(size) | {"epochs": epochs, "changed": changed}
    times = f"once, with {epochs} epochs a training, start: median of {_STARTS}"
    return Part(results, settings, f"{times}, peak memory besides the data {mib:,.0f} MiB")


def _ceilings(bench: Bench) -> Part:
    scale, device = bench.scale, bench.device
    mib = for_device(scale.copied_mib, device)
    product = for_device(scale.ceiling_product, device)
    with _clock(bench, "ceilings of the device", bench.repetitions + 1) as advance:
        results = measure_ceilings(
            device,
            copy_mib=mib,
            product_size=product,
            repetitions=bench.repetitions,
            on_round=advance,
        )
    settings = {"copied_mib": mib, "product": product}
    what = f"a copy of {mib} MiB and products of {product} x {product}"
    return Part(results, settings, f"{what}, {bench.repetitions} timings in turn")


def _profile(bench: Bench) -> Part:
    size, way = bench.scale.sizes[0], ways_on(bench.device)[-1]
    with _clock(bench, f"profile of training steps in {way.name}"):
        results = profile_steps(size, bench.device, way, steps=_PROFILED_STEPS, rows=_PROFILE_ROWS)
    settings = _describe(size) | {"way": way.name}
    what = f"{_PROFILED_STEPS} steps at {size.name}'s size in {way.name}"
    return Part(results, settings, f"{what}, after as many for a warm-up")


_OTHERS: dict[str, Callable[[Bench], Part]] = {
    "gan": _gan,
    "synthesis": _synthesis,
    "growth": _growth,
    "reading": _reading,
    "run": _run,
    "ceilings": _ceilings,
    "profile": _profile,
}


def _describe(size: Size) -> dict[str, Any]:
    config = size.method
    return {
        "seen": size.seen,
        "semantics_dim": size.semantics_dim,
        "feature_dim": size.feature_dim,
        "condition_dim": config.condition_dim,
        "hidden": config.hidden,
        "blocks": config.blocks,
        "batch_size": size.recipe.training.batch_size,
        "prototype_classes": config.prototype_classes,
        "step_operations": step_operations(size),
    }


@contextmanager
def _clock(bench: Bench, text: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Print a line before and after, with a progress bar on a terminal; yields its advance."""
    bench.console.print(text)
    columns = (TextColumn("  {task.completed} done"), BarColumn(), TimeElapsedColumn())
    start = time.monotonic()
    hidden = not bench.console.is_terminal
    with Progress(*columns, console=bench.console, transient=True, disable=hidden) as progress:
        task = progress.add_task(text, total=total)
        yield lambda: progress.advance(task)
    bench.console.print(f"  {time.monotonic() - start:.1f} s")
