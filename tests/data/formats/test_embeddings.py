"""Semantics beside those of the splits: fields, files by name or in order, several joined."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.data.cache import load_cached
from gsmflow.data.dataset import Dataset
from gsmflow.data.examine import examine
from gsmflow.data.formats.embeddings import join_parts, scaled_as_joined
from gsmflow.data.formats.files import dataset_files, load_dataset
from gsmflow.data.formats.vectors import read_vectors
from tests.builders import gbu_fields, make_dataset, write_epgn, write_gbu, write_mat

NAMES = tuple(f"kind {c}" for c in "abcdefghij")
TINY = replace(make_dataset(), class_names=NAMES)
VECTORS = np.random.default_rng(8).normal(2, 3, size=(10, 4)).astype(np.float32)
# Rows of the files stand in another order than the classes.
ORDER = np.random.default_rng(2).permutation(10)
LISTED = [NAMES[c] for c in ORDER]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset with ``att_splits.mat``, which has a field ``wv``, and ``sent_splits.mat``."""
    folder = write_gbu(tmp_path / "TINY", TINY)
    _, splits = gbu_fields(TINY)
    write_mat(folder / "att_splits.mat", {**splits, "wv": VECTORS.T})
    write_mat(folder / "sent_splits.mat", {**splits, "att": 2 * VECTORS.T})
    return folder


def load(folder: Path, semantics: str) -> Dataset:
    return load_dataset(folder.parent, "TINY", features="res101", semantics=semantics)


def refusal(folder: Path, semantics: object) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, str(semantics))
    assert "expected" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def unit(values: FloatArray) -> FloatArray:
    return np.stack([row / np.sqrt(sum(float(v) ** 2 for v in row)) for row in values])


def cells(names: list[str]) -> Any:
    return np.array([[name] for name in names], dtype=object)


def write_table(file: Path, names: list[str], values: FloatArray) -> Path:
    lines = [",".join([name, *map(str, row)]) for name, row in zip(names, values, strict=True)]
    file.write_text("\n".join(["name,v,w,x,y", *lines]) + "\n")
    return file


def write_listed(file: Path, names: list[str], values: FloatArray) -> Path:
    np.save(file, values.astype(np.float64))
    lines = [f"{c}\t{name}" for c, name in enumerate(names, start=1)]
    (file.parent / "classes.txt").write_text("\n".join(lines))
    return file


def write_named_mat(file: Path, names: list[str], values: FloatArray) -> Path:
    write_mat(file, {"w2v": values.T, "class_names": cells(names), "dim": np.array([[4.0]])})
    return file


WRITERS: dict[str, Callable[[Path, list[str], FloatArray], Path]] = {
    ".csv": write_table,
    ".npy": write_listed,
    ".mat": write_named_mat,
}


def test_field_of_the_split_file_is_found(folder: Path) -> None:
    found = load(folder, "wv")
    np.testing.assert_array_equal(found.semantics, VECTORS)
    assert found.semantics_name == "wv"
    assert found.where("semantics") == f"{folder / 'att_splits.mat'}, field 'wv'"
    np.testing.assert_array_equal(found.trainval, load(folder, "att").trainval)
    np.testing.assert_array_equal(load(folder, "sent").semantics, 2 * VECTORS)


def test_field_goes_after_a_file_of_this_name_and_names_no_split(folder: Path) -> None:
    _, splits = gbu_fields(TINY)
    write_mat(folder / "wv_splits.mat", {**splits, "att": 3 * VECTORS.T})
    np.testing.assert_array_equal(load(folder, "wv").semantics, 3 * VECTORS)
    assert "trainval_loc_splits.mat: no such file" in refusal(folder, "trainval_loc")
    assert "glove_splits.mat: no such file" in refusal(folder, "glove")


def test_transposed_field_is_refused(folder: Path) -> None:
    _, splits = gbu_fields(TINY)
    del splits["allclasses_names"]
    write_mat(folder / "att_splits.mat", {**splits, "wv": VECTORS})
    (folder / "sent_splits.mat").unlink()
    assert "field 'wv': found 4 columns and 10 rows for 10 classes" in refusal(folder, "wv")


def test_field_of_an_archive_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "TINY"
    folder.mkdir()
    splits = {s: getattr(TINY, s) for s in ("trainval", "train", "val", "test_seen", "test_unseen")}
    rows = {"features": TINY.features, "labels": TINY.labels}
    described = {**splits, "semantics": TINY.semantics, "wv": VECTORS, "class_names": [*NAMES]}
    np.savez(folder / "res101.npz", **rows, **described)
    np.testing.assert_array_equal(load(folder, "wv").semantics, VECTORS)
    assert load(folder, "semantics+wv").semantics.shape == (10, 9)
    np.savez(folder / "res101.npz", **rows)
    np.savez(folder / "att_splits.npz", **described)
    np.testing.assert_array_equal(load(folder, "wv").semantics, VECTORS)
    np.testing.assert_array_equal(load(folder, "att").semantics, TINY.semantics)
    assert "glove_splits.npz: no such file" in refusal(folder, "glove")


@pytest.mark.parametrize("ending", WRITERS)
def test_vectors_are_found_by_the_names_of_classes(folder: Path, ending: str) -> None:
    spelled = [name.upper().replace(" ", "_") for name in LISTED]
    file = WRITERS[ending](folder.parent / f"v{ending}", spelled, VECTORS[ORDER])
    found = load(folder, str(file))
    np.testing.assert_array_equal(found.semantics, VECTORS)
    assert found.semantics_name == f"v{ending}"
    assert found.notes == load(folder, "att").notes
    assert file in dataset_files(folder.parent, "TINY", features="res101", semantics=str(file))


@pytest.mark.parametrize("ending", WRITERS)
def test_names_that_miss_or_are_twice_are_listed(folder: Path, ending: str) -> None:
    file = folder.parent / f"v{ending}"
    WRITERS[ending](file, LISTED[:6], VECTORS[ORDER[:6]])
    absent = [name for name in NAMES if name not in LISTED[:6]]
    assert f"found no vector of {', '.join(absent[:3])} and 1 more, expected" in refusal(
        folder, file
    )
    WRITERS[ending](file, [*LISTED, LISTED[3]], VECTORS[[*ORDER, 0]])
    assert f"found {LISTED[3]} twice, expected the name of each class once" in refusal(folder, file)


def write_matrix(file: Path, values: FloatArray) -> None:
    if file.suffix == ".npy":
        np.save(file, values)
    elif file.suffix == ".mat":
        write_mat(file, {"w2v": values.T})
    else:
        np.savetxt(file, values, fmt="%.9g")


@pytest.mark.parametrize("ending", [".npy", ".mat", ".txt"])
def test_vectors_without_names_are_read_in_order_with_a_warning(folder: Path, ending: str) -> None:
    file = folder.parent / f"v{ending}"
    write_matrix(file, VECTORS)
    found = load(folder, str(file))
    np.testing.assert_array_equal(found.semantics, VECTORS)
    (note,) = set(found.notes) - set(load(folder, "att").notes)
    assert note.startswith(f"{found.where('semantics')}: found vectors without names")
    findings = examine(folder, None, f"wv+{file}").findings
    assert [f.about for f in findings if f.sentence == note] == ["semantics"]
    write_matrix(file, VECTORS.T)
    expected = "found 4 vectors without names, expected 10, one for each class: they have a class"
    assert expected in refusal(folder, file)
    write_matrix(file, VECTORS[:7])
    assert "found 7 vectors without names, expected 10" in refusal(folder, file)


def test_dataset_without_names_needs_them_or_vectors_in_order(folder: Path) -> None:
    write_gbu(folder, make_dataset())  # class_0, class_1, ...
    (folder / "sent_splits.mat").unlink()
    file = write_table(folder.parent / "v.csv", LISTED, VECTORS[ORDER])
    assert "vectors by name for a dataset whose classes have none" in refusal(folder, file)
    (folder / "class_names.txt").write_text("\n".join(NAMES))
    np.testing.assert_array_equal(load(folder, str(file)).semantics, VECTORS)


def test_file_is_looked_for_in_the_folder_of_the_dataset_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    write_table(folder / "v.csv", LISTED, VECTORS[ORDER])
    np.testing.assert_array_equal(load(folder, "v.csv").semantics, VECTORS)
    write_table(folder.parent / "v.csv", LISTED, 5 * VECTORS[ORDER])
    np.testing.assert_array_equal(load(folder, "v.csv").semantics, 5 * VECTORS)
    assert refusal(folder, "w.csv").startswith(f"w.csv: no such file, nor in {folder}, expected")


def test_joined_embeddings_have_unit_norm_each(folder: Path) -> None:
    file = write_table(folder.parent / "v.csv", LISTED, VECTORS[ORDER] + 1)
    found = load(folder, f"att+wv+{file}")
    expected = np.concatenate([unit(TINY.semantics), unit(VECTORS), unit(VECTORS + 1)], axis=1)
    np.testing.assert_allclose(found.semantics, expected, rtol=1e-5)
    assert found.semantics.dtype == np.float32
    assert found.semantics_parts == (5, 4, 4)
    assert found.semantics_name == "att+wv+v.csv"
    turned = load(folder, f"{file}+att").semantics
    np.testing.assert_array_equal(turned[:, 4:], found.semantics[:, :5])
    np.testing.assert_array_equal(
        load(folder, "att+sent").semantics[:, 5:], found.semantics[:, 5:9]
    )


def test_vector_of_a_new_class_is_scaled_as_the_joined_ones_are(folder: Path) -> None:
    found = load(folder, "att+wv")
    raw = np.concatenate([TINY.semantics, VECTORS], axis=1)
    for c in range(10):
        scaled = scaled_as_joined(raw[c], found.semantics_parts)
        np.testing.assert_array_equal(scaled, found.semantics[c])
    np.testing.assert_array_equal(scaled_as_joined(raw[0], ()), raw[0])


def test_zeros_stay_zeros_in_joined_embeddings() -> None:
    zeros = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(join_parts([zeros, np.eye(2, dtype=np.float32)])[:, :3], zeros)


def test_joined_embedding_of_other_classes_is_refused(folder: Path) -> None:
    _, splits = gbu_fields(TINY)
    write_mat(folder / "sent_splits.mat", {**splits, "att": VECTORS[:9].T})
    assert "found 9 classes, expected 10 as in" in refusal(folder, "att+sent")
    found = "glove_splits.mat: no such file, expected a second embedding of the classes of TINY"
    assert found in refusal(folder, "att+glove")
    file = write_table(folder.parent / "v.csv", LISTED, VECTORS[ORDER])
    np.save(folder.parent / "v.npy", np.where(VECTORS[3, 1] == VECTORS, np.nan, VECTORS))
    assert "v.npy: found NaN or infinity for kind d" in refusal(
        folder, f"{file}+{folder.parent}/v.npy"
    )


def test_cache_knows_what_the_files_hold(folder: Path, tmp_path: Path) -> None:
    file = write_table(tmp_path / "v.csv", LISTED, VECTORS[ORDER])

    def cached(semantics: str) -> Dataset:
        names = {"features": "res101", "semantics": semantics}
        return load_cached(tmp_path, "TINY", **names, cache=tmp_path / "cache")

    for semantics in ("wv", str(file), f"att+{file}"):
        assert not cached(semantics).from_cache
        again, fresh = cached(semantics), load(folder, semantics)
        assert again.from_cache
        np.testing.assert_array_equal(again.semantics, fresh.semantics)
        assert (again.semantics_parts, again.notes) == (fresh.semantics_parts, fresh.notes)
        assert again.source == fresh.source
    write_table(file, LISTED, VECTORS[ORDER] + 1)
    changed = cached(str(file))
    assert not changed.from_cache
    np.testing.assert_allclose(changed.semantics, VECTORS + 1, rtol=1e-6)
    assert all(entry.parent == tmp_path / "cache" / "TINY" for entry in folder_entries(tmp_path))


def folder_entries(tmp_path: Path) -> list[Path]:
    return [record.parent for record in (tmp_path / "cache").rglob("dataset.json")]


def test_classes_of_epgn_are_in_the_order_of_its_two_fields(tmp_path: Path) -> None:
    folder = write_epgn(tmp_path / "TINY", make_dataset())
    np.save(tmp_path / "v.npy", VECTORS)
    found = load(folder, str(tmp_path / "v.npy"))
    np.testing.assert_array_equal(found.semantics, VECTORS)
    write_table(tmp_path / "w.csv", LISTED, VECTORS[ORDER])
    assert "found no vector of seen class 1" in refusal(folder, tmp_path / "w.csv")


def test_first_split_file_is_read_with_a_warning_where_none_is_usual(folder: Path) -> None:
    file = write_table(folder.parent / "v.csv", LISTED, VECTORS[ORDER])
    (folder / "att_splits.mat").rename(folder / "word_splits.mat")
    found = load(folder, str(file))
    np.testing.assert_array_equal(found.semantics, VECTORS)
    where = f"{folder / 'sent_splits.mat'}, field 'trainval_loc'"
    assert any(note.startswith(f"{where}: found several files of splits") for note in found.notes)
    assert not any("several files" in note for note in load(folder, f"word+{file}").notes)
    (folder / "sent_splits.mat").unlink()
    assert not any("several files" in note for note in load(folder, str(file)).notes)


def test_built_in_dataset_takes_a_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    numbers = np.random.default_rng(0).permutation(100)
    lines = [f"{c:02d},{','.join(map(str, values[c]))}" for c in numbers]
    (tmp_path / "v.csv").write_text("\n".join(lines))
    names = {"features": "pixels", "semantics": str(tmp_path / "v.csv")}
    found = load_dataset(tmp_path, "DIGITS", **names)
    np.testing.assert_array_equal(found.semantics, values)


BAD_MATS = {
    "two matrices": ({"a": VECTORS.T, "b": VECTORS.T}, "found 2 matrices of numbers"),
    "none": ({"a": cells(LISTED)}, "found 0 matrices of numbers among its fields \\(a\\)"),
    "transposed": (
        {"a": VECTORS, "class_names": cells(LISTED)},
        "found 4 columns for 10 names in class_names, expected a column each: they have a class",
    ),
}


@pytest.mark.parametrize(("fields", "message"), BAD_MATS.values(), ids=BAD_MATS.keys())
def test_matlab_file_without_one_matrix_is_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    write_mat(tmp_path / "v.mat", fields)
    with pytest.raises(InputError, match=message):
        read_vectors(tmp_path / "v.mat", NAMES)


@pytest.mark.parametrize("v73", [False, True])
def test_att_goes_before_other_matrices(tmp_path: Path, v73: bool) -> None:
    fields = {"a": VECTORS.T + 1, "att": VECTORS.T, "allclasses_names": cells([*NAMES])}
    write_mat(tmp_path / "v.mat", fields, v73=v73)
    found = read_vectors(tmp_path / "v.mat", NAMES)
    np.testing.assert_array_equal(found.values, VECTORS)
    assert found.class_names == NAMES


def test_names_of_fields_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    write_mat(tmp_path / "v.mat", {"att": VECTORS.T}, v73=True)
    with h5py.File(tmp_path / "v.mat", "a") as file:
        file[b"\xff\xfe"] = 1.0
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.mat", NAMES).values, VECTORS)


def test_texts_are_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("kind a,a text\nkind b,another\n")
    with pytest.raises(InputError, match="found texts, expected a vector for each class"):
        read_vectors(tmp_path / "v.csv", NAMES)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([".npy", ".mat", ".csv", ".txt"]),
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, 400).map(lambda n: b"\x93NUMPY" + bytes(n)),
        st.text('ab1,. \n"-', max_size=60).map(str.encode),
    ),
)
def test_any_bytes_are_vectors_or_one_sentence(tmp_path: Path, ending: str, content: bytes) -> None:
    file = tmp_path / f"v{ending}"
    file.write_bytes(content)
    sentence = sentence_of(file)
    assert re.fullmatch(r"(.* expected .*)?", sentence)


def sentence_of(file: Path) -> str:
    try:
        read_vectors(file, NAMES)
    except InputError as error:
        return str(error)
    return ""
