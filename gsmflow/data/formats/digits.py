"""Digit pairs: real handwriting with no download, as a GZSL dataset.

A class is a two-digit number, ``00`` to ``99``; a sample is two of scikit-learn's 8 x 8 images of
handwritten digits side by side; the semantics are 20 one-hot attributes, the tens digit and the
units digit. 80 classes are seen, 20 unseen. Every digit appears in both positions among the classes
that are trained on, so that an unseen number is a new combination of known digits.
"""

from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.base import Choices, Format, Keep, Refuse

__all__ = ["FORMAT", "PAIR_SHAPE", "load_digit_pairs"]

_NAME = "DIGITS"
PAIR_SHAPE = (8, 16)

_SEED = 17
_UNSEEN, _VALIDATION = 20, 16
_ROWS = {"train": 100, "val": 100, "test_seen": 30, "test_unseen": 100}
# Shares of each digit's images: no image serves two of these purposes, so that neither a test
# row nor a row of a validation class shows handwriting that was trained on. Rows drawn from the
# training classes to play validation-seen do share images with the rest of them.
_POOLS = {"train": 0.5, "val": 0.2, "test": 0.3}


def load_digit_pairs() -> Dataset:
    """The digit-pair dataset, the same in every call: 128-d features in [0, 1], 100 classes."""
    return check_dataset(_make_digit_pairs())


def _make_digit_pairs() -> Dataset:
    rng = np.random.default_rng(_SEED)
    pools = _image_pools(rng)
    unseen = _draw_classes(rng, np.arange(100), _UNSEEN)
    seen = np.setdiff1d(np.arange(100), unseen)
    val = _draw_classes(rng, seen, _VALIDATION)
    classes_of = {
        "train": np.setdiff1d(seen, val),
        "val": val,
        "test_seen": seen,
        "test_unseen": unseen,
    }
    features: list[FloatArray] = []
    labels: list[IntArray] = []
    rows: dict[str, IntArray] = {}
    start = 0
    for split, classes in classes_of.items():
        pool = pools[split.partition("_")[0]]
        for c in classes:
            features.append(_draw_pairs(rng, pool[c // 10], pool[c % 10], _ROWS[split]))
            labels.append(np.full(_ROWS[split], c))
        end = start + len(classes) * _ROWS[split]
        rows[split] = np.arange(start, end)
        start = end
    return Dataset(
        name=_NAME,
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        semantics=_one_hot_digits(),
        class_names=tuple(f"{c:02d}" for c in range(100)),
        trainval=np.concatenate([rows["train"], rows["val"]]),
        train=rows["train"],
        val=rows["val"],
        test_seen=rows["test_seen"],
        test_unseen=rows["test_unseen"],
        features_name="pixels",
        semantics_name="digits",
    )


def _image_pools(rng: np.random.Generator) -> dict[str, list[FloatArray]]:
    """Each digit's images, split into pools: pool name to ten arrays ``(images, 8, 8)``."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    pools: dict[str, list[FloatArray]] = {name: [] for name in _POOLS}
    for digit in range(10):
        shuffled = rng.permutation(images[digits.target == digit])
        ends = np.cumsum([round(share * len(shuffled)) for share in _POOLS.values()])[:-1]
        for name, pool in zip(_POOLS, np.split(shuffled, ends), strict=True):
            pools[name].append(pool)
    return pools


def _draw_classes(rng: np.random.Generator, classes: IntArray, count: int) -> IntArray:
    """Draw classes until the rest still shows every digit in both positions."""
    while True:
        drawn = np.sort(rng.choice(classes, count, replace=False))
        rest = np.setdiff1d(classes, drawn)
        if len(np.unique(rest // 10)) == len(np.unique(rest % 10)) == 10:
            return drawn


def _draw_pairs(
    rng: np.random.Generator, tens: FloatArray, units: FloatArray, count: int
) -> FloatArray:
    """``count`` different pairs of images, side by side, ``(count, 128)``."""
    pairs = rng.choice(len(tens) * len(units), count, replace=False)
    left, right = tens[pairs // len(units)], units[pairs % len(units)]
    return np.concatenate([left, right], axis=2).reshape(count, -1)


def _one_hot_digits() -> NDArray[np.float32]:
    eye = np.eye(10, dtype=np.float32)
    classes = np.arange(100)
    return np.concatenate([eye[classes // 10], eye[classes % 10]], axis=1)


def _matches(folder: Path) -> bool:
    return folder.name == _NAME and not folder.exists()


def _choices(folder: Path) -> Choices:
    return Choices(features=None, semantics=None)


def _files(folder: Path, features: str, semantics: str) -> tuple[Path, ...]:
    return ()


def _read(
    folder: Path, *, features: str, semantics: str, keep: Keep, refuse: Refuse
) -> Dataset | None:
    return _make_digit_pairs()


def _refuse_second(folder: Path, features: str, semantics: str) -> NoReturn:
    raise InputError(
        f"{_NAME}: found {semantics} asked for as a second embedding, expected none or a file of "
        "vectors, as this dataset is built in"
    )


FORMAT = Format(
    name=_NAME,
    layout=None,
    matches=_matches,
    choices=_choices,
    files=_files,
    read=_read,
    semantics_file=_refuse_second,
    read_semantics=_refuse_second,
)
