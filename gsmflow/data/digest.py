"""Digests of data, by which a run knows the dataset that it began with."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.data.dataset import Dataset, Rows, all_rows

__all__ = ["DataDigest", "digest_of"]

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class DataDigest:
    """Digests of the parts of a dataset, in hexadecimal.

    Attributes
    ----------
    features, labels
        Of all rows, those for tests too.
    semantics
        Of the semantics and names of all classes.
    splits
        Of the rows that each split has.
    """

    features: str
    labels: str
    semantics: str
    splits: str

    @classmethod
    def of(cls, dataset: Dataset) -> "DataDigest":
        """The digests of a checked dataset."""
        splits = (dataset.trainval, dataset.train, dataset.val)
        sizes = [len(rows) for rows in (*splits, dataset.test_seen)]
        return cls(
            features=digest_of(all_rows(dataset.features)),
            labels=digest_of(dataset.labels),
            semantics=digest_of(dataset.semantics, np.array(dataset.class_names)),
            splits=digest_of(np.array(sizes), *splits, dataset.test_seen, dataset.test_unseen),
        )


def digest_of(*parts: Rows | NDArray[Any]) -> str:
    """A digest of the bytes of arrays, and of the labels and features of rows, in their order.

    Features are read a slab at a time.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        if isinstance(part, Rows):
            digest.update(part.labels.tobytes())
            for _, features in part.slabs():
                digest.update(features.tobytes())
        else:
            digest.update(part.tobytes())
    return digest.hexdigest()
