"""Samples of rows and classes, and places of rows among others, against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.data.splits import (
    MOST_DIAGNOSED,
    places_among,
    rows_by_class,
    sample_classes,
    shuffle_each_class,
)

ROWS = st.lists(st.integers(0, 20), unique=True)


@given(ROWS, ROWS)
def test_rows_keep_their_order_among_those_that_are_kept(rows: list[int], kept: list[int]) -> None:
    kept = sorted(kept)
    expected = [kept.index(row) for row in rows if row in kept]
    found = places_among(np.array(rows, dtype=np.int64), np.array(kept, dtype=np.int64))
    assert found.tolist() == expected


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_rows_by_class_and_their_shuffle_equal_a_loop(labels: list[int]) -> None:
    rows = np.array(labels)
    expected = [np.flatnonzero(rows == c) for c in np.unique(rows)]
    assert [r.tolist() for r in rows_by_class(rows)] == [r.tolist() for r in expected]
    rng, ranks = np.random.default_rng(3), np.empty(len(rows), dtype=int)
    for members in expected:
        ranks[rng.permutation(members)] = np.arange(len(members))
    found = shuffle_each_class(rows, np.random.default_rng(3))
    np.testing.assert_array_equal(found, ranks)


@given(st.integers(0, 1200), st.integers(0, 1200))
def test_sample_of_classes_is_as_large_as_it_may_be(seen: int, unseen: int) -> None:
    both = np.arange(seen), seen + np.arange(unseen)
    found = sample_classes(*both)
    for sample, classes in zip(found, both, strict=True):
        assert np.isin(sample, classes).all()
        assert (np.diff(sample) > 0).all()
        assert len(sample) >= min(len(classes), MOST_DIAGNOSED // 2)
    assert sum(map(len, found)) == min(seen + unseen, MOST_DIAGNOSED)
