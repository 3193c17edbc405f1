"""Array types, and slabs of rows of bounded size."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatArray", "IntArray", "row_slices"]


FloatArray: TypeAlias = NDArray[np.float32]


IntArray: TypeAlias = NDArray[np.int64]


# Whatever reads all features reads so much of them at a time, so that no copy of their full size
# is made on the way.
_SLAB_BYTES = 2**24


def row_slices(rows: int, row_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """Part rows into consecutive slabs of bounded size; a slab of no rows where there are none.

    Parameters
    ----------
    rows
        How many rows there are.
    row_bytes
        Size of one row.
    multiple
        Slabs but the last have a multiple of so many rows, unless that is far above the bound.
    """
    step = max(1, _SLAB_BYTES // max(1, row_bytes))
    if multiple <= 4 * step:
        step = max(multiple, step // multiple * multiple)
    for start in range(0, max(1, rows), step):
        yield slice(start, min(start + step, rows))
