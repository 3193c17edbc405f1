"""Which classes a new class is taken for: those most similar, and those that take its rows."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import cdist

from gsmflow.core.arrays import FloatArray
from gsmflow.data.dataset import Dataset
from gsmflow.data.new_classes import NewClasses
from gsmflow.learning.sampling import Sampler
from gsmflow.runs.checkpoint import TrainedRun
from gsmflow.runs.predict import answer_rows
from gsmflow.runs.sample import find_class, sample_class

__all__ = ["answer_shares", "describe_rivals", "similarities"]

_NAMED = 3
_SAMPLES = 300
# With less of its rows, a class is an answer to less than every second picture of it at best.
_LOW_SHARE = 0.5


def similarities(semantics: FloatArray, vector: FloatArray) -> FloatArray:
    """Cosine similarity of classes ``(classes, a)`` with one ``(a,)``, without the classes' mean.

    The mean is what all classes share; between sentences it is most of the vectors.

    Returns
    -------
    array
        ``(classes,)``, in [-1, 1]; 0 where a vector equals the mean.
    """
    mean = semantics.mean(axis=0)
    with np.errstate(invalid="ignore"):
        distances = cdist(semantics - mean, (vector - mean)[None], metric="cosine")[:, 0]
    return np.nan_to_num(1 - distances).astype(np.float32)


def answer_shares(run: TrainedRun, name: str, rows: int = _SAMPLES) -> dict[str, float]:
    """The share of a class's synthesized rows that each class takes, largest first.

    Rows are answered as ``predict`` answers them, with the run's calibration factor.

    Parameters
    ----------
    run
        A finished run whose model synthesizes features.
    name
        The class.
    rows
        How many rows are synthesized, ``>= 1``.

    Raises
    ------
    InputError
        If the run knows no such class, or its model synthesizes no features.
    """
    number = find_class(run, name, "class")
    features = sample_class(run, number, rows, run.recipe.seed)
    answers = [best.name for (best,) in answer_rows(run, features, run.gamma)]
    names, counts = np.unique(answers, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[i]): float(counts[i]) / rows for i in order}


def describe_rivals(run: TrainedRun, dataset: Dataset, classes: NewClasses) -> Iterator[str]:
    """What to say of each new class: similar classes, and the answers to its synthesized rows.

    Parameters
    ----------
    run
        The run with the new classes.
    dataset
        The dataset without them.
    classes
        Names and semantics of the new classes.
    """
    for name, vector in classes.items():
        cosines = similarities(dataset.semantics, vector)
        nearest = np.argsort(-cosines, kind="stable")[:_NAMED]
        similar = ", ".join(f"{dataset.class_names[c]} ({cosines[c]:.2f})" for c in nearest)
        yield f"{name}: most similar to {similar}"
        if isinstance(run.kept.model, Sampler):
            yield from _describe_shares(name, answer_shares(run, name))
        else:
            yield f"{name}: no share of synthesized rows, as {run.metrics['model']} makes none"


def _describe_shares(name: str, shares: dict[str, float]) -> Iterator[str]:
    own = shares.get(name, 0.0)
    others = [(other, share) for other, share in shares.items() if other != name]
    listed = "".join(f", {100 * share:.0f} % with {other}" for other, share in others[:_NAMED])
    yield f"{name}: of its synthesized rows, {100 * own:.0f} % are answered with it{listed}"
    if own < _LOW_SHARE:
        yield (
            f"warning: {name} is hardly distinguished from {others[0][0]}; describe it by what "
            "separates them, or with several texts"
        )
