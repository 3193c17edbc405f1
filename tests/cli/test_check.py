"""The command ``check``: every fault of a dataset is listed, and no other."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import psutil
import pytest

from gsmflow.cli.main import main
from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.examine import Examined, examine
from gsmflow.data.formats.files import load_dataset
from tests.builders import SHARED, make_dataset, write_epgn, write_gbu

DATA = SHARED / "data"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "TINY"


def look(folder: Path, features: str | None = None, semantics: str | None = None) -> Examined:
    return examine(folder, features, semantics)


def sentences_of(examined: Examined, level: str) -> list[str]:
    return [finding.sentence for finding in examined.findings if finding.level == level]


def check(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, what is printed, and the error."""
    code = 0
    try:
        main(["check", *map(str, words)])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("write", [write_gbu, write_epgn])
def test_good_dataset_has_no_errors(
    folder: Path, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, make_dataset())
    code, out, err = check(capsys, folder)
    assert (code, err) == (0, "")
    assert "TINY · 7 seen and 3 unseen classes" in out
    # The E-PGN layout names no validation classes.
    drawn = write is write_epgn
    assert out.endswith(f"TINY: 0 errors, {'1 warning' if drawn else '0 warnings'}\n")


def test_builtin_dataset_has_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = check(capsys, "DIGITS")
    assert code == 0
    assert "12,400 × 128" in out
    assert out.endswith("DIGITS: 0 errors, 1 warning\n")


def broken() -> tuple[Dataset, dict[str, IntArray]]:
    """A dataset with a fault of each kind, and the rows or classes that each is about."""
    dataset = make_dataset(classes=12, unseen=3, val=2, per_class=12)
    features, labels, semantics = dataset.features, dataset.labels, dataset.semantics
    features[[4, 50]] = np.nan
    labels[[2, 80]] = 12
    semantics[3, 1] = np.inf
    unseen = dataset.test_unseen
    semantics[labels[unseen[-1]]] = semantics[0]
    val = dataset.val
    return replace(
        dataset,
        trainval=np.concatenate([dataset.trainval, dataset.test_seen[[1, 2]], unseen[[0, 1]]]),
        train=np.concatenate([dataset.train, val[:3]]),
        test_unseen=np.append(unseen, [500, 600]),
        val=np.append(val, val[4]),
    ), {
        "features": np.array([4, 50]),
        "labels": np.array([2, 80]),
        "trainval": dataset.test_seen[[1, 2]],
        "test_unseen": np.array([500, 600]),
        "val": val[[4]],
    }


def test_every_fault_is_listed_with_all_its_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, expected_rows = broken()
    write_gbu(folder, dataset)
    examined = look(folder)
    errors = [finding for finding in examined.findings if finding.level == "error"]
    for about, rows in expected_rows.items():
        assert any(f.about == about and f.rows.tolist() == rows.tolist() for f in errors), about
    sentences = " | ".join(finding.sentence for finding in errors)
    for words in (
        "res101.mat, field 'features': found 12 values that are NaN",
        "res101.mat, field 'labels': found class 13 in row 3, expected 1 to 12",
        "field 'att': found 1 values that are NaN or infinite (the first in row 4, dimension 2)",
        "field 'att': found the same semantics for seen class 1 (class_0) and unseen class 12",
        "field 'trainval_loc': found 2 rows that are also in",
        "field 'trainval_loc': found rows of class 10 (class_9), which is unseen",
        "field 'test_unseen_loc': found row 501, expected 1 to 144",
        "field 'val_loc': found a row twice",
        "field 'val_loc': found rows of class 8 (class_7), which is also in",
    ):
        assert words in sentences
    # A run reports the first of them.
    with pytest.raises(InputError) as caught:
        load_dataset(folder.parent, "TINY", features="res101", semantics="att")
    assert str(caught.value) == errors[0].sentence

    code, out, err = check(capsys, folder)
    assert code == 2
    assert err == (
        f"error: {folder}: found {len(errors)} errors, expected a dataset without, as runs accept\n"
    )
    assert [line for line in out.splitlines() if line.startswith("error: ")] == [
        f"error: {finding.sentence}" for finding in errors
    ]
    assert "  rows 501, 601\n" in out


def test_all_fields_that_cannot_be_read_are_listed(folder: Path) -> None:
    dataset = make_dataset()
    text = np.array([["one"]], dtype=object)
    write_gbu(folder, dataset, val_loc=text, test_seen_loc=text, trainval_loc=np.ones((2, 2)))
    examined = look(folder)
    fields = [finding.about for finding in examined.findings]
    assert fields == ["trainval", "val", "test_seen"]
    write_gbu(folder, dataset, features=text, labels=np.full((120, 1), 1.5), att=None)
    assert len(sentences_of(look(folder), "error")) == 3
    assert look(folder).summary is None


def test_consequences_of_a_missing_field_are_not_listed(folder: Path) -> None:
    write_gbu(folder, make_dataset(), trainval_loc=None)
    (finding,) = look(folder).findings
    assert "field 'trainval_loc': not found, expected in this file" in finding.sentence


def test_faults_are_listed_beside_an_unreadable_field(folder: Path) -> None:
    features = make_dataset().features.T.copy()
    features[0, 7] = np.nan
    write_gbu(folder, make_dataset(), features=features, test_seen_loc=np.ones((2, 2)))
    missing, values = look(folder).findings
    assert missing.about == "test_seen"
    assert values.rows.tolist() == [7]


def test_faulty_file_of_names_is_listed_beside_other_faults(folder: Path) -> None:
    dataset = make_dataset()
    twice = replace(dataset, trainval=np.append(dataset.trainval, dataset.trainval[:1]))
    write_gbu(folder, twice, allclasses_names=None)
    file = folder / "class_names.txt"
    file.write_text("a\n" * 9)
    examined = look(folder)
    assert sentences_of(examined, "error") == [
        f"{file}: found 9 names, expected 10, one for each class of att",
        f"{folder / 'att_splits.mat'}, field 'trainval_loc': found a row twice, expected each row "
        "once",
    ]
    assert examined.class_names[0] == "class 1"
    file.write_text("\n".join("aacdefghij"))
    (sentence,) = sentences_of(look(folder), "warning")
    assert sentence.startswith(f"{file}: found 2 classes that share a name")


@pytest.mark.parametrize("with_test_rows", [True, False])
def test_classes_without_rows_are_no_error(folder: Path, with_test_rows: bool) -> None:
    dataset = make_dataset()
    dataset = replace(
        dataset,
        semantics=np.concatenate([dataset.semantics, np.full((1, 5), 7, dtype=np.float32)]),
        class_names=(*dataset.class_names, "okapi"),
    )
    if not with_test_rows:
        dataset = replace(dataset, test_unseen=np.empty(0, dtype=np.int64))
    write_gbu(folder, dataset)
    examined = look(folder)
    assert sentences_of(examined, "error") == []
    about = [finding for finding in examined.findings if "have no rows (okapi)" in finding.sentence]
    assert [finding.classes.tolist() for finding in about] == [[10]]
    assert len(examined.findings) == (
        1 if with_test_rows else 3
    )  # the rows of 3 classes are in no split, and no unseen class has test rows
    assert examined.summary is not None
    assert examined.summary.unseen_classes == 4


def test_two_unreadable_files_are_both_listed(folder: Path) -> None:
    folder.mkdir()
    for file in ("res101.mat", "att_splits.mat"):
        (folder / file).write_bytes(b"nothing of the kind")
    assert len(sentences_of(look(folder), "error")) == 2


def test_faults_of_all_fields_of_the_epgn_format_are_listed(folder: Path) -> None:
    write_epgn(
        folder,
        make_dataset(),
        train_idx=np.full((55, 1), 9.0),
        test_seen_fea=np.ones((28, 4)),
        test_unseen_idex=np.full((36, 1), 1.5),
    )
    sentences = " | ".join(sentences_of(look(folder), "error"))
    for words in (
        "'train_idx': found 55 labels, expected 56",
        "'train_idx': found class 9, expected 1 to 7",
        "'test_seen_fea': found 4 dimensions, expected 6",
        "'test_unseen_idex': found fractions",
    ):
        assert words in sentences
    write_epgn(folder, make_dataset(), seen_pro=None, train_fea=None)
    assert (
        len(sentences_of(look(folder), "error")) == 1
    )  # without semantics, splits are not examined


def test_arrays_of_different_sizes_have_no_summary(folder: Path) -> None:
    features = make_dataset().features.T.copy()
    features[3, 3] = np.inf
    write_gbu(folder, make_dataset(), features=features, labels=np.ones((119, 1)))
    examined = look(folder)
    assert [finding.about for finding in examined.findings] == ["labels", "features"]
    assert examined.summary is None


def test_features_larger_than_memory_are_read_through_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _ = broken()
    write_gbu(folder, dataset, v73=True)
    expected = look(folder)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    found = look(folder)
    assert found.summary == expected.summary
    assert sentences_of(found, "error") == sentences_of(expected, "error")


def test_json_file_counts_from_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, expected_rows = broken()
    write_gbu(folder, dataset)
    file = tmp_path / "found.json"
    code, _, _ = check(capsys, folder, "--json", file)
    assert code == 2
    content = json.loads(file.read_text())
    (labels,) = (error for error in content["errors"] if error["field"] == "labels")
    assert labels["rows"] == (expected_rows["labels"] + 1).tolist()
    assert content["class_names"][labels["rows"][0]] == "class_3"
    assert len(content["errors"]) == len(sentences_of(look(folder), "error"))
    assert content["summary"]["features"]["rows"] == 144
    code, _, err = check(capsys, folder, "--json", folder)
    assert code == 2
    assert err.startswith(f"error: --json: found {folder}, which cannot be written")


def test_single_candidate_file_is_used_and_several_are_listed(folder: Path) -> None:
    write_gbu(folder, make_dataset())
    (folder / "res101.mat").rename(folder / "vit.mat")
    (folder / "att_splits.mat").rename(folder / "sent_splits.mat")
    summary = look(folder).summary
    assert summary is not None
    assert (summary.features_name, summary.semantics_name) == ("vit", "sent")
    (folder / "clip.mat").write_bytes((folder / "vit.mat").read_bytes())
    with pytest.raises(InputError, match=r"^--features: found clip, vit in .*, expected the name"):
        look(folder)
    summary = look(folder, features="clip").summary
    assert summary is not None
    assert summary.features_name == "clip"
    with pytest.raises(InputError, match=r"w2v_splits.mat: no such file"):
        look(folder, features="clip", semantics="w2v")


def test_current_folder_is_called_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gbu(folder, make_dataset())
    monkeypatch.chdir(folder)
    assert look(Path()).name == "TINY"


@pytest.mark.parametrize("words", [["nowhere"], ["."]])
def test_folder_without_a_dataset_is_refused(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = check(capsys, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "expected" in err


EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_examples_of_the_documentation_write_the_same_dataset(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(EXAMPLES) == 3
    folder.mkdir()
    monkeypatch.chdir(folder)
    exec(EXAMPLES[number], {})
    examined = look(folder)
    assert sentences_of(examined, "error") == []
    assert examined.class_names == ("cat", "dog", "cow", "fox")
    assert examined.summary is not None
    rows = {split.name: split.rows for split in examined.summary.splits}
    assert rows == {"trainval": 6, "train": 4, "val": 2, "test_seen": 3, "test_unseen": 3}


@pytest.mark.skipif(not DATA.is_dir(), reason="the features beside the repository are not here")
def test_one_image_of_awa1_appears_in_two_classes() -> None:
    examined = look(DATA / "AWA1")
    assert sentences_of(examined, "error") == []
    repeats, leak = (f for f in examined.findings if f.about in ("features", "test_unseen"))
    assert (repeats.rows.tolist(), leak.rows.tolist()) == ([16520], [1310])
    with h5py.File(DATA / "AWA1" / "classic.mat") as file:
        features, labels = file["features"], file["labels"]
        np.testing.assert_array_equal(features[1310], features[16520])
        assert labels[0, 1310] != labels[0, 16520]
