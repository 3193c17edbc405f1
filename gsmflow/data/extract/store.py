"""Features that were computed so far, kept on disk so that a killed extraction goes on.

A store is a folder with a manifest, which says of which files and with which settings, and one
file for each chunk of files that is done. A chunk is written whole or not at all, and holds whole
batches, so that what is computed after a kill is what would have been computed without.
"""

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json, write_bytes, write_json
from gsmflow.data.cache import keep_in_file
from gsmflow.data.extract.features import Extracted
from gsmflow.data.extract.images import said_path

__all__ = ["FeatureStore", "ImageFile", "look_at", "open_store"]

_MANIFEST, _LOCK, _ALL_FEATURES = "manifest.json", "lock", "features.npy"
# Files of a chunk, about; what a kill costs at most.
_CHUNK_FILES = 256


@dataclass(frozen=True)
class ImageFile:
    """An image file as its file system knows it."""

    path: Path
    size: int
    mtime_ns: int

    def record(self) -> list[Any]:
        """JSON-ready."""
        return [str(self.path), self.size, self.mtime_ns]


def look_at(root: Path, paths: Sequence[Path]) -> list[ImageFile]:
    """What tells that files are the same without reading them.

    Parameters
    ----------
    root
        Folder of images.
    paths
        Files below it.

    Raises
    ------
    InputError
        If one is not there any more.
    """
    found = []
    for path in paths:
        try:
            status = (root / path).stat()
        except OSError as error:
            raise InputError(
                f"{said_path(root / path)}: not there any more ({error.strerror}), expected images "
                "that stay while they are read"
            ) from error
        found.append(ImageFile(path, status.st_size, status.st_mtime_ns))
    return found


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Chunks of files and the features that are there of them.

    Attributes
    ----------
    folder
        Where they are kept.
    count
        How many files there are.
    chunk_files
        Files of each chunk but the last.
    dimension
        Length of a feature.
    """

    folder: Path
    count: int
    chunk_files: int
    dimension: int

    @property
    def chunks(self) -> list[slice]:
        """The files of each chunk."""
        starts = range(0, self.count, self.chunk_files)
        return [slice(start, min(start + self.chunk_files, self.count)) for start in starts]

    def read(self, number: int) -> Extracted | None:
        """A chunk, its places counted from its first file; None where it is not there."""
        files = self.chunks[number]
        try:
            with self._file(number).open("rb") as file, np.load(file) as content:
                features, kept = content["features"], content["kept"]
                refused = tuple(
                    (int(p), str(why)) for p, why in json.loads(str(content["refused"]))
                )
        except Exception:  # of a dozen types where the file is missing or damaged
            return None
        whole = len(kept) + len(refused) == files.stop - files.start
        fits = features.shape == (len(kept), self.dimension)
        return Extracted(features, kept, refused) if whole and fits else None

    def write(self, number: int, chunk: Extracted) -> None:
        """Keep a chunk, whole or not at all."""
        content = io.BytesIO()
        refused = json.dumps(chunk.refused)
        np.savez(content, features=chunk.features, kept=chunk.kept, refused=np.array(refused))
        write_bytes(self._file(number), content.getvalue())

    def gather(self) -> Extracted:
        """All chunks as one, the features mapped from a file of the store.

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
            refused += [(files.start + place, why) for place, why in chunk.refused]
        rows = np.concatenate(kept)
        # Read again, so that no more than a chunk is in memory.
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
                "there; the same command computes them anew"
            )
        return chunk

    def _file(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06d}.npz"


@contextmanager
def open_store(
    folder: Path, settings: Mapping[str, Any], files: Sequence[ImageFile], *, batch_size: int
) -> Iterator[FeatureStore]:
    """A context in which this process alone writes to a store, a new one or one to go on with.

    Parameters
    ----------
    folder
        Where it is kept.
    settings
        All that the features depend on beside the files, JSON-ready.
    files
        The image files, in their order.
    batch_size
        Files that are computed together.

    Raises
    ------
    InputError
        If it was begun with other settings or other files, cannot be written, or another process
        has it open.
    """
    chunk_files = max(1, _CHUNK_FILES // batch_size) * batch_size
    settings = {**settings, "batch_size": batch_size}
    store = FeatureStore(folder, len(files), chunk_files, int(settings["dimension"]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=0):
            _agree(folder / _MANIFEST, settings, files)
            yield store
    except Timeout as error:
        raise InputError(
            f"{folder}: found another process that writes to it, expected none"
        ) from error
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror}), expected a folder "
            "with room for the dataset"
        ) from error


def _agree(manifest: Path, settings: Mapping[str, Any], files: Sequence[ImageFile]) -> None:
    """Write the manifest, or refuse where one is there that differs."""
    wanted = {"settings": dict(settings), "files": [file.record() for file in files]}
    wanted = json.loads(json.dumps(wanted))  # as it will be read
    if not manifest.exists():
        write_json(manifest, wanted)
        return
    found = read_json(manifest)
    remedy = f"delete {said_path(manifest.parent)} to begin anew"
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise InputError(f"{manifest}: found no manifest, expected that of an extraction; {remedy}")
    for name in sorted({*found["settings"], *wanted["settings"]}):
        before, now = found["settings"].get(name), wanted["settings"].get(name)
        if before != now:
            raise InputError(
                f"{manifest}, field '{name}': found {before!r}, expected {now!r} as asked for now; "
                f"an extraction goes on with the settings it was begun with: {remedy}"
            )
    before_files = {record[0]: record for record in found["files"]}
    for record in wanted["files"]:
        if before_files.pop(record[0], None) != record:
            raise InputError(
                f"{said_path(Path(record[0]))}: found another file than when the extraction began, "
                f"expected the same images; {remedy}"
            )
    for name in before_files:
        raise InputError(
            f"{said_path(Path(name))}: found it no more, expected the images with which the "
            f"extraction began; {remedy}"
        )
