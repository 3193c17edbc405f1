"""Array types, and slices of rows of bounded size."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatArray", "IntArray", "row_slices"]

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]


# Code that passes over all features reads this many bytes at a time, so that it never makes a copy
# of all of them.
_SLAB_BYTES = 2**24


def row_slices(
    rows: int, row_bytes: int, multiple: int = 1, *, columns: int = 0
) -> Iterator[slice]:
    """Divide rows into consecutive slices of bounded size; one empty slice if there are no rows.

    Parameters
    ----------
    rows
        Number of rows.
    row_bytes
        Size of one row, in bytes.
    multiple
        Every slice but the last has a multiple of this many rows, unless that is far above the
        bound.
    columns
        Numbers that are computed of each row, such as class scores: those of a slice take at most
        four times the bound, in double precision.
    """
    row_bytes = max(row_bytes, 2 * columns)
    step = max(1, _SLAB_BYTES // max(1, row_bytes))
    if multiple <= 4 * step:
        step = max(multiple, step // multiple * multiple)
    for start in range(0, max(1, rows), step):
        yield slice(start, min(start + step, rows))
