"""Measure training steps against the plain baseline and against the matrix-product peak."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeVar

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import plain
from benchmarks.speed.measure import in_turn, make_product, native_precisions, watch
from benchmarks.speed.sizes import (
    Size,
    made_up_feed,
    made_up_model,
    made_up_problem,
    step_operations,
)
from gsmflow.core.devices import pick_device, synchronize
from gsmflow.core.errors import InputError
from gsmflow.core.graphs import CudaGraphs
from gsmflow.core.precision import Precision
from gsmflow.core.rng import make_generator
from gsmflow.data.dataset import Problem
from gsmflow.learning.feed import MemoryFeed
from gsmflow.learning.trainer import Trainer

__all__ = [
    "PLAIN",
    "Way",
    "describe_peak",
    "describe_steps",
    "make_trainer",
    "measure_steps",
    "profile_steps",
    "rows_for",
    "step_memory",
    "time_classes",
    "ways_on",
]

Model = TypeVar("Model", bound=nn.Module)

PLAIN = "plain"
_PRODUCT = "product "
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Way:
    """A way in which the package takes its steps.

    Attributes
    ----------
    precision
        Precision of the products.
    in_a_graph
        Whether a step is recorded as a CUDA graph and repeated.
    compiled
        Whether the loss is compiled.
    """

    precision: Precision
    in_a_graph: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        """Its name in tables, which begins with the precision."""
        compiled, graph = " compiled" * self.compiled, " in a graph" * self.in_a_graph
        return f"{self.precision}{compiled}{graph}"


def ways_on(device: torch.device) -> list[Way]:
    """The ways to take steps on a device; those of a GPU without graphs come first."""
    ways = [Way(precision) for precision in native_precisions(device)]
    if device.type != "cuda":
        return ways
    graphs = [Way(precision, in_a_graph=True) for precision in native_precisions(device)[1:]]
    return [*ways, *graphs, Way("bf16", in_a_graph=True, compiled=True)]


def measure_steps(
    size: Size,
    device: torch.device,
    ways: Sequence[Way],
    *,
    baseline: bool,
    product_size: int | None,
    steps: int,
    repetitions: int,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time steps of the package, steps of the baseline and matrix products in turn.

    Parameters
    ----------
    size
        Size of model and data.
    device, ways
        Where the package computes, and in which ways; the baseline computes in fp32.
    baseline
        Whether to time the plain baseline.
    product_size
        Rows of the square matrices that are multiplied before and after the package's steps;
        None for no products.
    steps
        Steps in one timing.
    repetitions
        Timings of each function, after a warm-up.
    on_round
        Called after each round, for a progress bar.

    Returns
    -------
    dict
        Seconds of one step, by the name of the way and ``"plain"``, and seconds for one operation,
        by ``"product "`` and the precision.
    """
    problem, feed = rows_for(size, steps, device)
    functions: list[tuple[str, Callable[[], object]]] = []
    units: dict[str, float] = {}
    if baseline:
        functions.append((PLAIN, _plain_steps(size, problem, feed, device, steps)))
        units[PLAIN] = steps
    for way in ways:
        trainer = make_trainer(made_up_model(size, problem), size, feed, device, way)
        turn: list[tuple[str, Callable[[], object]]] = [(way.name, trainer.run_epoch)]
        units[way.name] = steps
        if product_size is not None:
            product, operations = make_product(product_size, way.precision, device)
            name = _PRODUCT + way.precision
            turn = [(name, product), *turn, (name, product)]
            units[name] = operations
        functions += turn
    seconds = in_turn(functions, repetitions, device, on_round)
    return {name: [s / units[name] for s in values] for name, values in seconds.items()}


def describe_steps(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The baseline's time divided by the package's, from the result of `measure_steps`.

    Returns
    -------
    dict
        ``plain``, the baseline's seconds for one step; and for each way its ``seconds`` and
        ``ratio``. All are medians or computed from medians.
    """
    plain = median(seconds[PLAIN])
    ours = {name: median(seconds[name]) for name in _ways(seconds)}
    return {
        "plain": plain,
        "ours": {name: {"seconds": s, "ratio": plain / s} for name, s in ours.items()},
        "timings": {name: list(seconds[name]) for name in (PLAIN, *ours)},
    }


def describe_peak(seconds: Mapping[str, Sequence[float]], size: Size) -> dict[str, Any]:
    """FLOP/s of the package's steps divided by that of matrix products, from `measure_steps`.

    Returns
    -------
    dict
        ``operations`` of a step; and for each way ``achieved`` (median), ``peak`` (best product)
        and ``peak_median``, all in FLOP/s, and the ``fraction`` of the latter two.
    """
    operations = step_operations(size)
    rows = {}
    for name in _ways(seconds):
        achieved = operations / median(seconds[name])
        products = seconds[_PRODUCT + name.split()[0]]
        best, middle = 1 / min(products), 1 / median(products)
        rows[name] = {
            "achieved": achieved,
            "peak": best,
            "peak_median": middle,
            "fraction": achieved / best,
            "fraction_of_median": achieved / middle,
        }
    return {"operations": operations, "ours": rows}


def _ways(seconds: Mapping[str, object]) -> list[str]:
    return [name for name in seconds if name != PLAIN and not name.startswith(_PRODUCT)]


def time_classes(
    size: Size,
    seen: Sequence[int],
    prototype_classes: int,
    device: torch.device,
    *,
    steps: int,
    repetitions: int,
    on_round: Callable[[], object] = lambda: None,
) -> dict[int, float]:
    """Median seconds of a step in fp32 by the number of seen classes, timed in turn."""
    functions = []
    for count in seen:
        larger = _with_classes(size, count, prototype_classes)
        problem, feed = rows_for(larger, steps, device)
        trainer = make_trainer(made_up_model(larger, problem), larger, feed, device, Way("fp32"))
        functions.append((str(count), trainer.run_epoch))
    seconds = in_turn(functions, repetitions, device, on_round)
    return {count: median(seconds[str(count)]) / steps for count in seen}


def step_memory(size: Size, seen: int, prototype_classes: int, device_name: str) -> float:
    """Peak memory in MiB of some training steps in fp32, with the model but without the data."""
    device = pick_device(device_name)
    larger = _with_classes(size, seen, prototype_classes)
    problem, feed = rows_for(larger, 2, device)

    def train() -> None:
        make_trainer(made_up_model(larger, problem), larger, feed, device, Way("fp32")).run_epoch()

    return watch(train, device).mib


def profile_steps(
    size: Size, device: torch.device, way: Way, *, steps: int, rows: int
) -> dict[str, Any]:
    """Profile training steps of the package: the kernels on a GPU, the operators on a CPU.

    Parameters
    ----------
    size
        Size of model and data.
    device, way
        Where the package computes, and in which way.
    steps
        Profiled steps, after as many for a warm-up and as many that are timed alone.
    rows
        The most rows of the result.

    Returns
    -------
    dict
        ``seconds`` of the steps without a profiler; ``busy``, the seconds of all kernels or
        operators; and ``rows``, the longest first, each with ``name``, ``calls`` and ``seconds``.
    """
    problem, feed = rows_for(size, steps, device)
    trainer = make_trainer(made_up_model(size, problem), size, feed, device, way)
    trainer.run_epoch()
    seconds = watch(trainer.run_epoch, device).seconds
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        trainer.run_epoch()
        synchronize(device)
    kind, key = ("CUDA", "self_device_time_total") if on_gpu else ("CPU", "self_cpu_time_total")
    found = [
        {"name": event.key, "calls": event.count, "seconds": 1e-6 * getattr(event, key)}
        for event in profiler.key_averages()
        # An annotation on a GPU spans the kernels inside it, which are rows of their own.
        if event.device_type.name == kind and not (on_gpu and event.is_user_annotation)
    ]
    found.sort(key=lambda row: -row["seconds"])
    busy = sum(row["seconds"] for row in found)
    return {"steps": steps, "seconds": seconds, "busy": busy, "rows": found[:rows]}


def _with_classes(size: Size, seen: int, prototype_classes: int) -> Size:
    return replace(size, seen=seen).with_settings(prototype_classes=prototype_classes)


def rows_for(size: Size, steps: int, device: torch.device) -> tuple[Problem, MemoryFeed]:
    """A problem in which every class has rows, and as many rows as some steps need."""
    count = steps * size.recipe.training.batch_size
    problem = made_up_problem(replace(size, rows=max(count, size.seen)))
    feed = made_up_feed(problem, device)
    return problem, MemoryFeed(feed.features[:count], feed.labels[:count])


def make_trainer(
    model: Model, size: Size, feed: MemoryFeed, device: torch.device, way: Way
) -> Trainer[Model]:
    """A trainer that takes the steps of a model, which may be on the CPU, in a way."""
    trainer = Trainer(
        model.to(device),
        feed,
        size.recipe.training,
        make_generator(device, size.recipe.seed, "training"),
        precision=way.precision,
        graphs=CudaGraphs(device, _fail) if way.in_a_graph else None,
    )
    if way.compiled:
        reason = trainer.compile_loss()
        if reason is not None:
            _fail(reason)
    return trainer


def _fail(reason: str) -> None:
    raise InputError(f"benchmark: found a way of taking steps that fails here ({reason})")


def _plain_steps(
    size: Size, problem: Problem, feed: MemoryFeed, device: torch.device, steps: int
) -> Callable[[], None]:
    trainer = plain.PlainTrainer(
        plain.plain_copy(made_up_model(size, problem)).to(device),
        feed.features.cpu().numpy(),
        feed.labels.cpu().numpy(),
        size.recipe.training,
        make_generator(_CPU, size.recipe.seed, "training"),
    )

    def train() -> None:
        for _ in range(steps):
            trainer.step()

    return train
