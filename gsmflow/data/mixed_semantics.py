"""Semantics of two kinds: some classes described by one embedding, the others by a second one.

A class has either a description of the first kind followed by zeros, or zeros followed by one of
the second kind, so that a model's first layer has separate weights for each.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.data.dataset import Dataset
from gsmflow.data.embedding_names import embedding_label
from gsmflow.data.formats.embeddings import in_order
from gsmflow.data.formats.files import read_embedding

__all__ = ["described_by_second", "mix_semantics", "with_second_semantics"]

# Which classes have the second description must not change with a run's seed: otherwise two seeds
# would be evaluated on different problems.
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
        Of the second embedding, or its file of vectors.
    seen_percent, unseen_percent
        How many of the seen and of the unseen classes it describes, 0 to 100.

    Raises
    ------
    InputError
        If its file is missing or unreadable, or is of other classes.
    """
    values = in_order(dataset, read_embedding(dataset, root, name))
    shares = {"seen": seen_percent, "unseen": unseen_percent}
    described = described_by_second(dataset.seen_classes, dataset.unseen_classes, shares)
    label = f"{dataset.semantics_name}+{embedding_label(name)}"
    return replace(
        dataset,
        semantics=mix_semantics(dataset.semantics, values, described, dataset.seen_classes),
        semantics_parts=(),
        semantics_name=f"{label} {seen_percent:g}/{unseen_percent:g}",
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
    chosen = []
    for name, classes in (("seen", seen), ("unseen", unseen)):
        count = round(percent[name] / 100 * len(classes))
        chosen.append(rng.permutation(classes)[:count])
    return np.concatenate(chosen)


def mix_semantics(
    first: FloatArray, second: FloatArray, described: IntArray, fit_classes: IntArray
) -> NDArray[np.float32]:
    """Both embeddings side by side, ``(classes, a + b)``, with zeros in place of one.

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
