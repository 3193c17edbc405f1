"""Feature vectors from files of any size, a bounded piece at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.text_cells import Header
from gsmflow.data.array_files import ENDINGS, open_array_file, read_texts
from gsmflow.data.csv_rows import csv_layout, csv_pieces
from gsmflow.data.formats.matlab import MatFile

__all__ = ["NewRows", "Piece", "holds_rows", "open_rows", "rows_of_array"]

_FIELD, _NAMES_FIELD, _CSV = "features", "names", ".csv"


@dataclass(frozen=True, eq=False)
class Piece:
    """Some consecutive rows.

    Attributes
    ----------
    names
        What each row is called in answers: its number, counted from 1, its name in the file, or
        its picture's file.
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


def open_rows(
    path: Path, feature_dim: int | None, field: str | None = None, header: Header = "auto"
) -> NewRows:
    """Rows of features from a file.

    Parameters
    ----------
    path
        ``.npy``: an array ``(n, d)``. ``.npz``, ``.pt``, ``.h5``: a field ``features`` ``(n, d)``,
        and optionally ``names`` ``(n,)``, texts. ``.mat``: a field ``features`` ``(d, n)``, as
        datasets have it. ``.csv``: as of `csv_layout`.
    feature_dim
        ``d``, which they must have; None for any.
    field
        Another name of the field ``features``; None for the usual one, or the only one.
    header
        Whether the first line of a ``.csv`` is a header; ``"auto"`` as of `csv_layout`.

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
        return _open_csv(path, feature_dim, field, header)
    return _OPENERS[path.suffix.lower()](path, feature_dim, field)


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
    _check_array(where, array.dtype, array.shape, feature_dim)
    return _checked(where, _in_float32(array), 0).features


_Opener: TypeAlias = Callable[[Path, int | None, str | None], NewRows]


def _checked(
    where: str, features: FloatArray, done: int, names: Sequence[str] | None = None
) -> Piece:
    """A piece after ``done`` rows, or an `InputError` at its first number that is not finite."""
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"{where}: found {features[row, column]} in row {done + row + 1}, dimension "
            f"{column + 1}, expected finite numbers"
        )
    return Piece(names or range(done + 1, done + len(features) + 1), features)


def _check_shape(
    where: str, shape: tuple[int, ...], expected: tuple[str, str], d: int | None
) -> int:
    """The number of rows of an array whose shape has ``d`` where ``expected`` has it."""
    axis = expected.index("rows")
    if len(shape) != 2 or d not in (None, shape[1 - axis]):
        right = f"({', '.join(str(d or 'd') if side == 'd' else side for side in expected)})"
        reason = "" if d is None else f", as the run was trained on {d} features"
        raise InputError(f"{where}: found shape {shape}, expected {right}{reason}")
    if not shape[axis]:
        raise InputError(f"{where}: found no rows, expected at least one")
    return shape[axis]


def _check_array(
    where: str, dtype: np.dtype[Any], shape: tuple[int, ...], feature_dim: int | None
) -> int:
    """The number of rows of an array of numbers ``(n, d)``."""
    if dtype.kind not in "fiub":
        raise InputError(f"{where}: found {dtype}, expected numbers")
    return _check_shape(where, shape, ("rows", "d"), feature_dim)


def _in_float32(array: NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused
        return np.ascontiguousarray(array, dtype=np.float32)


def _open_arrays(path: Path, feature_dim: int | None, field: str | None) -> NewRows:
    file = open_array_file(path)
    stored = file.array(field, _FIELD)
    total = _check_array(stored.where, stored.dtype, stored.shape, feature_dim)
    names: list[str] | None = None
    if _NAMES_FIELD in file:
        names = read_texts(file.find(_NAMES_FIELD), total).tolist()

    def pieces() -> Iterator[Piece]:
        done = 0
        for array in stored.pieces():
            end = done + len(array)
            named = None if names is None else names[done:end]
            yield _checked(stored.where, _in_float32(array), done, named)
            done = end

    return NewRows(total, pieces)


def _open_mat(path: Path, feature_dim: int | None, field: str | None) -> NewRows:
    name = field or _FIELD
    mat = MatFile(path, (name,), large=(name,))
    where = mat.where(name)
    total = _check_shape(where, mat.shape(name), ("d", "rows"), feature_dim)

    def pieces() -> Iterator[Piece]:
        done = 0
        for features in mat.pieces(name, columns=True):
            yield _checked(where, features, done)
            done += len(features)

    return NewRows(total, pieces)


def _open_csv(path: Path, feature_dim: int | None, field: str | None, header: Header) -> NewRows:
    if field is not None:
        raise InputError(
            f"{path}: found the field '{field}' asked for, expected none of a CSV file"
        )
    layout = csv_layout(path, feature_dim, header)
    as_in = "as in the first line"
    if feature_dim is not None:
        as_in = "the number of features that the run was trained on"

    def pieces() -> Iterator[Piece]:
        done = 0
        for features, names in csv_pieces(layout, feature_dim or layout.dimension, as_in):
            yield _checked(str(path), features, done, names)
            done += len(features)

    return NewRows(None, pieces, layout.notes)


_OPENERS: Mapping[str, _Opener] = {**dict.fromkeys(ENDINGS, _open_arrays), ".mat": _open_mat}
