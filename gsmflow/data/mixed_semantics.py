"""Semantics of two kinds: some classes described by one embedding, the others by a second one.

A class has either a description of the first kind followed by zeros, or zeros followed by one of
the second kind, so that a model's first layer has weights of its own for each.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.gbu import read_semantics

__all__ = ["described_by_second", "mix_semantics", "with_second_semantics"]

# Which classes have the second description must not change with a run's seed: otherwise two seeds
# would be judged on different problems.
_SEED = 52


def with_second_semantics(
    dataset: Dataset, root: Path, name: str, *, seen_percent: float, unseen_percent: float
) -> Dataset:
    """A dataset in which a share of the classes is described by another embedding.

    Parameters
    ----------
    dataset
        With the first embedding.
    root
        Folder of datasets.
    name
        Stem of the split file of the second embedding without ``_splits``.
    seen_percent, unseen_percent
        How many of the seen and of the unseen classes it describes, 0 to 100.

    Raises
    ------
    InputError
        If its file is missing or unreadable, or is of other classes.
    """
    file = root / dataset.name / f"{name}_splits.mat"
    if not file.is_file():
        raise InputError(
            f"{file}: no such file, expected a second embedding of the classes of {dataset.name}, "
            "as --second-semantics asks for"
        )
    second, names = read_semantics(file)
    if len(second) != len(dataset.semantics):
        raise InputError(
            f"{file}: found {len(second)} classes, expected {len(dataset.semantics)} as in "
            f"{dataset.where('semantics')}"
        )
    if names is not None and names != dataset.class_names:
        pairs = zip(names, dataset.class_names, strict=True)
        wrong = next(i for i, (own, other) in enumerate(pairs) if own != other)
        raise InputError(
            f"{file}: found {names[wrong]!r} as class {wrong + 1}, expected "
            f"{dataset.class_names[wrong]!r} as in {dataset.where('class_names')}"
        )
    if not np.isfinite(second).all():
        raise InputError(f"{file}: found NaN or infinity in field 'att', expected finite numbers")
    shares = {"seen": seen_percent, "unseen": unseen_percent}
    own = described_by_second(dataset.seen_classes, dataset.unseen_classes, shares)
    return replace(
        dataset,
        semantics=mix_semantics(dataset.semantics, second, own, dataset.seen_classes),
        semantics_name=f"{dataset.semantics_name}+{name} {seen_percent:g}/{unseen_percent:g}",
    )


def described_by_second(seen: IntArray, unseen: IntArray, percent: Mapping[str, float]) -> IntArray:
    """The classes that the second embedding describes; a larger share has those of a smaller one.

    Parameters
    ----------
    seen, unseen
        Class numbers.
    percent
        Of ``"seen"`` and of ``"unseen"`` classes, 0 to 100.
    """
    rng = np.random.default_rng(_SEED)
    parts = []
    for name, classes in (("seen", seen), ("unseen", unseen)):
        count = round(percent[name] / 100 * len(classes))
        parts.append(rng.permutation(classes)[:count])
    return np.concatenate(parts)


def mix_semantics(
    first: FloatArray, second: FloatArray, described: IntArray, fit_classes: IntArray
) -> NDArray[np.float32]:
    """Both embeddings side by side, ``(classes, a + b)``, with zeros in the place of one.

    Parameters
    ----------
    first, second
        ``(classes, a)`` and ``(classes, b)``; the second is brought by one factor to the mean
        length of the first.
    described
        Classes that the second describes.
    fit_classes
        Those that the factor is taken from.
    """
    lengths = [
        np.linalg.norm(embedding[fit_classes].astype(np.float64), axis=1).mean()
        for embedding in (first, second)
    ]
    second = second * (lengths[0] / lengths[1] if lengths[1] > 0 else 1.0)
    is_second = np.isin(np.arange(len(first)), described)[:, None]
    mixed = np.concatenate([np.where(is_second, 0, first), np.where(is_second, second, 0)], axis=1)
    return np.asarray(mixed, dtype=np.float32)
