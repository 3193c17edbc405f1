import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.examine import examine
from gsmflow.data.formats.files import load_dataset, usual_name
from gsmflow.data.formats.matlab import MatFile
from tests.builders import (
    SHARED,
    SPLITS,
    gbu_fields,
    make_dataset,
    write_epgn,
    write_gbu,
    write_mat,
)
from tests.fuzz import examples, mutations, read_or_refused

DATA = SHARED / "data"
NAME = "TINY"


@pytest.fixture(params=[False, True], ids=["v5", "v7.3"])
def v73(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / NAME


def tiny() -> Dataset:
    """Class numbers and split rows in no order, so that a reader that assumes one is caught."""
    dataset, rng = make_dataset(), np.random.default_rng(3)
    number, rows = rng.permutation(10), rng.permutation(120)
    new_row = np.argsort(rows)
    old = np.argsort(number)
    return replace(
        dataset,
        features=dataset.features[rows],
        labels=number[dataset.labels[rows]],
        semantics=dataset.semantics[old],
        class_names=tuple(f"class_{c}" for c in old),
        **{split: np.sort(new_row[getattr(dataset, split)]) for split in SPLITS},
    )


def load(folder: Path, features: str = "res101", semantics: str = "att") -> Dataset:
    return load_dataset(folder.parent, folder.name, features=features, semantics=semantics)


def refused(folder: Path, *parts: str, **stems: str) -> None:
    with pytest.raises(InputError) as caught:
        load(folder, **stems)
    message = str(caught.value)
    for part in (*parts, "expected"):
        assert part in message
    assert "\n" not in message


def where(folder: Path, file: str, field: str) -> str:
    return f"{folder / file}, field '{field}': "


# --- the GBU layout ------------------------------------------------------------------------------


def test_gbu_round_trip(folder: Path, v73: bool) -> None:
    source = tiny()
    out = load(write_gbu(folder, source, v73=v73))
    assert out.name == NAME
    assert out.class_names == source.class_names
    assert out.notes == ()
    for field in ("features", "labels", "semantics", *SPLITS):
        np.testing.assert_array_equal(getattr(out, field), getattr(source, field))
    for field, dtype in (("features", np.float32), ("semantics", np.float32), ("labels", np.int64)):
        assert getattr(out, field).dtype == dtype
    assert out.features.flags.c_contiguous


def test_gbu_reads_wide_features_and_narrow_whole_numbers(folder: Path, v73: bool) -> None:
    source = tiny()
    write_gbu(
        folder,
        source,
        v73=v73,
        features=source.features.T.astype(np.float64) + 1e-12,
        labels=(source.labels[None] + 1).astype(np.uint8),  # a row instead of a column
        trainval_loc=(source.trainval[:, None] + 1).astype(np.uint16),
    )
    out = load(folder)
    assert out.features.dtype == np.float32
    np.testing.assert_allclose(out.features, source.features, rtol=1e-6)
    np.testing.assert_array_equal(out.labels, source.labels)
    np.testing.assert_array_equal(out.trainval, source.trainval)


def test_gbu_without_names_numbers_the_classes(folder: Path, v73: bool) -> None:
    out = load(write_gbu(folder, tiny(), v73=v73, allclasses_names=None))
    assert out.class_names == tuple(f"class {c}" for c in range(1, 11))


def test_gbu_reads_names_from_a_char_matrix(folder: Path, v73: bool) -> None:
    # Of different lengths: MATLAB pads the rows of a char matrix with blanks.
    names = tuple(c * (1 + i % 4) for i, c in enumerate("abcdefghij"))
    out = load(write_gbu(folder, tiny(), v73=v73, allclasses_names=np.array(names)))
    assert out.class_names == names


def cell_of(content: object) -> NDArray[Any]:
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = content
    return cell


@pytest.mark.parametrize("depth", [1, 2])
def test_gbu_reads_names_that_are_cells_in_cells(folder: Path, v73: bool, depth: int) -> None:
    names = np.empty((10, 1), dtype=object)
    for c, name in enumerate(tiny().class_names):
        names[c, 0] = cell_of(name) if depth == 1 else cell_of(cell_of(name))
    out = load(write_gbu(folder, tiny(), v73=v73, allclasses_names=names))
    assert out.class_names == tiny().class_names


@pytest.mark.parametrize("content", [np.full((1, 1), 7.0), np.zeros((0, 0)), cell_of(np.ones(2))])
def test_gbu_names_that_are_no_text_are_refused(
    folder: Path, v73: bool, content: NDArray[Any]
) -> None:
    names = np.array([[name] for name in tiny().class_names], dtype=object)
    names[3, 0] = content
    write_gbu(folder, tiny(), v73=v73, allclasses_names=names)
    refused(folder, where(folder, "att_splits.mat", "allclasses_names") + "found no text")


@pytest.mark.parametrize("in_cells", [False, True])
def test_gbu_reads_names_that_h5py_wrote_as_texts(folder: Path, in_cells: bool) -> None:
    names = tuple(f"{name} é" for name in tiny().class_names)
    write_gbu(folder, tiny(), v73=True)
    with h5py.File(folder / "att_splits.mat", "r+") as file:
        del file["allclasses_names"]
        texts: list[Any] = [*names]
        if in_cells:
            group = file.create_group("texts")
            texts = [group.create_dataset(str(i), data=name).ref for i, name in enumerate(names)]
        kind = h5py.ref_dtype if in_cells else h5py.string_dtype()
        file.create_dataset("allclasses_names", data=np.array(texts, dtype=kind), dtype=kind)
    assert load(folder).class_names == names


def test_cells_in_place_of_numbers_are_refused(folder: Path) -> None:
    write_gbu(folder, tiny(), v73=True)
    with h5py.File(folder / "att_splits.mat", "r+") as file:
        cells = np.array([[file["train_loc"].ref]], dtype=h5py.ref_dtype)
        del file["trainval_loc"]
        file.create_dataset("trainval_loc", data=cells, dtype=h5py.ref_dtype)
    refused(folder, where(folder, "att_splits.mat", "trainval_loc") + "found a cell array")


@pytest.mark.parametrize("shape", [(0, 0), (0, 1), (1, 0)])
def test_gbu_without_validation_rows_is_read(
    folder: Path, v73: bool, shape: tuple[int, int]
) -> None:
    source = tiny()
    out = load(write_gbu(folder, source, v73=v73, val_loc=np.zeros(shape)))
    expected = check_dataset(replace(source, val=np.empty(0, dtype=np.int64)))
    assert out.notes == expected.notes
    np.testing.assert_array_equal(out.train, expected.train)
    np.testing.assert_array_equal(out.val, expected.val)


def test_gbu_published_rows_that_include_test_rows(folder: Path, v73: bool) -> None:
    source = tiny()
    is_training = np.isin(source.labels, np.unique(source.labels[source.train]))
    reaching = np.intersect1d(source.test_seen, np.flatnonzero(is_training))
    train = np.sort(np.concatenate([source.train, reaching]))
    out = load(write_gbu(folder, source, v73=v73, train_loc=train[:, None] + 1))
    (note,) = out.notes
    count = f"{len(reaching)} of {len(train)} rows of "
    assert note.startswith(count + where(folder, "att_splits.mat", "train_loc")[:-2])
    assert f"{len(reaching)} of them are test rows" in note
    np.testing.assert_array_equal(out.train, source.train)


@pytest.mark.parametrize("field", ["features", "labels"])
def test_gbu_feature_file_without_a_field_is_refused(folder: Path, v73: bool, field: str) -> None:
    write_gbu(folder, tiny(), v73=v73, **{field: None})
    refused(folder, where(folder, "res101.mat", field) + "not found")


@pytest.mark.parametrize("field", ["att", "trainval_loc"])
def test_gbu_split_file_without_a_field_is_refused(folder: Path, v73: bool, field: str) -> None:
    write_gbu(folder, tiny(), v73=v73, **{field: None})
    refused(folder, where(folder, "att_splits.mat", field) + "not found")


@pytest.mark.parametrize("missing", ["test_seen", "test_unseen"])
@pytest.mark.parametrize("write", [write_gbu, write_epgn])
def test_list_that_is_missing_is_an_empty_one(
    tmp_path: Path, v73: bool, write: Callable[..., Path], missing: str
) -> None:
    fields = [SPLITS[missing], f"{missing}_fea", f"{missing}_idex"]
    none = replace(tiny(), **{missing: np.empty(0, dtype=np.int64)})
    empty = load(write(tmp_path / "empty" / NAME, none, v73=v73))
    absent = load(write(tmp_path / "absent" / NAME, tiny(), v73=v73, **dict.fromkeys(fields)))
    for field in ("labels", *SPLITS):
        np.testing.assert_array_equal(getattr(absent, field), getattr(empty, field))
    assert [note.replace("absent", "empty") for note in absent.notes] == [*empty.notes]


def test_gbu_without_validation_lists_draws_validation_classes(folder: Path, v73: bool) -> None:
    out = load(write_gbu(folder, tiny(), v73=v73, train_loc=None, val_loc=None))
    none = np.empty(0, dtype=np.int64)
    expected = check_dataset(replace(tiny(), train=none, val=none))
    assert out.notes == expected.notes
    np.testing.assert_array_equal(out.val, expected.val)


@pytest.mark.parametrize("missing", ["train_loc", "val_loc"])
def test_gbu_with_one_validation_list_is_read(folder: Path, v73: bool, missing: str) -> None:
    out = load(write_gbu(folder, tiny(), v73=v73, **{missing: None}))
    np.testing.assert_array_equal(out.train, tiny().train)
    np.testing.assert_array_equal(out.val, tiny().val)
    assert out.notes == ()


TEXTS = {
    "cell": np.array([["one"], ["two"]], dtype=object),
    "char": np.array(["one", "two"]),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("res101.mat", "features"),
        ("res101.mat", "labels"),
        ("att_splits.mat", "att"),
        ("att_splits.mat", "test_seen_loc"),
    ],
)
def test_gbu_text_instead_of_numbers_is_refused(
    folder: Path, v73: bool, file: str, field: str, text: str
) -> None:
    write_gbu(folder, tiny(), v73=v73, **{field: TEXTS[text]})
    refused(folder, where(folder, file, field) + "found ", "expected numbers")


@pytest.mark.parametrize("field", ["features", "labels", "att", "val_loc"])
def test_gbu_complex_numbers_are_refused(folder: Path, v73: bool, field: str) -> None:
    write_gbu(folder, tiny(), v73=v73, **{field: np.ones((6, 120)) * 1j})
    refused(folder, f"field '{field}': found complex", "expected numbers")


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, 1e19])
@pytest.mark.parametrize(
    ("file", "field"), [("res101.mat", "labels"), ("att_splits.mat", "train_loc")]
)
def test_gbu_fractional_numbers_are_refused(
    folder: Path, v73: bool, file: str, field: str, value: float
) -> None:
    numbers = np.arange(1.0, 121.0)[:, None]
    numbers[4] = value
    write_gbu(folder, tiny(), v73=v73, **{field: numbers})
    refused(folder, where(folder, file, field) + "found", "expected whole numbers")


def test_gbu_labels_that_are_a_matrix_are_refused(folder: Path, v73: bool) -> None:
    write_gbu(folder, tiny(), v73=v73, labels=np.ones((60, 2)))
    refused(folder, where(folder, "res101.mat", "labels") + "found", "(60, 2)", "expected a vector")


def test_gbu_features_that_are_no_matrix_are_refused(folder: Path, v73: bool) -> None:
    write_gbu(folder, tiny(), v73=v73, features=np.ones((6, 20, 6)))
    refused(folder, where(folder, "res101.mat", "features") + "found", "expected a matrix")


@pytest.mark.parametrize("label", [0, 11])
def test_gbu_labels_out_of_range_are_refused(folder: Path, v73: bool, label: int) -> None:
    labels = tiny().labels[:, None] + 1
    labels[6] = label
    write_gbu(folder, tiny(), v73=v73, labels=labels)
    found = f"found class {label} in row 7, expected 1 to 10"
    refused(folder, where(folder, "res101.mat", "labels") + found)


@pytest.mark.parametrize("row", [0, 121])
def test_gbu_split_rows_out_of_range_are_refused(folder: Path, v73: bool, row: int) -> None:
    write_gbu(folder, tiny(), v73=v73, test_unseen_loc=np.array([[1.0], [row]]))
    found = f"found row {row}, expected 1 to 120"
    refused(folder, where(folder, "att_splits.mat", "test_unseen_loc") + found)


def test_gbu_labels_of_another_length_are_refused(folder: Path, v73: bool) -> None:
    write_gbu(folder, tiny(), v73=v73, labels=np.ones((119, 1)))
    found = "found 119 labels, expected one for each of the 120 rows"
    refused(folder, where(folder, "res101.mat", "labels") + found)


def test_gbu_transposed_features_are_refused(folder: Path, v73: bool) -> None:
    write_gbu(folder, tiny(), v73=v73, features=tiny().features)
    found = "found 6 rows of 120 features for 120 labels, expected the transposed matrix"
    refused(folder, where(folder, "res101.mat", "features") + found)


@pytest.mark.parametrize("pattern", [None, "class {}", "{:02}", "class_{}"])
def test_gbu_names_that_are_numbers_are_replaced_by_the_file_of_names(
    folder: Path, pattern: str | None
) -> None:
    start = 0 if pattern == "class_{}" else 1
    cells = pattern and np.array([[pattern.format(start + c)] for c in range(10)], dtype=object)
    write_gbu(folder, tiny(), allclasses_names=cells)
    names = ("colt's foot", "größe", "<i>", *"abcdefg")
    text = "\ufeff" + "\r\n".join(names) + "\n\n"
    (folder / "class_names.txt").write_bytes(text.encode())
    dataset = load(folder)
    assert dataset.class_names == names
    assert dataset.where("class_names") == str(folder / "class_names.txt")


@pytest.mark.parametrize(
    "names", [[*"abcdefghij"], [f"{c}" for c in range(9, -1, -1)], [*"abcdefghi", "10"]]
)
def test_gbu_informative_names_are_kept(folder: Path, names: list[str]) -> None:
    write_gbu(folder, tiny(), allclasses_names=np.array([[name] for name in names], dtype=object))
    (folder / "class_names.txt").write_text("\n".join("ABCDEFGHIJ"))
    assert load(folder).class_names == tuple(names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "found 0 names, expected 10, one for each class of att"),
        (b"a\n" * 11, "found 11 names, expected 10, one for each class of att"),
        (b"a\n \n" + b"a\n" * 8, "found no name in line 2, expected one"),
        (b"\xff\n" * 10, "not readable ('utf-8' codec can't decode"),
    ],
)
def test_gbu_faulty_files_of_names_are_refused(folder: Path, text: bytes, message: str) -> None:
    write_gbu(folder, tiny(), allclasses_names=None)
    (folder / "class_names.txt").write_bytes(text)
    refused(folder, f"{folder / 'class_names.txt'}: {message}")


def test_gbu_wrong_number_of_names_is_refused(folder: Path, v73: bool) -> None:
    names = np.array([["cat"], ["dog"]], dtype=object)
    write_gbu(folder, tiny(), v73=v73, allclasses_names=names)
    found = "found semantics of 10 classes, expected 2, the number of names in "
    refused(folder, where(folder, "att_splits.mat", "att") + found, "'allclasses_names'")


@pytest.mark.parametrize(("field", "file"), [("features", "res101.mat"), ("att", "att_splits.mat")])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_gbu_values_out_of_the_range_of_float32_are_refused(
    folder: Path, v73: bool, field: str, file: str, value: float
) -> None:
    values = (tiny().features if field == "features" else tiny().semantics).T.astype(np.float64)
    values[1, 2] = value
    write_gbu(folder, tiny(), v73=v73, **{field: values})
    found = "found 1 values that are NaN or infinite (the first in row 3, dimension 2)"
    refused(folder, where(folder, file, field) + found)


# --- the E-PGN layout ----------------------------------------------------------------------------


def epgn_order(source: Dataset) -> IntArray:
    return np.concatenate([source.trainval, source.test_seen, source.test_unseen])


def test_epgn_round_trip(folder: Path, v73: bool) -> None:
    source, out = tiny(), load(write_epgn(folder, tiny(), v73=v73))
    rows = epgn_order(source)
    np.testing.assert_array_equal(out.features, source.features[rows])
    # The classes are numbered anew, but every row keeps the semantics of its class.
    np.testing.assert_array_equal(out.semantics[out.labels], source.semantics[source.labels[rows]])
    rows_of_splits = [getattr(source, split) for split in ("trainval", "test_seen", "test_unseen")]
    ends = np.cumsum([len(split) for split in rows_of_splits])
    np.testing.assert_array_equal(out.trainval, np.arange(ends[0]))
    np.testing.assert_array_equal(out.test_seen, np.arange(ends[0], ends[1]))
    np.testing.assert_array_equal(out.test_unseen, np.arange(ends[1], ends[2]))
    assert out.features.dtype == out.semantics.dtype == np.float32


def test_epgn_numbers_the_seen_classes_before_the_unseen_ones(folder: Path, v73: bool) -> None:
    source, out = tiny(), load(write_epgn(folder, tiny(), v73=v73))
    assert source.unseen_classes.tolist() != [7, 8, 9]
    assert out.seen_classes.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert out.unseen_classes.tolist() == [7, 8, 9]
    np.testing.assert_array_equal(out.semantics[:7], source.semantics[source.seen_classes])
    np.testing.assert_array_equal(out.semantics[7:], source.semantics[source.unseen_classes])
    assert out.class_names[6:8] == ("seen class 7", "unseen class 1")
    assert len(out.class_names) == 10


def test_epgn_draws_validation_classes(folder: Path, v73: bool) -> None:
    out = load(write_epgn(folder, tiny(), v73=v73))
    (note,) = out.notes
    assert note.startswith("no validation rows are given in trainval: 2 of 7 seen classes")
    assert len(np.unique(out.labels[out.val])) == 2


def test_epgn_wide_features_become_float32(folder: Path, v73: bool) -> None:
    wide = tiny().features[tiny().trainval].astype(np.float64)
    out = load(write_epgn(folder, tiny(), v73=v73, train_fea=wide))
    assert out.features.dtype == np.float32


@pytest.mark.parametrize("field", ["att_train", "attribute"])
def test_epgn_redundant_fields_may_be_missing(folder: Path, v73: bool, field: str) -> None:
    assert len(load(write_epgn(folder, tiny(), v73=v73, **{field: None})).labels) == 120


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("data.mat", "train_fea"),
        ("data.mat", "test_seen_fea"),
        ("data.mat", "test_unseen_fea"),
        ("data.mat", "seen_pro"),
        ("data.mat", "unseen_pro"),
        ("label.mat", "train_idx"),
        ("label.mat", "test_seen_idex"),
        ("label.mat", "test_unseen_idex"),
    ],
)
def test_epgn_without_a_field_is_refused(folder: Path, v73: bool, file: str, field: str) -> None:
    write_epgn(folder, tiny(), v73=v73, **{field: None})
    refused(folder, where(folder, file, field) + "not found")


def test_epgn_labels_that_contradict_att_train_are_refused(folder: Path, v73: bool) -> None:
    source = tiny()
    att_train = source.semantics[source.labels[source.trainval]]
    other = source.seen_classes[source.seen_classes != source.labels[source.trainval[5]]][0]
    att_train[5] = source.semantics[other]
    write_epgn(folder, source, v73=v73, att_train=att_train)
    found = "found semantics in row 6 that are not those of its class"
    refused(folder, where(folder, "data.mat", "att_train") + found, "in seen_pro")


def test_epgn_att_train_of_another_shape_is_refused(folder: Path, v73: bool) -> None:
    write_epgn(folder, tiny(), v73=v73, att_train=np.zeros((3, 5)))
    found = "found shape (3, 5), expected (56, 5)"
    refused(folder, where(folder, "data.mat", "att_train") + found)


@pytest.mark.parametrize(
    ("field", "classes"), [("train_idx", 7), ("test_seen_idex", 7), ("test_unseen_idex", 3)]
)
@pytest.mark.parametrize("beyond", [False, True])
def test_epgn_labels_out_of_range_are_refused(
    folder: Path, v73: bool, field: str, classes: int, beyond: bool
) -> None:
    source = tiny()
    rows = {
        "train_idx": source.trainval,
        "test_seen_idex": source.test_seen,
        "test_unseen_idex": source.test_unseen,
    }
    labels = np.ones((len(rows[field]), 1))
    labels[1] = wrong = classes + 1 if beyond else 0
    write_epgn(folder, source, v73=v73, attribute=None, **{field: labels})
    found = f"found class {wrong}, expected 1 to {classes}"
    refused(folder, where(folder, "label.mat", field) + found)


EPGN_LISTS = {
    "train_idx": ("trainval", "seen_pro"),
    "test_seen_idex": ("test_seen", "seen_pro"),
    "test_unseen_idex": ("test_unseen", "unseen_pro"),
}


@pytest.mark.parametrize("lists", [*[[name] for name in EPGN_LISTS], [*EPGN_LISTS]])
def test_epgn_lists_may_number_the_rows_of_attribute(
    folder: Path, v73: bool, lists: list[str]
) -> None:
    # Unseen classes first, as in the published FLO, so that seen ones are beyond the seen count.
    source = tiny()
    order = np.concatenate([source.unseen_classes, source.seen_classes])
    row = np.argsort(order)
    changed = {
        name: row[source.labels[getattr(source, EPGN_LISTS[name][0])]][:, None] + 1.0
        for name in lists
    }
    write_epgn(folder, source, v73=v73, attribute=source.semantics[order], **changed)
    expected = source.semantics[source.labels[epgn_order(source)]]
    out = load(folder)
    np.testing.assert_array_equal(out.semantics[out.labels], expected)
    # Unseen classes have the same numbers both ways.
    assert len(out.notes) == 1


@pytest.mark.parametrize("field", EPGN_LISTS)
def test_epgn_labels_that_fit_neither_numbering_are_refused(
    folder: Path, v73: bool, field: str
) -> None:
    split, prototypes = EPGN_LISTS[field]
    labels = np.full((len(getattr(tiny(), split)), 1), 11.0)
    write_epgn(folder, tiny(), v73=v73, **{field: labels})
    rows = f"rows of {prototypes}, or rows of attribute that are also in {prototypes}"
    count = 3 if field == "test_unseen_idex" else 7
    found = f"found class 11, expected 1 to {count}, {rows}"
    refused(folder, where(folder, "label.mat", field) + found)


def test_epgn_labels_that_fit_both_numberings_are_noted(folder: Path, v73: bool) -> None:
    source = make_dataset()  # its first seven classes are seen
    order = np.array([1, 0, *range(2, 10)])
    write_epgn(folder, source, v73=v73, attribute=source.semantics[order])
    out = load(folder)
    np.testing.assert_array_equal(out.labels[out.test_seen], source.labels[source.test_seen])
    assert out.notes[1] == (
        where(folder, "label.mat", "test_seen_idex")
        + "numbers that fit rows of seen_pro and of attribute are read as rows of seen_pro"
    )
    (warning, *_) = [f for f in examine(folder, None, None).findings if f.about == "labels"]
    assert (warning.level, warning.sentence) == ("warning", out.notes[0])


@pytest.mark.skipif(
    not (SHARED / "cases" / "epgn_flo_label.mat").is_file(),
    reason="the published label file beside the repository is not here",
)
def test_epgn_published_labels_of_flo_are_read(folder: Path) -> None:
    label = SHARED / "cases" / "epgn_flo_label.mat"
    lists = scipy.io.loadmat(label)
    train, seen, unseen = (lists[name].ravel().astype(int) - 1 for name in EPGN_LISTS)
    attribute = np.random.default_rng(0).normal(size=(102, 8)).astype(np.float32)
    data = {
        "attribute": attribute,
        "unseen_pro": attribute[:20],
        "seen_pro": attribute[20:],
        # Each row's features are the semantics of its class.
        "train_fea": attribute[20:][train],
        "test_seen_fea": attribute[seen],
        "test_unseen_fea": attribute[unseen],
    }
    write_mat(folder / "data.mat", data)
    shutil.copy(label, folder / "label.mat")
    out = load(folder)
    np.testing.assert_array_equal(out.semantics[out.labels], out.features)
    assert (len(out.seen_classes), len(out.unseen_classes)) == (82, 20)


@pytest.mark.parametrize(
    ("field", "features", "count"),
    [
        ("train_idx", "train_fea", 56),
        ("test_seen_idex", "test_seen_fea", 28),
        ("test_unseen_idex", "test_unseen_fea", 36),
    ],
)
def test_epgn_labels_of_another_length_are_refused(
    folder: Path, v73: bool, field: str, features: str, count: int
) -> None:
    write_epgn(folder, tiny(), v73=v73, **{field: np.ones((5, 1))})
    found = f"found 5 labels, expected {count}, one for each row of {features}"
    refused(folder, where(folder, "label.mat", field) + found)


@pytest.mark.parametrize(("field", "rows"), [("test_seen_fea", 28), ("test_unseen_fea", 36)])
def test_epgn_features_of_another_dimension_are_refused(
    folder: Path, v73: bool, field: str, rows: int
) -> None:
    write_epgn(folder, tiny(), v73=v73, **{field: np.ones((rows, 4))})
    found = "found 4 dimensions, expected 6 as in train_fea"
    refused(folder, where(folder, "data.mat", field) + found)


def test_epgn_transposed_features_are_refused(folder: Path, v73: bool) -> None:
    write_epgn(folder, tiny(), v73=v73, test_seen_fea=tiny().features[tiny().test_seen].T)
    found = "found 6 rows of 28 features for 28 labels, expected the transposed matrix, with a row"
    refused(folder, where(folder, "data.mat", "test_seen_fea") + found)


def test_epgn_transposed_archive_is_one_error(folder: Path, v73: bool) -> None:
    rows, test = tiny().features, (tiny().test_seen, tiny().test_unseen)
    fields = {
        "train_fea": rows[tiny().trainval].T,
        "test_seen_fea": rows[test[0]].T,
        "test_unseen_fea": rows[test[1]].T,
    }
    write_epgn(folder, tiny(), v73=v73, **fields)
    (error,) = examine(folder, None, None).findings
    found = (
        "found 6 rows of 56 features for 56 labels (likewise in test_seen_fea and test_unseen_fea)"
    )
    assert error.sentence.startswith(f"{folder / 'data.mat'}, field 'train_fea': {found}, expected")
    write_epgn(folder, tiny(), v73=v73, train_fea=fields["train_fea"])
    (error,) = examine(folder, None, None).findings
    assert "found 6 rows of 56 features for 56 labels, expected" in error.sentence


def test_epgn_transposed_semantics_are_one_error(folder: Path, v73: bool) -> None:
    source = tiny()
    seen, unseen = source.semantics[source.seen_classes], source.semantics[source.unseen_classes]
    write_epgn(folder, source, v73=v73, seen_pro=seen.T, unseen_pro=unseen.T)
    (error,) = examine(folder, None, None).findings
    assert "field 'unseen_pro': found 3 columns beside 7 in seen_pro and 5 rows" in error.sentence
    assert error.sentence.endswith("they have a class per column, not per row; transpose them")


@pytest.mark.parametrize("file", ["data.mat", "label.mat"])
def test_epgn_struct_around_the_fields_is_named(folder: Path, v73: bool, file: str) -> None:
    path = write_epgn(folder, tiny()) / file
    write_mat(path, {"all": {"train_fea": np.ones((2, 2)), "train_idx": np.ones((2, 1))}}, v73=v73)
    refused(folder, str(path), "not found", "whose struct 'all' has such")


def test_epgn_labels_from_0_are_refused(folder: Path, v73: bool) -> None:
    labels = np.array([0.0] * 50 + [5.0] * 6)[:, None]
    write_epgn(folder, tiny(), v73=v73, train_idx=labels)
    refused(folder, "'train_idx': found class 0, expected 1 to 7", "count from 0: add 1 to them")


def test_epgn_semantics_of_another_dimension_are_refused(folder: Path, v73: bool) -> None:
    write_epgn(folder, tiny(), v73=v73, unseen_pro=np.ones((3, 4)))
    found = "found 4 dimensions, expected 5 as in seen_pro"
    refused(folder, where(folder, "data.mat", "unseen_pro") + found)


def test_epgn_fractional_labels_are_refused(folder: Path, v73: bool) -> None:
    write_epgn(folder, tiny(), v73=v73, train_idx=np.full((56, 1), 1.5))
    found = "found fractions, expected whole numbers"
    refused(folder, where(folder, "label.mat", "train_idx") + found)


def test_epgn_text_instead_of_numbers_is_refused(folder: Path, v73: bool) -> None:
    write_epgn(folder, tiny(), v73=v73, train_fea=TEXTS["char"])
    refused(folder, where(folder, "data.mat", "train_fea") + "found", "expected numbers")


def test_epgn_without_training_rows_is_refused(folder: Path, v73: bool) -> None:
    changes = {"train_fea": np.zeros((0, 6)), "train_idx": np.zeros((0, 1)), "att_train": None}
    write_epgn(folder, tiny(), v73=v73, **changes)
    refused(folder, where(folder, "data.mat", "train_fea") + "found no rows, expected at least one")


def test_epgn_described_classes_without_rows_are_noted(folder: Path, v73: bool) -> None:
    changes = {"test_unseen_fea": np.zeros((0, 6)), "test_unseen_idex": np.zeros((0, 1))}
    write_epgn(folder, tiny(), v73=v73, **changes)
    dataset = load(folder)
    assert dataset.classes_without_rows.tolist() == dataset.unseen_classes.tolist() == [7, 8, 9]
    assert any(note.startswith("3 of 10 classes have no rows") for note in dataset.notes)


# --- a piece at a time ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("slab", [1, 300, 1000])
@pytest.mark.parametrize("write", [write_gbu, write_epgn])
def test_pieces_join_to_the_whole_matrix(
    folder: Path,
    v73: bool,
    write: Callable[..., Path],
    slab: int,
    dtype: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tiny()
    source = replace(source, features=(100 * source.features).round())
    typed = replace(source, features=source.features.astype(dtype))
    write(folder, typed, v73=v73)
    expected = source.features[epgn_order(source)] if write is write_epgn else source.features
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", slab)
    out = load(folder)
    np.testing.assert_array_equal(out.features, expected)
    assert out.features.dtype == np.float32
    assert out.features.flags.c_contiguous


@pytest.mark.parametrize("chunks", [None, (7, 3), (120, 1), (1, 6)])
def test_any_chunks_of_a_newer_file_are_read(
    folder: Path, chunks: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gbu(folder, tiny(), v73=True) / "res101.mat"
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", data=tiny().features.astype(np.float64), chunks=chunks)
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 500)
    np.testing.assert_array_equal(load(folder).features, tiny().features)


def test_damage_inside_the_features_of_a_newer_file_is_named(folder: Path) -> None:
    path = write_gbu(folder, make_dataset(d=50), v73=True) / "res101.mat"
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    refused(folder, f"{path}: not readable as a MATLAB file")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_of_a_newer_file_are_in_memory_once(
    folder: Path, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 2**15)
    source = make_dataset(per_class=1500, d=64)
    write_gbu(folder, source, v73=True, features=source.features.T.astype(dtype))
    assert peak_of(lambda: load(folder)) < 1.5 * source.features.nbytes


@pytest.mark.parametrize(("dtype", "copies"), [(np.float32, 1), (np.float64, 3)])
def test_older_file_has_its_features_in_memory_once_besides_the_copy_of_scipy(
    folder: Path, dtype: type, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 2**15)
    source = make_dataset(per_class=1500, d=64)
    write_gbu(folder, source, features=source.features.T.astype(dtype))
    assert peak_of(lambda: load(folder)) < (copies + 0.5) * source.features.nbytes


def peak_of(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- which files are read ------------------------------------------------------------------------


def is_gbu(dataset: Dataset) -> bool:
    return dataset.class_names == tiny().class_names


def test_gbu_is_preferred_to_epgn_if_its_feature_file_exists(folder: Path) -> None:
    write_gbu(folder, tiny())
    write_epgn(folder, tiny())
    assert is_gbu(load(folder))
    (folder / "res101.mat").unlink()
    assert not is_gbu(load(folder))


def test_feature_file_without_its_split_file_does_not_fall_back_to_epgn(folder: Path) -> None:
    write_gbu(folder, tiny())
    write_epgn(folder, tiny())
    (folder / "att_splits.mat").unlink()
    refused(folder, f"{folder / 'att_splits.mat'}: no such file")


def test_chosen_features_and_semantics_are_read(folder: Path) -> None:
    write_gbu(folder, tiny())
    other = replace(
        tiny(), features=2 * tiny().features, semantics=np.tile(tiny().semantics, (1, 2))
    )
    write_gbu(folder / "other", other)
    (folder / "other" / "res101.mat").rename(folder / "vit.mat")
    (folder / "other" / "att_splits.mat").rename(folder / "sent_splits.mat")
    np.testing.assert_array_equal(load(folder, "vit", "att").features, other.features)
    np.testing.assert_array_equal(load(folder, "vit", "att").semantics, tiny().semantics)
    np.testing.assert_array_equal(load(folder, "res101", "sent").features, tiny().features)
    np.testing.assert_array_equal(load(folder, "res101", "sent").semantics, other.semantics)
    refused(folder, f"{folder / 'res152.mat'}: no such file", features="res152")
    refused(folder, f"{folder / 'w2v_splits.mat'}: no such file", semantics="w2v")


@pytest.mark.parametrize("present", ["no folder", "empty folder", "data.mat alone", "a folder"])
def test_missing_files_are_named_with_the_expected_files(folder: Path, present: str) -> None:
    if present == "data.mat alone":
        write_epgn(folder, tiny())
        (folder / "label.mat").unlink()
    elif present == "a folder":
        (folder / "res101.mat").mkdir(parents=True)
    elif present == "empty folder":
        folder.mkdir()
    refused(
        folder,
        f"{folder / 'res101.mat'}: no such file",
        "the GBU layout (res101.mat with the image features and att_splits.mat with",
        "the E-PGN layout (data.mat and label.mat)",
        f"in {folder}; data/README.md says where to get them",
    )


# --- damaged and foreign files -------------------------------------------------------------------

FILES = ["res101.mat", "att_splits.mat", "data.mat", "label.mat"]


def write_layout_of(folder: Path, file: str, *, v73: bool = False) -> Path:
    write = write_gbu if file in ("res101.mat", "att_splits.mat") else write_epgn
    return write(folder, tiny(), v73=v73) / file


@pytest.mark.parametrize("file", FILES)
def test_truncated_files_are_refused(folder: Path, v73: bool, file: str) -> None:
    path = write_layout_of(folder, file, v73=v73)
    whole = path.read_bytes()
    # Inside MATLAB's header, right after it, inside the first field, along the file, at its end.
    cuts = {1, 3, 64, 126, 128, 132, 140, 200, 512, 600, len(whole) - 1}
    cuts |= {round(len(whole) * tenth / 10) for tenth in range(1, 10)}
    for cut in sorted(cut for cut in cuts if cut < len(whole)):
        path.write_bytes(whole[:cut])
        refused(folder, str(path))


FOREIGN = {
    "empty": b"",
    "text": b"the features go here\n" * 100,
    "page": b"<!DOCTYPE html><html><body>404 not found</body></html>",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "zip": b"PK\x03\x04" + bytes(range(256)) * 8,
    "MATLAB header alone": b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM",
    "HDF5 signature alone": b"\x89HDF\r\n\x1a\n",
}


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize("file", FILES)
def test_files_of_other_formats_are_refused(folder: Path, file: str, content: str) -> None:
    path = write_layout_of(folder, file)
    path.write_bytes(FOREIGN[content])
    refused(folder, str(path))


@pytest.mark.parametrize("file", FILES)
def test_files_with_other_fields_are_refused(folder: Path, v73: bool, file: str) -> None:
    path = write_layout_of(folder, file)
    write_mat(path, {"pictures": np.ones((3, 3))}, v73=v73)
    refused(folder, f"{path}, field", "': not found", "whose fields are pictures")


@pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
def test_struct_around_the_fields_is_named(folder: Path, v73: bool, file: str) -> None:
    path = write_gbu(folder, tiny()) / file
    fields = dict(zip(("res101.mat", "att_splits.mat"), gbu_fields(tiny()), strict=True))[file]
    write_mat(path, {"data": fields}, v73=v73)
    examined = examine(folder, "res101", "att")
    (finding,) = examined.findings
    assert finding.sentence.startswith(f"{path}, fields '")
    assert "whose struct 'data' has such: save(file, '-struct', 'data')" in finding.sentence


def test_struct_in_place_of_numbers_is_refused(folder: Path, v73: bool) -> None:
    write_gbu(folder, tiny(), v73=v73, labels={"of": np.ones((120, 1))})
    found = "found a struct, expected numbers, from 1: the column of att"
    refused(folder, where(folder, "res101.mat", "labels") + found)


def test_gbu_labels_that_are_texts_are_refused(folder: Path, v73: bool) -> None:
    names = np.array([[tiny().class_names[c]] for c in tiny().labels], dtype=object)
    write_gbu(folder, tiny(), v73=v73, labels=names)
    found = "found a cell array, expected numbers, from 1: the column of att"
    refused(folder, where(folder, "res101.mat", "labels") + found)


@pytest.mark.parametrize("transposed", [False, True])
def test_one_hot_labels_are_refused(folder: Path, v73: bool, transposed: bool) -> None:
    labels = np.eye(10)[tiny().labels]
    write_gbu(folder, tiny(), v73=v73, labels=labels.T if transposed else labels)
    found = f"found one-hot vectors of shape {(10, 120) if transposed else (120, 10)}"
    expected = "expected a vector, the numbers of the ones"
    refused(folder, where(folder, "res101.mat", "labels") + found, expected)


def test_file_without_features_is_no_feature_file(folder: Path, v73: bool) -> None:
    write_gbu(folder, tiny(), v73=v73)
    (folder / "res101.mat").rename(folder / "vit.mat")
    write_mat(folder / "binary_attributes.mat", {"attr": np.ones((10, 4))}, v73=v73)
    (folder / "notes.mat").write_text("no MATLAB file")
    assert usual_name("features", folder) == "vit"
    # Where none has features, all are named.
    (folder / "vit.mat").unlink()
    with pytest.raises(InputError, match="found binary_attributes, notes in"):
        usual_name("features", folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_without_permission_are_refused(folder: Path) -> None:
    path = write_gbu(folder, tiny()) / "res101.mat"
    path.chmod(0)
    refused(folder, f"{path}: no permission to read this file")


def test_sparse_matrix_is_named_with_its_field(tmp_path: Path) -> None:
    path = tmp_path / "sparse.mat"
    write_mat(path, {"features": scipy.sparse.eye(4, format="csc")})
    with pytest.raises(InputError, match=r"field 'features': found .*, expected"):
        MatFile(path, ("features",)).matrix("features")


@pytest.mark.parametrize("v73", [False, True])
def test_sparse_matrix_names_the_remedy(tmp_path: Path, v73: bool) -> None:
    path = tmp_path / "sparse.mat"
    write_mat(path, {} if v73 else {"features": scipy.sparse.eye(4, format="csc")}, v73=v73)
    if v73:
        with h5py.File(path, "a") as file:
            file.create_group("features").attrs["MATLAB_sparse"] = np.uint64(4)
    with pytest.raises(InputError, match=r"found a sparse matrix, .*full\(features\)"):
        MatFile(path, ("features",)).matrix("features")


def v5_names(*names: bytes, order: str = "<") -> bytes:
    """A file of MATLAB v5 with a cell array of names in UTF-16, as MATLAB itself writes them."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

    def matrix(kind: int, sides: tuple[int, int], name: bytes, content: bytes) -> bytes:
        head = element(6, struct.pack(f"{order}II", kind, 0))
        head += element(5, struct.pack(f"{order}2i", *sides)) + element(1, name)
        return element(14, head + content)

    cells = b"".join(matrix(4, (1, len(name) // 2), b"", element(4, name)) for name in names)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49)
    return head + matrix(1, (len(names), 1), b"names", cells)


NAMES = ("Ölkäfer", "🙂 face", "日本", "plain")


@pytest.mark.parametrize("order", ["<", ">"])
def test_names_of_v5_in_utf_16_come_back(tmp_path: Path, order: str) -> None:
    path, codec = tmp_path / "names.mat", "utf-16-le" if order == "<" else "utf-16-be"
    path.write_bytes(v5_names(*(name.encode(codec) for name in NAMES), order=order))
    assert MatFile(path, ("names",)).strings("names") == NAMES


def test_names_with_surrogate_pairs_come_back(tmp_path: Path, v73: bool) -> None:
    path = tmp_path / "names.mat"
    write_mat(path, {"names": np.array(NAMES, dtype=object), "rows": np.array(NAMES)}, v73=v73)
    assert MatFile(path, ("names",)).strings("names") == NAMES
    assert MatFile(path, ("rows",)).strings("rows") == NAMES


def test_half_a_surrogate_pair_is_refused_with_its_field(tmp_path: Path) -> None:
    path = tmp_path / "names.mat"
    path.write_bytes(v5_names("🙂".encode("utf-16-le")[:2]))
    with pytest.raises(InputError, match="field 'names': found half of a UTF-16 character"):
        MatFile(path, ("names",)).strings("names")


def test_field_that_the_file_cannot_hold_is_refused(tmp_path: Path, v73: bool) -> None:
    path = tmp_path / "huge.mat"
    if v73:
        write_mat(path, {}, v73=True)
        with h5py.File(path, "a") as file:
            file.create_dataset("names", shape=(2**20, 2**20), dtype=np.float64, chunks=(64, 64))
    else:
        content = v5_names("ab".encode("utf-16-le"))
        path.write_bytes(
            content.replace(struct.pack("<2i", 1, 1), struct.pack("<2i", 2**20, 2**20))
        )
    with pytest.raises(
        InputError, match=r"field 'names': found a matrix of shape \(1048576, 1048576"
    ):
        MatFile(path, ("names",), large=("names",)).strings("names")


@pytest.mark.parametrize(
    ("value", "found"), [(np.nan, "nan, a number that is not finite"), (1e300, "1e+300, too large")]
)
def test_labels_that_are_no_class_numbers_say_why(folder: Path, value: float, found: str) -> None:
    labels = (tiny().labels[:, None] + 1).astype(np.float64)
    labels[3] = value
    write_gbu(folder, tiny(), labels=labels)
    refused(folder, where(folder, "res101.mat", "labels"), f"found {found}", "value 4")


# --- real files ----------------------------------------------------------------------------------


class Official(NamedTuple):
    """What data/README.md says of a set, rows after train and val are cut to trainval."""

    train: int
    val: int
    trainval: int
    test_seen: int
    test_unseen: int
    seen: int
    unseen: int
    a: int


OFFICIAL = {
    "AWA1": Official(13460, 6372, 19832, 4958, 5685, seen=40, unseen=10, a=85),
    "AWA2": Official(16187, 7340, 23527, 5882, 7913, seen=40, unseen=10, a=85),
    "APY": Official(4906, 1026, 5932, 1483, 7924, seen=20, unseen=12, a=64),
    "CUB": Official(4702, 2355, 7057, 1764, 2967, seen=150, unseen=50, a=312),
    "SUN": Official(9280, 1040, 10320, 2580, 1440, seen=645, unseen=72, a=102),
    "FLO": Official(4705, 926, 5631, 1403, 1155, seen=82, unseen=20, a=1024),
}

real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")


def check_against(official: Official, dataset: Dataset) -> None:
    sizes = {split: len(getattr(dataset, split)) for split in SPLITS}
    assert sizes == {split: getattr(official, split) for split in SPLITS}
    assert len(dataset.seen_classes) == official.seen
    assert len(dataset.unseen_classes) == official.unseen
    assert dataset.semantics.shape == (official.seen + official.unseen, official.a)
    assert np.isfinite(dataset.semantics).all()
    assert len(set(dataset.class_names)) == official.seen + official.unseen
    # As published, the training rows of every set but APY reach into the test rows.
    overlaps = [note for note in dataset.notes if "are not in trainval" in note]
    assert len(overlaps) == (0 if dataset.name == "APY" else 2)
    for note, field in zip(overlaps, ("train_loc", "val_loc"), strict=False):
        assert f"field '{field}'" in note
        assert "(0 of them are test rows)" not in note


@real
@pytest.mark.parametrize(
    ("name", "features", "semantics", "d", "some_names"),
    [
        ("FLO", "densenet169", "att", 1664, {"pink primrose", "colt's foot", "blackberry lily"}),
        ("CUB", "resnet_logits", "att", 1000, {"001.Black_footed_Albatross"}),
        ("CUB", "resnet_logits", "sent", 1000, {"001.Black_footed_Albatross"}),
        ("AWA1", "classic", "att", 512, {"antelope", "grizzly+bear"}),
    ],
)
def test_published_features_are_read(
    name: str, features: str, semantics: str, d: int, some_names: set[str]
) -> None:
    dataset = load_dataset(DATA, name, features=features, semantics=semantics)
    official = OFFICIAL[name]
    check_against(official._replace(a=1024) if semantics == "sent" else official, dataset)
    rows = official.trainval + official.test_seen + official.test_unseen
    assert dataset.features.shape == (rows, d)
    assert dataset.features.dtype == np.float32
    assert np.isfinite(dataset.features).all()
    assert some_names <= set(dataset.class_names)


def labels_for(splits: MatFile, official: Official) -> IntArray:
    """Classes for rows whose labels are not at hand: any that agree with the official splits."""
    rows = {split: splits.indices(field) for split, field in SPLITS.items()}
    classes = official.seen + official.unseen
    val, train, unseen = np.split(np.arange(classes), [official.seen // 4, official.seen])
    labels = np.full(1 + max(int(r.max()) for r in rows.values()), -1)

    def assign(where: Any, to: IntArray) -> None:
        labels[where] = np.resize(to, len(where))

    assign(rows["test_seen"], np.concatenate([val, train]))
    assign(rows["train"], train)
    assign(rows["val"], val)
    assign(rows["test_unseen"], unseen)
    return labels


@real
@pytest.mark.parametrize("name", ["AWA2", "APY", "SUN"])
def test_splits_of_published_files_are_read(tmp_path: Path, name: str) -> None:
    official = OFFICIAL[name]
    shutil.copytree(DATA / name, tmp_path / name)
    labels = labels_for(
        MatFile(tmp_path / name / "att_splits.mat", tuple(SPLITS.values())), official
    )
    assert labels.min() == 0  # every row is in a split
    features: dict[str, Any] = {
        "features": np.random.default_rng(0).normal(size=(4, len(labels))),
        "labels": labels[:, None] + 1,
    }
    write_mat(tmp_path / name / "res101.mat", features)
    dataset = load(tmp_path / name)
    check_against(official, dataset)
    np.testing.assert_array_equal(dataset.labels, labels)


@examples(100)
@given(data=st.data())
@pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused(
    data: st.DataObject, folder: Path, v73: bool, file: str
) -> None:
    if not folder.is_dir():
        write_gbu(folder, tiny(), v73=v73)
        (folder / "whole").write_bytes((folder / file).read_bytes())
    (folder / file).write_bytes(data.draw(mutations((folder / "whole").read_bytes())))
    read_or_refused(lambda: load(folder))
