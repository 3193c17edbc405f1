"""Extract features of image files; threads read pictures while the backbone computes."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.data.extract.backbones import Backbone
from gsmflow.data.extract.images import PictureError, open_picture, quiet_readers

__all__ = ["Extracted", "extract_features", "stream_features"]

# With this many threads, reading is faster than every backbone here.
_MOST_THREADS = 8


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
    features: list[FloatArray] = []
    kept: list[IntArray] = []
    refused: list[tuple[int, str]] = []
    start = 0
    for batch, found in stream_features(paths, backbone, batch_size=batch_size):
        features.append(found.features)
        kept.append(start + found.kept)
        refused += [(start + index, reason) for index, reason in found.refused]
        start += len(batch)
        on_batch(len(batch))
    no_features = np.empty((0, backbone.dimension), dtype=np.float32)
    none_kept = np.empty(0, dtype=np.int64)
    return Extracted(
        np.concatenate([no_features, *features]),
        np.concatenate([none_kept, *kept]),
        tuple(refused),
    )


def stream_features(
    paths: Iterable[Path], backbone: Backbone, *, batch_size: int
) -> Iterator[tuple[Sequence[Path], Extracted]]:
    """Extract the features of any number of image files, batch by batch.

    The next batch is read while the current one is computed.

    Parameters
    ----------
    paths, backbone, batch_size
        As in `extract_features`.

    Yields
    ------
    tuple
        The files of a batch and their features; indices count within the batch.
    """
    for batch, prepared in _prepared_batches(paths, backbone, batch_size):
        pixels = {i: one for i, one in enumerate(prepared) if isinstance(one, Tensor)}
        yield (
            batch,
            Extracted(
                backbone.features(list(pixels.values())),
                np.array(list(pixels), dtype=np.int64),
                tuple((i, one) for i, one in enumerate(prepared) if isinstance(one, str)),
            ),
        )


def _prepared_batches(
    paths: Iterable[Path], backbone: Backbone, batch_size: int
) -> Iterator[tuple[list[Path], list[Tensor | str]]]:
    """Yield batches of files with the pixels of each, or the reason why it is not readable."""

    def prepare(path: Path) -> Tensor | str:
        try:
            return backbone.prepare(open_picture(path))
        except PictureError as error:
            return str(error)

    remaining = iter(paths)
    with quiet_readers():
        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))

        def submit_batch() -> list[tuple[Path, Future[Tensor | str]]]:
            return [(path, pool.submit(prepare, path)) for path in islice(remaining, batch_size)]

        try:
            following = submit_batch()
            while following:
                current, following = following, submit_batch()
                yield [path for path, _ in current], [future.result() for _, future in current]
        finally:
            pool.shutdown(cancel_futures=True)
