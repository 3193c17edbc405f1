"""Which format a folder is read in."""

from pathlib import Path

import numpy as np
import pytest

from gsmflow.core.errors import InputError
from gsmflow.data.cache import load_cached
from gsmflow.data.formats.digits import load_digit_pairs
from gsmflow.data.formats.files import (
    BUILT_IN,
    FORMATS,
    dataset_files,
    has_dataset,
    load_dataset,
    usual_name,
)
from tests.builders import SPLITS, make_dataset, write_epgn, write_gbu

NAMES = {"features": "res101", "semantics": "att"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "TINY"
    path.mkdir()
    return path


def features_of(folder: Path, **names: str) -> np.ndarray:
    return load_dataset(folder.parent, folder.name, **(NAMES | names)).features


def write_npz(folder: Path, name: str, factor: float) -> None:
    dataset = make_dataset()
    fields = ("labels", "semantics", *SPLITS)
    content = {field: getattr(dataset, field) for field in fields}
    np.savez(folder / f"{name}.npz", features=factor * dataset.features, **content)


def test_names_of_formats_are_unique_and_one_dataset_is_built_in() -> None:
    names = [format_.name for format_ in FORMATS]
    assert len(set(names)) == len(names) == 5
    assert BUILT_IN == ("DIGITS",)


def test_empty_folder_has_no_dataset(folder: Path) -> None:
    assert not has_dataset(folder)
    assert not has_dataset(folder / "nowhere")
    write_epgn(folder, make_dataset())
    assert has_dataset(folder)


def test_format_with_the_named_features_is_read(folder: Path) -> None:
    write_gbu(folder, make_dataset())
    write_epgn(folder, make_dataset())
    write_npz(folder, "vit", 2)
    np.testing.assert_array_equal(features_of(folder), make_dataset().features)
    np.testing.assert_array_equal(
        features_of(folder, features="vit", semantics="semantics"), 2 * make_dataset().features
    )
    assert dataset_files(folder.parent, "TINY", features="other", semantics="att") == (
        folder / "data.mat",
        folder / "label.mat",
    )


def test_gbu_is_preferred_to_an_archive_of_the_same_name(folder: Path) -> None:
    write_gbu(folder, make_dataset())
    write_npz(folder, "res101", 2)
    np.testing.assert_array_equal(features_of(folder), make_dataset().features)


def test_usual_names_are_preferred(folder: Path) -> None:
    assert usual_name("features", folder) == "res101"
    write_npz(folder, "vit", 1)
    assert (usual_name("features", folder), usual_name("semantics", folder)) == (
        "vit",
        "semantics",
    )
    write_npz(folder, "clip", 1)
    with pytest.raises(InputError, match=r"^--features: found clip, vit in .*, expected the name"):
        usual_name("features", folder)
    write_npz(folder, "res101", 1)
    assert usual_name("features", folder) == "res101"


def test_digit_pairs_are_built_in_without_a_folder_of_that_name(tmp_path: Path) -> None:
    expected = load_digit_pairs()
    assert has_dataset(tmp_path / "DIGITS")
    assert dataset_files(tmp_path, "DIGITS", **NAMES) == ()
    for found in (
        load_dataset(tmp_path, "DIGITS", **NAMES),
        load_cached(tmp_path, "DIGITS", **NAMES, cache=tmp_path / "cache"),
    ):
        for field in ("features", "labels", "semantics", *SPLITS):
            ours, theirs = getattr(found, field), getattr(expected, field)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        assert found.notes == expected.notes
        assert found.name == "DIGITS"
    assert not (tmp_path / "cache").exists()


def test_folder_of_the_built_in_name_is_read_instead(tmp_path: Path) -> None:
    write_gbu(tmp_path / "DIGITS", make_dataset())
    found = load_dataset(tmp_path, "DIGITS", **NAMES)
    np.testing.assert_array_equal(found.features, make_dataset().features)
