"""Damaged NumPy files: refused in one sentence, and without memory that they do not cover."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.new_classes import read_new_classes
from gsmflow.data.new_rows import open_rows
from gsmflow.data.npy import npz_fields, read_npy, read_npz
from tests.fuzz import mutations, read_or_refused

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy_bytes(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz_bytes() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, features=ROWS, names=np.array(["a", "b"]))
    return content.getvalue()


def with_header(header: str, values: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values


HEADERS = {
    "terabytes": "{'descr': '<f8', 'fortran_order': False, 'shape': (500000000, 1000), }",
    "more than 64 bits": f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**70}, 2), }}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4), }",
    "no bytes each": "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "not closed": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4",
    "another type": "{'descr': 4, 'fortran_order': False, 'shape': (3, 4), }",
    "another shape": "{'descr': '<f4', 'fortran_order': False, 'shape': 3.5, }",
    "nested": "(" * 110,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_header_that_the_file_does_not_cover_is_refused(kind: str, tmp_path: Path) -> None:
    content = with_header(HEADERS[kind], ROWS.tobytes())
    npy, npz = tmp_path / "rows.npy", tmp_path / "rows.npz"
    npy.write_bytes(content)
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("features.npy", content)
    for read in (
        lambda: read_npy(npy),
        lambda: read_npy(npy, mapped=True),
        lambda: read_npz(npz, "features"),
        lambda: open_rows(npy, 4),
        lambda: read_new_classes(npy, "new"),
    ):
        with pytest.raises(InputError, match=r"rows\.np[yz].*: not readable .*expected"):
            read()


def test_member_that_claims_more_than_deflate_can_hold_is_refused(tmp_path: Path) -> None:
    file, asked = tmp_path / "rows.npz", 2**31
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({asked},), }}"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("features.npy", with_header(header, bytes(64)))
    content = bytearray(file.read_bytes())
    place = content.rindex(b"PK\x01\x02")  # its entry in the directory, with its sizes
    content[place + 24 : place + 28] = (asked + 128).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"not readable .*asks for"):
        read_npz(file, "features")


def test_arrays_come_back(tmp_path: Path) -> None:
    npy, npz = tmp_path / "rows.npy", tmp_path / "rows.npz"
    for array in (ROWS, ROWS.T, np.array(["Ö", "bc"]), np.empty((0, 5)), np.array(3)):
        npy.write_bytes(npy_bytes(array))
        for mapped in (False, True):
            np.testing.assert_array_equal(read_npy(npy, mapped=mapped), array)
    npz.write_bytes(npz_bytes())
    assert npz_fields(npz) == {"features", "names"}
    np.testing.assert_array_equal(read_npz(npz, "features"), ROWS)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=mutations(npy_bytes(ROWS)), mapped=st.booleans())
def test_any_damage_of_npy_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, mapped: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    file.write_bytes(content)
    read_or_refused(lambda: read_npy(file, mapped=mapped))
    read_or_refused(lambda: list(open_rows(file, 4).pieces()))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=mutations(npz_bytes()))
def test_any_damage_of_npz_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    file.write_bytes(content)
    read_or_refused(lambda: [read_npz(file, field) for field in npz_fields(file)])
