"""Paths and arrays as they are given in Python."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsmflow.core.errors import InputError, writing
from gsmflow.core.python_values import as_path, without_gradient


def test_path_is_a_text_or_a_path() -> None:
    assert as_path("path", "a/b") == as_path("path", Path("a/b")) == Path("a/b")
    for value in (None, 3, b"a"):
        with pytest.raises(InputError, match=r"^path: found .*, expected a path$"):
            as_path("path", value)


def test_path_with_a_nul_character_is_not_written_to() -> None:
    with (
        pytest.raises(InputError, match=r"^'a\\x00b': found a NUL character"),
        writing(Path("a\0b")),
    ):
        pytest.fail("it was tried")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensor_with_a_gradient_is_an_array(dtype: torch.dtype) -> None:
    tensor = torch.tensor([1.5, 2.5], dtype=dtype, requires_grad=True)
    np.testing.assert_array_equal(np.asarray(without_gradient(tensor)), [1.5, 2.5])


def test_other_values_are_unchanged() -> None:
    values = [1.0, 2.0]
    assert without_gradient(values) is values
