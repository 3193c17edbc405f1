"""Synthesized features of a finished run, as they would stand in the file of its dataset."""

import torch

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.nearest import such_as
from gsmflow.core.rng import make_generator
from gsmflow.learning.sampling import Sampler, synthesize
from gsmflow.runs.checkpoint import TrainedRun

__all__ = ["find_class", "sample_class"]


def find_class(run: TrainedRun, name: str, where: str) -> int:
    """The number of one of a run's classes.

    Parameters
    ----------
    run
        A finished run.
    name
        The name of the class, seen or unseen.
    where
        What the name was given as, for the error.

    Raises
    ------
    InputError
        If the run knows no class of this name.
    """
    numbers = {run.kept.class_names[c]: int(c) for c in run.classes}
    if name in numbers:
        return numbers[name]
    raise InputError(
        f"{where}: found {name}, expected one of the {len(numbers)} classes of "
        f"{run.directory}{such_as(str(name), numbers)}"
    )


def sample_class(run: TrainedRun, number: int, count: int, seed: int) -> FloatArray:
    """Synthesize features of a class.

    They depend on the class and the seed, not on what else is sampled.

    Parameters
    ----------
    run
        A finished run.
    number
        The class, of `TrainedRun.classes`.
    count
        How many, ``>= 1``.
    seed
        Of the random numbers, ``>= 0``.

    Returns
    -------
    array
        ``(count, d)``, unscaled; with ``feature_scaling="l2"`` of length about 1.

    Raises
    ------
    InputError
        If the run's model synthesizes no features.
    """
    model = run.kept.model
    if not isinstance(model, Sampler):
        raise InputError(
            f"{run.directory}: found a model that synthesizes no features "
            f"({run.metrics['model']}), expected one that does, such as gsmflow"
        )
    generator = make_generator(run.device, seed, "sample", run.kept.class_names[number])
    classes = torch.tensor([number], device=run.device)
    with torch.no_grad():
        features, _ = synthesize(model, classes, count, generator)
    return run.kept.scaling.inverse(features.cpu().numpy())
