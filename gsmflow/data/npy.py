"""NumPy's files, ``.npy`` and ``.npz``: what they ask for is compared with their length first."""

import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.errors import InputError, one_line

__all__ = [
    "MOST_DEFLATED",
    "ArrayHeader",
    "npz_fields",
    "packed_member",
    "read_header",
    "read_npy",
    "read_npz",
    "reading",
]

# Deflate makes no more than this many bytes of one.
MOST_DEFLATED = 1032

_ENDING = ".npy"
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of an array says.

    Attributes
    ----------
    shape, dtype
        Of the array.
    in_columns
        Whether its values lie column by column.
    start
        Where they begin, in bytes.
    """

    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype[Any]
    start: int


def read_npy(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array in a ``.npy`` file; no memory is asked for that the file's length does not cover.

    Parameters
    ----------
    path
        The file.
    mapped
        Whether the values stay in the file until they are used.

    Raises
    ------
    InputError
        If it is missing, damaged or shorter than its header says, or holds Python objects.
    """
    with reading(str(path), "a complete .npy file of an array"):
        with path.open("rb") as stream:
            read_header(stream, os.fstat(stream.fileno()).st_size)
            if not mapped:
                stream.seek(0)
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        return np.lib.format.open_memmap(path, mode="r")


def npz_fields(path: Path) -> frozenset[str]:
    """The names of the arrays in a ``.npz`` archive.

    Raises
    ------
    InputError
        If it is missing or no such archive.
    """
    with _archive(path, str(path)) as archive:
        names = [name for name in archive.namelist() if name.endswith(_ENDING)]
    return frozenset(name.removesuffix(_ENDING) for name in names)


def read_npz(path: Path, field: str) -> NDArray[Any]:
    """One of the arrays in a ``.npz`` archive; memory as of `read_npy`.

    Raises
    ------
    InputError
        If the archive or the array is missing or damaged, or holds Python objects.
    """
    with _archive(path, f"{path}, field '{field}'") as archive:
        member, size = packed_member(archive, field, path.stat().st_size)
        with archive.open(member) as stream:
            read_header(stream, size)
        with archive.open(member) as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def packed_member(archive: zipfile.ZipFile, field: str, file_bytes: int) -> tuple[str, int]:
    """The member of a ``.npz`` archive that has a field, and how many bytes it can hold at most.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        If it is packed in another way than NumPy's.
    """
    member = archive.getinfo(f"{field}{_ENDING}")
    if member.compress_type not in _PACKED:
        raise ValueError("it is packed in another way than NumPy's")
    packed = min(member.compress_size, file_bytes)
    return member.filename, min(member.file_size, MOST_DEFLATED * packed)


def read_header(stream: IO[bytes], size: int) -> ArrayHeader:
    """The header of an array, at which a stream of so many bytes begins; its values come next.

    Raises
    ------
    ValueError
        If it is none, or describes values that the bytes after it cannot hold.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    elif version != (2, 0):
        raise ValueError(f"its version is {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was written by Python 2
        shape, in_columns, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or not dtype.itemsize:
        raise ValueError(f"its header describes an array of shape {shape} and type {dtype}")
    start = stream.tell()
    asked = math.prod(shape) * dtype.itemsize
    if asked > size - start:
        raise ValueError(f"its header asks for {asked:,} bytes of values, it has {size - start:,}")
    return ArrayHeader(shape, in_columns, dtype, start)


@contextmanager
def _archive(path: Path, where: str) -> Iterator[zipfile.ZipFile]:
    with (
        reading(where, "a complete .npz archive of arrays"),
        path.open("rb") as stream,
        zipfile.ZipFile(stream) as archive,
    ):
        yield archive


@contextmanager
def reading(where: str, kind: str) -> Iterator[None]:
    """A context in which whatever a library raises at a file that is not ``kind`` is an error.

    Raises
    ------
    InputError
        With ``where`` it stands, the library's message and the expected ``kind``.
    """
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{where}: no permission to read this file") from error
    except Exception as error:
        # Damaged files raise a dozen unrelated types, depending on which byte is wrong.
        if "Python objects" in str(error):
            raise InputError(
                f"{where}: found pickled Python objects, expected an array of numbers or text"
            ) from error
        raise InputError(f"{where}: not readable ({one_line(error)}), expected {kind}") from error
