import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.data.extract.splits import Shares, choose_classes, split_rows

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=12)
SHARES = st.builds(
    Shares,
    unseen=st.floats(0, 0.95),
    val=st.floats(0.01, 0.95),
    test=st.floats(0.01, 0.95),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=50, deadline=None)
@given(counts=COUNTS, shares=SHARES, data=st.data())
def test_splits_are_partitions_with_the_given_shares(
    counts: list[int], shares: Shares, data: st.DataObject
) -> None:
    rows = np.array(counts)
    classes = st.sets(st.integers(0, len(rows) - 1))
    named = data.draw(st.none() | classes)
    split = choose_classes(rows, named, shares)
    together = np.concatenate([split.train, split.val, split.unseen])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(rows)))
    assert (rows[split.train] > 0).all()
    assert (rows[split.val] > 0).all()
    with_rows = np.flatnonzero(rows)
    if named is not None:
        assert set(split.unseen) == named | set(np.flatnonzero(rows == 0))
    elif len(with_rows):
        drawn = rows[split.unseen].astype(bool).sum()
        assert abs(drawn - shares.unseen * len(with_rows)) <= 1
        assert drawn > 0 or shares.unseen == 0

    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(rows)), rows))
    splits = split_rows(labels, split, shares)
    whole = [splits[name] for name in ("train", "val", "test_seen", "test_unseen")]
    np.testing.assert_array_equal(np.sort(np.concatenate(whole)), np.arange(len(labels)))
    np.testing.assert_array_equal(np.sort(np.concatenate(whole[:2])), splits["trainval"])
    assert set(labels[splits["train"]]) == set(split.train)
    assert set(labels[splits["val"]]) == set(split.val)
    assert set(labels[splits["test_unseen"]]) <= set(split.unseen)
    for c in [*split.train, *split.val]:
        test_rows = (labels[splits["test_seen"]] == c).sum()
        assert 0 < test_rows < rows[c] or (test_rows, rows[c]) == (0, 1)
        assert abs(test_rows - shares.test * rows[c]) <= 1


def test_seed_determines_the_splits() -> None:
    rows, labels = np.full(30, 10), np.repeat(np.arange(30), 10)

    def draw(seed: int) -> list[list[int]]:
        shares = Shares(unseen=0.2, val=0.25, test=0.2, seed=seed)
        classes = choose_classes(rows, None, shares)
        return [split.tolist() for split in split_rows(labels, classes, shares).values()]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_one_share_changes_no_other_draw() -> None:
    rows, labels = np.full(30, 10), np.repeat(np.arange(30), 10)
    first, second = (Shares(unseen=0.2, val=share, test=0.2, seed=0) for share in (0.2, 0.4))
    splits = [choose_classes(rows, None, shares) for shares in (first, second)]
    np.testing.assert_array_equal(splits[0].unseen, splits[1].unseen)
    tests = [split_rows(labels, classes, first)["test_seen"] for classes in splits]
    np.testing.assert_array_equal(*tests)
