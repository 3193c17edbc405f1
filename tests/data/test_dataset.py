import tracemalloc
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import (
    Dataset,
    Problem,
    Rows,
    Split,
    open_held_out,
    redraw_validation,
    training_problem,
)
from gsmflow.data.splits import repeat_each_class
from tests.builders import make_dataset

SPLITS = ("trainval", "train", "val", "test_seen", "test_unseen")
FIELDS = ("features", "labels", "semantics", "class_names", *SPLITS)
SOURCE = {name: f"tiny.mat, field '{name}'" for name in FIELDS}


def tiny() -> Dataset:
    """120 rows of 10 classes, 12 a class: 0-4 to train on, 5 and 6 for validation, 7-9 unseen."""
    return replace(make_dataset(), source=SOURCE)


def refused(dataset: Dataset, field: str, found: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        check_dataset(dataset)
    message = str(caught.value)
    assert message.startswith(f"tiny.mat, field '{field}': found {found}")
    assert f", expected {expected}" in message
    assert "\n" not in message


def rows_of(dataset: Dataset, split: str, *classes: int) -> IntArray:
    rows = getattr(dataset, split)
    return rows[np.isin(dataset.labels[rows], classes)]


def without(dataset: Dataset, split: str, *classes: int) -> IntArray:
    return np.setdiff1d(getattr(dataset, split), rows_of(dataset, split, *classes))


def numbered(dataset: Dataset) -> Dataset:
    """With the row number in the first feature, by which a row is known again."""
    features = dataset.features.copy()
    features[:, 0] = np.arange(len(features))
    return replace(dataset, features=features)


def numbers(features: FloatArray) -> IntArray:
    return features[:, 0].astype(np.int64)


# --- bad input -----------------------------------------------------------------------------------


def test_good_dataset_passes_unchanged_and_without_notes() -> None:
    given_in = tiny()
    out = check_dataset(given_in)
    assert out.notes == ()
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(out, name), getattr(given_in, name))
    assert out.seen_classes.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert out.unseen_classes.tolist() == [7, 8, 9]


@pytest.mark.parametrize("field", ["features", "semantics"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(field: str, value: float) -> None:
    values = getattr(tiny(), field).copy()
    values[3, 1] = values[5, 0] = value
    found = "2 values that are NaN or infinite (the first in row 4, dimension 2)"
    refused(replace(tiny(), **{field: values}), field, found, "finite numbers")


def test_infinities_of_both_signs_do_not_hide_each_other() -> None:
    features = tiny().features.copy()
    features[0, 0], features[1, 0] = np.inf, -np.inf
    found = "2 values that are NaN or infinite (the first in row 1, dimension 1)"
    refused(replace(tiny(), features=features), "features", found, "finite numbers")


def test_large_finite_features_of_test_rows_are_accepted() -> None:
    features = tiny().features.copy()
    features[tiny().test_seen[0]] = np.finfo(np.float32).max
    assert check_dataset(replace(tiny(), features=features)).notes == ()


@pytest.mark.parametrize(("zero_based", "one_based"), [(-1, 0), (10, 11)])
def test_labels_out_of_range_are_refused(zero_based: int, one_based: int) -> None:
    labels = tiny().labels.copy()
    labels[6] = zero_based
    found = f"class {one_based} in row 7"
    refused(replace(tiny(), labels=labels), "labels", found, "1 to 10, the number of classes")


@pytest.mark.parametrize("count", [0, 119, 121])
def test_labels_of_wrong_length_are_refused(count: int) -> None:
    labels = np.resize(tiny().labels, count)
    expected = "one for each of the 120 rows of features"
    refused(replace(tiny(), labels=labels), "labels", f"{count} labels", expected)


@pytest.mark.parametrize("field", ["features", "semantics"])
@pytest.mark.parametrize("shape", [(0, 6), (120, 0), (120,), (120, 6, 1)])
def test_shapes_that_are_no_matrix_are_refused(field: str, shape: tuple[int, ...]) -> None:
    dataset = replace(tiny(), **{field: np.zeros(shape, dtype=np.float32)})
    refused(dataset, field, f"an array of shape {shape}", "a matrix that is not empty")


def test_features_of_one_dimension_are_refused() -> None:
    dataset = replace(tiny(), features=tiny().features[:, :1])
    refused(dataset, "features", "1 dimension", "at least 2")


@pytest.mark.parametrize("names", [9, 11])
def test_wrong_number_of_semantics_is_refused(names: int) -> None:
    dataset = replace(tiny(), class_names=tuple(f"class_{c}" for c in range(names)))
    expected = f"{names}, the number of names in tiny.mat, field 'class_names'"
    refused(dataset, "semantics", "semantics of 10 classes", expected)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("zero_based", "one_based"), [(-1, 0), (120, 121)])
def test_split_rows_out_of_range_are_refused(split: str, zero_based: int, one_based: int) -> None:
    rows = getattr(tiny(), split).copy()
    rows[2] = zero_based
    expected = "1 to 120, the number of rows of features"
    refused(replace(tiny(), **{split: rows}), split, f"row {one_based}", expected)


@pytest.mark.parametrize("split", SPLITS)
def test_row_twice_in_a_split_is_refused(split: str) -> None:
    rows = getattr(tiny(), split)
    dataset = replace(tiny(), **{split: np.append(rows, rows[1])})
    refused(dataset, split, "a row twice", "each row once")


def test_datasets_without_training_or_without_test_rows_are_refused() -> None:
    none = np.empty(0, dtype=np.int64)
    refused(replace(tiny(), trainval=none), "trainval", "no rows", "at least one")
    refused(replace(tiny(), test_seen=none, test_unseen=none), "test_seen", "no rows", "at least")
    # Where all classes are trained on, none is unseen.
    trained = replace(tiny(), trainval=np.arange(0, 120, 2), test_seen=np.arange(1, 120, 2))
    refused(replace(trained, test_unseen=none), "test_unseen", "no rows", "at least one")


@pytest.mark.parametrize(("split", "measured"), [("test_seen", "T1"), ("test_unseen", "S")])
def test_dataset_without_test_rows_of_one_kind_is_noted(split: str, measured: str) -> None:
    out = check_dataset(replace(tiny(), **{split: np.empty(0, dtype=np.int64)}))
    (note,) = out.notes
    kind = split.removeprefix("test_")
    assert note.startswith(f"tiny.mat, field '{split}': no rows of {kind} classes to evaluate on")
    assert note.endswith(" alone is measured")
    assert f": {measured}" in note
    assert out.unseen_classes.tolist() == [7, 8, 9]


@pytest.mark.parametrize("split", ["test_seen", "test_unseen"])
def test_training_rows_among_the_test_rows_are_refused(split: str) -> None:
    shared = getattr(tiny(), split)[1:4]
    dataset = replace(tiny(), trainval=np.append(tiny().trainval, shared))
    found = f"3 rows that are also in tiny.mat, field '{split}' (the first is {shared[0] + 1})"
    refused(dataset, "trainval", found, "none")


def test_row_in_both_test_splits_is_refused() -> None:
    row = tiny().test_unseen[0]
    dataset = replace(tiny(), test_seen=np.append(tiny().test_seen, row))
    found = "rows of class 8 (class_7), which has no rows in tiny.mat, field 'trainval'"
    refused(dataset, "test_seen", found, "training rows for every seen class")


def test_unseen_class_in_training_is_refused() -> None:
    row = tiny().test_unseen[0]  # leaves the test split, so that only its class is at fault
    dataset = replace(
        tiny(),
        trainval=np.append(tiny().trainval, row),
        train=np.append(tiny().train, row),
        test_unseen=tiny().test_unseen[1:],
    )
    found = "rows of class 8 (class_7), which is unseen in tiny.mat, field 'test_unseen'"
    refused(dataset, "trainval", found, "none")


def test_seen_test_class_without_training_rows_is_refused() -> None:
    dataset = replace(
        tiny(), trainval=without(tiny(), "trainval", 2), train=without(tiny(), "train", 2)
    )
    found = "rows of class 3 (class_2), which has no rows in tiny.mat, field 'trainval'"
    refused(dataset, "test_seen", found, "training rows for every seen class")


def test_class_in_both_train_and_validation_is_refused() -> None:
    moved = rows_of(tiny(), "train", 4)[:1]
    dataset = replace(
        tiny(), train=np.setdiff1d(tiny().train, moved), val=np.append(tiny().val, moved)
    )
    found = "rows of class 5 (class_4), which is also in tiny.mat, field 'train'"
    refused(dataset, "val", found, "other classes")


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_training_classes_are_refused(count: int) -> None:
    dataset = replace(tiny(), train=rows_of(tiny(), "train", *range(count)))
    refused(dataset, "train", f"rows of {count} classes", "at least 2")


@pytest.mark.parametrize("seen", [0, 6])
def test_same_semantics_for_a_seen_and_an_unseen_class_are_refused(seen: int) -> None:
    semantics = tiny().semantics.copy()
    semantics[8] = semantics[seen]
    found = (
        f"the same semantics for seen class {seen + 1} (class_{seen}) and unseen class 9 (class_8)"
    )
    refused(replace(tiny(), semantics=semantics), "semantics", found, "semantics that tell")


@pytest.mark.parametrize("pair", [(0, 1), (8, 9)])
def test_equal_semantics_of_two_seen_or_two_unseen_classes_are_accepted(
    pair: tuple[int, int],
) -> None:
    semantics = tiny().semantics.copy()
    semantics[pair[0]] = semantics[pair[1]]
    assert check_dataset(replace(tiny(), semantics=semantics)).notes == ()


def test_features_constant_over_the_training_rows_are_refused() -> None:
    features = tiny().features.copy()
    features[tiny().trainval] = features[0]  # the test rows still vary, which must not count
    found = "every one of the 6 dimensions constant"
    refused(replace(tiny(), features=features), "features", found, "features that vary")


@pytest.mark.parametrize(("factor", "found"), [(1e19, "up to"), (1e-30, "that vary by")])
def test_scale_whose_squares_float32_does_not_hold_is_refused(factor: float, found: str) -> None:
    dataset = tiny()
    features, semantics = (
        (values * factor).astype(np.float32) for values in (dataset.features, dataset.semantics)
    )
    expected = "none above 1e+12" if factor > 1 else "1e-12 or more"
    refused(replace(dataset, features=features), "features", f"values {found}", expected)
    refused(replace(dataset, semantics=semantics), "semantics", f"values {found}", expected)


@pytest.mark.parametrize("factor", [1e10, 1e-10])
def test_scale_of_many_decades_is_taken(factor: float) -> None:
    scaled = (tiny().features * factor).astype(np.float32)
    check_dataset(replace(tiny(), features=scaled))


def test_message_without_a_source_names_the_dataset_and_the_field() -> None:
    with pytest.raises(InputError, match=r"^TINY, trainval: found no rows"):
        check_dataset(replace(make_dataset(), trainval=np.empty(0, dtype=np.int64)))


# --- warnings ------------------------------------------------------------------------------------


def test_constant_dimensions_are_noted_with_their_count() -> None:
    features = tiny().features.copy()
    features[np.ix_(tiny().trainval, [1, 4])] = 0.1
    (note,) = check_dataset(replace(tiny(), features=features)).notes
    assert note.startswith("2 of 6 feature dimensions are constant over the training rows")


def test_train_rows_that_are_test_rows_are_noted_and_left_out() -> None:
    extra_train = rows_of(tiny(), "test_seen", 0)
    extra_val = rows_of(tiny(), "test_seen", 5)[:2]
    dataset = replace(
        tiny(),
        train=np.concatenate([extra_train, tiny().train]),
        val=np.concatenate([tiny().val, extra_val]),
    )
    out = check_dataset(dataset)
    assert out.notes == (
        "4 of 44 rows of tiny.mat, field 'train' are not in trainval (4 of them are test rows): "
        "left out",
        "2 of 18 rows of tiny.mat, field 'val' are not in trainval (2 of them are test rows): "
        "left out",
    )
    np.testing.assert_array_equal(out.train, tiny().train)
    np.testing.assert_array_equal(out.val, tiny().val)


def test_train_rows_in_no_other_split_are_noted_separately_from_test_rows() -> None:
    dataset = replace(tiny(), trainval=tiny().trainval[1:])
    (note,) = check_dataset(dataset).notes
    assert "1 of 40 rows of tiny.mat, field 'train' are not in trainval (0 of them" in note


def test_classes_in_no_split_are_noted_with_their_count() -> None:
    dataset = replace(
        tiny(),
        trainval=without(tiny(), "trainval", 0),
        train=without(tiny(), "train", 0),
        test_seen=without(tiny(), "test_seen", 0),
        test_unseen=without(tiny(), "test_unseen", 9),
    )
    assert check_dataset(dataset).notes == ("2 of 10 classes are in no split",)


def test_notes_of_the_reader_are_kept() -> None:
    assert check_dataset(replace(tiny(), notes=("read twice",))).notes == ("read twice",)


def test_without_validation_rows_classes_are_drawn_the_same_each_time() -> None:
    bare = replace(tiny(), val=np.empty(0, dtype=np.int64))
    first, second = check_dataset(bare), check_dataset(bare)
    (note,) = first.notes
    assert note.startswith("no validation rows are given in trainval: 2 of 7 seen classes")
    np.testing.assert_array_equal(first.val, second.val)
    np.testing.assert_array_equal(first.train, second.train)
    train, val = (set(first.labels[rows].tolist()) for rows in (first.train, first.val))
    assert len(val) == 2
    assert train | val == set(range(7))
    assert not train & val
    np.testing.assert_array_equal(np.union1d(first.train, first.val), first.trainval)


def test_two_seen_classes_are_too_few_to_draw_validation_classes() -> None:
    none = np.empty(0, dtype=np.int64)
    dataset = replace(make_dataset(classes=4, unseen=2, val=0), source=SOURCE, train=none)
    refused(dataset, "train", "rows of 1 classes", "at least 2")


# --- rows ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 30), st.integers(1, 5), st.integers(1, 200), st.randoms())
def test_slabs_are_the_rows_in_order(n: int, d: int, slab: int, random: Random) -> None:
    source = np.arange(40 * d, dtype=np.float32).reshape(40, d)
    index = np.array(random.sample(range(40), n), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsmflow.core.arrays._SLAB_BYTES", slab)
        for rows in (Rows(source, np.zeros(n), index), Rows(source[index], np.zeros(n))):
            parts = list(rows.slabs())
            np.testing.assert_array_equal(np.concatenate([x for _, x in parts]), source[index])
            np.testing.assert_array_equal(rows.features, source[index])
            for part, x in parts:
                np.testing.assert_array_equal(x, source[index][part])
                assert len(x) <= max(1, slab // (4 * d))
            if n:
                lowest, highest = rows.extremes()
                np.testing.assert_array_equal(lowest, source[index].min(axis=0))
                np.testing.assert_array_equal(highest, source[index].max(axis=0))


def test_selected_and_taken_rows_are_those_of_the_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(30, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", source)
    index, chosen = rng.permutation(30)[:20], np.array([19, 2, 2, 0, 7])
    labels = rng.integers(5, size=20)
    for kept in (source, np.load(tmp_path / "x.npy", mmap_mode="r")):
        rows = Rows(kept, labels, index)
        np.testing.assert_array_equal(rows.take(chosen), source[index[chosen]])
        selected = rows.select(chosen)
        np.testing.assert_array_equal(selected.features, source[index[chosen]])
        np.testing.assert_array_equal(selected.labels, labels[chosen])
        np.testing.assert_array_equal(Rows(kept, labels).take(chosen), source[chosen])


@pytest.mark.parametrize(("multiple", "step"), [(1, 10), (4, 8), (10, 10), (40, 40), (41, 10)])
def test_slabs_are_multiples_of_a_chunk_that_is_not_far_above_the_bound(
    multiple: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 100)
    slices = list(row_slices(95, 10, multiple))
    assert [part.start for part in slices] == list(range(0, 95, step))
    assert slices[-1].stop == 95


def test_checks_find_a_value_in_any_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 100)
    values = tiny().features.copy()
    values[77, 3] = values[110, 0] = values[110, 5] = np.nan
    found = "3 values that are NaN or infinite (the first in row 78, dimension 4)"
    refused(replace(tiny(), features=values), "features", found, "finite numbers")


def test_checking_and_opening_copies_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 2**15)
    dataset = make_dataset(per_class=2000, d=64)
    tracemalloc.start()
    try:
        checked = check_dataset(dataset)
        for split in ("validation", "test"):
            training_problem(checked, split)
            open_held_out(checked, split)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < dataset.features.nbytes / 2


# --- what a model may see ------------------------------------------------------------------------


def same(a: Problem, b: Problem) -> None:
    assert (a.split, a.class_names) == (b.split, b.class_names)
    np.testing.assert_array_equal(a.train.features, b.train.features)
    np.testing.assert_array_equal(a.train.labels, b.train.labels)
    np.testing.assert_array_equal(a.semantics, b.semantics)
    np.testing.assert_array_equal(a.seen_classes, b.seen_classes)
    np.testing.assert_array_equal(a.unseen_classes, b.unseen_classes)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 30))
def test_each_class_is_repeated_to_as_many_rows(classes: list[int], count: int) -> None:
    labels = np.array(classes)
    rows = repeat_each_class(labels, count)
    times = np.bincount(rows, minlength=len(labels))
    for c in np.unique(labels):
        repeats = times[labels == c]
        assert repeats.sum() == max(count, len(repeats))
        assert repeats.min() >= 1
        assert repeats.max() - repeats.min() <= 1
    # Any first rows have the classes as evenly as can be.
    seen = np.cumsum(labels[rows][:, None] == np.unique(labels), axis=0)
    even = min((labels == c).sum() for c in labels)
    assert np.ptp(seen[: max(count, even) * seen.shape[1]], axis=1).max() <= 1


@pytest.mark.parametrize("garbage", [1e30, 0.0])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_training_problem_does_not_depend_on_test_rows(split: Split, garbage: float) -> None:
    dataset = tiny()
    features = dataset.features.copy()
    features[np.concatenate([dataset.test_seen, dataset.test_unseen])] = garbage
    clean, spoiled = check_dataset(dataset), check_dataset(replace(dataset, features=features))
    assert clean.notes == spoiled.notes
    same(training_problem(clean, split), training_problem(spoiled, split))


def test_validation_rows_do_not_depend_on_test_rows() -> None:
    dataset = check_dataset(tiny())
    features = dataset.features.copy()
    features[np.concatenate([dataset.test_seen, dataset.test_unseen])] = np.nan
    clean = open_held_out(dataset, "validation")
    spoiled = open_held_out(replace(dataset, features=features), "validation")
    np.testing.assert_array_equal(clean.seen.features, spoiled.seen.features)
    np.testing.assert_array_equal(clean.unseen.features, spoiled.unseen.features)


def test_test_rows_among_the_published_training_rows_are_not_in_validation() -> None:
    dataset = numbered(tiny())
    published = replace(
        dataset,
        train=np.sort(np.concatenate([dataset.train, rows_of(dataset, "test_seen", 0, 1, 2)])),
        val=np.sort(np.concatenate([dataset.val, rows_of(dataset, "test_seen", 5, 6)])),
    )
    out = check_dataset(published)
    held_out = open_held_out(out, "validation")
    used = (training_problem(out, "validation").train, held_out.seen, held_out.unseen)
    for rows in used:
        assert not np.isin(numbers(rows.features), dataset.test_seen).any()


def test_test_problem_holds_all_trainval_rows_and_the_test_rows_are_held_out() -> None:
    dataset = check_dataset(numbered(tiny()))
    problem, held_out = training_problem(dataset, "test"), open_held_out(dataset, "test")
    np.testing.assert_array_equal(numbers(problem.train.features), dataset.trainval)
    np.testing.assert_array_equal(numbers(held_out.seen.features), dataset.test_seen)
    np.testing.assert_array_equal(numbers(held_out.unseen.features), dataset.test_unseen)
    np.testing.assert_array_equal(held_out.unseen.labels, dataset.labels[dataset.test_unseen])
    assert problem.seen_classes.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert problem.unseen_classes.tolist() == [7, 8, 9]
    assert problem.classes.tolist() == list(range(10))


def test_validation_classes_are_the_unseen_classes_of_the_validation_problem() -> None:
    dataset = check_dataset(tiny())
    problem, held_out = (
        training_problem(dataset, "validation"),
        open_held_out(dataset, "validation"),
    )
    assert problem.seen_classes.tolist() == [0, 1, 2, 3, 4]
    assert problem.unseen_classes.tolist() == [5, 6]
    assert problem.classes.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert set(held_out.seen.labels) == {0, 1, 2, 3, 4}
    assert set(held_out.unseen.labels) == {5, 6}
    # Of each training class's 8 rows, a fifth (rounded) is held out.
    assert np.bincount(held_out.seen.labels).tolist() == [2] * 5
    assert np.bincount(problem.train.labels).tolist() == [6] * 5
    assert len(held_out.unseen) == 16


def test_validation_redraws_split_the_seen_classes_and_use_no_test_row() -> None:
    dataset = check_dataset(make_dataset())
    first = set(dataset.labels[dataset.val])
    draws = [redraw_validation(dataset, draw) for draw in range(20)]
    assert draws[0] is dataset
    classes = [set(drawn.labels[drawn.val]) for drawn in draws]
    assert all(len(drawn) == len(first) and drawn <= set(dataset.seen_classes) for drawn in classes)
    assert classes[0] == first
    turn = len(dataset.seen_classes) // len(first)
    for start in range(1, len(draws) - turn, turn):
        together = classes[start : start + turn]
        assert len(set.union(*together)) == turn * len(first)
    assert len({tuple(sorted(drawn)) for drawn in classes}) > turn + 1
    for drawn in draws:
        assert sorted([*drawn.train, *drawn.val]) == sorted(dataset.trainval)
        assert not set(drawn.labels[drawn.train]) & set(drawn.labels[drawn.val])
        check_dataset(drawn)
    again = redraw_validation(dataset, 3)
    np.testing.assert_array_equal(again.val, draws[3].val)


def test_only_row_of_a_class_is_kept_for_fitting() -> None:
    spare = rows_of(tiny(), "train", 3)[1:]
    dataset = check_dataset(
        replace(
            tiny(),
            train=np.setdiff1d(tiny().train, spare),
            trainval=np.setdiff1d(tiny().trainval, spare),
        )
    )
    problem, held_out = (
        training_problem(dataset, "validation"),
        open_held_out(dataset, "validation"),
    )
    assert problem.seen_classes.tolist() == [0, 1, 2, 3, 4]
    assert (problem.train.labels == 3).sum() == 1
    assert (held_out.seen.labels == 3).sum() == 0


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    train, val, unseen = draw(st.integers(3, 8)), draw(st.integers(0, 4)), draw(st.integers(1, 4))
    return make_dataset(
        classes=train + val + unseen,
        unseen=unseen,
        val=val,
        per_class=draw(st.integers(3, 15)),
        seed=draw(st.integers(0, 1000)),
    )


@settings(deadline=None, max_examples=60)
@given(datasets())
def test_splits_satisfy_their_invariants(dataset: Dataset) -> None:
    shuffled = {
        name: np.random.default_rng(len(name)).permutation(getattr(dataset, name))
        for name in SPLITS
    }
    out = check_dataset(numbered(replace(dataset, **shuffled)))
    fit, final = training_problem(out, "validation"), training_problem(out, "test")
    validation, test = open_held_out(out, "validation"), open_held_out(out, "test")

    # Every trainval row is fitted on or held out in validation, once; no test row is either.
    parts = [numbers(rows.features) for rows in (fit.train, validation.seen, validation.unseen)]
    assert sorted(np.concatenate(parts)) == sorted(dataset.trainval)
    assert sorted(numbers(final.train.features)) == sorted(dataset.trainval)
    everything = [*parts, *(numbers(rows.features) for rows in (test.seen, test.unseen))]
    assert sorted(np.concatenate(everything)) == list(range(len(dataset.labels)))

    for problem, held_out in ((fit, validation), (final, test)):
        seen, unseen = set(problem.seen_classes), set(problem.unseen_classes)
        assert not seen & unseen
        assert unseen
        assert set(problem.train.labels) == seen
        assert set(held_out.seen.labels) <= seen
        assert set(held_out.unseen.labels) == unseen
        assert (np.diff(problem.seen_classes) > 0).all()
        assert (np.diff(problem.unseen_classes) > 0).all()
        for rows in (problem.train, held_out.seen, held_out.unseen):
            np.testing.assert_array_equal(rows.labels, dataset.labels[numbers(rows.features)])

    for c in fit.seen_classes:
        fitted, held = (int((r.labels == c).sum()) for r in (fit.train, validation.seen))
        assert fitted >= 1
        assert (held >= 1) == (fitted + held >= 2)


# --- classes that are described and have no rows -------------------------------------------------


def with_a_class_without_rows(dataset: Dataset) -> Dataset:
    """With an eleventh class, which has semantics alone."""
    semantics = np.concatenate([dataset.semantics, np.full((1, 5), 7, dtype=np.float32)])
    return replace(dataset, semantics=semantics, class_names=(*dataset.class_names, "okapi"))


def test_class_without_rows_is_unseen() -> None:
    out = check_dataset(with_a_class_without_rows(tiny()))
    assert out.unseen_classes.tolist() == [7, 8, 9, 10]
    assert training_problem(out, "test").unseen_classes.tolist() == [7, 8, 9, 10]
    assert training_problem(out, "validation").unseen_classes.tolist() == [5, 6]
    (note,) = out.notes
    assert note.startswith("1 of 11 classes have no rows (okapi): they are unseen classes")


def test_test_unseen_may_be_empty_with_classes_without_rows() -> None:
    none = np.empty(0, dtype=np.int64)
    bare = with_a_class_without_rows(replace(tiny(), test_unseen=none))
    out = check_dataset(bare)
    assert out.unseen_classes.tolist() == [7, 8, 9, 10]
    assert len(open_held_out(out, "test").unseen) == 0
