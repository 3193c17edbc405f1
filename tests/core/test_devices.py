import pytest
import torch

from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError

CPU = torch.device("cpu")


def fake_devices(patch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    patch.setattr(torch.cuda, "device_count", lambda: cuda)
    patch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (1, True, "cuda")],
)
def test_auto_picks_the_fastest_device(
    cuda: int, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_devices(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device("auto").type == expected


def test_device_is_picked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == CPU
    fake_devices(monkeypatch, cuda=2)
    assert pick_device("cpu") == CPU
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "mps", "CPU", "", "meta"])
def test_unavailable_device_is_refused_with_the_available_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_devices(monkeypatch)
    with pytest.raises(InputError, match=f"--device: found {name}, expected .*cpu"):
        pick_device(name)


def test_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_devices(monkeypatch, cuda=2)
    with pytest.raises(InputError, match=r"found cuda:2, expected .*cuda:1"):
        pick_device("cuda:2")
