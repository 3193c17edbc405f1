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
def test_classes_and_rows_are_parted(
    counts: list[int], shares: Shares, data: st.DataObject
) -> None:
    rows = np.array(counts)
    classes = st.sets(st.integers(0, len(rows) - 1))
    named = data.draw(st.none() | classes)
    parts = choose_classes(rows, named, shares)
    together = np.concatenate([parts.train, parts.val, parts.unseen])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(rows)))
    assert (rows[parts.train] > 0).all()
    assert (rows[parts.val] > 0).all()
    with_rows = np.flatnonzero(rows)
    if named is not None:
        assert set(parts.unseen) == named | set(np.flatnonzero(rows == 0))
    elif len(with_rows):
        drawn = rows[parts.unseen].astype(bool).sum()
        assert abs(drawn - shares.unseen * len(with_rows)) <= 1
        assert drawn > 0 or shares.unseen == 0

    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(rows)), rows))
    splits = split_rows(labels, parts, shares)
    whole = [splits[name] for name in ("train", "val", "test_seen", "test_unseen")]
    np.testing.assert_array_equal(np.sort(np.concatenate(whole)), np.arange(len(labels)))
    np.testing.assert_array_equal(np.sort(np.concatenate(whole[:2])), splits["trainval"])
    assert set(labels[splits["train"]]) == set(parts.train)
    assert set(labels[splits["val"]]) == set(parts.val)
    assert set(labels[splits["test_unseen"]]) <= set(parts.unseen)
    for c in [*parts.train, *parts.val]:
        kept = (labels[splits["test_seen"]] == c).sum()
        assert 0 < kept < rows[c] or (kept, rows[c]) == (0, 1)
        assert abs(kept - shares.test * rows[c]) <= 1


def test_the_seed_alone_decides() -> None:
    rows, labels = np.full(30, 10), np.repeat(np.arange(30), 10)

    def draw(seed: int) -> list[list[int]]:
        shares = Shares(unseen=0.2, val=0.25, test=0.2, seed=seed)
        parts = choose_classes(rows, None, shares)
        return [own.tolist() for own in split_rows(labels, parts, shares).values()]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_one_share_shifts_no_other_draw() -> None:
    rows, labels = np.full(30, 10), np.repeat(np.arange(30), 10)
    first, second = (Shares(unseen=0.2, val=share, test=0.2, seed=0) for share in (0.2, 0.4))
    parts = [choose_classes(rows, None, shares) for shares in (first, second)]
    np.testing.assert_array_equal(parts[0].unseen, parts[1].unseen)
    tests = [split_rows(labels, own, first)["test_seen"] for own in parts]
    np.testing.assert_array_equal(*tests)
