"""Rows of an existing dataset, and which pictures they were made of."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.extract.descriptions import Descriptions
from gsmflow.data.formats.base import Keep
from gsmflow.data.formats.files import has_dataset, read_unchecked, refuse_file, usual_name
from gsmflow.data.formats.gbu import read_picture_files

__all__ = [
    "Existing",
    "keep_nothing",
    "match_pictures",
    "read_existing",
    "stand_in_features",
]


@dataclass(frozen=True, eq=False)
class Existing:
    """A dataset as its files have it: sound, and its splits are not settled.

    Attributes
    ----------
    folder
        Its folder.
    dataset
        The dataset.
    files
        The picture of each row; None if its files do not say.
    """

    folder: Path
    dataset: Dataset
    files: tuple[str, ...] | None

    @property
    def described(self) -> Descriptions:
        """Its classes, with their semantics as attributes."""
        return Descriptions(
            self.folder, self.dataset.class_names, attributes=self.dataset.semantics
        )

    def expect_files(self, flag: str) -> tuple[str, ...]:
        """The picture of each row; raise `InputError` if its files do not say."""
        if self.files is None:
            raise InputError(
                f"{flag}: found no field 'image_files' with a text for each row in {self.folder}, "
                "expected one in the file of its features: pictures are matched by it"
            )
        return self.files


def keep_nothing(shape: tuple[int, int], pieces: Iterator[FloatArray]) -> FloatArray:
    """Zeros in the place of features ``(n, d)``, which take no memory and are not read."""
    return np.broadcast_to(np.float32(0), shape)


def stand_in_features(rows: int) -> FloatArray:
    """Features ``(rows, 2)`` that no check refuses, where only the rest is to be checked."""
    return np.arange(2 * rows, dtype=np.float32).reshape(-1, 2)


def read_existing(folder: Path, flag: str, keep: Keep, features: str | None = None) -> Existing:
    """Read a dataset whose rows are used again.

    Parameters
    ----------
    folder
        Its folder; where it has several semantics, the usual ones are read.
    flag
        What names it, for messages.
    keep
        Where its features are put.
    features
        Which of its features; None for the usual or only ones.

    Raises
    ------
    InputError
        If there is no dataset, it cannot be read, or anything but its features is faulty.
    """
    refuse_file(folder)
    if not folder.is_dir() or not has_dataset(folder):
        raise InputError(f"{flag}: found no dataset in {folder}, expected the folder of one")
    whole = folder.resolve()
    features = features or usual_name("features", whole)
    semantics = usual_name("semantics", whole)
    dataset = read_unchecked(
        whole.parent, whole.name, features=features, semantics=semantics, keep=keep
    )
    assert dataset is not None  # what cannot be read is refused
    check_dataset(replace(dataset, features=stand_in_features(len(dataset.features))))
    return Existing(folder, dataset, read_picture_files(whole, features, len(dataset.labels)))


def _components(file: str) -> list[str]:
    return [part for part in re.split(r"[\\/]+", unicodedata.normalize("NFC", file)) if part]


def match_pictures(
    wanted: Sequence[str], wanted_in: str, found: Sequence[str], found_in: str
) -> IntArray:
    """Which of the found pictures each wanted one is.

    Pictures are the same if the last two components of their paths are, wherever their folders lie;
    or the last one, where one of the lists has names of files alone.

    Parameters
    ----------
    wanted, found
        Paths of pictures, ``(n,)`` and ``(m,)``.
    wanted_in, found_in
        Where they stand, for messages.

    Returns
    -------
    IntArray
        Index of the found picture, ``(n,)``; -1 where there is none.

    Raises
    ------
    InputError
        If two wanted pictures, or two found ones that are wanted, are the same.
    """
    parts = [[_components(file) for file in files] for files in (wanted, found)]
    depth = min((len(path) for paths in parts for path in paths), default=0)
    keys, found_keys = (["/".join(path[-min(depth, 2) :]) for path in paths] for paths in parts)
    _refuse_twice(keys, wanted_in)
    there = set(keys)
    _refuse_twice([key for key in found_keys if key in there], found_in)
    number = {key: index for index, key in enumerate(found_keys)}
    return np.array([number.get(key, -1) for key in keys], dtype=np.int64)


def _refuse_twice(keys: Sequence[str], where: str) -> None:
    key, count = max(Counter(keys).items(), key=lambda pair: pair[1], default=("", 0))
    if count > 1:
        raise InputError(
            f"{where}: found {count} pictures that end in {key}, expected one: pictures are "
            "matched by the ends of their paths"
        )
