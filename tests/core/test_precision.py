"""Matrix products in each precision, against products of factors rounded by hand."""

import pytest
import torch

from gsmflow.core import precision as module
from gsmflow.core.errors import InputError
from gsmflow.core.precision import autocast, pick_precision, tf32_products
from tests.builders import seeded

CPU = torch.device("cpu")


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def test_bf16_product_equals_product_of_rounded_factors() -> None:
    a, b = randn(8, 16, seed=0), randn(16, 4, seed=1)
    with autocast("bf16", CPU):
        found = a @ b
    expected = a.bfloat16().double() @ b.bfloat16().double()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.01)
    assert (found.double() - a.double() @ b.double()).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_other_products_keep_the_dtype_of_the_factors(name: module.Precision) -> None:
    a, b = randn(8, 16, seed=0), randn(16, 4, seed=1)
    with autocast(name, CPU), tf32_products(name):
        assert torch.equal(a @ b, torch.mm(a, b))
        assert (a @ b).dtype == torch.float32


def test_tf32_is_allowed_only_inside_the_context() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32_products("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        with tf32_products("fp32"):
            assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"architecture": "aarch64", "bf16": True}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_auto_is_bf16_if_the_cpu_multiplies_it_natively(
    capabilities: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert pick_precision("auto", CPU) == expected


def test_auto_is_fp32_where_torch_does_not_say_what_the_cpu_multiplies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize(("major", "expected"), [(7, "fp32"), (8, "bf16"), (9, "bf16")])
def test_auto_is_bf16_on_gpus_from_ampere_on(
    major: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    device = torch.device("cuda")
    assert pick_precision("auto", device) == expected
    if major >= 8:
        assert pick_precision("tf32", device) == "tf32"
    else:
        with pytest.raises(InputError, match="found tf32 on device cuda, expected fp32 or bf16"):
            pick_precision("tf32", device)


def test_precision_is_picked_by_name() -> None:
    assert pick_precision("fp32", CPU) == "fp32"
    assert pick_precision("bf16", CPU) == "bf16"
    assert pick_precision("auto", torch.device("mps")) == "fp32"
    with pytest.raises(InputError, match="--precision: found tf32 on device cpu"):
        pick_precision("tf32", CPU)
