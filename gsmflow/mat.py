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
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeVar

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from gsmflow.dataset import Dataset, Finding, FloatArray, IntArray, check_dataset, row_slices
from gsmflow.errors import InputError, one_line

__all__ = [
    "Keep",
    "MatFile",
    "dataset_files",
    "find_stem",
    "keep_in_memory",
    "load_dataset",
    "read_files",
    "read_semantics",
]

# What is done with features as they are read: given their shape ``(n, d)`` and their rows in
# order, a piece ``(m, d)`` at a time, gives back all of them as one array.
Keep: TypeAlias = Callable[[tuple[int, int], Iterator[FloatArray]], FloatArray]

# What is done about a field that cannot be read.
Refuse: TypeAlias = Callable[[Finding], object]

_T = TypeVar("_T")

_SPLIT_FIELDS = {
    "trainval": "trainval_loc",
    "train": "train_loc",
    "val": "val_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}
_EPGN_LABELS = "label.mat"
_SPLITS_SUFFIX = "_splits"
_NAMES_FIELD = "allclasses_names"
_NAMES_FILE = "class_names.txt"


class _Part(NamedTuple):
    """A part of a dataset in the E-PGN layout: the fields of its features and its labels."""

    features: str
    labels: str
    unseen: bool = False


_EPGN_PARTS = (
    _Part("train_fea", "train_idx"),
    _Part("test_seen_fea", "test_seen_idex"),
    _Part("test_unseen_fea", "test_unseen_idex", unseen=True),
)


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


def find_stem(flag: str, folder: Path) -> str:
    """The feature or the split file of a dataset's folder: the usual one, or the only one.

    Parameters
    ----------
    flag
        ``"--features"`` or ``"--semantics"``, which names it otherwise.
    folder
        The dataset's.

    Returns
    -------
    str
        As `dataset_files` takes it; the usual one where there is none.

    Raises
    ------
    InputError
        If there are several, and none is the usual one.
    """
    found = {file.stem for file in folder.glob("*.mat")}
    splits = {stem for stem in found if stem.endswith(_SPLITS_SUFFIX)}
    if flag == "--semantics":
        usual, stems = "att", {stem.removesuffix(_SPLITS_SUFFIX) for stem in splits}
    else:
        usual, stems = "res101", found - splits - {"data", "label"}
    if usual in stems or not stems:
        return usual
    if len(stems) > 1:
        raise InputError(
            f"{flag}: found {', '.join(sorted(stems))} in {folder}, expected the name of one of "
            "them"
        )
    return stems.pop()


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
    dataset = read_files(name, files, keep)
    assert dataset is not None  # what cannot be read is refused
    return check_dataset(dataset)


def _raise(finding: Finding) -> NoReturn:
    raise InputError(finding.sentence)


def read_files(
    name: str, files: tuple[Path, ...], keep: Keep = keep_in_memory, refuse: Refuse = _raise
) -> Dataset | None:
    """Read a dataset in the layout of its files, for `check_dataset`.

    Parameters
    ----------
    name
        Of the dataset.
    files
        As of `dataset_files`.
    keep
        Where the features are put.
    refuse
        Called with each fault at which a field cannot be read; by default, it raises the first
        one as an `InputError`.

    Returns
    -------
    Dataset or None
        With class numbers for names, and empty splits, in place of those that could not be read;
        None if features, labels or semantics could not.
    """
    read = _read_epgn if files[1].name == _EPGN_LABELS else _read_gbu
    return read(name, files, keep, refuse)


def _attempt(refuse: Refuse, about: str, read: Callable[[], _T]) -> _T | None:
    """What ``read`` gives, or None if it fails for a fault in a field of this kind."""
    try:
        return read()
    except InputError as error:
        refuse(Finding("error", about, str(error)))
        return None


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


def _read_gbu(name: str, files: tuple[Path, ...], keep: Keep, refuse: Refuse) -> Dataset | None:
    feature_file, split_file, *names_files = files
    attempt = partial(_attempt, refuse)
    mat = attempt(
        "features",
        lambda: MatFile(feature_file, ("features", "labels"), large=("features",)),
    )
    fields = ("att", _NAMES_FIELD, *_SPLIT_FIELDS.values())
    splits = attempt("semantics", lambda: MatFile(split_file, fields))
    if mat is None or splits is None:
        return None
    semantics = attempt("semantics", lambda: splits.matrix("att").T)
    class_names = attempt("class_names", partial(_own_names, splits))
    names_place = splits.where(_NAMES_FIELD)
    rows: dict[str, IntArray] = {}
    for split, field in _SPLIT_FIELDS.items():
        listed = attempt(split, partial(splits.indices, field))
        rows[split] = np.empty(0, dtype=np.int64) if listed is None else listed
    labels = attempt("labels", lambda: mat.indices("labels"))
    shape = attempt("features", lambda: mat.shape("features"))
    if semantics is None or labels is None or shape is None:
        return None
    d, n = shape
    features = attempt("features", lambda: keep((n, d), mat.pieces("features", columns=True)))
    if features is None:
        return None
    if names_files and class_names is not None and _only_count(class_names):
        names_place = str(names_files[0])
        class_names = attempt("class_names", partial(_read_names, names_files[0], len(semantics)))
    source = {
        "features": mat.where("features"),
        "labels": mat.where("labels"),
        "semantics": splits.where("att"),
        "class_names": names_place,
    }
    return Dataset(
        name=name,
        features=features,
        labels=labels,
        semantics=np.ascontiguousarray(semantics),
        class_names=class_names or tuple(f"class {c + 1}" for c in range(len(semantics))),
        trainval=rows["trainval"],
        train=rows["train"],
        val=rows["val"],
        test_seen=rows["test_seen"],
        test_unseen=rows["test_unseen"],
        features_name=feature_file.stem,
        semantics_name=split_file.stem.removesuffix("_splits"),
        source=source | {split: splits.where(f) for split, f in _SPLIT_FIELDS.items()},
    )


def _own_names(splits: MatFile) -> tuple[str, ...]:
    """The class names in a split file; none if it has no field of them."""
    return splits.strings(_NAMES_FIELD) if _NAMES_FIELD in splits else ()


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


def read_semantics(split_file: Path) -> tuple[FloatArray, tuple[str, ...] | None]:
    """The semantics ``(classes, a)`` of a split file in the GBU layout, and its class names.

    The names are None where there are none, or they merely count the classes.

    Raises
    ------
    InputError
        If the file is unreadable or has no semantics.
    """
    splits = MatFile(split_file, ("att", _NAMES_FIELD))
    names = _own_names(splits)
    return np.ascontiguousarray(splits.matrix("att").T), None if _only_count(names) else names


def _read_epgn(name: str, files: tuple[Path, ...], keep: Keep, refuse: Refuse) -> Dataset | None:
    """Read a dataset in the E-PGN layout.

    The seen classes come first, in the order of ``seen_pro``, then the unseen ones in the order
    of ``unseen_pro``. The layout names no validation classes: `check_dataset` draws them.
    """
    data_file, label_file = files
    faults: list[Finding] = []

    def refuse_here(finding: Finding) -> None:
        faults.append(finding)
        refuse(finding)

    attempt = partial(_attempt, refuse_here)
    fields = tuple(part.features for part in _EPGN_PARTS)
    large = (*fields, "att_train")
    data = attempt(
        "features", lambda: MatFile(data_file, (*large, "seen_pro", "unseen_pro"), large)
    )
    label = attempt(
        "labels", lambda: MatFile(label_file, tuple(part.labels for part in _EPGN_PARTS))
    )
    if data is None or label is None:
        return None
    seen = attempt("semantics", lambda: data.matrix("seen_pro"))
    unseen = attempt("semantics", lambda: data.matrix("unseen_pro"))
    if seen is None or unseen is None:
        return None
    if seen.shape[1] != unseen.shape[1]:
        text = f"found {unseen.shape[1]} dimensions, expected {seen.shape[1]} as in seen_pro"
        refuse_here(Finding("error", "semantics", f"{data.where('unseen_pro')}: {text}"))
    shapes = [attempt("features", partial(data.shape, field)) for field in fields]
    labels: list[IntArray] = []
    for part, shape in zip(_EPGN_PARTS, shapes, strict=True):
        classes = attempt("labels", partial(label.indices, part.labels))
        if classes is not None and shape is not None:
            count = len(unseen if part.unseen else seen)
            for finding in _part_faults(data, label, part, classes, count, (shapes[0] or shape)[1]):
                refuse_here(finding)
            labels.append(classes + (len(seen) if part.unseen else 0))
    if not faults:
        attempt("semantics", lambda: _check_att_train(data, seen, labels[0]))
    if faults:
        return None
    d = data.shape(fields[0])[1]
    pieces = chain.from_iterable(data.pieces(field) for field in fields)
    features = attempt("features", lambda: keep((sum(map(len, labels)), d), pieces))
    if features is None:
        return None
    return _epgn_dataset(name, data, label, features, labels, (seen, unseen))


def _part_faults(
    data: MatFile, label: MatFile, part: _Part, classes: IntArray, count: int, first_dim: int
) -> Iterator[Finding]:
    """What is wrong with a part's labels ``(n,)``, of ``count`` classes, and its features."""
    n, d = data.shape(part.features)
    if n != len(classes):
        text = f"found {len(classes)} labels, expected {n}, one for each row of {part.features}"
        yield Finding("error", "labels", f"{label.where(part.labels)}: {text}")
    if d != first_dim:
        text = f"found {d} dimensions, expected {first_dim} as in {_EPGN_PARTS[0].features}"
        yield Finding("error", "features", f"{data.where(part.features)}: {text}")
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        text = f"found class {outside[0] + 1}, expected 1 to {count}"
        yield Finding("error", "labels", f"{label.where(part.labels)}: {text}")


def _epgn_dataset(
    name: str,
    data: MatFile,
    label: MatFile,
    features: FloatArray,
    labels: list[IntArray],
    semantics: tuple[FloatArray, FloatArray],
) -> Dataset:
    """The dataset of three parts, from its features, their labels, and seen and unseen semantics.

    Classes and rows are numbered in the order in which they stand here.
    """
    seen, unseen = semantics
    ends = np.cumsum([len(classes) for classes in labels])
    trainval, test_seen, test_unseen = np.split(np.arange(ends[-1]), ends[:-1])
    none = np.empty(0, dtype=np.int64)
    fields = [part.features for part in _EPGN_PARTS]
    splits = zip(("trainval", "test_seen", "test_unseen"), map(data.where, fields), strict=True)
    return Dataset(
        name=name,
        features=features,
        labels=np.concatenate(labels),
        semantics=np.concatenate(semantics),
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
        source={
            **dict(splits),
            "features": f"{data.path}, fields {', '.join(fields)}",
            "labels": f"{label.path}, fields {', '.join(part.labels for part in _EPGN_PARTS)}",
            "semantics": f"{data.path}, fields seen_pro, unseen_pro",
        },
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
