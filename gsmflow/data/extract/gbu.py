"""Write a dataset in the GBU layout, which `gsmflow.data.formats` describes and reads."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.files import replacing
from gsmflow.data.formats.base import keep_in_memory

__all__ = ["SEMANTICS", "write_features", "write_splits"]

# What the semantics are called, as in the published files.
SEMANTICS = "att"

# Largest field of a MATLAB v5 file; larger features are written as v7.3.
_V5_BYTES = 2**31 - 2**16
_HEADER_BYTES = 116


def write_features(
    path: Path,
    shape: tuple[int, int],
    pieces: Iterator[FloatArray],
    labels: IntArray,
    image_files: Sequence[str] | None,
    *,
    v5_bytes: int = _V5_BYTES,
) -> None:
    """Write a feature file: ``features (d, n)``, ``labels (n, 1)`` from 1, ``image_files (n, 1)``.

    Equal input gives equal bytes.

    Parameters
    ----------
    path
        The file.
    shape
        ``(n, d)``.
    pieces
        The features in order, ``(m, d)`` at a time.
    labels
        Zero-based class of each row, ``(n,)``.
    image_files
        The image of each row, ``(n,)``; None to write no such field.
    v5_bytes
        Features larger than this are written as MATLAB v7.3 (HDF5), piece by piece.
    """
    n, d = shape
    fields: dict[str, Any] = {"labels": labels[:, None] + 1.0}
    if image_files is not None:
        fields["image_files"] = _cells(image_files)
    with replacing(path) as temporary:
        if n * d * 4 <= v5_bytes:
            features = keep_in_memory(shape, pieces)
            _save_v5(temporary, {"features": features.T, **fields})
        else:
            _save_v73(temporary, shape, pieces, fields)


def write_splits(
    path: Path,
    semantics: FloatArray,
    class_names: Sequence[str],
    rows: Mapping[str, IntArray],
) -> None:
    """Write a split file: ``att (a, classes)``, ``allclasses_names`` and one-based row lists.

    Parameters
    ----------
    path
        The file.
    semantics
        ``(classes, a)``.
    class_names
        One name per class.
    rows
        Zero-based rows by field name, such as ``trainval_loc``.
    """
    fields: dict[str, Any] = {
        SEMANTICS: semantics.T.astype(np.float64),
        "allclasses_names": _cells(class_names),
        **{field: indices[:, None] + 1.0 for field, indices in rows.items()},
    }
    with replacing(path) as temporary:
        _save_v5(temporary, fields)


def _cells(texts: Sequence[str]) -> NDArray[Any]:
    """A cell array of texts, ``(n, 1)``."""
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = texts
    return cells


def _save_v5(path: Path, fields: Mapping[str, Any]) -> None:
    scipy.io.savemat(path, dict(fields), appendmat=False, oned_as="column")
    with path.open("r+b") as file:  # scipy writes the time there
        file.write(b"MATLAB 5.0 MAT-file, written by gsmflow".ljust(_HEADER_BYTES))


def _save_v73(
    path: Path, shape: tuple[int, int], pieces: Iterator[FloatArray], fields: Mapping[str, Any]
) -> None:
    """Write HDF5 as MATLAB does: reversed dimensions, and texts as references to UTF-16 codes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        features = file.create_dataset("features", shape, dtype=np.float32)
        features.attrs["MATLAB_class"] = np.bytes_("single")
        start = 0
        for piece in pieces:
            features[start : start + len(piece)] = piece
            start += len(piece)
        for name, value in fields.items():
            if value.dtype == object:
                texts = chain.from_iterable(value)
                data = file.create_dataset(name, data=_references(file, name, texts)[None])
                data.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                data = file.create_dataset(name, data=value.T)
                data.attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, written by gsmflow".ljust(124) + b"\x00\x02IM")


def _references(file: h5py.File, name: str, texts: Iterator[str]) -> NDArray[Any]:
    references = []
    for number, text in enumerate(texts):
        codes = np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16)
        cell = file.create_dataset(f"#refs#/{name}{number}", data=codes[:, None])
        cell.attrs["MATLAB_class"] = np.bytes_("char")
        references.append(cell.ref)
    return np.array(references, dtype=h5py.ref_dtype)
