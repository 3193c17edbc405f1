"""The places of rows among those that are kept, against a plain search."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.data.splits import places_among

ROWS = st.lists(st.integers(0, 20), unique=True)


@given(ROWS, ROWS)
def test_rows_keep_their_order_among_those_that_are_kept(rows: list[int], kept: list[int]) -> None:
    kept = sorted(kept)
    expected = [kept.index(row) for row in rows if row in kept]
    found = places_among(np.array(rows, dtype=np.int64), np.array(kept, dtype=np.int64))
    assert found.tolist() == expected
