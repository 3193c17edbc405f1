"""Arrays in files of NumPy, PyTorch and HDF5: looked at first, then read a piece at a time.

Nothing is unpickled but what ``torch.load(weights_only=True)`` allows. What a file claims of an
array's size is compared with the length of the file before memory is asked for.
"""

import json
import math
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.arrays import row_slices
from gsmflow.core.errors import InputError
from gsmflow.data.formats.arrays import text_array
from gsmflow.data.formats.base import listed_fields
from gsmflow.data.npy import (
    MOST_DEFLATED,
    ArrayHeader,
    npz_fields,
    packed_member,
    read_header,
    reading,
)

__all__ = ["ENDINGS", "ArrayFile", "StoredArray", "open_array_file", "read_texts"]

# What small arrays of a compressed file may have beyond it.
_SLACK_BYTES = 2**16


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array that stays in its file until its pieces are asked for.

    Attributes
    ----------
    where
        The file and the field, for messages.
    shape, dtype
        As the file has them; texts have the kind ``U``.
    pieces
        Reads consecutive rows ``(m, ...)``, a bounded number at a time where the file allows it.
        Raises an `InputError` if the file is damaged.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Callable[[], Iterator[NDArray[Any]]]

    def read(self) -> NDArray[Any]:
        """All of it, in memory; bytes are read as text.

        Raises
        ------
        InputError
            If the file is damaged, or bytes are not UTF-8.
        """
        pieces = [text_array(self.where, piece) for piece in self.pieces()]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """A file of arrays.

    Attributes
    ----------
    path
        The file.
    fields
        Their names; the one array of a ``.npy`` file, or of a ``.pt`` file that is a tensor, has
        the name ``""``.
    find
        Looks at a field; raises an `InputError` if it cannot be used.
    """

    path: Path
    fields: tuple[str, ...]
    find: Callable[[str], StoredArray]

    def __contains__(self, field: str) -> bool:
        """Whether there is a field of this name."""
        return field in self.fields

    def array(self, field: str | None, usual: str) -> StoredArray:
        """A field that the user named, or the usual one.

        Parameters
        ----------
        field
            The name; None for the usual field, or the only one that there is.
        usual
            The name of the usual field.

        Raises
        ------
        InputError
            If there is no such field, or it cannot be used.
        """
        name = usual if field is None else field
        if field is None and len(self.fields) == 1:
            name = self.fields[0]
        if name not in self:
            listed = "one array without a name"
            if self.fields != ("",):
                listed = f"fields {listed_fields([' '.join(one.split()) for one in self.fields])}"
            raise InputError(
                f"{_where(self.path, name)}: not found, expected in this file, which has {listed}"
            )
        return self.find(name)


def open_array_file(path: Path) -> ArrayFile:
    """Look at a file of arrays.

    Parameters
    ----------
    path
        ``.npy``; ``.npz``; ``.pt`` or ``.pth``: a tensor, or a dict of tensors and of lists of
        texts or whole numbers; ``.h5`` or ``.hdf5``: all arrays of all groups.

    Raises
    ------
    InputError
        If it is missing, has another ending, or is no complete file of its kind.
    """
    if path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"{path}: found a file that ends in {path.suffix or 'nothing'}, expected one of "
            f"{', '.join(ENDINGS)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected one of arrays")
    return ENDINGS[path.suffix.lower()](path)


def read_texts(stored: StoredArray, count: int) -> NDArray[Any]:
    """A vector of texts ``(count,)``.

    Raises
    ------
    InputError
        If it is none.
    """
    if stored.dtype.kind not in "US" or stored.shape != (count,):
        raise InputError(
            f"{stored.where}: found {stored.dtype} of shape {stored.shape}, expected {count} texts"
        )
    return stored.read()


_Open: TypeAlias = Callable[[Path], ArrayFile]


def _where(path: Path, field: str) -> str:
    return f"{path}, field {field!r}" if field else str(path)


def _check_size(where: str, shape: tuple[int, ...], item_bytes: int, most_bytes: int) -> None:
    """Refuse a shape that takes more bytes than there are."""
    sound = all(side >= 0 for side in shape)
    if not sound or math.prod(shape) * max(1, item_bytes) > most_bytes:
        raise InputError(
            f"{where}: found the shape {shape}, for which the file is too short, expected a "
            "complete file"
        )


def _sliced(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows of an array in slices of bounded size."""
    if not values.ndim:
        yield values
        return
    row_bytes = values.itemsize * math.prod(values.shape[1:])
    for rows in row_slices(len(values), row_bytes):
        yield values[rows]


# NumPy's formats: a header with shape, order and dtype, and the bytes.

_NPY = "a complete .npy file of an array"
_NPZ = "a complete .npz archive of arrays"


def _open_npy(path: Path) -> ArrayFile:
    with reading(str(path), _NPY), path.open("rb") as file:
        header = read_header(file, path.stat().st_size)

    def pieces() -> Iterator[NDArray[Any]]:
        with reading(str(path), _NPY):
            if 0 in header.shape:  # which cannot be mapped
                yield np.empty(header.shape, header.dtype)
                return
            order: Any = "F" if header.in_columns else "C"
            mapped = np.memmap(path, header.dtype, "r", header.start, header.shape, order)
            yield from _sliced(mapped)

    stored = StoredArray(str(path), header.shape, header.dtype, pieces)
    return ArrayFile(path, ("",), lambda field: stored)


def _open_npz(path: Path) -> ArrayFile:
    names = sorted(npz_fields(path))

    def find(field: str) -> StoredArray:
        where = _where(path, field)
        with reading(where, _NPZ), zipfile.ZipFile(path) as archive:
            member, most = packed_member(archive, field, path.stat().st_size)
            with archive.open(member) as file:
                header = read_header(file, most)

        def pieces() -> Iterator[NDArray[Any]]:
            with (
                reading(where, _NPZ),
                zipfile.ZipFile(path) as archive,
                archive.open(member) as file,
            ):
                read_header(file, most)
                yield from _stream(file, header)

        return StoredArray(where, header.shape, header.dtype, pieces)

    return ArrayFile(path, tuple(names), find)


def _stream(file: IO[bytes], header: ArrayHeader) -> Iterator[NDArray[Any]]:
    """The rows that follow a header in a file that can only be read on."""
    shape, dtype = header.shape, header.dtype
    if header.in_columns or not shape:  # the first row ends at the end of the file
        values = np.frombuffer(_bytes_of(file, math.prod(shape) * dtype.itemsize), dtype)
        order: Any = "F" if header.in_columns else "C"
        yield from _sliced(values.reshape(shape, order=order))
        return
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    for rows in row_slices(shape[0], row_bytes):
        count = rows.stop - rows.start
        content = _bytes_of(file, count * row_bytes)
        values = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
        yield values.reshape(count, *shape[1:])


def _bytes_of(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError(f"it ends {count - len(content)} bytes early")
    return content


# PyTorch's format: a ZIP archive of a pickle and of the bytes of each storage.

_PT = "a .pt file of tensors, and of lists of texts or numbers, that torch.save wrote"


def _open_pt(path: Path) -> ArrayFile:
    with reading(str(path), _PT):
        _check_records(path)
        # On this device tensors have shapes and no bytes.
        looked_at = _load_pt(path, "meta")
    content = looked_at if isinstance(looked_at, Mapping) else {"": looked_at}
    fields = {str(name): value for name, value in content.items() if _is_array(value)}
    if not fields:
        raise InputError(
            f"{path}: found {type(looked_at).__name__} without tensors, expected a tensor or a "
            "dict of them"
        )

    def find(field: str) -> StoredArray:
        value, where = fields[field], _where(path, field)
        if not isinstance(value, Tensor):
            return _listed(where, value)
        with reading(where, _PT):
            if value.layout != torch.strided or value.is_quantized:
                raise InputError(
                    f"{where}: found a sparse or quantized tensor, expected a dense one "
                    "(tensor.to_dense(), tensor.dequantize())"
                )
            dtype = _as_numpy(torch.empty(0, dtype=value.dtype)).dtype
        _check_size(where, tuple(value.shape), value.element_size(), path.stat().st_size)

        def pieces() -> Iterator[NDArray[Any]]:
            with reading(where, _PT):
                loaded = _load_pt(path, "cpu")
                tensor = loaded if isinstance(loaded, Tensor) else loaded[_key(loaded, field)]
                if not tensor.ndim:
                    yield _as_numpy(tensor)
                    return
                row_bytes = tensor[:1].numel() * tensor.element_size()
                for rows in row_slices(len(tensor), row_bytes):
                    yield _as_numpy(tensor[rows])

        return StoredArray(where, tuple(value.shape), dtype, pieces)

    return ArrayFile(path, tuple(fields), find)


def _check_records(path: Path) -> None:
    """Refuse what is no archive of uncompressed records, as torch has written since 1.6."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no ZIP archive, as torch.save has written since torch 1.6")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    if not stored or sum(record.file_size for record in records) > path.stat().st_size:
        raise ValueError("its records are compressed, or larger than the file")


def _load_pt(path: Path, device: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=device, weights_only=True, mmap=True)
    except Exception as error:
        # torch's text advises to unpickle the file.
        allowed = "Unsupported global" not in str(error)
        raise ValueError("torch cannot read it" if allowed else "pickled Python objects") from error


def _is_array(value: Any) -> bool:
    if isinstance(value, Tensor):
        return True
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return is_list and (_all_of(value, str) or _all_of(value, int))


def _all_of(values: Any, kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _listed(where: str, values: Any) -> StoredArray:
    with reading(where, _PT):
        longest = max(map(len, values)) if _all_of(values, str) else 0
        # Each text of an array takes as much memory as the longest.
        if 4 * longest * len(values) > 2**30:
            raise ValueError(f"texts of up to {longest} characters")
        array = np.array(values)
    return StoredArray(where, array.shape, array.dtype, lambda: iter([array]))


def _key(loaded: Mapping[Any, Any], field: str) -> Any:
    return next(key for key in loaded if str(key) == field)


def _as_numpy(tensor: Tensor) -> NDArray[Any]:
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16
    values: NDArray[Any] = tensor.detach().resolve_neg().numpy()
    return values


# HDF5.

_H5 = "a complete HDF5 file"
# Modules of the working directory are not meant.
_TEXTS_PROGRAM = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import json, h5py, numpy
with h5py.File(sys.argv[1]) as file:
    json.dump(numpy.asarray(file[sys.argv[2]].asstr()[()]).tolist(), sys.stdout)
"""


def _open_h5(path: Path) -> ArrayFile:
    names: list[str] = []

    def note(name: str, found: Any) -> None:
        # A name that is not UTF-8 is given as bytes; nobody can ask for it.
        if isinstance(found, h5py.Dataset) and isinstance(name, str):
            names.append(name)

    with reading(str(path), _H5), h5py.File(path) as file:
        file.visititems(note)

    def find(field: str) -> StoredArray:
        where = _where(path, field)
        with reading(where, _H5), h5py.File(path) as file:
            data = file[field]
            _check_hdf5(where, data, path.stat().st_size)
            is_text = data.dtype.kind == "O" and h5py.check_string_dtype(data.dtype) is not None
            dtype = np.dtype(np.str_) if is_text else data.dtype
            shape = tuple(data.shape)

        def pieces() -> Iterator[NDArray[Any]]:
            with reading(where, _H5):
                if is_text:
                    yield _hdf5_texts(path, field)
                    return
                with h5py.File(path) as file:
                    yield from _hdf5_pieces(file[field])

        return StoredArray(where, shape, dtype, pieces)

    return ArrayFile(path, tuple(names), find)


def _check_hdf5(where: str, data: h5py.Dataset, length: int) -> None:
    """Refuse what is in other files, or larger than this file can hold."""
    if data.is_virtual or data.external:
        raise InputError(f"{where}: found an array whose values are in other files, expected none")
    if data.shape is None:
        raise InputError(f"{where}: found nothing, expected an array")
    item_bytes = data.id.get_type().get_size()
    most = min(length, data.id.get_storage_size())
    if data.chunks is not None:
        most = MOST_DEFLATED * most + _SLACK_BYTES
        # A chunk is unpacked whole, whatever is wanted of it.
        _check_size(where, data.chunks, item_bytes, most)
    _check_size(where, data.shape, item_bytes, most)


def _hdf5_texts(path: Path, field: str) -> NDArray[Any]:
    """The texts of a field, read by another process: at damaged ones, HDF5's library crashes."""
    words = [sys.executable, "-c", _TEXTS_PROGRAM, str(path), field]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise ValueError("its texts are damaged, or not UTF-8")
    return np.array(json.loads(done.stdout), dtype=np.str_)


def _hdf5_pieces(data: h5py.Dataset) -> Iterator[NDArray[Any]]:
    if not data.shape:
        yield np.asarray(data[()])
        return
    row_bytes = math.prod(data.shape[1:]) * data.dtype.itemsize
    chunk = data.chunks[0] if data.chunks else 1
    for rows in row_slices(data.shape[0], row_bytes, multiple=chunk):
        yield data[rows]


ENDINGS: Mapping[str, _Open] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".pt": _open_pt,
    ".pth": _open_pt,
    ".h5": _open_h5,
    ".hdf5": _open_h5,
}
