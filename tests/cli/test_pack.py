"""The command ``pack``: parts in files of every kind give one dataset, which is trained on."""

import csv
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from gsmflow.cli.main import main
from gsmflow.core.arrays import FloatArray
from gsmflow.data.cache import keep_in_file
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.base import Keep
from gsmflow.data.formats.files import load_dataset
from tests.builders import SPLITS, make_dataset, write_gbu

DATASET = make_dataset(per_class=8)
NAMES = [f"bär {c}" for c in range(10)]
LABELS = [NAMES[c] for c in DATASET.labels]
ROWS = {field: getattr(DATASET, split) for split, field in SPLITS.items()}


def write_table(path: Path) -> Path:
    """Semantics by name, below a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *(f"a{i}" for i in range(5))])
        writer.writerows(
            [n, *row] for n, row in zip(NAMES, DATASET.semantics.tolist(), strict=True)
        )
    return path


def write_lists(folder: Path, *, val: bool = True) -> Path:
    """Class lists: seven seen classes, two of them validation classes, and three unseen ones."""
    folder.mkdir(exist_ok=True)
    train = NAMES[:5] if val else NAMES[:7]
    (folder / "trainclasses.txt").write_text("\n".join(train))
    (folder / "testclasses.txt").write_text("\n".join(NAMES[7:]) + "\n")
    if val:
        (folder / "valclasses.txt").write_text("\n".join(name.upper() for name in NAMES[5:7]))
    return folder


def write_features(path: Path) -> Path:
    if path.suffix == ".npy":
        np.save(path, DATASET.features.astype(np.float64))
    elif path.suffix == ".npz":
        np.savez(path, features=DATASET.features, labels=DATASET.labels, targets=LABELS)
    elif path.suffix == ".pt":
        content = {"features": torch.tensor(DATASET.features), "targets": LABELS}
        torch.save({**content, "labels": torch.tensor(DATASET.labels + 1)}, path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["features"], file["labels"] = DATASET.features, DATASET.labels
            file["targets"] = np.char.encode(LABELS, "utf-8")
    elif path.suffix == ".mat":
        write_gbu(path.parent, DATASET)
        (path.parent / "res101.mat").rename(path)
    elif path.stem == "labelled":
        rows = zip(LABELS, DATASET.features.tolist(), strict=True)
        lines = [f"{c}.jpg,{n},{','.join(map(repr, r))}" for c, (n, r) in enumerate(rows)]
        path.write_text("\n".join(["file,class,0,1,2,3,4,5", *lines]), encoding="utf-8")
    else:
        lines = [
            f"{c}.jpg,{','.join(map(repr, r))}" for c, r in enumerate(DATASET.features.tolist())
        ]
        path.write_text("\n".join(lines))
    return path


def pack(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = 0
    try:
        main(["pack", *map(str, words)])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def assert_same(found: Dataset, *, names: bool = True) -> None:
    expected = check_dataset(DATASET)
    for name in ("features", "labels", "semantics", *SPLITS):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    if names:
        assert list(found.class_names) == NAMES


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """Semantics by name, class lists, rows of the splits, and labels of each kind."""
    np.savez(tmp_path / "rows.npz", **ROWS)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    np.save(tmp_path / "labels.npy", DATASET.labels)
    return {
        "table": write_table(tmp_path / "table.csv"),
        "lists": write_lists(tmp_path / "lists"),
        "rows": tmp_path / "rows.npz",
        "labels": tmp_path / "labels.txt",
        "numbers": tmp_path / "labels.npy",
        "out": tmp_path / "data" / "MINE",
    }


@pytest.mark.parametrize(
    ("ending", "labels"),
    [
        *((ending, "labels") for ending in (".npy", ".npz", ".pt", ".h5", ".mat", ".csv")),
        (".npy", "numbers"),
        *((ending, None) for ending in (".npz", ".pt", ".h5", ".mat", "labelled.csv")),
        *((ending, "targets") for ending in (".npz", ".pt", ".h5")),
    ],
)
def test_parts_of_every_kind_give_the_same_dataset(
    ending: str,
    labels: str | None,
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    features = write_features(tmp_path / (ending if ending[0] != "." else f"f{ending}"))
    words: list[object] = ["--features", features, "--semantics", parts["table"]]
    words += ["--splits", parts["rows"], "-o", parts["out"]]
    if labels is not None:
        words += ["--labels", f"{features}:targets" if labels == "targets" else parts[labels]]
    code, out, err = pack(capsys, *words)
    assert code == 0, err
    assert "80 rows of 6 features, 5-d semantics, 7 seen classes (2 for validation)" in out
    found = load_dataset(tmp_path / "data", "MINE", features="res101", semantics="att")
    assert_same(found)
    assert {file.name for file in parts["out"].iterdir()} == {
        *("res101.mat", "att_splits.mat", "pack.json")
    }
    if "csv" in ending:
        files = scipy.io.loadmat(parts["out"] / "res101.mat")["image_files"]
        assert [str(cell[0][0]) for cell in files] == [f"{row}.jpg" for row in range(80)]


def write_rows(kind: str, path: Path) -> Path:
    plain = {name: rows.tolist() for name, rows in ROWS.items()}
    short = {name.removesuffix("_loc"): rows for name, rows in plain.items()}
    mask = {name: np.isin(np.arange(80), rows) for name, rows in ROWS.items()}
    if kind == "json":
        path = path.with_suffix(".json")
        path.write_text(json.dumps({**short, "comment": "mine"}))
    elif kind == "json-masks":
        path = path.with_suffix(".json")
        path.write_text(json.dumps({name: rows.tolist() for name, rows in mask.items()}))
    elif kind == "npz-from-1":
        path = path.with_suffix(".npz")
        np.savez(path, **{name: rows[:, None] + 1.0 for name, rows in ROWS.items()})
    elif kind == "npz-masks":
        path = path.with_suffix(".npz")
        np.savez(path, **mask)
    elif kind == "without-trainval":
        path = path.with_suffix(".npz")
        np.savez(path, **{name: r for name, r in ROWS.items() if name != "trainval_loc"})
    elif kind == "pt":
        path = path.with_suffix(".pt")
        torch.save(plain, path)
    else:
        path = write_gbu(path, DATASET) / "att_splits.mat"
    return path


@pytest.mark.parametrize(
    "kind",
    ["json", "json-masks", "npz-from-1", "npz-masks", "without-trainval", "pt", "mat"],
)
def test_row_lists_of_every_kind_give_the_same_splits(
    kind: str, parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = write_features(tmp_path / "f.npz")
    (tmp_path / "given").mkdir()
    rows = write_rows(kind, tmp_path / "given")
    words = ("--features", features, "--semantics", parts["table"], "--splits", rows)
    code, _, err = pack(capsys, *words, "-o", parts["out"])
    assert code == 0, err
    found = load_dataset(tmp_path / "data", "MINE", features="res101", semantics="att")
    assert sorted(found.trainval) == sorted(DATASET.trainval)
    for split in ("train", "val", "test_seen", "test_unseen"):
        np.testing.assert_array_equal(getattr(found, split), getattr(DATASET, split))


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "mat", "names-file"])
def test_semantics_of_every_kind(
    kind: str, parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[object] = ["--splits", parts["rows"], "--labels", parts["numbers"]]
    semantics = tmp_path / f"s.{'npy' if kind == 'names-file' else kind}"
    if kind == "npz":
        np.savez(semantics, class_names=NAMES, vectors=DATASET.semantics)
        words += ["--semantics", f"{semantics}:vectors"]
    elif kind == "mat":
        named = replace(DATASET, class_names=tuple(NAMES))
        words += ["--semantics", write_gbu(tmp_path, named) / "att_splits.mat"]
    else:
        if kind == "csv":
            np.savetxt(semantics, DATASET.semantics, delimiter=";", fmt="%.9g")
        else:
            np.save(semantics, DATASET.semantics)
        words += ["--semantics", semantics]
    if kind == "names-file":
        (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
        words += ["--class-names", tmp_path / "names.txt"]
    features = write_features(tmp_path / "f.npy")
    code, out, err = pack(capsys, "--features", features, *words, "-o", parts["out"])
    assert code == 0, err
    found = load_dataset(tmp_path / "data", "MINE", features="res101", semantics="att")
    assert_same(found, names=kind not in ("npy", "csv"))
    assert ("no names of classes are known" in out) == (kind in ("npy", "csv"))


@pytest.mark.parametrize("val", [True, False])
def test_class_lists_hold_out_a_share_of_each_seen_class(
    val: bool, parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = write_lists(tmp_path / "own", val=val)
    words = ["--features", write_features(tmp_path / "f.npz"), "--semantics", parts["table"]]
    words += ["--splits", lists, "--test-share", "0.25"]  # type: ignore[list-item]
    found = []
    for seed, name in ((0, "A"), (0, "B"), (1, "C")):
        code, out, err = pack(capsys, *words, "--seed", seed, "-o", tmp_path / name)
        assert code == 0, err
        assert "14 rows, a share of 0.25 of the rows of each seen class, are drawn as test" in out
        assert ("drawn with a fixed seed, play validation" in out) == (not val)
        found.append(load_dataset(tmp_path, name, features="res101", semantics="att"))
    first, again, other = found
    np.testing.assert_array_equal(first.test_seen, again.test_seen)
    assert set(first.test_seen) != set(other.test_seen)
    assert np.bincount(first.labels[first.test_seen]).tolist() == [2] * 7
    assert sorted([*first.trainval, *first.test_seen, *first.test_unseen]) == [*range(80)]
    assert first.unseen_classes.tolist() == [7, 8, 9]
    if val:
        assert np.unique(first.labels[first.val]).tolist() == [5, 6]


def test_packed_dataset_passes_check_and_trains(
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    quick_pictures: None,
) -> None:
    words = ("--features", write_features(tmp_path / "f.h5"), "--semantics", parts["table"])
    name = ("--features-name", "vit")
    code, out, err = pack(capsys, *words, *name, "--splits", parts["lists"], "-o", parts["out"])
    assert code == 0, err
    assert out.splitlines()[-1] == f"python -m gsmflow train {parts['out']}"
    main(["check", str(parts["out"])])
    assert "MINE: 0 errors" in capsys.readouterr().out
    flags = ["--model", "eszsl", "--out", str(tmp_path / "out"), "--run", "one", "--device", "cpu"]
    main(["train", str(parts["out"]), *flags, "--beside"])
    metrics = json.loads((tmp_path / "out" / "MINE" / "one" / "metrics.json").read_text())
    assert metrics["T1"] > 0.3
    record = json.loads((parts["out"] / "pack.json").read_text())
    assert record["labels"] == f"{tmp_path / 'f.h5'}, field 'labels'"
    assert (record["seed"], record["test_share"]) == (0, 0.2)


def test_large_features_do_not_lie_in_memory(
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 1000)
    mapped = []

    def keep(file: Path) -> Keep:
        in_file = keep_in_file(file)

        def keep_and_note(*words: Any) -> FloatArray:
            mapped.append(in_file(*words))
            return mapped[0]

        return keep_and_note

    monkeypatch.setattr("gsmflow.data.pack.assemble.keep_where_it_fits", keep)
    words = ("--features", write_features(tmp_path / "f.h5"), "--semantics", parts["table"])
    assert pack(capsys, *words, "--splits", parts["rows"], "-o", parts["out"])[0] == 0
    assert isinstance(mapped[0], np.memmap)
    assert_same(load_dataset(tmp_path / "data", "MINE", features="res101", semantics="att"))
    assert len([*parts["out"].iterdir()]) == 3


def pickled(folder: Path) -> dict[str, object]:
    np.savez(folder / "p.npz", features=np.array([[None] * 6] * 80))
    return {"--features": folder / "p.npz"}


def labels_of(*values: object) -> Callable[[Path], dict[str, object]]:
    def write(folder: Path) -> dict[str, object]:
        (folder / "own.txt").write_text("\n".join(map(str, values)))
        return {"--labels": folder / "own.txt"}

    return write


def lists_with(**texts: str) -> Callable[[Path], dict[str, object]]:
    def write(folder: Path) -> dict[str, object]:
        for name, text in texts.items():
            (folder / "lists" / f"{name}.txt").write_text(text)
        return {"--splits": folder / "lists"}

    return write


def rows_of(**rows: Any) -> Callable[[Path], dict[str, object]]:
    def write(folder: Path) -> dict[str, object]:
        (folder / "own.json").write_text(json.dumps(rows))
        return {"--splits": folder / "own.json"}

    return write


def no_names(folder: Path) -> dict[str, object]:
    np.save(folder / "s.npy", DATASET.semantics)
    return {"--semantics": folder / "s.npy"}


def twice(folder: Path) -> dict[str, object]:
    (folder / "s.csv").write_text("a b,1,2\nA_B,3,4\n")
    return {"--semantics": folder / "s.csv"}


def short_csv(folder: Path) -> dict[str, object]:
    (folder / "f.csv").write_text("1,2,4\n4,5,6\n")
    return {"--features": folder / "f.csv", "--labels": folder / "labels.txt"}


def long_csv(folder: Path) -> dict[str, object]:
    (folder / "f.csv").write_text("1,2,4\n4,5,7\n" * 41)
    return {"--features": folder / "f.csv", "--labels": folder / "labels.txt"}


FAULTS: dict[str, tuple[Callable[[Path], dict[str, object]], str]] = {
    "pickle": (pickled, "field 'features': found pickled Python objects"),
    "field": (lambda f: {"--labels": f"{f}/f.npz:x"}, "field 'x': not found, expected in this"),
    "missing": (lambda f: {"--features": f / "none.npy"}, "none.npy: no such file"),
    "ending": (lambda f: {"--labels": f / "a.xls"}, "a.xls: found another ending"),
    "few": (labels_of("bär 0", "bär 1"), "found 2 labels, expected 80, one for each row"),
    "fox": (labels_of("bär 0", *["fox"] * 79), "row 2: found 'fox', expected one of the 10 names"),
    "ten": (labels_of(*[0, 10] * 40), "found class 10 in row 2, expected 0 to 9"),
    "unsure": (labels_of(*[1, 2] * 40), "may count from 0 or from 1, expected --labels-from 0"),
    "names": (no_names, "names of the classes, expected names with the semantics"),
    "twice": (twice, "found 'A_B' twice, expected each class once"),
    "short": (short_csv, "found 80 labels, expected 2, one for each row of"),
    "long": (long_csv, "found 80 labels, expected 82, one for each row of"),
    "both": (lists_with(valclasses="bär 7"), "found 'bär 7', which is also in valclasses.txt"),
    "other": (lists_with(testclasses="bär 7\nfox"), "testclasses.txt: found 'fox', expected one"),
    "empty": (lists_with(trainclasses="\n"), "trainclasses.txt: found no name"),
    "one": (lists_with(trainclasses="bär 0"), "found rows of 1 classes, expected at least 2"),
    "share": (lambda f: {"--test-share": 1}, "--test-share: found 1.0, expected a share above 0"),
    "stem": (lambda f: {"--features-name": "a/b"}, "--features-name: found 'a/b', expected"),
    "splits": (
        lambda f: {"--splits": f / "none"},
        "none: found no such file or folder, expected a",
    ),
    "trainval": (rows_of(test_seen=[1]), "field 'trainval_loc': not found, expected in this file"),
    "words": (rows_of(trainval=["a"]), "field 'trainval': found other values, expected an object"),
    "range": (rows_of(trainval=[0, 80]), "found row 80, expected 0 to 79"),
    "mask": (rows_of(trainval=[True]), "found a mask of shape (1,), expected one value for each"),
    "counted": (rows_of(trainval=[3, 4]), "may count from 0 or from 1, expected --rows-from 0"),
    "test": (
        rows_of(trainval=[0, 8, 16, 24], test_unseen=[0]),
        "found 1 rows that are also in",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_one_sentence_and_leaves_no_folder(
    fault: str, parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = FAULTS[fault]
    words: dict[str, object] = {
        "--features": write_features(tmp_path / "f.npz"),
        "--labels": f"{tmp_path}/f.npz:targets",
        "--semantics": parts["table"],
        "--splits": parts["lists"],
        "-o": parts["out"],
    }
    words |= make(tmp_path)
    code, out, err = pack(capsys, *(word for pair in words.items() for word in pair))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert expected in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "data").glob("*")) if (tmp_path / "data").exists() else True


def test_existing_folder_is_refused_and_an_empty_one_is_filled(
    parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--features", write_features(tmp_path / "f.npz"), "--semantics", parts["table"])
    words = (*words, "--splits", parts["lists"], "-o", parts["out"])
    parts["out"].mkdir(parents=True)
    assert pack(capsys, *words)[0] == 0
    code, _, err = pack(capsys, *words)
    assert code == 2
    assert f"{parts['out']}: exists already, expected a new folder" in err
    blocked = (*words[:-1], parts["labels"] / "MINE")
    code, _, err = pack(capsys, *blocked)
    assert code == 2
    assert "which cannot be written" in err


def test_a_full_disk_is_no_mistake_of_the_user_and_leaves_nothing(
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fill(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    words = ("--features", write_features(tmp_path / "f.npz"), "--semantics", parts["table"])
    code, _, err = pack(capsys, *words, "--splits", parts["lists"], "-o", parts["out"])
    assert code == 1
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert not parts["out"].exists()


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--features-name", "x" * 300, "--features-name: found a name of 300 bytes, expected no"),
        ("--features", "x" * 300, "x: found File name too long, expected to read or write there"),
        ("--splits", "x" * 300, "x: found File name too long, expected to read or write there"),
    ],
)
def test_a_name_that_is_too_long_is_that_of_its_flag(
    flag: str,
    value: str,
    message: str,
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--features", write_features(tmp_path / "f.npz"), "--semantics", parts["table"]]
    words += ["--splits", parts["lists"], "-o", parts["out"], flag, value]
    code, _, err = pack(capsys, *words)
    assert code == 2
    assert message in err
    assert not parts["out"].exists()
