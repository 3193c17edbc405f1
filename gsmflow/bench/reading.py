"""Reading a dataset from MATLAB files of both kinds."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
import scipy.io
import torch

from gsmflow.bench.measure import watch
from gsmflow.mat import load_dataset

__all__ = ["FORMATS", "Format", "measure_reading"]

Format: TypeAlias = Literal["v5", "v7.3"]

FORMATS: tuple[Format, ...] = ("v5", "v7.3")
_CPU = torch.device("cpu")
_NAME = "MADE_UP"
_CLASSES, _SEMANTICS_DIM = 50, 85


def measure_reading(kind: Format, feature_dim: int, rows: int, repetitions: int) -> dict[str, Any]:
    """Write a dataset in the GBU layout to a temporary folder, and measure reading it.

    Parameters
    ----------
    kind
        Of the feature file.
    feature_dim, rows
        Its size, ``(d, n)``; the numbers in it are doubles.
    repetitions
        How often it is read.

    Returns
    -------
    dict
        ``reads``: the usage of each, the first of which loads libraries too; ``file_mib``;
        ``features_mib``: of the features once read, which a peak includes.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        file = _write_gbu(root / _NAME, kind, feature_dim, rows)

        def read() -> None:
            load_dataset(root, _NAME, features=file.stem, semantics="att")

        reads = [watch(read, _CPU) for _ in range(repetitions)]
        return {
            "reads": [asdict(usage) for usage in reads],
            "file_mib": file.stat().st_size / 2**20,
            "features_mib": 4 * feature_dim * rows / 2**20,
        }


def _write_gbu(folder: Path, kind: Format, feature_dim: int, rows: int) -> Path:
    """Write a feature file and a split file, as MATLAB does by default: compressed doubles."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    # Features after a ReLU: half of them zeros, the rest float32 numbers as doubles.
    features = rng.standard_normal((feature_dim, rows), dtype=np.float32).clip(min=0)
    labels = np.arange(rows) % _CLASSES
    numbers = np.arange(1, rows + 1)
    seen, is_test = labels < 40, np.arange(rows) // _CLASSES % 5 == 0
    splits = {
        "trainval_loc": seen & ~is_test,
        "train_loc": seen & ~is_test & (labels < 27),
        "val_loc": seen & ~is_test & (labels >= 27),
        "test_seen_loc": seen & is_test,
        "test_unseen_loc": ~seen,
    }
    fields = {name: numbers[chosen][:, None].astype(float) for name, chosen in splits.items()}
    fields["att"] = rng.random((_SEMANTICS_DIM, _CLASSES))
    scipy.io.savemat(folder / "att_splits.mat", fields)
    file = folder / "res101.mat"
    _write_mat(file, kind, {"features": features.astype(float), "labels": labels[:, None] + 1.0})
    return file


def _write_mat(file: Path, kind: Format, fields: Mapping[str, Any]) -> None:
    if kind == "v5":
        scipy.io.savemat(file, dict(fields), do_compression=True)
        return
    with h5py.File(file, "w", userblock_size=512) as target:
        for name, value in fields.items():
            # HDF5 stores MATLAB's dimensions reversed.
            data = target.create_dataset(name, data=value.T, compression="gzip", compression_opts=3)
            data.attrs["MATLAB_class"] = np.bytes_("double")
