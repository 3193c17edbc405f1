"""MATLAB files of v5 to v7.3, read field by field with errors that name the field.

Files of MATLAB v5 to v7 (scipy) and of v7.3 (HDF5, h5py) are both read. The features of a v7.3
file never lie in memory whole unless the caller keeps them there; scipy reads a field of a v5
file whole, and the format ends at 4 GB a field.
"""

import codecs
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.sparse
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.errors import InputError
from gsmflow.data.formats.base import (
    array_pieces,
    as_float32,
    check_matrix,
    listed_fields,
    whole_numbers,
)
from gsmflow.data.npy import MOST_DEFLATED

__all__ = ["MatFile", "field_names", "open_mat", "texts_at"]

# scipy wants a codec with a character for each 16-bit unit; `_joined` makes characters of them.
_UNITS = "gsmflow_utf_16_units_"

# Names of what is no array of numbers, by the kind of its dtype, for messages.
_KINDS = {"U": "text", "O": "a cell array", "V": "a struct"}


@dataclass(frozen=True)
class _Stored:
    """Numbers that stay in their v7.3 file until their pieces are asked for.

    ``shape`` is in MATLAB's orientation; HDF5 stores the dimensions reversed.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class MatFile:
    """A MATLAB file of either kind, read field by field with errors that name the field.

    Parameters
    ----------
    path
        The file.
    fields
        The fields that will be asked for; others are left unread.
    large
        Those among them that are asked for by `pieces`.

    Raises
    ------
    InputError
        If the file is truncated or is no MATLAB file.
    """

    def __init__(self, path: Path, fields: tuple[str, ...], large: tuple[str, ...] = ()) -> None:
        self.path = path
        with _reading(path):
            if h5py.is_hdf5(path):
                with h5py.File(path) as file:
                    self._values = {f: _read_hdf5(file, f, f in large) for f in fields if f in file}
            else:
                self._values = _read_v5(path, fields)

    def where(self, name: str) -> str:
        """The file and the field, for messages."""
        return f"{self.path}, field '{name}'"

    def __contains__(self, name: str) -> bool:
        """Whether the file has this field."""
        return name in self._values

    def raw(self, name: str) -> Any:
        """A field as read, in MATLAB's orientation."""
        self.require(name)
        return self._values[name]

    def require(self, *names: str) -> None:
        """Refuse a file without these fields; the sentence says what it has instead."""
        missing = [name for name in names if name not in self._values]
        if not missing:
            return
        with _reading(self.path):
            contents = _contents(self.path)
        around = [name for name, inner in contents.items() if set(missing) & set(inner)]
        if around:
            remedy = f"save(file, '-struct', '{around[0]}')"
            hint = f"whose struct '{around[0]}' has such: {remedy} makes fields of them"
        else:
            hint = f"whose fields are {listed_fields([*contents])}"
        fields = f"field{'s' if len(missing) > 1 else ''} {' and '.join(map(repr, missing))}"
        raise InputError(f"{self.path}, {fields}: not found, expected in this file, {hint}")

    def numbers(self, name: str, meaning: str = "") -> NDArray[Any]:
        """A numeric field, in MATLAB's orientation; none of the large ones.

        Messages say what the numbers are: their ``meaning``.
        """
        values = self._numeric(name, meaning)
        assert isinstance(values, np.ndarray)
        return values

    def _numeric(self, name: str, meaning: str = "") -> NDArray[Any] | _Stored:
        values = self.raw(name)
        if not isinstance(values, (np.ndarray, _Stored)) or values.dtype.kind not in "fiub":
            if scipy.sparse.issparse(values):
                raise InputError(
                    f"{self.where(name)}: found a sparse matrix, expected numbers{meaning}; "
                    f"{name} = full({name}) in MATLAB makes them of it"
                )
            kind = getattr(values, "dtype", type(values).__name__)
            if isinstance(values, np.ndarray):
                kind = _KINDS.get(values.dtype.kind, values.dtype)
            raise InputError(f"{self.where(name)}: found {kind}, expected numbers{meaning}")
        return values

    def shape(self, name: str) -> tuple[int, int]:
        """The shape of a numeric matrix, in MATLAB's orientation."""
        return check_matrix(self.where(name), self._numeric(name).shape)

    def matrix(self, name: str) -> FloatArray:
        """A numeric matrix as float32, in MATLAB's orientation."""
        self.shape(name)
        return as_float32(self.numbers(name))

    def pieces(self, name: str, *, columns: bool = False) -> Iterator[FloatArray]:
        """A numeric matrix as float32, a C-ordered piece of its rows (or columns) at a time.

        The field is handed over: it cannot be asked for again, and takes no memory after its last
        piece.
        """
        self.shape(name)
        values = self._values.pop(name)
        if isinstance(values, _Stored):
            return _hdf5_pieces(self.path, name, 0 if columns else 1)
        return array_pieces(values.T if columns else values)

    def indices(self, name: str, meaning: str = "") -> IntArray:
        """A vector of one-based whole numbers, as zero-based int64; ``meaning`` as of `numbers`."""
        return whole_numbers(self.where(name), self.numbers(name, meaning)) - 1

    def strings(self, name: str) -> tuple[str, ...]:
        """A cell array of strings, each of which may be in further cells, or a char matrix."""
        values = self.raw(name)
        if isinstance(values, np.ndarray) and values.dtype.kind == "U":  # a char matrix
            return tuple(_joined(str(v), self.where(name)).strip() for v in values.ravel())
        cells = np.atleast_1d(values).ravel()
        names = [_text_in(cell, self.where(name)) for cell in cells]
        if cells.dtype != object or None in names:
            raise InputError(f"{self.where(name)}: found no text, expected a cell array of names")
        return tuple(filter(None, names))


def open_mat(
    path: Path,
    needed: tuple[str, ...],
    further: tuple[str, ...] = (),
    large: tuple[str, ...] = (),
) -> MatFile:
    """A MATLAB file that has at least one of the fields that it needs.

    Parameters
    ----------
    path, large
        As of `MatFile`.
    needed
        Its fields that must be there.
    further
        Its fields that may be there.

    Raises
    ------
    InputError
        As of `MatFile`, or if all of the needed fields are missing: one sentence for all of them.
    """
    mat = MatFile(path, (*needed, *further), large)
    if not any(field in mat for field in needed):
        mat.require(*needed)
    return mat


def texts_at(path: Path, name: str, rows: IntArray, count: int) -> list[str | None]:
    """Some cells of a cell array, None for those that are no text.

    Parameters
    ----------
    path, name
        The file and the field.
    rows
        Which cells, ``(m,)``.
    count
        How many there must be in all.

    Returns
    -------
    list
        Empty if there is no such cell array.

    Raises
    ------
    InputError
        If the file is not readable.
    """
    where = f"{path}, field '{name}'"
    with _reading(path):
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                cells = file.get(name)
                if not _has_cells(cells) or cells.size != count:
                    return []
                refs = np.asarray(cells).ravel()
                return [_text_in(_read_cell(file, refs[row]), where) for row in rows]
        cells = _read_v5(path, (name,)).get(name)
    if not isinstance(cells, np.ndarray) or cells.size != count:
        return []
    return [_text_in(cells.ravel()[row], where) for row in rows]


def field_names(path: Path) -> frozenset[str]:
    """The fields of a MATLAB file; none if it is not readable."""
    try:
        with _reading(path):
            if h5py.is_hdf5(path):
                with h5py.File(path) as file:
                    return frozenset(name for name in file if isinstance(name, str))
            return frozenset(name for name, _, _ in scipy.io.whosmat(path))
    except InputError:
        return frozenset()


def _contents(path: Path) -> dict[str, tuple[str, ...]]:
    """The fields of a file, and of those that are structs the names in them."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return {
                name: tuple(field) if isinstance(field, h5py.Group) else ()
                for name, field in file.items()
                if not name.startswith("#")  # MATLAB's own
            }
    kinds = {name: kind for name, _, kind in scipy.io.whosmat(path)}
    structs = [name for name, kind in kinds.items() if kind == "struct"]
    values = _read_v5(path, tuple(structs)) if structs else {}
    return {name: values[name].dtype.names or () if name in values else () for name in kinds}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make an `InputError` of whatever a reader raises."""
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read this file") from error
    except Exception as error:
        # Both readers raise a dozen unrelated types on damaged input, depending on which byte is
        # wrong; none of them says more to the user than this sentence.
        raise InputError(
            f"{path}: not readable as a MATLAB file ({type(error).__name__}), expected a "
            "complete file of MATLAB v5 to v7.3; fetch it again"
        ) from error


def _read_v5(path: Path, fields: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a file before v7.3, whose characters are 16-bit units, as `_joined` takes them."""
    most = MOST_DEFLATED * path.stat().st_size
    options: dict[str, Any] = {}
    for name, shape, kind in scipy.io.whosmat(path):
        # A number takes a byte or more, a cell or a struct eight.
        least = math.prod(map(int, shape)) * (8 if kind in ("cell", "struct") else 1)
        if name in fields and kind != "sparse" and least > most:
            raise _too_short(path, name, shape)
    if scipy.io.matlab.matfile_version(path)[0] == 1:  # v4 has no such characters
        with path.open("rb") as file:
            order = "le" if file.read(128)[126:] == b"IM" else "be"
        options["uint16_codec"] = _UNITS + order
    values: dict[str, Any] = scipy.io.loadmat(path, variable_names=fields, **options)
    return values


def _too_short(path: Path, name: str, shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"{path}, field '{name}': found a matrix of shape {tuple(map(int, shape))} in a file of "
        f"{path.stat().st_size:,} bytes, which cannot hold it, expected a complete file; fetch it "
        "again"
    )


def _check_stored(data: h5py.Dataset) -> None:
    """Refuse a field of a v7.3 file that claims more values than the file can hold."""
    path = Path(data.file.filename)
    stored = min(data.id.get_storage_size(), path.stat().st_size)
    most = stored if data.chunks is None else MOST_DEFLATED * stored
    if math.prod(data.shape) * data.dtype.itemsize > most:
        raise _too_short(path, data.name.removeprefix("/"), data.shape[::-1])


def _units_codec(name: str) -> codecs.CodecInfo | None:
    if not name.startswith(_UNITS):
        return None
    order = name.removeprefix(_UNITS)

    def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
        return text.encode(f"utf-16-{order}", "surrogatepass"), len(text)

    def decode(data: Any, errors: str = "strict") -> tuple[str, int]:
        units = np.frombuffer(data, dtype="<u2" if order == "le" else ">u2")
        return _text(units), len(data)

    return codecs.CodecInfo(encode, decode, name=name)


codecs.register(_units_codec)


def _hdf5_pieces(path: Path, name: str, axis: int) -> Iterator[FloatArray]:
    """Pieces ``(m, d)`` of a matrix in HDF5 whose ``axis`` runs over the rows that are wanted."""
    with _reading(path), h5py.File(path) as file:
        data = file[name]
        row_bytes = data.shape[1 - axis] * data.dtype.itemsize
        # A chunk is unpacked whole, whatever is wanted of it.
        chunk = data.chunks[axis] if data.chunks else 1
        for rows in row_slices(data.shape[axis], row_bytes, multiple=chunk):
            piece = data[rows] if axis == 0 else data[:, rows].T
            yield np.ascontiguousarray(as_float32(piece))


def _read_hdf5(file: h5py.File, name: str, large: bool) -> Any:
    """One field of a v7.3 file in MATLAB's orientation (HDF5 stores the dimensions reversed)."""
    data = file[name]
    if isinstance(data, h5py.Group) and "MATLAB_sparse" in data.attrs:
        return scipy.sparse.csc_array((1, 1))  # as scipy reads one; its values are not asked for
    if isinstance(data, h5py.Group):
        return _as_struct(data)
    _check_stored(data)
    if _has_cells(data):
        return _read_cells(file, data)
    if h5py.check_string_dtype(data.dtype):  # which MATLAB does not write, but h5py
        return np.atleast_1d(data.asstr("utf-8")[()]).astype(object)
    kind = data.attrs.get("MATLAB_class")
    if data.attrs.get("MATLAB_empty"):  # MATLAB stores the shape in place of the values
        return np.empty(np.asarray(data), dtype=np.str_ if kind == b"char" else np.float32)
    if kind == b"char":
        rows = np.atleast_2d(np.asarray(data).T)
        return np.array([_text(row) for row in rows])
    if large:
        return _Stored(data.shape[::-1], data.dtype)
    return np.asarray(data).T


def _has_cells(data: object) -> bool:
    """Whether a field of a v7.3 file is a cell array; texts have the same type but for a note."""
    kind = h5py.check_ref_dtype(data.dtype) if isinstance(data, h5py.Dataset) else None
    return kind is h5py.Reference


def _as_struct(group: h5py.Group) -> NDArray[Any]:
    """A struct without its values, in the form in which scipy reads one."""
    return np.empty((1, 1), dtype=[(inner, object) for inner in group])


def _read_cells(file: h5py.File, cells: h5py.Dataset) -> NDArray[Any]:
    """The texts of a cell array, ``(n,)``; what is no text is a cell array or numbers."""
    found = np.empty(cells.size, dtype=object)
    for i, ref in enumerate(np.asarray(cells).ravel()):
        found[i] = _read_cell(file, ref)
    return found


def _read_cell(file: h5py.File, ref: h5py.Reference) -> Any:
    cell = file[ref]
    if isinstance(cell, h5py.Group):
        return _as_struct(cell)
    _check_stored(cell)
    if _has_cells(cell):
        return _read_cells(file, cell)
    if cell.attrs.get("MATLAB_empty"):
        return ""
    if h5py.check_string_dtype(cell.dtype):
        return cell.asstr("utf-8")[()]
    is_text = cell.dtype.kind in "iu" and cell.attrs.get("MATLAB_class", b"char") == b"char"
    return _text(np.asarray(cell).T) if is_text else np.asarray(cell)


def _text_in(cell: Any, where: str) -> str | None:
    """The text of a cell, however deep; None if there is none, or something else."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.ravel()[0]
    return _joined(cell, where) or None if isinstance(cell, str) else None


def _joined(units: str, where: str) -> str:
    """A text whose characters are 16-bit units of UTF-16, as MATLAB has them, some of them pairs.

    Raises
    ------
    InputError
        If there is half a pair.
    """
    try:
        return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: found half of a UTF-16 character in {units!a}, expected whole ones"
        ) from error


def _text(codes: NDArray[Any]) -> str:
    return "".join(map(chr, codes.ravel()))
