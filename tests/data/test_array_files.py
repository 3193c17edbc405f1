"""Files of arrays: read as their libraries wrote them, and never anything but an `InputError`."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.data.array_files import ENDINGS, open_array_file
from gsmflow.data.given_labels import read_labels
from gsmflow.data.new_rows import open_rows
from tests.fuzz import examples, mutations, read_or_refused

FEATURES = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
NAMES = np.array([f"bär {c}" for c in range(9)])


def write(path: Path, features: NDArray[Any] = FEATURES) -> Path:
    """Features, labels and names; a ``.npy`` file has the features alone."""
    numbers = np.arange(9) % 3
    if path.suffix == ".npy":
        np.save(path, features)
    elif path.suffix == ".npz":
        np.savez_compressed(path, features=features, labels=numbers, names=NAMES)
    elif path.suffix in (".pt", ".pth"):
        tensors = {"features": torch.tensor(features), "labels": torch.tensor(numbers)}
        torch.save({**tensors, "names": NAMES.tolist()}, path)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("features", data=features, chunks=(2, 3), compression="gzip")
            # Texts of variable length are read by a process of their own, which takes a while.
            file["labels"], file["names"] = numbers, np.char.encode(NAMES, "utf-8")
            file["deep/er"] = features
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_pieces_are_the_written_rows(
    ending: str, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = np.asarray(FEATURES.astype(np.float64), order=order)
    file = open_array_file(write(tmp_path / f"a{ending}", features))
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 100)
    stored = file.array(None, "features")
    pieces = list(stored.pieces())
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), features)
    assert (stored.shape, stored.dtype) == (features.shape, features.dtype)
    if ending != ".npy":
        assert file.array("names", "x").read().tolist() == NAMES.tolist()
        assert file.find("labels").read().tolist() == [0, 1, 2] * 3


def test_other_values_of_each_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), file)
    assert open_array_file(file).array(None, "features").read().tolist() == [[1.0, 2.0]]
    with h5py.File(tmp_path / "a.h5", "w") as hdf5:
        hdf5["g/labels"] = np.array([b"a", b"bc"])
    assert read_labels(tmp_path / "a.h5", "g/labels").values.tolist() == ["a", "bc"]
    with h5py.File(tmp_path / "a.h5", "w") as hdf5:
        hdf5["labels"] = NAMES.astype("O")
    content = (tmp_path / "a.h5").read_bytes()
    assert read_labels(tmp_path / "a.h5").values.tolist() == NAMES.tolist()
    # The heap of the texts, whose objects have numbers that HDF5's library trusts.
    heap = content.index(b"GCOL")
    (tmp_path / "a.h5").write_bytes(content[: heap + 16] + b"\xff\xff" * 40 + content[heap + 96 :])
    with pytest.raises(InputError, match="its texts are damaged"):
        read_labels(tmp_path / "a.h5")
    np.savez(tmp_path / "a.npz", anything=np.array(["x", "y"]))
    assert read_labels(tmp_path / "a.npz").values.tolist() == ["x", "y"]
    np.save(tmp_path / "empty.npy", np.empty((0, 3)))
    assert open_array_file(tmp_path / "empty.npy").find("").read().shape == (0, 3)


def npy_of_shape(shape: tuple[int, ...]) -> bytes:
    """A file that claims a shape and has few bytes."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


def huge_npy(path: Path) -> None:
    path.write_bytes(npy_of_shape((2**40, 4)))


def huge_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", npy_of_shape((2**40, 4)))


def huge_pt(path: Path) -> None:
    """Its pickle says 2**40 rows where the storage has nine."""
    torch.save({"features": torch.tensor(FEATURES)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in content.items():
            archive.writestr(
                info.filename, data.replace(b"K\tK\x04\x86", b"\x8a\x06\0\0\0\0\0\x01K\x04\x86")
            )


def expanded_pt(path: Path) -> None:
    torch.save({"features": torch.zeros(1).expand(2**40, 4)}, path)


def huge_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (2**40, 4), dtype=np.float32, chunks=(100, 4))


@pytest.mark.parametrize(
    ("write_huge", "ending"),
    [
        (huge_npy, ".npy"),
        (huge_npz, ".npz"),
        (huge_pt, ".pt"),
        (expanded_pt, ".pt"),
        (huge_h5, ".h5"),
    ],
)
def test_a_shape_beyond_the_file_is_refused(
    write_huge: Callable[[Path], None], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{ending}"
    write_huge(path)
    with pytest.raises(InputError, match=r"for which the file is too short|its header asks for"):
        open_rows(path, None)


def old_pt(path: Path) -> None:
    torch.save(torch.tensor(FEATURES), path, _use_new_zipfile_serialization=False)


def outside_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "features", (4, 4), np.float32, external=[(str(path.with_name("b")), 0, 64)]
        )


@pytest.mark.parametrize(
    ("write_bad", "name", "expected"),
    [
        (lambda p: np.save(p, np.array([{}])), "a.npy", "found pickled Python objects"),
        (lambda p: np.savez(p, features=np.array([{}])), "a.npz", "found pickled Python objects"),
        (lambda p: torch.save({"features": FEATURES}, p), "a.pt", "found pickled Python objects"),
        (lambda p: torch.save({"a": 1}, p), "a.pt", "found dict without tensors"),
        (lambda p: torch.save(torch.eye(2).to_sparse(), p), "a.pt", "found a sparse or quantized"),
        (old_pt, "a.pt", "it is no ZIP archive"),
        (outside_h5, "a.h5", "found an array whose values are in other files"),
        (lambda p: None, "a.npz", "no such file"),
        (lambda p: p.write_text("x"), "a.txt", "found a file that ends in .txt, expected one of"),
        (lambda p: np.savez(p, a=1, b=2), "a.npz", "not found, expected in this file, which has"),
    ],
)
def test_what_is_no_array_is_refused_in_one_sentence(
    write_bad: Callable[[Path], object], name: str, expected: str, tmp_path: Path
) -> None:
    write_bad(tmp_path / name)
    with pytest.raises(InputError, match=expected) as refused:
        open_array_file(tmp_path / name).array(None, "features")
    assert str(refused.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refused.value)


CSV = b'name,a,b\n"x, y",1.5,2\nz,3,-4e2\n'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a sound file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    return {end: write(folder / f"a{end}").read_bytes() for end in ENDINGS} | {".csv": CSV}


def read_all(path: Path) -> None:
    """All that `predict` and `pack` read of a file of rows."""
    if path.suffix != ".csv":
        file = open_array_file(path)
        for field in file.fields:
            file.find(field).read()
    list(open_rows(path, None).pieces())
    read_labels(path)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt", ".h5", ".csv"])
@examples(100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(
    ending: str, data: st.DataObject, whole: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"damaged{ending}"
    path.write_bytes(data.draw(mutations(whole[ending])))
    read_or_refused(lambda: read_all(path))


@examples(60)
@given(data=st.data())
def test_sizes_and_offsets_in_hdf5_are_not_believed(
    data: st.DataObject, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Single bytes written over, which leave the length of the file as it was."""
    content = bytearray(whole[".h5"])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.sampled_from([0, 1, 127, 255]))
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    path.write_bytes(bytes(content))
    read_or_refused(lambda: read_all(path))
