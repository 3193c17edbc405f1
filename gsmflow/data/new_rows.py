"""New feature vectors from files of any size, a bounded piece at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, row_slices
from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import (
    ASK_FOR_HEADER,
    Header,
    counts_columns,
    delimiter_of,
    has_header,
)
from gsmflow.data.formats.matlab import MatFile
from gsmflow.data.npy import read_npy
from gsmflow.data.text_rows import parse_batches, split_cells, text_lines

__all__ = ["NewRows", "Piece", "holds_rows", "open_rows", "rows_of_array"]

_FIELD, _CSV = "features", ".csv"


@dataclass(frozen=True, eq=False)
class Piece:
    """Some consecutive rows.

    Attributes
    ----------
    names
        What each row is called in answers: its number, counted from 1, or its file.
    features
        ``(m, d)``, finite.
    left_out
        What gives no row though it stands among them, and why, a line each.
    """

    names: Sequence[int | str]
    features: FloatArray
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class NewRows:
    """Rows to be classified.

    Attributes
    ----------
    total
        How many there are, None where that shows at the end alone.
    pieces
        Reads them from the first to the last.
    notes
        What the user should know of how they are read, one sentence each.
    named_by
        What their names are.
    """

    total: int | None
    pieces: Callable[[], Iterator[Piece]]
    notes: tuple[str, ...] = ()
    named_by: Literal["row", "file"] = "row"


def holds_rows(path: Path) -> bool:
    """Whether a file's ending says that it holds rows of features."""
    return path.suffix.lower() in (*_OPENERS, _CSV) and not path.is_dir()


def open_rows(path: Path, feature_dim: int, header: Header = "auto") -> NewRows:
    """Rows of features from a file.

    Parameters
    ----------
    path
        ``.npy``: an array ``(n, d)``. ``.mat``: a field ``features`` ``(d, n)``, as datasets have
        it. ``.csv``: a row a line, its cells parted by commas, semicolons or tabs, below a header
        or not.
    feature_dim
        ``d``, which they must have.
    header
        Whether the first line of a ``.csv`` is a header; ``"auto"`` as of `has_header`.

    Raises
    ------
    InputError
        If the file is missing, of another kind or unreadable, or its rows do not have ``d`` finite
        numbers; a fault behind the first rows shows while they are read.
    """
    if not holds_rows(path):
        what = "a folder" if path.is_dir() else f"a file that ends in {path.suffix or 'nothing'}"
        raise InputError(f"{path}: found {what}, expected one of {', '.join([*_OPENERS, _CSV])}")
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected one with rows of features")
    if path.suffix.lower() == _CSV:
        return _open_csv(path, feature_dim, header)
    return _OPENERS[path.suffix.lower()](path, feature_dim)


def rows_of_array(where: str, array: NDArray[Any], feature_dim: int) -> FloatArray:
    """Rows of features from an array in memory.

    Parameters
    ----------
    where
        What the array was given as, for the errors.
    array
        ``(n, d)``.
    feature_dim
        ``d``, which it must have.

    Raises
    ------
    InputError
        If the array has no rows, another width, or values that are not finite numbers.
    """
    _check_array(where, array, feature_dim)
    return _checked(where, _in_float32(array), 0).features


_Opener: TypeAlias = Callable[[Path, int], NewRows]


def _checked(where: str, features: FloatArray, done: int) -> Piece:
    """A piece after ``done`` rows, or an `InputError` at its first number that is not finite."""
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"{where}: found {features[row, column]} in row {done + row + 1}, dimension "
            f"{column + 1}, expected finite numbers"
        )
    return Piece(range(done + 1, done + len(features) + 1), features)


def _check_shape(where: str, shape: tuple[int, ...], expected: tuple[str, str], d: int) -> int:
    """The number of rows of an array whose shape has ``d`` where ``expected`` has it."""
    axis = expected.index("rows")
    right = f"({', '.join(str(d) if side == 'd' else side for side in expected)})"
    if len(shape) != 2 or shape[1 - axis] != d:
        raise InputError(
            f"{where}: found shape {shape}, expected {right}, as the run was trained on {d} "
            "features"
        )
    if not shape[axis]:
        raise InputError(f"{where}: found no rows, expected at least one")
    return shape[axis]


def _check_array(where: str, array: NDArray[Any], feature_dim: int) -> int:
    """The number of rows of an array of numbers ``(n, d)``."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where}: found {array.dtype}, expected numbers")
    return _check_shape(where, array.shape, ("rows", "d"), feature_dim)


def _in_float32(array: NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
        return np.ascontiguousarray(array, dtype=np.float32)


def _open_npy(path: Path, feature_dim: int) -> NewRows:
    array = read_npy(path, mapped=True)
    total = _check_array(str(path), array, feature_dim)

    def pieces() -> Iterator[Piece]:
        for rows in row_slices(total, feature_dim * max(4, array.itemsize)):
            yield _checked(str(path), _in_float32(array[rows]), rows.start)

    return NewRows(total, pieces)


def _open_mat(path: Path, feature_dim: int) -> NewRows:
    mat = MatFile(path, (_FIELD,), large=(_FIELD,))
    where = mat.where(_FIELD)
    total = _check_shape(where, mat.shape(_FIELD), ("d", "rows"), feature_dim)

    def pieces() -> Iterator[Piece]:
        done = 0
        for features in mat.pieces(_FIELD, columns=True):
            yield _checked(where, features, done)
            done += len(features)

    return NewRows(total, pieces)


def _open_csv(path: Path, feature_dim: int, header: Header) -> NewRows:
    first = next(text_lines(path), None)
    if first is None:
        raise InputError(f"{path}: found no line, expected rows of {feature_dim} numbers")
    delimiter = delimiter_of(first.text) or ","
    cells = split_cells(first.text, delimiter)
    below_header = has_header(str(path), cells, ASK_FOR_HEADER, header)
    counted = header == "auto" and below_header and counts_columns(cells)
    notes = (
        (
            f"{path}: the first line, {cells[0]} to {cells[-1]} in steps of one, is taken for a "
            "header that numbers the columns",
        )
        if counted
        else ()
    )

    def pieces() -> Iterator[Piece]:
        lines = text_lines(path)
        if below_header:
            next(lines)
        done = 0
        as_in = "the number of features that the run was trained on"
        for features in parse_batches(path, lines, delimiter, feature_dim, as_in):
            yield _checked(str(path), features, done)
            done += len(features)
        if not done:
            raise InputError(f"{path}: found no line below the header, expected rows of numbers")

    return NewRows(None, pieces, notes)


_OPENERS: Mapping[str, _Opener] = {".npy": _open_npy, ".mat": _open_mat}
