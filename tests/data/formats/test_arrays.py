"""NumPy archives and folders of plain files: what they give back, and every fault in them."""

import csv
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.data.cache import load_cached
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.examine import Examined, examine
from gsmflow.data.formats import plain
from gsmflow.data.formats.files import dataset_files, load_dataset, usual_name
from gsmflow.data.mixed_semantics import with_second_semantics
from tests.builders import SPLITS, make_dataset, write_gbu

Fields = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "TINY"
    path.mkdir(parents=True)
    return path


def tiny() -> Dataset:
    """Class numbers and split rows in no order, so that a reader that assumes one is caught."""
    dataset, rng = make_dataset(), np.random.default_rng(3)
    number, rows = rng.permutation(10), rng.permutation(120)
    old, new_row = np.argsort(number), np.argsort(rows)
    return replace(
        dataset,
        features=dataset.features[rows],
        labels=number[dataset.labels[rows]],
        semantics=dataset.semantics[old],
        class_names=tuple(f"class {'abcdefghij'[c]}" for c in old),
        **{split: np.sort(new_row[getattr(dataset, split)]) for split in SPLITS},
    )


def arrays_of(dataset: Dataset) -> Fields:
    arrays: Fields = {name: getattr(dataset, name) for name in ("features", "labels", "semantics")}
    arrays |= {split: getattr(dataset, split) for split in SPLITS}
    return arrays | {"class_names": np.array(dataset.class_names)}


def write_npz(folder: Path, dataset: Dataset, **changes: Any) -> tuple[str, str]:
    """One archive; ``changes`` replace fields (None drops one); the names to read it by."""
    content = arrays_of(dataset) | changes
    np.savez(folder / "res101.npz", **{k: v for k, v in content.items() if v is not None})
    return "res101", "semantics"


def write_two_npz(folder: Path, dataset: Dataset, **changes: Any) -> tuple[str, str]:
    """An archive of features, and one of semantics and splits."""
    content = {k: v for k, v in (arrays_of(dataset) | changes).items() if v is not None}
    first = {k: content.pop(k) for k in ("features", "labels") if k in content}
    np.savez_compressed(folder / "vit.npz", **first)
    np.savez(folder / "att_splits.npz", **content)
    return "vit", "att"


def write_npy(folder: Path, dataset: Dataset, **changes: Any) -> tuple[str, str]:
    """A ``.npy`` file for each array, and a text file of names."""
    content = arrays_of(dataset) | changes
    names = content.pop("class_names")
    for field, values in content.items():
        if values is not None:
            np.save(folder / f"{field}.npy", values)
    if names is not None:
        (folder / "class_names.txt").write_text("\n".join(names))
    return "features", "semantics"


def write_csv(folder: Path, dataset: Dataset) -> tuple[str, str]:
    """Text files: labels by name, names beside the semantics, one split for each row."""
    names = dataset.class_names
    np.savetxt(folder / "features.csv", dataset.features, delimiter=",", fmt="%.9g")
    (folder / "labels.txt").write_text("\n".join(names[c] for c in dataset.labels))
    with (folder / "semantics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *(f"a{i}" for i in range(dataset.semantics.shape[1]))])
        writer.writerows(
            [name, *map(str, row)] for name, row in zip(names, dataset.semantics, strict=True)
        )
    words = np.full(len(dataset.labels), "none", dtype=object)
    for split in ("train", "val", "test_seen", "test_unseen"):
        words[getattr(dataset, split)] = split
    (folder / "splits.csv").write_text("\n".join(["split", *words]))
    return "features", "semantics"


WRITERS: dict[str, Callable[..., tuple[str, str]]] = {
    "npz": write_npz,
    "two npz": write_two_npz,
    "npy": write_npy,
    "csv": write_csv,
}
ARCHIVES = ["npz", "two npz", "npy"]


def load(folder: Path, names: tuple[str, str], **keywords: Any) -> Dataset:
    features, semantics = names
    return load_dataset(
        folder.parent, folder.name, features=features, semantics=semantics, **keywords
    )


def refusal(folder: Path, names: tuple[str, str]) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, names)
    message = str(caught.value)
    assert "expected" in message
    assert "\n" not in message
    assert str(folder) in message
    return message


def errors(examined: Examined) -> list[str]:
    return [f.sentence for f in examined.findings if f.level == "error"]


def assert_same_arrays(found: Dataset, expected: Dataset) -> None:
    for field in ("features", "labels", "semantics", *SPLITS):
        ours, theirs = getattr(found, field), getattr(expected, field)
        np.testing.assert_array_equal(ours, theirs, err_msg=field)
        assert ours.dtype == theirs.dtype, field
    assert found.class_names == expected.class_names


# --- what they give back -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_dataset_equals_the_same_arrays_in_gbu(folder: Path, tmp_path: Path, kind: str) -> None:
    found = load(folder, WRITERS[kind](folder, tiny()))
    write_gbu(tmp_path / "gbu" / "TINY", tiny())
    expected = load_dataset(tmp_path / "gbu", "TINY", features="res101", semantics="att")
    assert_same_arrays(found, expected)
    assert found.notes == expected.notes == ()
    assert found.name == "TINY"
    assert (found.first_number, expected.first_number) == (0, 1)
    assert found.features.flags.c_contiguous
    assert not isinstance(found.features, np.memmap)


@pytest.mark.parametrize("kind", WRITERS)
def test_names_are_reported_as_features_and_semantics(folder: Path, kind: str) -> None:
    names = WRITERS[kind](folder, tiny())
    dataset = load(folder, names)
    assert (dataset.features_name, dataset.semantics_name) == names
    assert usual_name("features", folder) == names[0]
    assert usual_name("semantics", folder) == names[1]


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4", np.int16])
def test_features_of_any_number_type_become_float32(folder: Path, kind: str, dtype: Any) -> None:
    source = tiny()
    whole = replace(source, features=(100 * source.features).round())
    stored = np.asfortranarray(whole.features.astype(dtype))
    found = load(folder, WRITERS[kind](folder, whole, features=stored))
    np.testing.assert_array_equal(found.features, whole.features)
    assert found.features.dtype == np.dtype(np.float32)
    assert found.features.flags.c_contiguous


@pytest.mark.parametrize("kind", ARCHIVES)
def test_splits_may_be_masks_and_labels_names(folder: Path, kind: str) -> None:
    source = tiny()
    masks = {split: np.isin(np.arange(120), getattr(source, split)) for split in SPLITS}
    names = np.array(source.class_names)[source.labels]
    assert_same_arrays(load(folder, WRITERS[kind](folder, source, labels=names, **masks)), source)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_bytes_are_read_as_text(folder: Path, kind: str) -> None:
    source = tiny()
    labels = np.array([source.class_names[c].encode() for c in source.labels])
    assert_same_arrays(load(folder, WRITERS[kind](folder, source, labels=labels)), source)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_without_names_classes_are_numbered_from_0(folder: Path, kind: str) -> None:
    dataset = load(folder, WRITERS[kind](folder, tiny(), class_names=None))
    assert dataset.class_names == tuple(f"class {c}" for c in range(10))


@pytest.mark.parametrize("kind", ARCHIVES)
def test_without_train_and_val_validation_classes_are_drawn(folder: Path, kind: str) -> None:
    names = WRITERS[kind](folder, tiny(), train=None, val=None)
    none = np.empty(0, dtype=np.int64)
    expected = check_dataset(replace(tiny(), train=none, val=none))
    found = load(folder, names)
    assert_same_arrays(found, expected)
    assert found.notes == expected.notes


@pytest.mark.parametrize("missing", ["train", "val"])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_train_or_val_alone_leaves_the_rest_of_trainval(
    folder: Path, kind: str, missing: str
) -> None:
    found = load(folder, WRITERS[kind](folder, tiny(), **{missing: None}))
    assert_same_arrays(found, tiny())


def test_text_files_without_a_header_and_with_other_delimiters(folder: Path) -> None:
    source, names = tiny(), write_csv(folder, tiny())
    np.savetxt(folder / "features.csv", source.features, delimiter=";", fmt="%.9g")
    np.savetxt(folder / "semantics.csv", source.semantics, delimiter="\t", fmt="%.9g")
    (folder / "class_names.txt").write_text("\n".join(source.class_names))
    (folder / "labels.txt").unlink()
    np.savetxt(folder / "labels.csv", source.labels, fmt="%d", header="label", comments="")
    (folder / "splits.csv").unlink()
    for split in SPLITS:
        np.savetxt(folder / f"{split}.txt", getattr(source, split), fmt="%d")
    assert_same_arrays(load(folder, names), source)


def test_header_above_features_is_skipped(folder: Path) -> None:
    names = write_csv(folder, tiny())
    header = ",".join(f"f{i}" for i in range(6))
    np.savetxt(folder / "features.csv", tiny().features, "%.9g", ",", header=header, comments="")
    assert_same_arrays(load(folder, names), tiny())


def test_labels_that_look_like_numbers_are_names_if_all_of_them_are(folder: Path) -> None:
    source = replace(tiny(), class_names=tuple(f"{9 - c:03}" for c in range(10)))
    names = write_npy(folder, source, labels=None)
    (folder / "labels.txt").write_text("\n".join(source.class_names[c] for c in source.labels))
    assert_same_arrays(load(folder, names), source)


def test_npy_file_of_several_slabs_is_read_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = write_npy(folder, tiny())
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 100)
    assert_same_arrays(load(folder, names), tiny())


def test_features_and_semantics_are_chosen_by_name(folder: Path) -> None:
    write_npy(folder, tiny())
    np.save(folder / "features_vit.npy", 2 * tiny().features)
    np.save(folder / "semantics_sent.npy", 3 * tiny().semantics)
    found = load(folder, ("vit", "sent"))
    np.testing.assert_array_equal(found.features, 2 * tiny().features)
    np.testing.assert_array_equal(found.semantics, 3 * tiny().semantics)
    assert (usual_name("features", folder), usual_name("semantics", folder)) == (
        "features",
        "semantics",
    )
    (folder / "features.npy").unlink()
    np.save(folder / "features_clip.npy", tiny().features)
    with pytest.raises(InputError, match=r"^--features: found clip, vit in .*, expected the name"):
        usual_name("features", folder)


# --- the cache, check and second semantics -------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_cached_dataset_is_the_one_in_the_files(folder: Path, tmp_path: Path, kind: str) -> None:
    names = WRITERS[kind](folder, tiny())
    expected = load(folder, names)
    for from_cache in (False, True):
        found = load_cached(
            folder.parent, "TINY", features=names[0], semantics=names[1], cache=tmp_path / "cache"
        )
        assert_same_arrays(found, expected)
        assert found.from_cache == from_cache
        assert isinstance(found.features, np.memmap)
        for field in fields(Dataset):
            if field.name in ("notes", "source", "first_number", "features_name"):
                assert getattr(found, field.name) == getattr(expected, field.name)


@pytest.mark.parametrize("kind", WRITERS)
def test_cache_notices_a_change_of_any_file(folder: Path, tmp_path: Path, kind: str) -> None:
    features, semantics = WRITERS[kind](folder, tiny())
    files = dataset_files(folder.parent, "TINY", features=features, semantics=semantics)
    assert set(files) == set(folder.iterdir())

    def from_cache() -> bool:
        return load_cached(
            folder.parent, "TINY", features=features, semantics=semantics, cache=tmp_path / "cache"
        ).from_cache

    assert not from_cache()
    assert from_cache()
    WRITERS[kind](folder, replace(tiny(), features=2 * tiny().features))
    assert not from_cache()
    WRITERS[kind](folder, replace(tiny(), semantics=2 * tiny().semantics))
    assert not from_cache()


@pytest.mark.parametrize("kind", WRITERS)
def test_check_finds_no_fault_in_a_good_dataset(folder: Path, kind: str) -> None:
    WRITERS[kind](folder, tiny())
    examined = examine(folder, None, None)
    assert examined.findings == ()
    assert examined.summary is not None
    assert examined.summary.features.rows == 120


@pytest.mark.parametrize("kind", ARCHIVES)
def test_check_lists_all_faults_counted_from_0(folder: Path, kind: str) -> None:
    source = tiny()
    features, labels = source.features.copy(), source.labels.copy()
    features[4, 2] = np.nan
    labels[7] = 10
    WRITERS[kind](
        folder,
        source,
        features=features,
        labels=labels,
        test_unseen=np.append(source.test_unseen, 120),
    )
    examined = examine(folder, None, None)
    sentences = " | ".join(errors(examined))
    for words in (
        "found 1 values that are NaN or infinite (the first in row 4, dimension 2)",
        "found class 10 in row 7, expected 0 to 9",
        "found row 120, expected 0 to 119",
    ):
        assert words in sentences
    assert examined.first_number == 0


@pytest.mark.parametrize("kind", ARCHIVES)
def test_check_lists_all_fields_that_cannot_be_read(folder: Path, kind: str) -> None:
    WRITERS[kind](
        folder,
        tiny(),
        labels=np.full(120, 1.5),
        trainval=np.ones((2, 2)),
        test_seen=np.ones(119, dtype=bool),
        val=np.array(["one", "two"]),
        test_unseen=np.array([0.5]),
    )
    abouts = [finding.about for finding in examine(folder, None, None).findings]
    assert abouts == ["trainval", "test_seen", "test_unseen", "val", "labels"]


@pytest.mark.parametrize("kind", WRITERS)
def test_second_semantics_are_read_in_the_format_of_the_dataset(folder: Path, kind: str) -> None:
    names = WRITERS[kind](folder, tiny())
    dataset = load(folder, names)
    second = np.random.default_rng(3).normal(5, 2, size=(10, 4)).astype(np.float32)
    shares = {"seen_percent": 50.0, "unseen_percent": 100.0}
    is_archive = "npz" in kind
    wanted = "sent_splits.npz: no such file" if is_archive else "semantics_sent.npy"
    with pytest.raises(InputError, match=wanted):
        with_second_semantics(dataset, folder.parent, "sent", **shares)

    def write(values: NDArray[np.float32], class_names: tuple[str, ...]) -> None:
        if is_archive:
            np.savez(
                folder / "sent_splits.npz", semantics=values, class_names=np.array(class_names)
            )
        else:
            lines = [
                f"{name},{','.join(map(str, row))}"
                for name, row in zip(class_names, values, strict=True)
            ]
            (folder / "semantics_sent.csv").write_text("\n".join(lines))

    write(second, dataset.class_names)
    mixed = with_second_semantics(dataset, folder.parent, "sent", **shares)
    assert mixed.semantics.shape == (10, 9)
    assert mixed.semantics[mixed.unseen_classes, 5:].all()
    # Each row is a multiple of its row in the second embedding, all by one factor.
    factors = mixed.semantics[mixed.unseen_classes, 5:] / second[mixed.unseen_classes]
    np.testing.assert_allclose(factors, factors[0, 0], rtol=1e-5)
    write(second, dataset.class_names[::-1])
    if not is_archive:
        (folder / "class_names.txt").unlink(missing_ok=True)
    found, expected = dataset.class_names[-1], dataset.class_names[0]
    with pytest.raises(InputError, match=f"found '{found}' as class 0, expected '{expected}'"):
        with_second_semantics(dataset, folder.parent, "sent", **shares)


# --- faults --------------------------------------------------------------------------------------


FAULTS: list[tuple[Fields, str]] = [
    ({"features": np.ones((120, 6, 1))}, "found an array of shape (120, 6, 1), expected a matrix"),
    ({"features": np.ones((120, 6)) * 1j}, "found complex128, expected numbers"),
    ({"features": np.array([["a"]])}, "found <U1, expected numbers"),
    ({"semantics": np.ones(10)}, "found an array of shape (10,), expected a matrix"),
    ({"semantics": None}, "expected"),
    ({"labels": None}, "expected"),
    ({"labels": np.ones(119, dtype=int)}, "found 119 labels, expected one for each of the 120"),
    ({"labels": np.ones((60, 2))}, "found an array of shape (60, 2), expected a vector"),
    ({"labels": np.full(120, -1)}, "found class -1 in row 0, expected 0 to 9"),
    (
        {"labels": np.array(["class z"] * 120)},
        "found 'class z' in row 0, expected one of the names in",
    ),
    (
        {"labels": np.array(["class a"] * 120), "class_names": None},
        "found names (the first: 'class a') and no class names with the semantics",
    ),
    (
        {"labels": np.array(["a"] * 120), "class_names": ["a"] * 10},
        "found 'a' twice, expected each name once",
    ),
    ({"trainval": None}, "expected"),
    ({"trainval": np.array([0.5])}, "found fractions, expected whole numbers"),
    ({"trainval": np.ones(119, bool)}, "found a mask of shape (119,), expected one value for each"),
    ({"trainval": np.array(["x"])}, "found 'x', expected row numbers from 0"),
    ({"test_seen": np.array([-1])}, "found row -1, expected 0 to 119"),
]


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_faults_name_file_field_found_and_expected(folder: Path, kind: str, number: int) -> None:
    changes, message = FAULTS[number]
    names = WRITERS[kind](folder, tiny(), **changes)
    assert message in refusal(folder, names)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_unknown_label_names_are_listed_with_their_rows(folder: Path, kind: str) -> None:
    labels = np.array(tiny().class_names)[tiny().labels].astype(object)
    labels[[3, 9]] = "unheard of"
    WRITERS[kind](folder, tiny(), labels=labels.astype(str))
    (finding,) = examine(folder, None, None).findings
    assert finding.rows.tolist() == [3, 9]
    assert "found 'unheard of' in row 3" in finding.sentence


@pytest.mark.parametrize("field", ["features", "labels", "semantics", "class_names", "trainval"])
def test_pickled_objects_in_an_archive_are_refused(folder: Path, field: str) -> None:
    values = np.array([{"a": 1}] * 10, dtype=object)
    names = write_npz(folder, tiny(), **{field: values})
    message = refusal(folder, names)
    assert message == (
        f"{folder / 'res101.npz'}, field '{field}': found pickled Python objects, expected an "
        "array of numbers or text"
    )


@pytest.mark.parametrize("field", ["features", "labels", "semantics", "test_seen"])
def test_pickled_objects_in_an_npy_file_are_refused(folder: Path, field: str) -> None:
    names = write_npy(folder, tiny(), **{field: np.array([None])})
    file = folder / f"{field}.npy"
    assert refusal(folder, names).startswith(f"{file}: found pickled Python objects")


@pytest.mark.parametrize(("kind", "file"), [("npz", "res101.npz"), ("npy", "features.npy")])
@pytest.mark.parametrize("content", ["empty", "text", "pickle", "other", "truncated"])
def test_files_of_other_formats_and_truncated_files_are_refused(
    folder: Path, tmp_path: Path, kind: str, file: str, content: str
) -> None:
    names, path = WRITERS[kind](folder, tiny()), folder / file
    if content == "other":  # an array for an archive, an archive for an array
        save: Callable[..., None] = np.save if kind == "npz" else np.savez
        with path.open("wb") as stream:
            save(stream, np.ones((120, 6)))
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"the features go here\n" * 100,
                "pickle": pickle.dumps({"features": [1, 2]}),
                "truncated": path.read_bytes()[:-200],
            }[content]
        )
    assert refusal(folder, names).startswith(str(path))


def test_damage_inside_an_archive_names_its_field(folder: Path) -> None:
    names = write_npz(folder, tiny())
    path = folder / "res101.npz"
    raw, values = bytearray(path.read_bytes()), tiny().semantics.tobytes()
    at = raw.index(values)
    raw[at : at + 8] = bytes(8)
    path.write_bytes(raw)
    assert "field 'semantics': not readable (Bad CRC-32" in refusal(folder, names)


def test_missing_second_archive_is_named(folder: Path) -> None:
    write_two_npz(folder, tiny())
    assert refusal(folder, ("vit", "w2v")).startswith(f"{folder / 'w2v_splits.npz'}: no such file")
    message = refusal(folder, ("clip", "att"))
    assert message.startswith(f"{folder / 'clip.npz'}: no such file, expected the GBU layout (")
    assert "a NumPy archive (clip.npz) or plain files (features.npy or" in message
    assert message.endswith("; data/README.md says where to get them")
    assert refusal(folder, ("vti", "att")).endswith(f"in {folder}; there is --features vit")
    assert refusal(folder, ("vit", "atr")).endswith(f"in {folder}; there is --semantics att")


TEXT_FAULTS: list[tuple[str, str, str]] = [
    (
        "features.csv",
        "1,5\n3\n",
        "features.csv, line 2: found 1 cells, expected 2, as in the first",
    ),
    ("features.csv", "1,5\n3,x\n", "features.csv, line 2, column 2: found 'x', expected a number"),
    ("features.csv", "", "features.csv: found no line, expected rows of numbers"),
    ("features.csv", "a,b\n", "features.csv: found no line below the header"),
    ("semantics.csv", "", "semantics.csv: found no numbers, expected a line for each class"),
    ("semantics.csv", "a,1,2\nb,3\n", "semantics.csv, line 2: found 2 cells, expected 3"),
    (
        "semantics.csv",
        "a,1\nb,c\n",
        "semantics.csv, line 2, column 2: found 'c' for b, expected a finite number",
    ),
    ("labels.txt", "", "labels.txt: found 0 labels, expected one for each of the 120 rows"),
    ("splits.csv", "split\ntrain\nteach\n", "splits.csv: found 'teach' for row 1, expected one of"),
    ("splits.csv", "train\n", "split 'trainval': found a mask of shape (1,), expected one value"),
    ("class_names.txt", "one\n", "class_names.txt: found 1 names, expected 10, one for each class"),
    (
        "class_names.txt",
        "x\n" * 10,
        "class_names.txt: found 'x' as class 0, expected 'class ",
    ),
    ("trainval.txt", "1\n", "trainval.txt: found beside splits.csv, expected one of the two"),
    ("semantics.npy", "", "found semantics.npy and semantics.csv, expected one of them"),
    ("labels.csv", "1\n", "found labels.csv and labels.txt, expected one of them"),
]


@pytest.mark.parametrize(("file", "text", "message"), TEXT_FAULTS)
def test_faults_of_text_files_are_refused(folder: Path, file: str, text: str, message: str) -> None:
    names = write_csv(folder, tiny())
    (folder / file).write_text(text)
    assert message in refusal(folder, names)
    assert any(message in sentence for sentence in errors(examine(folder, None, None)))


def test_label_column_of_several_cells_is_refused(folder: Path) -> None:
    names = write_csv(folder, tiny())
    (folder / "labels.txt").unlink()
    (folder / "labels.csv").write_text("1,2\n")
    assert "labels.csv, line 1: found 2 cells, expected one value a line" in refusal(folder, names)


@pytest.mark.parametrize("file", ["labels.txt", "semantics.csv", "splits.csv", "features.csv"])
def test_text_that_is_not_utf8_is_refused(folder: Path, file: str) -> None:
    names = write_csv(folder, tiny())
    (folder / file).write_bytes(b"\xff\xfe" * 10)
    assert str(folder / file) in refusal(folder, names)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.binary(max_size=40), st.text('ab1,;.\t" \n-', max_size=60).map(str.encode)))
def test_any_text_is_semantics_or_one_sentence(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "semantics.csv").write_bytes(content)
    sentence = sentence_of_semantics(folder)
    assert not sentence or "expected" in sentence
    assert len(sentence.splitlines()) <= 1


def sentence_of_semantics(folder: Path) -> str:
    try:
        plain.FORMAT.read_semantics(folder, "features", "semantics")
    except InputError as error:
        return str(error)
    return ""
