"""Extracted features on disk, so that a killed extraction can continue.

A store is a folder with a manifest of the image files and the settings, and one file for each
finished chunk of image files. A chunk is written atomically and holds whole batches, so that an
extraction computes the same features whether it was killed or not.
"""

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError, writing
from gsmflow.core.files import path_text, write_bytes, write_json
from gsmflow.core.folders import locked, remove_leftovers
from gsmflow.core.json_records import as_record, read_record
from gsmflow.data.cache import keep_in_file
from gsmflow.data.extract.features import Extracted
from gsmflow.data.npy import read_npz

__all__ = ["FeatureStore", "ImageFile", "image_files", "open_store", "recorded_batch_size"]

_MANIFEST, _ALL_FEATURES = "manifest.json", "features.npy"
# Approximate number of files in a chunk: the most that a kill loses.
_CHUNK_FILES = 256


@dataclass(frozen=True)
class ImageFile:
    """Path, size and modification time of an image file."""

    path: Path
    size: int
    mtime_ns: int

    def record(self) -> list[Any]:
        """JSON-ready."""
        return [str(self.path), self.size, self.mtime_ns]


def image_files(root: Path, paths: Sequence[Path]) -> list[ImageFile]:
    """Describe image files, so that changes are noticed without reading them.

    Parameters
    ----------
    root
        Folder of images.
    paths
        Files below it.

    Raises
    ------
    InputError
        If a file has been deleted.
    """
    files = []
    for path in paths:
        try:
            status = (root / path).stat()
        except OSError as error:
            raise InputError(
                f"{path_text(root / path)}: found no such file any more ({error.strerror}), "
                "expected images that do not change during an extraction"
            ) from error
        files.append(ImageFile(path, status.st_size, status.st_mtime_ns))
    return files


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """The chunks of an extraction and their features on disk.

    Attributes
    ----------
    folder
        Folder of the store.
    count
        Number of image files.
    chunk_files
        Number of files in each chunk but the last.
    dimension
        Feature dimension, ``d``.
    """

    folder: Path
    count: int
    chunk_files: int
    dimension: int

    @property
    def chunks(self) -> list[slice]:
        """The range of files of each chunk."""
        starts = range(0, self.count, self.chunk_files)
        return [slice(start, min(start + self.chunk_files, self.count)) for start in starts]

    def read(self, number: int) -> Extracted | None:
        """Read a chunk, whose indices count from its first file; None if it is not there."""
        files = self.chunks[number]
        try:
            file = self._file(number)
            features, kept = read_npz(file, "features"), read_npz(file, "kept")
            reasons = json.loads(str(read_npz(file, "refused")))
            refused = tuple((int(p), str(why)) for p, why in reasons)
        except Exception:  # a dozen types, if the file is missing or damaged
            return None
        whole = len(kept) + len(refused) == files.stop - files.start
        fits = features.shape == (len(kept), self.dimension)
        return Extracted(features, kept, refused) if whole and fits else None

    def write(self, number: int, chunk: Extracted) -> None:
        """Write a chunk atomically."""
        content = io.BytesIO()
        refused = json.dumps(chunk.refused)
        np.savez(content, features=chunk.features, kept=chunk.kept, refused=np.array(refused))
        write_bytes(self._file(number), content.getvalue())

    def gather(self) -> Extracted:
        """Join all chunks; the features are memory-mapped from a file of the store.

        Raises
        ------
        InputError
            If a chunk is missing or damaged.
        """
        kept: list[IntArray] = []
        refused: list[tuple[int, str]] = []
        for number, files in enumerate(self.chunks):
            chunk = self._expect(number)
            kept.append(chunk.kept + files.start)
            refused += [(files.start + index, why) for index, why in chunk.refused]
        rows = np.concatenate(kept)
        # The chunks are read again, so that only one is in memory at a time.
        pieces = (self._expect(number).features for number in range(len(kept)))
        keep = keep_in_file(self.folder / _ALL_FEATURES)
        return Extracted(keep((len(rows), self.dimension), pieces), rows, tuple(refused))

    def remove(self) -> None:
        """Delete the store."""
        shutil.rmtree(self.folder)

    def _expect(self, number: int) -> Extracted:
        chunk = self.read(number)
        if chunk is None:
            raise InputError(
                f"{self._file(number)}: not readable, expected the features that were written "
                "there; the same command computes them again"
            )
        return chunk

    def _file(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06d}.npz"


def recorded_batch_size(folder: Path) -> int | None:
    """The batch size of an interrupted extraction, with which it continues; None if there is none.

    Raises
    ------
    InputError
        If its manifest is damaged.
    """
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return None
    settings = _read_manifest(manifest).settings
    return as_record(f"{manifest}, field 'settings'", settings, _Settings).batch_size


@contextmanager
def open_store(
    folder: Path, settings: Mapping[str, Any], files: Sequence[ImageFile], *, batch_size: int
) -> Iterator[FeatureStore]:
    """A context that creates a store, or opens one to continue, and locks it for this process.

    Parameters
    ----------
    folder
        Folder of the store.
    settings
        Everything that the features depend on besides the files, JSON-ready.
    files
        The image files, in order.
    batch_size
        Files in a batch.

    Raises
    ------
    InputError
        If the store was made with other settings or files, or is open in another process.
    WriteError
        If it cannot be written.
    """
    chunk_files = max(1, _CHUNK_FILES // batch_size) * batch_size
    settings = {**settings, "batch_size": batch_size}
    store = FeatureStore(folder, len(files), chunk_files, int(settings["dimension"]))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        remove_leftovers(folder)
        _check_manifest(folder / _MANIFEST, settings, files)
        yield store


@dataclass(frozen=True)
class _Manifest:
    """What an extraction depends on: its settings, and path, size and time of each file."""

    settings: dict[str, Any]
    files: list[tuple[str, int, int]]


@dataclass(frozen=True)
class _Settings:
    """What is read of the settings; the others are compared as they are."""

    batch_size: Annotated[int, Meta(ge=1)]


def _remedy(manifest: Path) -> str:
    return f"delete {path_text(manifest.parent)} to start again"


def _read_manifest(manifest: Path) -> _Manifest:
    try:
        return read_record(manifest, _Manifest)
    except InputError as error:
        raise InputError(f"{error}; {_remedy(manifest)}") from error


def _check_manifest(
    manifest: Path, settings: Mapping[str, Any], files: Sequence[ImageFile]
) -> None:
    """Write the manifest, or raise `InputError` if there is one that differs."""
    wanted = {"settings": dict(settings), "files": [file.record() for file in files]}
    wanted = json.loads(json.dumps(wanted))  # as it is read back
    if not manifest.exists():
        write_json(manifest, wanted)
        return
    found, remedy = _read_manifest(manifest), _remedy(manifest)
    for name in sorted({*found.settings, *wanted["settings"]}):
        before, now = found.settings.get(name), wanted["settings"].get(name)
        if before != now:
            raise InputError(
                f"{manifest}, field '{name}': found {before!r}, expected {now!r} as in this call; "
                f"an extraction continues only with the settings it began with: {remedy}"
            )
    before_files = {record[0]: list(record) for record in found.files}
    for record in wanted["files"]:
        if before_files.pop(record[0], None) != record:
            raise InputError(
                f"{path_text(Path(record[0]))}: found another file than when the extraction began, "
                f"expected the same images; {remedy}"
            )
    for name in before_files:
        raise InputError(
            f"{path_text(Path(name))}: found no such file any more, expected the images with which "
            f"the extraction began; {remedy}"
        )
