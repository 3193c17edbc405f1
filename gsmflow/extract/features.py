"""Image files to features: pictures are read by threads while the backbone computes."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from gsmflow.dataset import FloatArray, IntArray
from gsmflow.extract.backbones import Backbone
from gsmflow.extract.images import PictureError, open_picture, quiet_readers

__all__ = ["Extracted", "extract_features"]

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
    kept: list[int] = []
    refused: list[tuple[int, str]] = []
    start = 0
    for batch in _prepared_batches(paths, backbone, batch_size):
        pixels = [one for one in batch if isinstance(one, Tensor)]
        for place, one in enumerate(batch, start):
            if isinstance(one, Tensor):
                kept.append(place)
            else:
                refused.append((place, one))
        features.append(backbone.features(pixels))
        start += len(batch)
        on_batch(len(batch))
    none = np.empty((0, backbone.dimension), dtype=np.float32)
    return Extracted(
        np.concatenate([none, *features]), np.array(kept, dtype=np.int64), tuple(refused)
    )


def _prepared_batches(
    paths: Sequence[Path], backbone: Backbone, batch_size: int
) -> Iterator[list[Tensor | str]]:
    """Pixels of each file, or why there are none, a batch at a time; the next is on its way."""

    def prepare(path: Path) -> Tensor | str:
        try:
            return backbone.prepare(open_picture(path))
        except PictureError as error:
            return str(error)

    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with quiet_readers():
        pool = ThreadPoolExecutor(threads)
        try:
            ahead: list[Future[Tensor | str]] = []
            for start in range(0, len(paths) + batch_size, batch_size):
                current = ahead
                ahead = [pool.submit(prepare, path) for path in paths[start : start + batch_size]]
                if current:
                    yield [future.result() for future in current]
        finally:
            pool.shutdown(cancel_futures=True)
