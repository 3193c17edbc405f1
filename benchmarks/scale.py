"""Seconds and memory of a whole run as the number of classes grows.

``OMP_NUM_THREADS=1 python -m benchmarks.scale --model ale --classes 200 2000 20000``. Each size is
a run in a process of its own, on made-up data. docs/speed.md has the figures.
"""

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import tyro
from rich.console import Console

from benchmarks.speed.measure import in_child, power_law_exponent
from gsmflow.core.console import make_console
from gsmflow.core.run_files import LOG_FILE
from gsmflow.core.tables import Grid, markdown
from gsmflow.data.dataset import Dataset
from gsmflow.methods.registry import find_method
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.stage_seconds import read_stages
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job

__all__ = ["Options", "Scaled", "main", "make_data", "run_size", "scale_grid"]

# Each class is a point of so many dimensions, of which semantics and features are linear maps.
_LATENT = 64
_SEMANTICS_NOISE = 0.3
_UNSEEN_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run a method on made-up data of several numbers of classes; print a Markdown table."""

    model: str = "discriminant"
    """The method."""
    classes: tuple[int, ...] = (200, 1000, 2000)
    """Numbers of classes, ascending; a fifth of them is unseen."""
    rows: int = 5
    """Rows of each class; a fifth of a seen class's are test rows."""
    features: int = 512
    """Feature dimensions."""
    semantics: int = 128
    """Semantic dimensions."""
    noise: float = 1.5
    """Standard deviation of a row around its class mean, where means have one of 1."""
    flags: tuple[str, ...] = ()
    """Further flags of the runs, each with = between name and value, such as epochs=5."""


@dataclass(frozen=True)
class Scaled:
    """A run of one size.

    Attributes
    ----------
    classes
        Number of classes.
    stages
        Seconds of its stages, by name.
    cpu_seconds
        Seconds that its process kept a core busy, the import of the package included.
    mib
        Peak resident memory of its process, MiB.
    measures
        Its T1, U, S and H, fractions of 1.
    """

    classes: int
    stages: Mapping[str, float]
    cpu_seconds: float
    mib: float
    measures: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return sum(self.stages.values())


def make_data(options: Options, classes: int) -> Dataset:
    """Gaussian classes whose semantics and feature means are linear maps of one hidden point."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(classes, _LATENT))
    semantics, means = (
        (points @ rng.normal(size=(_LATENT, k)) / _LATENT**0.5).astype(np.float32)
        for k in (options.semantics, options.features)
    )
    semantics += _SEMANTICS_NOISE * rng.standard_normal(semantics.shape, dtype=np.float32)
    labels = np.repeat(np.arange(classes), options.rows)
    features = rng.standard_normal((len(labels), options.features), dtype=np.float32)
    features *= options.noise
    features += means[labels]
    is_unseen = labels >= classes - round(_UNSEEN_SHARE * classes)
    is_test = np.arange(len(labels)) % options.rows >= options.rows - max(1, options.rows // 5)
    nothing = np.empty(0, dtype=np.int64)
    return Dataset(
        name=f"{classes} classes",
        features=features,
        labels=labels,
        semantics=semantics,
        class_names=tuple(f"class {c}" for c in range(classes)),
        trainval=np.flatnonzero(~is_unseen & ~is_test),
        train=nothing,
        val=nothing,
        test_seen=np.flatnonzero(~is_unseen & is_test),
        test_unseen=np.flatnonzero(is_unseen),
    )


def run_size(options: Options, classes: int) -> Scaled:
    """Run the method once on so many classes, in this process."""
    dataset = make_data(options, classes)
    with TemporaryDirectory() as out:
        default = Recipe(
            dataset="scale", method=find_method("gsmflow").config(), beside=(), device="cpu"
        )
        words = ["--model", options.model, "--out", out, *(f"--{word}" for word in options.flags)]
        recipe = parse_recipe({"": default}, words, prog="benchmarks.scale", description="")
        result = run_experiment(Job(recipe, None, dataset), Console(stderr=True))
        stages = {s.label: s.seconds for s in read_stages(result.directory / LOG_FILE)}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    measures = {name: float(result.metrics[name]) for name in ("T1", "U", "S", "H")}
    return Scaled(
        classes, stages, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, measures
    )


def scale_grid(model: str, runs: Sequence[Scaled]) -> Grid:
    """The runs as a table: a stage a line, a size a column, and the exponents of growth."""
    sizes = [run.classes for run in runs]
    names = sorted({name for run in runs for name in run.stages}, key=lambda n: -_last(runs, n))
    lines = {f"{name}, s": [run.stages.get(name, 0.0) for run in runs] for name in names}
    lines |= {
        "all, s": [run.seconds for run in runs],
        "CPU, s": [run.cpu_seconds for run in runs],
        "peak, MiB": [run.mib for run in runs],
    }
    body = tuple(
        (name, *(f"{value:,.1f}" for value in values), _exponent(sizes, values))
        for name, values in lines.items()
    )
    figures = tuple(
        (f"{name}, percent", *(f"{100 * run.measures[name]:.1f}" for run in runs), "")
        for name in runs[0].measures
    )
    return Grid(
        title=model,
        columns=("classes", *(f"{size:,}" for size in sizes), "exponent"),
        align="l" + "r" * (len(sizes) + 1),
        sections=(body, figures),
    )


def _last(runs: Sequence[Scaled], stage: str) -> float:
    return runs[-1].stages.get(stage, 0.0)


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    found = power_law_exponent(sizes, values) if len(sizes) > 1 else None
    return "" if found is None else f"{found:z.2f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark with a command line; None for that of the program."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.scale")
    console, runs = make_console(), []
    for classes in options.classes:
        runs.append(in_child(run_size, options, classes))
        console.print(markdown(scale_grid(options.model, runs)), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
