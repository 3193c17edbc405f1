"""Reading benchmark datasets from MATLAB files, in the two layouts that the field uses.

GBU (also called xlsa17; Xian et al., TPAMI 2018)
    ``<root>/<NAME>/<features>.mat`` with ``features (d, n)`` and one-based ``labels (n, 1)``, and
    ``<root>/<NAME>/<semantics>_splits.mat`` with ``att (a, classes)``, ``allclasses_names`` and
    one-based row lists ``trainval_loc, train_loc, val_loc, test_seen_loc, test_unseen_loc``.
    Where the names are missing or merely count the classes, ``<root>/<NAME>/class_names.txt``
    gives them, if it is there: UTF-8, a name a line, in the order of ``att``.
E-PGN (Yu et al., CVPR 2020; CUB and FLO only)
    ``<root>/<NAME>/data.mat`` with ``train_fea, test_seen_fea, test_unseen_fea (n, d)``,
    ``seen_pro (seen, a)``, ``unseen_pro (unseen, a)``, ``att_train (n, a)``, and
    ``<root>/<NAME>/label.mat`` with ``train_idx, test_seen_idex, test_unseen_idex``. Despite
    their names these are one-based class labels, one per row; seen and unseen classes are
    numbered separately, in the row order of ``seen_pro`` and ``unseen_pro``.

Files of MATLAB v5 to v7 (scipy) and of v7.3 (HDF5, h5py) are both read. The features of a v7.3
file never lie in memory whole unless the caller keeps them there; scipy reads a field of a v5
file whole, and the format ends at 4 GB a field.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from gsmflow.dataset import Dataset, FloatArray, IntArray, check_dataset, row_slices
from gsmflow.errors import InputError, one_line

__all__ = [
    "Keep",
    "MatFile",
    "dataset_files",
    "keep_in_memory",
    "load_dataset",
    "read_epgn",
    "read_gbu",
]

# What is done with features as they are read: given their shape ``(n, d)`` and their rows in
# order, a piece ``(m, d)`` at a time, gives back all of them as one array.
Keep: TypeAlias = Callable[[tuple[int, int], Iterator[FloatArray]], FloatArray]

_SPLIT_FIELDS = {
    "trainval": "trainval_loc",
    "train": "train_loc",
    "val": "val_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}
_EPGN_LABELS = "label.mat"
_NAMES_FILE = "class_names.txt"


def keep_in_memory(shape: tuple[int, int], pieces: Iterator[FloatArray]) -> FloatArray:
    """Gather the pieces of features in one array ``(n, d)``; a single piece is that array."""
    first = next(pieces)
    if first.shape == shape:
        return first
    features = np.empty(shape, dtype=np.float32)
    start = 0
    for piece in chain([first], pieces):
        features[start : start + len(piece)] = piece
        start += len(piece)
    return features


def dataset_files(root: Path, name: str, *, features: str, semantics: str) -> tuple[Path, ...]:
    """The files of ``<root>/<name>``, in whichever layout is there.

    Two MATLAB files, and in the GBU layout the file of names, if it is there.

    Parameters
    ----------
    root
        Folder of datasets.
    name
        The dataset's folder below ``root``.
    features
        Stem of the GBU feature file (``"res101"`` for ``res101.mat``).
    semantics
        Stem of the GBU split file without ``_splits`` (``"att"`` for ``att_splits.mat``).

    Raises
    ------
    InputError
        If a file is missing.
    """
    folder = root / name
    feature_file = folder / f"{features}.mat"
    split_file = folder / f"{semantics}_splits.mat"
    epgn_files = (folder / "data.mat", folder / _EPGN_LABELS)
    if feature_file.is_file() and split_file.is_file():
        names_file = folder / _NAMES_FILE
        return feature_file, split_file, *([names_file] if names_file.is_file() else [])
    if not feature_file.is_file() and all(file.is_file() for file in epgn_files):
        return epgn_files
    missing = split_file if feature_file.is_file() else feature_file
    raise InputError(
        f"{missing}: no such file, expected the GBU layout ({feature_file.name} with the image "
        f"features and {split_file.name} with semantics and splits) or the E-PGN layout "
        f"(data.mat and label.mat) in {folder}; data/README.md says where to get them"
    )


def load_dataset(
    root: Path, name: str, *, features: str, semantics: str, keep: Keep = keep_in_memory
) -> Dataset:
    """Read and check ``<root>/<name>`` in whichever layout is there.

    Parameters
    ----------
    root, name, features, semantics
        As of `dataset_files`.
    keep
        Where the features are put.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or the dataset is faulty.
    """
    files = dataset_files(root, name, features=features, semantics=semantics)
    if files[1].name == _EPGN_LABELS:
        return read_epgn(name, *files, keep=keep)
    return read_gbu(name, *files, keep=keep)


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
                self._values = scipy.io.loadmat(path, variable_names=fields)

    def where(self, name: str) -> str:
        """The place of a field, for messages."""
        return f"{self.path}, field '{name}'"

    def __contains__(self, name: str) -> bool:
        """Whether the file has this field."""
        return name in self._values

    def raw(self, name: str) -> Any:
        """A field as read, in MATLAB's orientation."""
        if name not in self._values:
            raise InputError(f"{self.where(name)}: not found, expected it in this file")
        return self._values[name]

    def numbers(self, name: str) -> NDArray[Any]:
        """A numeric field, in MATLAB's orientation; none of the large ones."""
        values = self._numeric(name)
        assert isinstance(values, np.ndarray)
        return values

    def _numeric(self, name: str) -> NDArray[Any] | _Stored:
        values = self.raw(name)
        if not isinstance(values, (np.ndarray, _Stored)) or values.dtype.kind not in "fiub":
            kind = getattr(values, "dtype", type(values).__name__)
            raise InputError(f"{self.where(name)}: found {kind}, expected numbers")
        return values

    def shape(self, name: str) -> tuple[int, int]:
        """The shape of a numeric matrix, in MATLAB's orientation."""
        shape = self._numeric(name).shape
        if len(shape) != 2:
            raise InputError(
                f"{self.where(name)}: found an array of shape {shape}, expected a matrix"
            )
        return shape[0], shape[1]

    def matrix(self, name: str) -> FloatArray:
        """A numeric matrix as float32, in MATLAB's orientation."""
        self.shape(name)
        return _as_float32(self.numbers(name))

    def pieces(self, name: str, *, columns: bool = False) -> Iterator[FloatArray]:
        """A numeric matrix as float32, a C-ordered piece of its rows (or columns) at a time.

        The field is handed over: it cannot be asked for again, and takes no memory after its last
        piece.
        """
        self.shape(name)
        values = self._values.pop(name)
        if isinstance(values, _Stored):
            return _hdf5_pieces(self.path, name, 0 if columns else 1)
        return _array_pieces(values.T if columns else values)

    def indices(self, name: str) -> IntArray:
        """A vector of one-based whole numbers, as zero-based int64."""
        values = self.numbers(name)
        if values.size and values.size != max(values.shape, default=1):
            raise InputError(
                f"{self.where(name)}: found an array of shape {values.shape}, expected a vector"
            )
        flat = values.ravel()
        with np.errstate(invalid="ignore"):
            whole = flat.astype(np.int64)
        if not np.array_equal(whole, flat):
            raise InputError(f"{self.where(name)}: found fractions, expected whole numbers")
        return whole - 1

    def strings(self, name: str) -> tuple[str, ...]:
        """A cell array of strings."""
        values = self.raw(name)
        if isinstance(values, np.ndarray) and values.dtype.kind == "U":  # a char matrix
            return tuple(str(v).strip() for v in values.ravel())
        cells = np.atleast_1d(values).ravel()
        names = [str(np.ravel(cell)[0]) for cell in cells if np.size(cell)]
        if cells.dtype != object or len(names) < len(cells):
            raise InputError(f"{self.where(name)}: found no text, expected a cell array of names")
        return tuple(names)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make an `InputError` of whatever a reader raises."""
    try:
        yield
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read this file") from error
    except Exception as error:
        # Both readers raise a dozen unrelated types on damaged input, depending on which byte is
        # wrong; none of them says more to the user than this sentence.
        raise InputError(
            f"{path}: not readable as a MATLAB file ({type(error).__name__}), expected a "
            "complete file of MATLAB v5 to v7.3; fetch it again"
        ) from error


def _as_float32(values: NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
        return values.astype(np.float32, copy=False)


def _array_pieces(values: NDArray[Any]) -> Iterator[FloatArray]:
    if values.dtype == np.float32 and values.flags.c_contiguous:
        yield values
        return
    for rows in row_slices(len(values), values.shape[1] * values.itemsize):
        yield np.ascontiguousarray(_as_float32(values[rows]))


def _hdf5_pieces(path: Path, name: str, axis: int) -> Iterator[FloatArray]:
    """Pieces ``(m, d)`` of a matrix in HDF5 whose ``axis`` runs over the rows that are wanted."""
    with _reading(path), h5py.File(path) as file:
        data = file[name]
        row_bytes = data.shape[1 - axis] * data.dtype.itemsize
        # A chunk is unpacked whole, whatever is wanted of it.
        chunk = data.chunks[axis] if data.chunks else 1
        for rows in row_slices(data.shape[axis], row_bytes, multiple=chunk):
            piece = data[rows] if axis == 0 else data[:, rows].T
            yield np.ascontiguousarray(_as_float32(piece))


def _read_hdf5(file: h5py.File, name: str, large: bool) -> Any:
    """One field of a v7.3 file in MATLAB's orientation (HDF5 stores the dimensions reversed)."""
    data = file[name]
    if data.dtype == h5py.ref_dtype:
        cells = [_text(np.asarray(file[ref]).T) for ref in np.asarray(data).ravel()]
        return np.array(cells, dtype=object)
    kind = data.attrs.get("MATLAB_class")
    if data.attrs.get("MATLAB_empty"):  # MATLAB stores the shape in place of the values
        return np.empty(np.asarray(data), dtype=np.str_ if kind == b"char" else np.float32)
    if kind == b"char":
        rows = np.atleast_2d(np.asarray(data).T)
        return np.array([_text(row) for row in rows])
    if large:
        return _Stored(data.shape[::-1], data.dtype)
    return np.asarray(data).T


def _text(codes: NDArray[Any]) -> str:
    return "".join(map(chr, codes.ravel()))


def read_gbu(
    name: str,
    feature_file: Path,
    split_file: Path,
    names_file: Path | None = None,
    *,
    keep: Keep = keep_in_memory,
) -> Dataset:
    """Read and check a dataset in the GBU layout.

    Parameters
    ----------
    name
        The dataset's name.
    feature_file, split_file
        Its MATLAB files.
    names_file
        A file of class names, which is read where the split file has none worth the name.
    keep
        Where the features are put.

    Raises
    ------
    InputError
        If a file is unreadable or the dataset is faulty.
    """
    mat = MatFile(feature_file, ("features", "labels"), large=("features",))
    splits = MatFile(split_file, ("att", "allclasses_names", *_SPLIT_FIELDS.values()))
    semantics = splits.matrix("att").T
    class_names, names_place = _class_names(splits, len(semantics), names_file)
    rows = {split: splits.indices(name) for split, name in _SPLIT_FIELDS.items()}
    source = {
        "features": mat.where("features"),
        "labels": mat.where("labels"),
        "semantics": splits.where("att"),
        "class_names": names_place,
    }
    labels = mat.indices("labels")
    d, n = mat.shape("features")
    return check_dataset(
        Dataset(
            name=name,
            features=keep((n, d), mat.pieces("features", columns=True)),
            labels=labels,
            semantics=np.ascontiguousarray(semantics),
            class_names=class_names,
            trainval=rows["trainval"],
            train=rows["train"],
            val=rows["val"],
            test_seen=rows["test_seen"],
            test_unseen=rows["test_unseen"],
            features_name=feature_file.stem,
            semantics_name=split_file.stem.removesuffix("_splits"),
            source=source | {split: splits.where(f) for split, f in _SPLIT_FIELDS.items()},
        )
    )


def _class_names(
    splits: MatFile, classes: int, names_file: Path | None
) -> tuple[tuple[str, ...], str]:
    """The name of every class, and where they were read."""
    field = "allclasses_names"
    own = splits.strings(field) if field in splits else ()
    if names_file is not None and _only_count(own):
        return _read_names(names_file, classes), str(names_file)
    return own or tuple(f"class {c + 1}" for c in range(classes)), splits.where(field)


def _only_count(names: tuple[str, ...]) -> bool:
    """Whether names say no more than a number, such as ``class 1``, ``class 2``; so do none."""
    found = [re.fullmatch(r"(\D*)(\d+)", name.strip()) for name in names]
    prefixes = {match[1] for match in found if match}
    numbers = [int(match[2]) for match in found if match]
    counted = any(numbers == list(range(c, c + len(names))) for c in (0, 1))
    return counted and len(prefixes) <= 1


def _read_names(path: Path, classes: int) -> tuple[str, ...]:
    """A name a line, for each of so many classes."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected UTF-8 text with a class name a "
            "line"
        ) from error
    names = tuple(" ".join(line.split()) for line in lines)
    if len(names) != classes:
        raise InputError(
            f"{path}: found {len(names)} names, expected {classes}, one for each class of att"
        )
    if "" in names:
        raise InputError(f"{path}: found no name in line {names.index('') + 1}, expected one")
    return names


def read_epgn(
    name: str, data_file: Path, label_file: Path, *, keep: Keep = keep_in_memory
) -> Dataset:
    """Read and check a dataset in the E-PGN layout.

    The seen classes come first, in the order of ``seen_pro``, then the unseen ones in the order
    of ``unseen_pro``. The layout names no validation classes: `check_dataset` draws them.

    Raises
    ------
    InputError
        If a file is unreadable, the dataset is faulty, or ``att_train`` (the semantics of every
        training row) contradicts the labels.
    """
    feature_fields = ("train_fea", "test_seen_fea", "test_unseen_fea")
    label_fields = ("train_idx", "test_seen_idex", "test_unseen_idex")
    large = (*feature_fields, "att_train")
    data = MatFile(data_file, (*large, "seen_pro", "unseen_pro"), large)
    label = MatFile(label_file, label_fields)

    seen, unseen = data.matrix("seen_pro"), data.matrix("unseen_pro")
    if seen.shape[1] != unseen.shape[1]:
        raise InputError(
            f"{data.where('unseen_pro')}: found {unseen.shape[1]} dimensions, expected "
            f"{seen.shape[1]} as in seen_pro"
        )
    shapes = [data.shape(field) for field in feature_fields]
    labels: list[IntArray] = []
    for (n, d), feature_field, label_field in zip(
        shapes, feature_fields, label_fields, strict=True
    ):
        classes = label.indices(label_field)
        prototypes = unseen if "unseen" in label_field else seen
        if n != len(classes):
            raise InputError(
                f"{label.where(label_field)}: found {len(classes)} labels, expected {n}, "
                f"one for each row of {feature_field}"
            )
        if d != shapes[0][1]:
            raise InputError(
                f"{data.where(feature_field)}: found {d} dimensions, expected "
                f"{shapes[0][1]} as in {feature_fields[0]}"
            )
        outside = classes[(classes < 0) | (classes >= len(prototypes))]
        if len(outside):
            raise InputError(
                f"{label.where(label_field)}: found class {outside[0] + 1}, expected 1 to "
                f"{len(prototypes)}"
            )
        labels.append(classes + (len(seen) if prototypes is unseen else 0))
    _check_att_train(data, seen, labels[0])

    ends = np.cumsum([len(classes) for classes in labels])
    trainval, test_seen, test_unseen = np.split(np.arange(ends[-1]), ends[:-1])
    pieces = chain.from_iterable(data.pieces(field) for field in feature_fields)
    none = np.empty(0, dtype=np.int64)
    source = dict(
        zip(("trainval", "test_seen", "test_unseen"), map(data.where, feature_fields), strict=True)
    )
    return check_dataset(
        Dataset(
            name=name,
            features=keep((int(ends[-1]), shapes[0][1]), pieces),
            labels=np.concatenate(labels),
            semantics=np.concatenate([seen, unseen]),
            class_names=(
                *(f"seen class {c + 1}" for c in range(len(seen))),
                *(f"unseen class {c + 1}" for c in range(len(unseen))),
            ),
            trainval=trainval,
            train=none,
            val=none,
            test_seen=test_seen,
            test_unseen=test_unseen,
            features_name="E-PGN",
            semantics_name="E-PGN",
            source=source
            | {
                "features": f"{data_file}, fields {', '.join(feature_fields)}",
                "labels": f"{label_file}, fields {', '.join(label_fields)}",
                "semantics": f"{data_file}, fields seen_pro, unseen_pro",
            },
        )
    )


def _check_att_train(data: MatFile, seen: FloatArray, labels: IntArray) -> None:
    if "att_train" not in data:
        return
    shape = data.shape("att_train")
    if shape != (len(labels), seen.shape[1]):
        raise InputError(
            f"{data.where('att_train')}: found shape {shape}, expected "
            f"{(len(labels), seen.shape[1])}"
        )
    start = 0
    for piece in data.pieces("att_train"):
        expected = seen[labels[start : start + len(piece)]]
        wrong = start + np.flatnonzero(~np.isclose(piece, expected, atol=1e-5).all(axis=1))
        if len(wrong):
            raise InputError(
                f"{data.where('att_train')}: found semantics in row {wrong[0] + 1} that are not "
                f"those of its class {labels[wrong[0]] + 1} in seen_pro, expected labels that "
                "number the rows of seen_pro"
            )
        start += len(piece)
