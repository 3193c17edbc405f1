"""The batch size of a backbone whose time for a batch is prescribed."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor

from gsmflow.data.extract import batch_size as module
from gsmflow.data.extract.backbones import Backbone
from gsmflow.data.extract.batch_size import fastest_batch_size

MANY = 100_000


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[int]]]:
    """The batch size for seconds per batch of each size, and the sizes that were computed."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def pick(seconds: Callable[[int], float], pictures: int) -> tuple[int, list[int]]:
        sizes: list[int] = []

        def encode(pixels: Tensor) -> Tensor:
            sizes.append(len(pixels))
            clock[0] += seconds(len(pixels))
            return pixels.mean(dim=(2, 3))

        def prepare(picture: Image.Image) -> Tensor:
            return torch.ones(3, 2, 2)

        facts = {"dimension": 3}
        backbone = Backbone("stub", facts, torch.device("cpu"), torch.float32, prepare, encode)
        return fastest_batch_size(backbone, pictures), sizes

    return pick


def out_of_memory(size: int) -> float:
    if size > 8:
        raise torch.OutOfMemoryError
    return 1.0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda size: size * 0.1, 4),  # equal for each picture: the smallest one
        (lambda size: 1.0, 32),
        (lambda size: size * (0.2 if size == 4 else 0.1 if size == 8 else 0.3), 8),
        (out_of_memory, 8),
    ],
)
def test_fastest_size_is_found(
    measured: Callable[..., tuple[int, list[int]]],
    seconds: Callable[[int], float],
    expected: int,
) -> None:
    assert measured(seconds, MANY)[0] == expected


@pytest.mark.parametrize("pictures", [0, 66, 511, 512, 1500, 5000])
def test_measuring_takes_a_small_share_of_the_time(
    measured: Callable[..., tuple[int, list[int]]], pictures: int
) -> None:
    size, computed = measured(lambda size: 1.0, pictures)
    assert sum(computed) <= pictures / 8
    assert size == (4 if not computed else max(computed))
