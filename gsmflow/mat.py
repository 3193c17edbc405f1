"""Reading benchmark datasets from MATLAB files, in the two layouts that the field uses.

GBU (also called xlsa17; Xian et al., TPAMI 2018)
    ``<root>/<NAME>/<features>.mat`` with ``features (d, n)`` and one-based ``labels (n, 1)``, and
    ``<root>/<NAME>/<semantics>_splits.mat`` with ``att (a, classes)``, ``allclasses_names`` and
    one-based row lists ``trainval_loc, train_loc, val_loc, test_seen_loc, test_unseen_loc``.
E-PGN (Yu et al., CVPR 2020; CUB and FLO only)
    ``<root>/<NAME>/data.mat`` with ``train_fea, test_seen_fea, test_unseen_fea (n, d)``,
    ``seen_pro (seen, a)``, ``unseen_pro (unseen, a)``, ``att_train (n, a)``, and
    ``<root>/<NAME>/label.mat`` with ``train_idx, test_seen_idex, test_unseen_idex``. Despite
    their names these are one-based class labels, one per row; seen and unseen classes are
    numbered separately, in the row order of ``seen_pro`` and ``unseen_pro``.

Files of MATLAB v5 to v7 (scipy) and of v7.3 (HDF5, h5py) are both read.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from gsmflow.dataset import Dataset, FloatArray, IntArray, check_dataset
from gsmflow.errors import InputError

__all__ = ["MatFile", "load_dataset", "read_epgn", "read_gbu"]

_SPLIT_FIELDS = {
    "trainval": "trainval_loc",
    "train": "train_loc",
    "val": "val_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}


def load_dataset(root: Path, name: str, *, features: str, semantics: str) -> Dataset:
    """Read and check ``<root>/<name>`` in whichever layout is there.

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
        If a file is missing or unreadable, or the dataset is faulty.
    """
    folder = root / name
    feature_file = folder / f"{features}.mat"
    split_file = folder / f"{semantics}_splits.mat"
    epgn_files = (folder / "data.mat", folder / "label.mat")
    if feature_file.is_file() and split_file.is_file():
        return read_gbu(name, feature_file, split_file)
    if not feature_file.is_file() and all(file.is_file() for file in epgn_files):
        return read_epgn(name, *epgn_files)
    missing = split_file if feature_file.is_file() else feature_file
    raise InputError(
        f"{missing}: no such file, expected the GBU layout ({feature_file.name} with the image "
        f"features and {split_file.name} with semantics and splits) or the E-PGN layout "
        f"(data.mat and label.mat) in {folder}; data/README.md says where to get them"
    )


class MatFile:
    """A MATLAB file of either kind, read field by field with errors that name the field.

    Parameters
    ----------
    path
        The file.
    fields
        The fields that will be asked for; others are left unread.

    Raises
    ------
    InputError
        If the file is truncated or is no MATLAB file.
    """

    def __init__(self, path: Path, fields: tuple[str, ...]) -> None:
        self.path = path
        try:
            if h5py.is_hdf5(path):
                with h5py.File(path) as file:
                    self._values = {f: _read_hdf5(file, f) for f in fields if f in file}
            else:
                self._values = scipy.io.loadmat(path, variable_names=fields)
        except PermissionError as error:
            raise InputError(f"{path}: no permission to read this file") from error
        except Exception as error:
            # Both readers raise a dozen unrelated types on damaged input, depending on which
            # byte is wrong; none of them says more to the user than this sentence.
            raise InputError(
                f"{path}: not readable as a MATLAB file ({type(error).__name__}), expected a "
                "complete file of MATLAB v5 to v7.3; fetch it again"
            ) from error

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
        """A numeric field, in MATLAB's orientation."""
        values = self.raw(name)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
            kind = getattr(values, "dtype", type(values).__name__)
            raise InputError(f"{self.where(name)}: found {kind}, expected numbers")
        return values

    def matrix(self, name: str) -> FloatArray:
        """A numeric matrix as float32, in MATLAB's orientation."""
        values = self.numbers(name)
        if values.ndim != 2:
            raise InputError(
                f"{self.where(name)}: found an array of shape {values.shape}, expected a matrix"
            )
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
            return values.astype(np.float32, copy=False)

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


def _read_hdf5(file: h5py.File, name: str) -> Any:
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
    if data.dtype.kind == "f":
        values = np.empty(data.shape, dtype=np.float32)
        if values.size:
            data.read_direct(values)
        return values.T
    return np.asarray(data).T


def _text(codes: NDArray[Any]) -> str:
    return "".join(map(chr, codes.ravel()))


def read_gbu(name: str, feature_file: Path, split_file: Path) -> Dataset:
    """Read and check a dataset in the GBU layout.

    Raises
    ------
    InputError
        If a file is unreadable or the dataset is faulty.
    """
    mat = MatFile(feature_file, ("features", "labels"))
    splits = MatFile(split_file, ("att", "allclasses_names", *_SPLIT_FIELDS.values()))
    semantics = splits.matrix("att").T
    if "allclasses_names" in splits:
        class_names = splits.strings("allclasses_names")
    else:
        class_names = tuple(f"class {c + 1}" for c in range(len(semantics)))
    rows = {split: splits.indices(name) for split, name in _SPLIT_FIELDS.items()}
    source = {
        "features": mat.where("features"),
        "labels": mat.where("labels"),
        "semantics": splits.where("att"),
        "class_names": splits.where("allclasses_names"),
    }
    return check_dataset(
        Dataset(
            name=name,
            features=np.ascontiguousarray(mat.matrix("features").T),
            labels=mat.indices("labels"),
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


def read_epgn(name: str, data_file: Path, label_file: Path) -> Dataset:
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
    data = MatFile(data_file, (*feature_fields, "seen_pro", "unseen_pro", "att_train"))
    label = MatFile(label_file, label_fields)

    seen, unseen = data.matrix("seen_pro"), data.matrix("unseen_pro")
    if seen.shape[1] != unseen.shape[1]:
        raise InputError(
            f"{data.where('unseen_pro')}: found {unseen.shape[1]} dimensions, expected "
            f"{seen.shape[1]} as in seen_pro"
        )
    parts: list[FloatArray] = []
    labels: list[IntArray] = []
    for feature_field, label_field in zip(feature_fields, label_fields, strict=True):
        part, classes = data.matrix(feature_field), label.indices(label_field)
        prototypes = unseen if "unseen" in label_field else seen
        if len(part) != len(classes):
            raise InputError(
                f"{label.where(label_field)}: found {len(classes)} labels, expected {len(part)}, "
                f"one for each row of {feature_field}"
            )
        if parts and part.shape[1] != parts[0].shape[1]:
            raise InputError(
                f"{data.where(feature_field)}: found {part.shape[1]} dimensions, expected "
                f"{parts[0].shape[1]} as in {feature_fields[0]}"
            )
        outside = classes[(classes < 0) | (classes >= len(prototypes))]
        if len(outside):
            raise InputError(
                f"{label.where(label_field)}: found class {outside[0] + 1}, expected 1 to "
                f"{len(prototypes)}"
            )
        parts.append(part)
        labels.append(classes + (len(seen) if prototypes is unseen else 0))
    _check_att_train(data, seen, labels[0])

    ends = np.cumsum([len(part) for part in parts])
    trainval, test_seen, test_unseen = np.split(np.arange(ends[-1]), ends[:-1])
    none = np.empty(0, dtype=np.int64)
    source = dict(
        zip(("trainval", "test_seen", "test_unseen"), map(data.where, feature_fields), strict=True)
    )
    return check_dataset(
        Dataset(
            name=name,
            features=np.concatenate(parts),
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
    att_train = data.matrix("att_train")
    if att_train.shape != (len(labels), seen.shape[1]):
        raise InputError(
            f"{data.where('att_train')}: found shape {att_train.shape}, expected "
            f"{(len(labels), seen.shape[1])}"
        )
    wrong = np.flatnonzero(~np.isclose(att_train, seen[labels], atol=1e-5).all(axis=1))
    if len(wrong):
        raise InputError(
            f"{data.where('att_train')}: found semantics in row {wrong[0] + 1} that are not those "
            f"of its class {labels[wrong[0]] + 1} in seen_pro, expected labels that number the "
            "rows of seen_pro"
        )
