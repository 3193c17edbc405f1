import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.checks import Finding, check_dataset, usable_part
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.digits import load_digit_pairs
from gsmflow.data.lint import FEW_ROWS, find_warnings, first_equal_rows
from tests.builders import make_dataset

FIELDS = ("features", "labels", "semantics", "class_names", "trainval", "test_seen", "test_unseen")
SOURCE = {name: f"tiny.mat, field '{name}'" for name in FIELDS}


def tiny(**changes: Any) -> Dataset:
    """120 rows of 10 classes, 12 a class, of which the first 8 of seen ones are for training."""
    return replace(make_dataset(), source=SOURCE, **changes)


def only(dataset: Dataset) -> Finding:
    """The one warning; that it is no error is what the loader says of it."""
    check_dataset(dataset)
    (finding,) = find_warnings(dataset)
    assert finding.level == "warning"
    assert finding.sentence.startswith(f"tiny.mat, field '{finding.about}': found ")
    return finding


def test_good_dataset_has_no_warnings() -> None:
    assert list(find_warnings(tiny())) == []
    assert list(find_warnings(load_digit_pairs())) == []


def test_names_shared_by_classes_are_listed() -> None:
    names = ("cat", "dog", "cow", "dog", "elk", "fox", "owl", "cow", "ant", "bee")
    finding = only(tiny(class_names=names))
    assert (finding.about, finding.classes.tolist()) == ("class_names", [1, 2, 3, 7])
    assert "4 classes that share a name with another (the first: dog)" in finding.sentence


def test_semantics_of_zeros_are_listed() -> None:
    semantics = tiny().semantics.copy()
    semantics[[2, 8]] = 0
    with pytest.raises(InputError, match="same semantics for seen class 3"):
        check_dataset(tiny(semantics=semantics))
    semantics[8, 1] = 1
    finding = only(tiny(semantics=semantics))
    assert (finding.about, finding.classes.tolist()) == ("semantics", [2])
    assert "class 3 (class_2)" in finding.sentence


@pytest.mark.parametrize(("duplicates", "kind"), [([1, 4, 6], "seen"), ([7, 9], "unseen")])
def test_semantics_shared_by_classes_are_listed(duplicates: list[int], kind: str) -> None:
    semantics = tiny().semantics.copy()
    semantics[duplicates] = semantics[duplicates[0]]
    finding = only(tiny(semantics=semantics))
    assert (finding.about, finding.classes.tolist()) == ("semantics", duplicates)
    first, second = (f"class {c + 1} (class_{c})" for c in duplicates[:2])
    assert f"{len(duplicates)} {kind} classes" in finding.sentence
    assert f"{first} and {second}" in finding.sentence


def test_constant_dimensions_of_the_semantics_are_listed() -> None:
    semantics = tiny().semantics.copy()
    semantics[:, [0, 3]] = 0.5
    assert (
        "2 of 5 dimensions that are the same for every" in only(tiny(semantics=semantics)).sentence
    )
    semantics = tiny().semantics.copy()
    semantics[:7, 2] = 0.5
    assert (
        "1 of 5 dimensions that vary, but not among the seen"
        in only(tiny(semantics=semantics)).sentence
    )


def test_rows_of_zeros_are_not_listed_as_repeated_rows() -> None:
    features = tiny().features.copy()
    features[[5, 30]] = 0
    finding = only(tiny(features=features))
    assert (finding.about, finding.rows.tolist()) == ("features", [5, 30])


def test_repeated_rows_are_listed() -> None:
    features = tiny().features.copy()
    features[[6, 13]] = features[1]  # class 0, training; class 1, training
    finding = only(tiny(features=features))
    assert (finding.about, finding.rows.tolist()) == ("features", [6, 13])
    assert "the first: row 7 repeats row 2), 1 of them under another class" in finding.sentence


@pytest.mark.parametrize(("test_row", "split"), [(9, "test_seen"), (100, "test_unseen")])
@pytest.mark.parametrize("training_row", [0, 61])
def test_repeats_of_training_rows_in_test_rows_are_listed(
    test_row: int, split: str, training_row: int
) -> None:
    features = tiny().features.copy()
    features[test_row] = features[training_row]
    repeats, leak = find_warnings(tiny(features=features))
    assert repeats.rows.tolist() == [max(test_row, training_row)]
    assert (leak.about, leak.rows.tolist()) == (split, [test_row])


def test_rows_in_no_split_are_listed() -> None:
    finding = only(tiny(trainval=tiny().trainval[2:], train=tiny().train[2:]))
    assert (finding.about, finding.rows.tolist()) == ("labels", [0, 1])


def test_training_rows_outside_the_validation_split_are_listed() -> None:
    finding = only(tiny(train=tiny().train[3:]))
    assert (finding.about, finding.rows.tolist()) == ("trainval", [0, 1, 2])
    none = np.empty(0, dtype=np.int64)
    assert list(find_warnings(tiny(train=none, val=none))) == []  # both are drawn


@pytest.mark.parametrize("split", ["test_seen", "test_unseen"])
def test_classes_of_few_rows_are_listed(split: str) -> None:
    rows, labels = getattr(tiny(), split), tiny().labels
    (c, other) = np.unique(labels[rows])[:2]
    keep = labels[rows] != c
    keep[np.flatnonzero(~keep)[: FEW_ROWS - 1]] = True
    (finding,) = (f for f in find_warnings(tiny(**{split: rows[keep]})) if f.about == split)
    assert finding.classes.tolist() == [c]
    assert f"class {c + 1} (class_{c}) with {FEW_ROWS - 1}" in finding.sentence
    if split == "test_seen":  # a seen class without any test rows counts as well
        without = rows[labels[rows] != other]
        (finding,) = (f for f in find_warnings(tiny(test_seen=without)) if f.about == split)
        assert f"(class_{other}) with 0" in finding.sentence


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, 2.5])] * 3), min_size=1), st.data())
def test_repeated_rows_equal_those_of_brute_force(
    rows: list[tuple[float, ...]], data: st.DataObject
) -> None:
    features = np.array(rows, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsmflow.core.arrays._SLAB_BYTES", data.draw(st.integers(1, 100)))
        first = first_equal_rows(features)
    for i, row in enumerate(rows):
        assert first[i] == next(j for j, other in enumerate(rows) if other == row)


CORRUPTIONS: dict[str, Callable[[Dataset], Dataset]] = {
    "features": lambda d: replace(d, features=np.full_like(d.features, np.nan)),
    "infinite": lambda d: replace(d, semantics=np.full_like(d.semantics, np.inf)),
    "labels": lambda d: replace(d, labels=d.labels + 5),
    "none": lambda d: replace(d, labels=d.labels - 100),
    "rows": lambda d: replace(d, trainval=d.trainval + 60),
    "empty": lambda d: replace(d, trainval=d.trainval[:0], test_seen=d.test_seen[:0]),
    "twice": lambda d: replace(d, test_unseen=np.repeat(d.test_unseen, 2)),
    "zeros": lambda d: replace(
        d, semantics=np.zeros_like(d.semantics), features=np.zeros_like(d.features)
    ),
}


@pytest.mark.parametrize("pair", [*itertools.combinations_with_replacement(CORRUPTIONS, 2)])
def test_lint_does_not_fail_on_a_faulty_dataset(pair: tuple[str, str]) -> None:
    dataset = tiny()
    for name in pair:
        dataset = CORRUPTIONS[name](dataset)
    usable = usable_part(dataset)
    assert usable is not None
    for finding in find_warnings(usable):
        assert "\n" not in finding.sentence
