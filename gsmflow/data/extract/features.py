"""Extract features of image files; workers read pictures while the backbone computes."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import current_process
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.data.extract.backbones import Backbone
from gsmflow.data.extract.images import PictureError, open_picture, quiet_readers

__all__ = ["Extracted", "extract_chunks", "extract_features", "stream_features"]

# For fewer files, processes take more time to start than they save.
_FEW = 256
_MOST_THREADS, _MOST_WORKERS = 8, 16
# Batches that a process reads ahead.
_AHEAD = 2


@dataclass(frozen=True, eq=False)
class Extracted:
    """The features of some image files.

    Attributes
    ----------
    features
        Features of the files that are readable pictures, ``(m, d)``.
    kept
        Index of each of these files, ascending, ``(m,)``.
    refused
        Index of each other file, and why it is not readable.
    """

    features: FloatArray
    kept: IntArray
    refused: tuple[tuple[int, str], ...]


def extract_features(
    paths: Sequence[Path],
    backbone: Backbone,
    *,
    batch_size: int,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Extracted:
    """Extract the features of image files, in the order of the files.

    Parameters
    ----------
    paths
        The files; those that are no readable pictures are returned as refused.
    backbone
        The loaded backbone.
    batch_size
        Files in a batch, including the refused ones. The batch of a file, and with it the last
        bits of its features, therefore depends only on the order of the files.
    on_batch
        Called after each batch with its number of files.
    """
    (found,) = extract_chunks([paths], backbone, batch_size=batch_size, on_batch=on_batch)
    return found


def extract_chunks(
    chunks: Sequence[Sequence[Path]],
    backbone: Backbone,
    *,
    batch_size: int,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Generator[Extracted, None, None]:
    """Extract the features of several lists of image files, which one set of workers reads.

    Parameters
    ----------
    chunks
        Lists of files, each of whole batches; the last one may end within a batch.
    backbone, batch_size, on_batch
        As in `extract_features`.

    Yields
    ------
    Extracted
        The features of each list; indices count within it.
    """
    stream = stream_features(chain.from_iterable(chunks), backbone, batch_size=batch_size)
    with closing(stream):
        for chunk in chunks:
            found: list[tuple[int, Extracted]] = []
            done = 0
            while done < len(chunk):
                batch, extracted = next(stream)
                found.append((done, extracted))
                done += len(batch)
                on_batch(len(batch))
            yield _joined(found, backbone.dimension)


def _joined(parts: Sequence[tuple[int, Extracted]], dimension: int) -> Extracted:
    """Batches as one, by the index of the first file of each."""
    no_features = np.empty((0, dimension), dtype=np.float32)
    none_kept = np.empty(0, dtype=np.int64)
    return Extracted(
        np.concatenate([no_features, *(part.features for _, part in parts)]),
        np.concatenate([none_kept, *(start + part.kept for start, part in parts)]),
        tuple((start + index, why) for start, part in parts for index, why in part.refused),
    )


def stream_features(
    paths: Iterable[Path], backbone: Backbone, *, batch_size: int
) -> Generator[tuple[Sequence[Path], Extracted], None, None]:
    """Extract the features of any number of image files, batch by batch.

    The next batches are read while the current one is computed: of many files by processes, where
    they can be forked from this one, or else by threads.

    Parameters
    ----------
    paths, backbone, batch_size
        As in `extract_features`.

    Yields
    ------
    tuple
        The files of a batch and their features; indices count within the batch.
    """
    remaining = iter(paths)
    first = list(islice(remaining, _FEW))
    read = _read_by_processes if _forks(len(first), backbone, batch_size) else _read_by_threads
    with quiet_readers(), closing(read(chain(first, remaining), backbone, batch_size)) as batches:
        for batch in batches:
            kept = np.array(batch.kept, dtype=np.int64)
            yield batch.files, Extracted(backbone.features(batch.pixels), kept, batch.refused)


class _Batch(NamedTuple):
    """Files, the pixels of those that are pictures, and why the others are none."""

    files: list[Path]
    pixels: Tensor | list[Tensor]
    kept: list[int]
    refused: tuple[tuple[int, str], ...]


def _forks(count: int, backbone: Backbone, batch_size: int) -> bool:
    """Whether processes are to read pictures: for many, with memory to hand their pixels over."""
    if count < _FEW or sys.platform != "linux" or current_process().daemon:
        return False
    pixels = backbone.prepare(Image.new("RGB", (64, 48)))
    needed = pixels.nbytes * batch_size * _workers() * (_AHEAD + 1)
    try:
        memory = os.statvfs("/dev/shm")
    except OSError:
        return False
    return memory.f_bavail * memory.f_frsize > needed


def _workers() -> int:
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))


class _BatchesOfOneWorker(IterableDataset[_Batch]):
    """Every batch that is the turn of the worker process that asks."""

    def __init__(self, files: Iterable[Path], backbone: Backbone, batch_size: int) -> None:
        self.files, self.backbone, self.batch_size = files, backbone, batch_size

    def __iter__(self) -> Iterator[_Batch]:
        worker = get_worker_info()
        assert worker is not None
        mine = islice(_batches(self.files, self.batch_size), worker.id, None, worker.num_workers)
        for files in mine:
            yield _batch(files, [_prepare(path, self.backbone) for path in files])


def _read_by_processes(
    files: Iterable[Path], backbone: Backbone, batch_size: int
) -> Generator[_Batch, None, None]:
    loader = DataLoader(
        _BatchesOfOneWorker(files, backbone, batch_size),
        batch_size=None,
        num_workers=_workers(),
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",  # the workers have the preprocessing, which no pickle holds
        generator=torch.Generator(),  # the common one must not advance
    )
    yield from loader


def _read_by_threads(
    files: Iterable[Path], backbone: Backbone, batch_size: int
) -> Generator[_Batch, None, None]:
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
    batches = _batches(files, batch_size)

    def submit_batch() -> list[tuple[Path, Future[Tensor | str]]]:
        return [(path, pool.submit(_prepare, path, backbone)) for path in next(batches, [])]

    try:
        following = submit_batch()
        while following:
            current, following = following, submit_batch()
            prepared = [future.result() for _, future in current]
            yield _batch([path for path, _ in current], prepared)
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(files: Iterable[Path], batch_size: int) -> Iterator[list[Path]]:
    remaining = iter(files)
    while batch := list(islice(remaining, batch_size)):
        yield batch


def _prepare(path: Path, backbone: Backbone) -> Tensor | str:
    """The pixels of a file, or the reason why it is not readable."""
    try:
        return backbone.prepare(open_picture(path))
    except PictureError as error:
        return str(error)


def _batch(files: list[Path], prepared: Sequence[Tensor | str]) -> _Batch:
    pixels = {i: one for i, one in enumerate(prepared) if isinstance(one, Tensor)}
    alike = len({one.shape for one in pixels.values()}) == 1
    listed = list(pixels.values())
    return _Batch(
        files,
        torch.stack(listed) if alike else listed,
        list(pixels),
        tuple((i, one) for i, one in enumerate(prepared) if isinstance(one, str)),
    )
