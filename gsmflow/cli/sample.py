"""The command ``sample``: write synthesized features of a trained run into a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import IntArray
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError, naming_flag
from gsmflow.core.files import replacing
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.sample import find_class, sample_class

__all__ = ["VERB", "SampleOptions", "run_sample"]


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Write synthesized features of a trained run into a NumPy archive.

    The archive has the fields features (n, d), unscaled as in the file of the run's dataset, labels
    (n,), counted from 0, and class_names, which the labels count. Rows are sorted by class.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The directory of a finished run."""
    classes: tuple[str, ...] = ()
    """Names of the classes, seen or unseen; none: all unseen classes."""
    count: Annotated[int, arg(aliases=["-n"])] = 300
    """Number of rows of each class."""
    out: Annotated[Path, arg(aliases=["-o"])]
    """The file to write, which ends in .npz."""
    seed: int = 0
    """Seed of the random numbers. The rows of a class depend on it and on the class alone."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest available device."""


def run_sample(options: SampleOptions, console: Console) -> None:
    """Write the archive, and print its path.

    Parameters
    ----------
    options
        The run, the classes, and where to write.
    console
        Where the path is printed.

    Raises
    ------
    InputError
        If the run cannot be used or synthesizes no features, it knows no such class, a number is
        too low, or the file cannot be written.
    """
    if options.count < 1:
        raise InputError(f"--count: found {options.count}, expected a number of at least 1")
    if options.seed < 0:
        raise InputError(f"--seed: found {options.seed}, expected a number of at least 0")
    if options.out.suffix != ".npz":
        raise InputError(f"--out: found {options.out}, expected a file that ends in .npz")
    run = open_trained(options.run, pick_device(options.device))
    numbers = _class_numbers(run, options.classes)
    rows = [sample_class(run, int(c), options.count, options.seed) for c in numbers]
    with (
        naming_flag("--out", options.out),
        replacing(options.out) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(
            file,
            features=np.concatenate(rows),
            labels=np.repeat(numbers, options.count),
            class_names=np.array(run.kept.class_names),
        )
    total = len(numbers) * options.count
    console.print(f"{total:,} rows of {len(numbers)} classes: {options.out}", soft_wrap=True)


def _class_numbers(run: TrainedRun, names: Sequence[str]) -> IntArray:
    """The numbers of the named classes, or of all unseen ones, ascending."""
    if not names:
        return np.sort(run.kept.unseen_classes)
    return np.unique([find_class(run, name, "--classes") for name in names]).astype(np.int64)


VERB = Verb(SampleOptions, lambda options, console, flags: run_sample(options, console))
