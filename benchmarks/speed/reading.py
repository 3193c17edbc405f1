"""Measure reading a dataset from MATLAB files of both formats, and from the cache."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
import scipy.io
import torch

from benchmarks.speed.measure import Usage, watch
from gsmflow.data.cache import load_cached
from gsmflow.data.formats.files import load_dataset

__all__ = ["FORMATS", "WAYS", "Format", "Way", "measure_reading", "write_made_up"]

Format: TypeAlias = Literal["v5", "v7.3"]
Way: TypeAlias = Literal["without a cache", "into the cache", "from the cache"]

FORMATS: tuple[Format, ...] = ("v5", "v7.3")
# The order matters: the second way fills the cache for the third.
WAYS: tuple[Way, ...] = ("without a cache", "into the cache", "from the cache")
_CPU = torch.device("cpu")
_NAME, _FEATURES, _SEMANTICS = "MADE_UP", "res101", "att"
_CLASSES, _SEMANTICS_DIM = 50, 85
_SEEN, _TRAIN = 40, 27


def measure_reading(root: Path, way: Way, repetitions: int) -> list[Usage]:
    """Measure time and memory of reading the dataset that `write_made_up` wrote.

    Parameters
    ----------
    root
        Folder of datasets and of the cache.
    way
        How it is read; the cache is filled only once.
    repetitions
        Number of reads.

    Returns
    -------
    list of Usage
        Time and memory of each read, including the features.
    """
    cached = partial(load_cached, cache=root / "cache")
    load: Callable[..., object] = load_dataset if way == "without a cache" else cached
    read = partial(load, root, _NAME, features=_FEATURES, semantics=_SEMANTICS)
    return [watch(read, _CPU) for _ in range(1 if way == "into the cache" else repetitions)]


def write_made_up(root: Path, kind: Format, feature_dim: int, rows: int) -> float:
    """Write a dataset in the GBU layout with compressed doubles, as MATLAB does by default.

    Parameters
    ----------
    root
        Folder of datasets.
    kind
        Format of the feature file.
    feature_dim, rows
        Size of the features, ``(d, n)``.

    Returns
    -------
    float
        The size of the feature file, MiB.
    """
    folder = root / _NAME
    folder.mkdir()
    rng = np.random.default_rng(0)
    # As after a ReLU, half of the features are zero; the others are float32 numbers as doubles.
    features = rng.standard_normal((feature_dim, rows), dtype=np.float32).clip(min=0)
    labels = np.arange(rows) % _CLASSES
    numbers = np.arange(1, rows + 1)
    seen, is_test = labels < _SEEN, np.arange(rows) // _CLASSES % 5 == 0
    splits = {
        "trainval_loc": seen & ~is_test,
        "train_loc": seen & ~is_test & (labels < _TRAIN),
        "val_loc": seen & ~is_test & (labels >= _TRAIN),
        "test_seen_loc": seen & is_test,
        "test_unseen_loc": ~seen,
    }
    fields = {name: numbers[chosen][:, None].astype(float) for name, chosen in splits.items()}
    fields["att"] = rng.random((_SEMANTICS_DIM, _CLASSES))
    scipy.io.savemat(folder / f"{_SEMANTICS}_splits.mat", fields)
    file = folder / f"{_FEATURES}.mat"
    _write_mat(file, kind, {"features": features.astype(float), "labels": labels[:, None] + 1.0})
    return file.stat().st_size / 2**20


def _write_mat(file: Path, kind: Format, fields: Mapping[str, Any]) -> None:
    if kind == "v5":
        scipy.io.savemat(file, dict(fields), do_compression=True)
        return
    with h5py.File(file, "w", userblock_size=512) as target:
        for name, value in fields.items():
            # HDF5 stores MATLAB's dimensions reversed.
            data = target.create_dataset(name, data=value.T, compression="gzip", compression_opts=3)
            data.attrs["MATLAB_class"] = np.bytes_("double")
