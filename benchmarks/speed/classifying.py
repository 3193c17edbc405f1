"""Measure synthesis and both classifiers, of the package and of the plain baseline."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import plain
from benchmarks.speed.measure import Usage, make_product, watch
from benchmarks.speed.sizes import (
    Size,
    made_up_feed,
    made_up_model,
    made_up_problem,
    made_up_scaled,
)
from gsmflow.core.devices import pick_device, synchronize
from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.graphs import CudaGraphs
from gsmflow.core.precision import Precision
from gsmflow.core.rng import make_generator
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.methods.gsmflow import GSMFlow
from gsmflow.runs.directory import RunLog
from gsmflow.runs.stages import Fitted, Run, classify

__all__ = ["classify_as_a_run", "classify_plainly"]

_CPU = torch.device("cpu")


def classify_as_a_run(
    size: Size, device_name: str, precision: Precision, product_size: int
) -> dict[str, Any]:
    """Measure the package's synthesis and classifiers.

    Parameters
    ----------
    size
        Size of model and data; its recipe has the number of samples.
    device_name
        A name that `pick_device` accepts.
    precision
        Precision of the products in the synthesis.
    product_size
        Rows of the square matrices whose product is timed before and after the job.

    Returns
    -------
    dict
        ``seconds`` in all; ``synthesis``, the seconds of the synthesis; ``host_mib`` and
        ``device_mib``, peak memory besides data and model; and ``products``, FLOP/s of the matrix
        product before and after.
    """
    device = pick_device(device_name)
    problem = made_up_problem(size)
    model = made_up_model(size, problem).to(device)
    scaled = made_up_scaled(problem, device)
    timed = _TimedSynthesis.from_state(model.describe(), model.state_dict()).to(device)
    assert isinstance(timed, _TimedSynthesis)
    del model

    def job(folder: Path, job_size: Size) -> None:
        run = Run(
            recipe=job_size.recipe,
            model_class=GSMFlow,
            device=device,
            precision=precision,
            group=SINGLE_PROCESS,
            directory=folder,
            log=RunLog(folder / "log.jsonl"),
            console=Console(quiet=True),
            graphs=CudaGraphs(device, lambda reason: None) if device.type == "cuda" else None,
        )
        timed.seconds = 0.0
        classify(run, Fitted(timed, scaled, history=[]))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job(folder, _shortened(size))
        usage, products = _watch_between_products(lambda: job(folder, size), device, product_size)
    return _describe(usage, timed.seconds, products)


class _TimedSynthesis(GSMFlow):
    """A model that sums the seconds of its sampling."""

    seconds: float = 0.0

    def sampler(self, classes: torch.Tensor) -> Callable[[torch.Tensor, torch.Generator], Any]:
        sample, device = super().sampler(classes), classes.device

        def timed(positions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            synchronize(device)
            start = time.perf_counter()
            features = sample(positions, generator)
            synchronize(device)
            self.seconds += time.perf_counter() - start
            return features

        return timed


def classify_plainly(size: Size, device_name: str, product_size: int) -> dict[str, Any]:
    """Measure the baseline; arguments and result are those of `classify_as_a_run`."""
    device = pick_device(device_name)
    problem = made_up_problem(size)
    model = plain.plain_copy(made_up_model(size, problem)).to(device)
    rows = made_up_feed(problem, _CPU)
    start = synthesized_at = 0.0

    def note_synthesized() -> None:
        nonlocal synthesized_at
        synchronize(device)
        synthesized_at = time.perf_counter()

    def job(job_size: Size) -> None:
        nonlocal start
        start = time.perf_counter()
        classifier = job_size.recipe.trained_classifier
        assert isinstance(classifier, SoftmaxConfig)
        plain.plain_pair(
            model,
            rows.features,
            rows.labels,
            problem.unseen_classes,
            job_size.method.samples_per_class,
            classifier,
            make_generator(_CPU, job_size.recipe.seed, "synthesis"),
            on_synthesized=note_synthesized,
        )

    job(_shortened(size))
    usage, products = _watch_between_products(lambda: job(size), device, product_size)
    return _describe(usage, synthesized_at - start, products)


def _shortened(size: Size) -> Size:
    """A short job for a warm-up, so that libraries loaded at first use are not measured."""
    return size.with_settings(samples_per_class=8, classifier_epochs=1)


def _watch_between_products(
    job: Callable[[], object], device: torch.device, product_size: int
) -> tuple[Usage, list[float]]:
    """Measure a job, and the FLOP/s of a matrix product before and after, which show a drift."""
    product, operations = make_product(product_size, "fp32", device)
    product()
    before = watch(product, device)
    usage = watch(job, device)
    after = watch(product, device)
    return usage, [operations / before.seconds, operations / after.seconds]


def _describe(usage: Usage, synthesis: float, products: list[float]) -> dict[str, Any]:
    return {**asdict(usage), "synthesis": synthesis, "products": products}
