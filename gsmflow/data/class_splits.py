"""Random splits of a dataset's classes into seen and unseen ones, each drawn with a seed.

A single split says how a method does on its unseen classes; the mean over many says how it does on
classes of this kind. In the recognition of actions and sounds, thirty splits are the custom.
"""

import zlib
from dataclasses import replace

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.splits import draw_share

__all__ = ["draw_class_split"]


def draw_class_split(dataset: Dataset, seed: int, unseen: int = 0) -> Dataset:
    """The dataset with other seen and unseen classes; all of its split rows are drawn from.

    Of each seen class the same share of rows is held out as test-seen rows as in the dataset's own
    split. Of the seen classes the same share plays validation. A larger number of unseen classes
    includes those of a smaller one. Classes that are described and have no row stay unseen.

    Parameters
    ----------
    dataset
        A checked dataset.
    seed
        Of the split, ``>= 0``. The split depends on it and on the dataset alone.
    unseen
        How many classes with rows are unseen; 0: as many as in the dataset's own split.

    Raises
    ------
    InputError
        If fewer than two seen classes would be left, or the dataset has no unseen classes with
        rows whose number could be taken.
    """
    rows = np.concatenate([dataset.trainval, dataset.test_seen, dataset.test_unseen])
    rows.sort()
    labels = dataset.labels[rows]
    order = _generator(seed, "classes").permutation(np.unique(labels))
    count = unseen or len(np.unique(dataset.labels[dataset.test_unseen]))
    if not count:
        raise InputError(
            f"--class-split: found {dataset.where('test_unseen')} without rows, expected "
            "--split-unseen with the number of unseen classes"
        )
    if count > len(order) - 2:
        raise InputError(
            f"--split-unseen: found {count} of {len(order)} classes with rows in {dataset.name}, "
            f"expected at most {len(order) - 2}: one seen class to train on and one for validation"
        )
    val = order[count : count + _validation_count(dataset, len(order) - count)]
    held_out = np.zeros(len(rows), dtype=bool)
    if len(dataset.test_seen):
        share = len(dataset.test_seen) / (len(dataset.test_seen) + len(dataset.trainval))
        held_out = draw_share(labels, share, _generator(seed, "rows"))
    is_unseen, is_val = np.isin(labels, order[:count]), np.isin(labels, val)
    trained = ~is_unseen & ~held_out
    return replace(
        dataset,
        trainval=rows[trained],
        train=rows[trained & ~is_val],
        val=rows[trained & is_val],
        test_seen=rows[~is_unseen & held_out],
        test_unseen=rows[is_unseen],
    )


def _validation_count(dataset: Dataset, seen: int) -> int:
    """How many of so many seen classes play validation: the share of the dataset's own split."""
    val: IntArray = np.unique(dataset.labels[dataset.val])
    return min(max(1, round(len(val) / len(dataset.seen_classes) * seen)), seen - 1)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"class split, {purpose}".encode())])
