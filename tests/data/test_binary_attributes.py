from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.binary_attributes import read_binary_attributes
from tests.builders import SHARED, write_mat

NAMES = ("ant", "bee", "cat")
VALUES = np.array([[0, 1], [1, 1], [1, 0]], dtype=np.uint8)
CLASS_NAMES = np.array([[name] for name in NAMES], dtype=object)


@pytest.mark.parametrize("v73", [False, True])
@pytest.mark.parametrize("fields", [{}, {"allclasses_names": CLASS_NAMES}])
def test_values_are_read_with_and_without_names(
    tmp_path: Path, fields: dict[str, Any], v73: bool
) -> None:
    file = tmp_path / "binary.mat"
    write_mat(file, {"attr": VALUES, **fields}, v73=v73)
    np.testing.assert_array_equal(read_binary_attributes(file, NAMES), VALUES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"att": VALUES}, "'attr': not found"),
        ({"attr": VALUES.T}, r"'attr': found shape \(2, 3\), expected a row for each of the 3"),
        ({"attr": VALUES[:, :0]}, r"'attr': found shape \(3, 0\), expected a row"),
        ({"attr": VALUES * 2}, "'attr': found 2 in row 1 and column 2, expected 0 "),
        ({"attr": VALUES - 1.0}, "'attr': found -1, which in tables .* missing value, in row 1"),
        ({"attr": VALUES * np.nan}, "'attr': found nan in row 1 and column 1, expected 0 "),
        (
            {"attr": VALUES, "allclasses_names": CLASS_NAMES[::-1]},
            "'allclasses_names': found 'cat' as class 1, expected 'ant' as in the dataset",
        ),
        (
            {"attr": VALUES, "allclasses_names": CLASS_NAMES[:2]},
            "'allclasses_names': found 2 classes, expected 3 as in the dataset",
        ),
    ],
)
def test_faulty_file_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    file = tmp_path / "binary.mat"
    write_mat(file, fields)
    with pytest.raises(InputError, match=rf"binary\.mat, field {message}"):
        read_binary_attributes(file, NAMES)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file, expected the binary attributes"):
        read_binary_attributes(tmp_path, NAMES)
    file = tmp_path / "binary.mat"
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not readable as a MATLAB file"):
        read_binary_attributes(file, NAMES)


@pytest.mark.parametrize(
    ("name", "shape"), [("AWA1", (50, 85)), ("CUB", (200, 312)), ("SUN", (717, 102))]
)
def test_released_files_are_read(name: str, shape: tuple[int, int]) -> None:
    names = [f"class {c}" for c in range(shape[0])]
    file = SHARED / "data" / "binary_attributes" / f"{name}.mat"
    assert read_binary_attributes(file, names).shape == shape
