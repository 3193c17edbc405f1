"""Datasets as they were read, kept on disk so that the next start need not read them again.

An entry is a folder ``<features>-<semantics>-<key>`` with one ``.npy`` file for each array of a
`Dataset`, of which the features are memory-mapped, and ``dataset.json`` with the rest. The key is
a hash of what the source files hold. An entry is renamed into place when it is complete; nothing
in it changes afterwards but the record of where its sources are. It may be deleted at any time.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line, writing
from gsmflow.core.files import digest_file, read_json, write_json
from gsmflow.data.dataset import Dataset
from gsmflow.data.embedding_names import embedding_label
from gsmflow.data.formats.base import Keep, keep_in_memory
from gsmflow.data.formats.files import dataset_files, load_dataset

__all__ = ["keep_in_file", "keep_where_it_fits", "load_cached"]

# Counts up with every change of what an entry holds or of how a dataset is settled.
_FORMAT = 3
_RECORD = "dataset.json"
_digest = partial(hashlib.blake2b, digest_size=16)
# A file that was changed so shortly before it was hashed may change again within one tick of its
# file system's clock: its times are not trusted.
_SETTLED_NS = 2 * 10**9
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class _Source:
    """A source file as its file system knows it, without a look at what it holds."""

    path: str
    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int


def load_cached(root: Path, name: str, *, features: str, semantics: str, cache: Path) -> Dataset:
    """The dataset that `load_dataset` gives, from the cache if it is there.

    If it is not, it is read and kept. If it cannot be kept, `Dataset.notes` says so.

    Parameters
    ----------
    root, name, features, semantics
        As of `dataset_files`.
    cache
        Folder of caches; the entries of this dataset lie in ``<cache>/<name>``.

    Raises
    ------
    InputError
        If a source file is missing or unreadable, or the dataset is faulty.
    """
    files = dataset_files(root, name, features=features, semantics=semantics)
    if not files:  # it is built in
        return load_dataset(root, name, features=features, semantics=semantics)
    folder, stem = cache / name, f"{features}-{embedding_label(semantics)}-"
    notes: list[str] = []
    try:
        record = _look_at(files)
        entry = _recorded_entry(folder, stem, record)
        if entry is None:
            record |= {"digests": [digest_file(file, _digest) for file in files]}
            entry = folder / f"{stem}{_key(stem, record['digests'])}"
            with suppress(OSError, InputError, TypeError):  # costs a hash next time, no more
                write_json(entry / _RECORD, read_json(entry / _RECORD) | record)
        if entry.exists():
            try:
                return replace(_open_entry(entry, files), from_cache=True)
            except OSError as error:
                notes.append(f"{error}: made anew")
                shutil.rmtree(entry)
        _make_entry(entry, files, record, (root, name, features, semantics))
        dataset = _open_entry(entry, files)
    except OSError as error:
        notes.append(
            f"{folder}: the features cannot be kept there ({error.strerror or one_line(error)}), "
            "so that the next start will read them again"
        )
        dataset = load_dataset(root, name, features=features, semantics=semantics)
    return replace(dataset, notes=(*dataset.notes, *notes))


def keep_in_file(file: Path) -> Keep:
    """Features are put into this ``.npy`` file, and memory-mapped from there."""

    def keep(shape: tuple[int, int], pieces: Iterator[FloatArray]) -> FloatArray:
        if 0 in shape:  # refused later, and not to be mapped
            return keep_in_memory(shape, pieces)
        _write_array(file, shape, pieces)
        return np.lib.format.open_memmap(file, mode="r")

    return keep


def keep_where_it_fits(file: Path) -> Keep:
    """Features stay in memory, or go as by `keep_in_file` where half of it were too little."""

    def keep(shape: tuple[int, int], pieces: Iterator[FloatArray]) -> FloatArray:
        large = 4 * shape[0] * shape[1] > psutil.virtual_memory().available // 2
        return (keep_in_file(file) if large else keep_in_memory)(shape, pieces)

    return keep


def _look_at(files: Sequence[Path]) -> dict[str, Any]:
    """What identifies files without reading them, JSON-ready."""
    now = time.time_ns()
    sources = []
    for file in files:
        status = file.stat()
        times = status.st_mtime_ns, status.st_ctime_ns
        sources.append(_Source(str(file.resolve()), status.st_size, status.st_ino, *times))
    latest = max(max(source.mtime_ns, source.ctime_ns) for source in sources)
    return {
        "sources": [asdict(source) for source in sources],
        "settled": latest + _SETTLED_NS < now,
    }


def _recorded_entry(folder: Path, stem: str, record: dict[str, Any]) -> Path | None:
    """The entry that was made of, or last found to be of, files that are the same by all looks."""
    if record["settled"] and folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(stem):
                with suppress(InputError):
                    stored = read_json(entry / _RECORD)
                    if isinstance(stored, dict) and record.items() <= stored.items():
                        return entry
    return None


def _key(stem: str, digests: Sequence[str]) -> str:
    text = "\n".join([str(_FORMAT), stem, *digests])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _make_entry(
    entry: Path, files: Sequence[Path], record: dict[str, Any], names: tuple[Path, str, str, str]
) -> None:
    """Read the dataset and keep it, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be kept, or its files change meanwhile.
    InputError
        As of `load_dataset`.
    """
    _remove_abandoned(entry.parent)
    temporary = entry.with_name(f".{entry.name}.{uuid4().hex}.part")
    keep = keep_in_file(temporary / "features.npy")
    try:
        temporary.mkdir(parents=True)
        root, name, features, semantics = names
        dataset = load_dataset(root, name, features=features, semantics=semantics, keep=keep)
        values = {f.name: getattr(dataset, f.name) for f in fields(dataset)}
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        for field, array in arrays.items():
            if field != "features":
                _write_array(temporary / f"{field}.npy", array.shape, [np.ascontiguousarray(array)])
        content = {
            "files": [str(file) for file in files],
            "arrays": {k: [str(v.dtype), list(v.shape)] for k, v in arrays.items()},
            "fields": {k: v for k, v in values.items() if k not in arrays},
        }
        write_json(temporary / _RECORD, record | content)
        if _look_at(files)["sources"] != record["sources"]:
            raise OSError("the files changed while they were read")
        try:
            temporary.rename(entry)
        except OSError:
            if not entry.exists():  # else another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_array(path: Path, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
    """Write C-ordered pieces, one after the other, as one array of this shape."""
    # Not mapped for writing: on a full disk, that would kill the process.
    with writing(path), path.open("wb") as file:
        for number, piece in enumerate(pieces):
            if number == 0:
                descr = np.lib.format.dtype_to_descr(piece.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(piece.data)
        file.flush()
        os.fsync(file.fileno())


def _open_entry(entry: Path, files: Sequence[Path]) -> Dataset:
    """The dataset of an entry, with features mapped from its file.

    Raises
    ------
    OSError
        If it is damaged.
    """
    try:
        record = read_json(entry / _RECORD)
        arrays: dict[str, Any] = {}
        for name, (dtype, shape) in record["arrays"].items():
            path = entry / f"{name}.npy"
            if name == "features":
                arrays[name] = np.lib.format.open_memmap(path, mode="r")
            else:
                with path.open("rb") as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
            found = str(arrays[name].dtype), list(arrays[name].shape)
            if found != (dtype, shape):
                raise ValueError(f"{path.name}: found {found}, expected {(dtype, shape)}")

        # The files may have been moved since: messages name them where they are now.
        def now(text: str) -> str:
            for old, new in zip(record["files"], files, strict=True):
                text = text.replace(old, str(new))
            return text

        stored = record["fields"]
        stored["class_names"] = tuple(stored["class_names"])
        stored["semantics_parts"] = tuple(stored.get("semantics_parts", ()))
        stored["notes"] = tuple(map(now, stored["notes"]))
        stored["source"] = {k: now(v) for k, v in stored["source"].items()}
        return Dataset(**arrays, **stored)
    except Exception as error:
        # Text and arrays of which any byte may be wrong raise a dozen unrelated types.
        raise OSError(f"{entry}: damaged ({one_line(error)})") from error


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes left behind that were killed while they made an entry."""
    for temporary in folder.glob(".*.part"):
        with suppress(OSError):
            touched = max(path.stat().st_mtime for path in (temporary, *temporary.iterdir()))
            if time.time() - touched > _ABANDONED_SECONDS:
                shutil.rmtree(temporary)
