"""Image files to features: pictures are read by threads while the backbone computes."""

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

# More threads than this read faster than any backbone here computes.
_MOST_THREADS = 8


@dataclass(frozen=True, eq=False)
class Extracted:
    """The features of some image files.

    Attributes
    ----------
    features
        Of the files that are readable pictures, ``(m, d)``.
    kept
        Their places among the files, ascending, ``(m,)``.
    refused
        Place and reason of each other file.
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
    """The features of image files, in their order.

    Parameters
    ----------
    paths
        The files; what is no readable picture is left out and told.
    backbone
        As loaded.
    batch_size
        Files that are computed together, those that are left out included: a file's batch, and
        with it the last bits of its features, depends on the order of the files alone.
    on_batch
        Called with the number of files of each batch that is done.
    """
    features: list[FloatArray] = []
    kept: list[IntArray] = []
    refused: list[tuple[int, str]] = []
    start = 0
    for batch, found in stream_features(paths, backbone, batch_size=batch_size):
        features.append(found.features)
        kept.append(start + found.kept)
        refused += [(start + place, reason) for place, reason in found.refused]
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
    """The features of any number of image files, a batch at a time, while the next is read.

    Parameters
    ----------
    paths, backbone, batch_size
        As of `extract_features`.

    Yields
    ------
    tuple
        The files of a batch, and what is known of them; places count within the batch.
    """
    for batch, prepared in _prepared_batches(paths, backbone, batch_size):
        pixels = {place: one for place, one in enumerate(prepared) if isinstance(one, Tensor)}
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
    """Files with the pixels of each, or why there are none, a batch at a time."""

    def prepare(path: Path) -> Tensor | str:
        try:
            return backbone.prepare(open_picture(path))
        except PictureError as error:
            return str(error)

    coming = iter(paths)
    with quiet_readers():
        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))

        def begin() -> list[tuple[Path, Future[Tensor | str]]]:
            return [(path, pool.submit(prepare, path)) for path in islice(coming, batch_size)]

        try:
            ahead = begin()
            while ahead:
                current, ahead = ahead, begin()
                yield [path for path, _ in current], [future.result() for _, future in current]
        finally:
            pool.shutdown(cancel_futures=True)
