"""The number of pictures in a batch with which a backbone is fastest on its device."""

import time

import torch
from PIL import Image
from torch import Tensor

from gsmflow.core.devices import synchronize
from gsmflow.data.extract.backbones import Backbone

__all__ = ["fastest_batch_size"]

# A CPU is fastest with batches that its caches hold, a GPU with those that fill it.
_SIZES = {"cpu": (4, 8, 16, 32), "other": (32, 64, 128, 256)}
# Measuring takes at most the time of one in so many pictures.
_SHARE = 16
# A larger batch must be faster by this factor: what is less may be chance, and takes memory.
_GAIN = 0.97
_ROUNDS = 2


def fastest_batch_size(backbone: Backbone, pictures: int) -> int:
    """Measure batches of growing size until they are no faster.

    Parameters
    ----------
    backbone
        The loaded backbone.
    pictures
        How many are to be extracted; of few, the smallest size is taken without measuring.
    """
    sizes = _SIZES.get(backbone.device.type, _SIZES["other"])
    # Each size is computed twice, and so is half of the next smaller one.
    worth_it = [size for size in sizes if 2 * _ROUNDS * size * _SHARE <= pictures]
    if len(worth_it) < 2:
        return sizes[0]
    pixels = backbone.prepare(Image.new("RGB", (256, 256), "gray"))
    best, best_seconds = sizes[0], float("inf")
    for size in worth_it:
        try:
            seconds = _seconds_per_picture(backbone, pixels.expand(size, *pixels.shape))
        except torch.OutOfMemoryError:
            break
        if seconds > best_seconds / _GAIN:
            break
        if seconds < best_seconds * _GAIN:
            best, best_seconds = size, seconds
    return best


def _seconds_per_picture(backbone: Backbone, pixels: Tensor) -> float:
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        backbone.features(pixels)
        synchronize(backbone.device)
        seconds.append(time.perf_counter() - start)
    return min(seconds) / len(pixels)
