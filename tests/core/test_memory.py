from collections.abc import Callable

import psutil
import pytest
import torch
from torch import nn

from gsmflow.core.errors import InputError
from gsmflow.core.memory import bounded_tensors


@pytest.mark.parametrize(
    "make",
    [
        lambda side: nn.Linear(side, 8),
        lambda side: nn.utils.skip_init(nn.Linear, side, 8),
        lambda side: torch.zeros((side, 8)),
        lambda side: torch.randn(size=(side, 8)),
        lambda side: torch.empty(side, 8, dtype=torch.float64),
    ],
)
def test_tensor_larger_than_the_memory_is_refused_before_it_is_made(
    make: Callable[[int], object],
) -> None:
    side = psutil.virtual_memory().total // 16
    expected = r"--hidden 9: found settings .* GiB of this machine"
    with pytest.raises(InputError, match=expected), bounded_tensors("--hidden 9"):
        make(side)


def test_others_are_made() -> None:
    with bounded_tensors("--hidden 9"):
        layer = nn.utils.skip_init(nn.Linear, 3, 4)
        assert torch.empty(2, 3).shape == (2, 3)
        nn.Linear(10**7, 10**7, device="meta")
    assert layer.weight.shape == (4, 3)
