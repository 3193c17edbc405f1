"""The written GBU layout, read by the package, by scipy and by h5py."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.extract.gbu import write_features, write_splits
from gsmflow.data.formats.files import load_dataset
from tests.builders import SPLITS, make_dataset

FILES = tuple(f"zèbre 🦓/{number}.jpg" for number in range(120))


def named() -> Dataset:
    names = ("zèbre 🦓", "熊", *(f"class {c}" for c in range(8)))
    return check_dataset(replace(make_dataset(), class_names=names))


def write(folder: Path, dataset: Dataset, v5_bytes: int) -> Path:
    features = dataset.features
    pieces = iter([features[:50], features[50:51], features[51:]])
    file = folder / "vit.mat"
    write_features(file, features.shape, pieces, dataset.labels, FILES, v5_bytes=v5_bytes)
    rows = {field: getattr(dataset, split) for split, field in SPLITS.items()}
    write_splits(folder / "att_splits.mat", dataset.semantics, dataset.class_names, rows)
    return file


@pytest.mark.parametrize("v5_bytes", [2**20, 100])
def test_package_reads_the_written_dataset(tmp_path: Path, v5_bytes: int) -> None:
    dataset = named()
    file = write(tmp_path / "MINE", dataset, v5_bytes)
    assert h5py.is_hdf5(file) == (v5_bytes == 100)
    found = load_dataset(tmp_path, "MINE", features="vit", semantics="att")
    for name in ("features", "labels", "semantics", "class_names", "notes", *SPLITS):
        np.testing.assert_array_equal(getattr(found, name), getattr(dataset, name))


def test_scipy_reads_the_layout_of_the_published_files(tmp_path: Path) -> None:
    dataset = named()
    file = write(tmp_path, dataset, 2**20)
    mat = scipy.io.loadmat(file)
    np.testing.assert_array_equal(mat["features"].T, dataset.features)
    np.testing.assert_array_equal(mat["labels"].ravel() - 1, dataset.labels)
    assert mat["labels"].shape == (120, 1)
    assert [str(cell[0][0]) for cell in mat["image_files"]] == list(FILES)
    splits = scipy.io.loadmat(file.with_name("att_splits.mat"))
    np.testing.assert_array_equal(splits["att"].T, dataset.semantics)
    assert [str(cell[0][0]) for cell in splits["allclasses_names"]] == list(dataset.class_names)
    for split, field in SPLITS.items():
        np.testing.assert_array_equal(splits[field].squeeze() - 1, getattr(dataset, split))
        assert splits[field].shape[1] == 1


def test_h5py_reads_texts_as_utf_16(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path, named(), 100)) as file:
        assert file["features"].attrs["MATLAB_class"] == b"single"
        texts = [bytes(np.asarray(file[ref])).decode("utf-16-le") for ref in file["image_files"][0]]
    assert texts == list(FILES)


@pytest.mark.parametrize("v5_bytes", [2**20, 100])
def test_equal_input_gives_equal_bytes(tmp_path: Path, v5_bytes: int) -> None:
    first, second = (write(tmp_path / name, named(), v5_bytes) for name in "ab")
    for name in ("vit.mat", "att_splits.mat"):
        assert first.with_name(name).read_bytes() == second.with_name(name).read_bytes()


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    def pieces():  # type: ignore[no-untyped-def]
        yield named().features[:50]
        raise OSError("gone")

    for v5_bytes in (2**20, 100):
        with pytest.raises(OSError, match="gone"):
            write_features(
                tmp_path / "a.mat", (120, 6), pieces(), named().labels, FILES, v5_bytes=v5_bytes
            )
    assert not list(tmp_path.iterdir())
