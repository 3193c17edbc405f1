"""Random class splits: what each holds, counted by hand, and what it depends on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.class_splits import draw_class_split
from gsmflow.data.dataset import Dataset
from tests.builders import make_dataset

# 7 seen classes of 8 trainval and 4 test rows each, 2 of them for validation; 3 unseen classes.
DATASET = check_dataset(make_dataset())


def pooled(dataset: Dataset) -> list[int]:
    splits = (dataset.trainval, dataset.test_seen, dataset.test_unseen)
    return sorted(row for split in splits for row in split)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), unseen=st.integers(0, 8))
def test_split_has_the_shares_of_the_datasets_own(seed: int, unseen: int) -> None:
    split = draw_class_split(DATASET, seed, unseen)
    count = unseen or 3
    assert pooled(split) == pooled(DATASET)
    assert len(split.unseen_classes) == count
    assert len(split.seen_classes) == 10 - count
    labels = split.labels
    assert set(labels[split.test_unseen]) == set(split.unseen_classes)
    for c in split.unseen_classes:
        assert (labels[split.test_unseen] == c).sum() == (labels == c).sum()
    for c in split.seen_classes:
        assert (labels[split.test_seen] == c).sum() == 4  # of 12 rows, as in the dataset
        assert (labels[split.trainval] == c).sum() == 8
    val = set(labels[split.val])
    assert len(val) == min(max(1, round(2 / 7 * (10 - count))), 9 - count)
    assert val | set(labels[split.train]) == set(split.seen_classes)
    assert not val & set(labels[split.train])
    assert sorted([*split.train, *split.val]) == sorted(split.trainval)
    for rows in (split.trainval, split.test_seen, split.test_unseen):
        assert (np.diff(rows) > 0).all()


def test_split_depends_on_its_seed_and_the_dataset_only() -> None:
    first, again = draw_class_split(DATASET, 5), draw_class_split(DATASET, 5)
    # A split of a split is one of the same rows.
    nested = draw_class_split(draw_class_split(DATASET, 17), 5)
    np.random.default_rng().random()
    for name in ("trainval", "val", "test_seen", "test_unseen"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert np.array_equal(first.test_unseen, nested.test_unseen)
    drawn = {tuple(draw_class_split(DATASET, seed).unseen_classes) for seed in range(30)}
    assert len(drawn) > 20


def test_every_class_is_unseen_about_equally_often() -> None:
    counts = np.zeros(10)
    for seed in range(300):
        counts[draw_class_split(DATASET, seed).unseen_classes] += 1
    # Binomial, 300 draws at 0.3: five standard deviations are 40.
    assert (np.abs(counts - 90) < 40).all()


def test_larger_split_includes_the_unseen_classes_of_a_smaller_one() -> None:
    small, large = (set(draw_class_split(DATASET, 3, n).unseen_classes) for n in (2, 6))
    assert small < large


def test_classes_without_rows_stay_unseen() -> None:
    semantics = np.concatenate([DATASET.semantics, DATASET.semantics[:1] + 1])
    names = (*DATASET.class_names, "described alone")
    split = draw_class_split(replace(DATASET, semantics=semantics, class_names=names), 0)
    assert 10 in split.unseen_classes
    assert len(split.unseen_classes) == 4
    assert 10 not in split.labels[split.test_unseen]


def test_dataset_without_test_seen_rows_holds_none_out() -> None:
    split = draw_class_split(replace(DATASET, test_seen=np.array([], dtype=np.int64)), 1)
    assert not len(split.test_seen)
    assert set(split.labels[split.trainval]) == set(split.seen_classes)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="found 9 of 10 classes with rows in TINY, expected at"):
        draw_class_split(DATASET, 0, 9)
    without = replace(DATASET, test_unseen=np.array([], dtype=np.int64))
    with pytest.raises(InputError, match="expected --split-unseen with the number"):
        draw_class_split(without, 0)
    assert len(np.unique(draw_class_split(without, 0, 2).labels[without.trainval])) == 7
