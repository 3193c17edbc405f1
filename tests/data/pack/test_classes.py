"""The classes of a new dataset: what labels stand for, and damaged tables."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.given_labels import GivenLabels, read_labels
from gsmflow.data.pack.classes import PackedClasses, Source, label_classes, read_classes
from tests.fuzz import examples, mutations, read_or_refused

NAMES = ("polar bear", "fox", "Höhle", "7")


def classes(names: tuple[str, ...] = NAMES, count: int = 4) -> PackedClasses:
    return PackedClasses("s.csv", "s.csv, class names", np.eye(count, dtype=np.float32), names)


def labels(*values: object, class_names: tuple[str, ...] = ()) -> GivenLabels:
    return GivenLabels("labels", np.array(values), class_names)


@pytest.mark.parametrize(
    ("given_labels", "found"),
    [
        (labels("fox", "Polar_Bear", "7"), [1, 0, 3]),
        (labels("class", "fox", "fox"), [1, 1]),
        (labels(0, 3, 3), [0, 3, 3]),
        (labels(1, 4, 2), [0, 3, 1]),
        (labels("1", "4.0", "2"), [0, 3, 1]),
        (labels(1, 0, class_names=("fox", "HÖHLE")), [2, 1]),
    ],
)
def test_labels_stand_for_classes(given_labels: GivenLabels, found: list[int]) -> None:
    assert label_classes(given_labels, classes(), "auto").tolist() == found


def test_names_that_are_numbers_come_before_numbers_of_classes() -> None:
    numbered = classes(("30", "10", "20", "40"))
    assert label_classes(labels(10, 20, 10), numbered, "auto").tolist() == [1, 2, 1]
    assert label_classes(labels("10", "20"), numbered, "auto").tolist() == [1, 2]


@given(values=st.lists(st.integers(0, 5), min_size=1), base=st.sampled_from([0, 1]))
def test_numbers_count_from_what_is_said(values: list[int], base: int) -> None:
    given_labels = labels(*(value + base for value in values))
    found = label_classes(given_labels, classes((), 6), "1" if base else "0")
    assert found.tolist() == values
    if {0, 5} <= {*values}:  # both ends occur: nothing needs to be said
        assert label_classes(given_labels, classes((), 6), "auto").tolist() == values


@pytest.mark.parametrize(
    ("given_labels", "known", "expected"),
    [
        (labels("fox", "wolf"), classes(), "labels, row 2: found 'wolf', expected one of the 4"),
        (labels("fox"), classes(()), "no names of the classes"),
        (labels(1, 2), classes(()), "class numbers for 4 classes from 1 to 2, which may count"),
        (labels(-1, 2), classes(()), "found class -1 in row 1, expected 0 to 3"),
        (labels(0, 4), classes(()), "found class 4 in row 2, expected 0 to 3"),
        (labels(0, 2, class_names=("fox",)), classes(), "found class numbers 0 to 2, expected"),
        (labels("fox"), classes(("fox", "", "a", "b")), "found no name for class 1"),
    ],
)
def test_labels_of_no_class_are_refused(
    given_labels: GivenLabels, known: PackedClasses, expected: str
) -> None:
    with pytest.raises(InputError) as refused:
        label_classes(given_labels, known, "auto")
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("text", "path", "field"),
    [
        ("a/b.npz:x", "a/b.npz", "x"),
        ("a:b/c.h5:g/y", "a:b/c.h5", "g/y"),
        ("a.csv:x", "a.csv:x", None),
        ("a.npz", "a.npz", None),
    ],
)
def test_a_source_is_a_file_and_a_field(text: str, path: str, field: str | None) -> None:
    assert Source.parse(text) == Source(Path(path), field)


TABLE = b'name;a;b\n"polar bear";1;2.5\nfox;-3;4e-2\n'
COLUMN = "label\nfox\nHöhle\n7\n".encode()


@examples(100)
@given(table=mutations(TABLE), column=mutations(COLUMN))
def test_damaged_tables_are_read_or_refused(table: bytes, column: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(table)
    read_or_refused(lambda: read_classes(Source(tmp_path / "s.csv"), None))
    for file in (tmp_path / "l.txt", tmp_path / "l.csv"):
        file.write_bytes(column)
        read_or_refused(lambda own=file: label_classes(read_labels(own), classes(), "auto"))


def test_official_tables_have_their_names_beside_them(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("1\tpolar bear\n2\tfox\n")
    (tmp_path / "matrix.txt").write_text("  1.5  -1 \n 2 0.5\n")
    np.save(tmp_path / "matrix.npy", np.array([[1.5, -1], [2, 0.5]]))
    for name in ("matrix.txt", "matrix.npy"):
        found = read_classes(Source(tmp_path / name), None)
        assert found.names == ("polar bear", "fox")
        assert found.semantics.tolist() == [[1.5, -1.0], [2.0, 0.5]]
    (tmp_path / "own.txt").write_text("otter\nowl\n")
    found = read_classes(Source(tmp_path / "matrix.npy"), tmp_path / "own.txt")
    assert found.names == ("otter", "owl")


def test_names_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", semantics=np.eye(2), class_names=np.array(["fox", "owl"]))
    (tmp_path / "own.txt").write_text("owl\nfox\n")
    with pytest.raises(InputError, match="found 'owl' as class 0, expected 'fox' as in"):
        read_classes(Source(tmp_path / "s.npz"), tmp_path / "own.txt")
    np.savez(tmp_path / "s.npz", semantics=np.eye(3), class_names=np.array(["fox", "owl"]))
    with pytest.raises(InputError, match="found semantics of 3 classes and 2 names"):
        read_classes(Source(tmp_path / "s.npz"), None)
