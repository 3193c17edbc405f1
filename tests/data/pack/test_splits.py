"""The splits of a new dataset: class lists against a count by hand, and damaged lists."""

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.data.extract.splits import Shares
from gsmflow.data.pack.classes import PackedClasses
from gsmflow.data.pack.splits import read_splits
from tests.fuzz import examples, mutations, read_or_refused

NAMES = tuple("abcdefgh")
CLASSES = PackedClasses("s", "s, class names", np.eye(8, dtype=np.float32), NAMES)
QUICKLY = examples(100)


def shares(test: float, seed: int = 0) -> Shares:
    return Shares(unseen=0, val=0, test=test, seed=seed)


@QUICKLY
@given(
    lists=st.lists(
        st.sampled_from(["train", "val", "test", "none"]), min_size=8, max_size=8
    ).filter(lambda names: {"train", "test"} <= {*names}),
    sizes=st.lists(st.integers(1, 6), min_size=8, max_size=8),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_class_lists_place_every_row(
    lists: list[str], sizes: list[int], share: float, seed: int, tmp_path: Path
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(8), sizes))
    for kind in ("train", "val", "test"):
        own = [name for name, of in zip(NAMES, lists, strict=True) if of == kind]
        file = tmp_path / f"{kind}classes.txt"
        file.unlink(missing_ok=True)
        if own:
            file.write_text("\n".join(own))
    found = read_splits(tmp_path, labels, CLASSES, shares(share, seed))
    rows = found.complete()
    kinds = np.array(lists)[labels]
    assert ("no list in" in " ".join(found.notes)) == ("none" in lists)
    np.testing.assert_array_equal(rows["test_unseen"], np.flatnonzero(kinds == "test"))
    seen = np.flatnonzero((kinds == "train") | (kinds == "val"))
    np.testing.assert_array_equal(np.union1d(rows["trainval"], rows["test_seen"]), seen)
    for c, size in enumerate(sizes):
        if lists[c] in ("train", "val"):
            held = np.count_nonzero(labels[rows["test_seen"]] == c)
            assert held == min(max(1, round(share * size)), size - 1)
    if "val" in lists:
        assert {lists[c] for c in labels[rows["val"]]} <= {"val"}
        np.testing.assert_array_equal(np.union1d(rows["train"], rows["val"]), rows["trainval"])
    else:
        assert not {"train", "val"} & found.rows.keys()


ROWS = json.dumps({"trainval_loc": [0, 1, 5], "test_unseen": [True, False] * 4, "x": None}).encode()


@QUICKLY
@given(content=mutations(ROWS), names=mutations("a\nb\nhöhle\n".encode()))
def test_damaged_lists_are_read_or_refused(content: bytes, names: bytes, tmp_path: Path) -> None:
    labels = np.arange(8)
    (tmp_path / "rows.json").write_bytes(content)
    read_or_refused(lambda: read_splits(tmp_path / "rows.json", labels, CLASSES, shares(0.2)))
    (tmp_path / "testclasses.txt").write_bytes(b"h")
    (tmp_path / "trainclasses.txt").write_bytes(names)
    read_or_refused(lambda: read_splits(tmp_path, labels, CLASSES, shares(0.2)))
