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
from functools import partial
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.matlab import Keep, MatFile, Refuse, try_field

__all__ = ["NAMES_FILE", "SPLITS_SUFFIX", "read_gbu", "read_semantics"]


_SPLIT_FIELDS = {
    "trainval": "trainval_loc",
    "train": "train_loc",
    "val": "val_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}
SPLITS_SUFFIX = "_splits"
NAMES_FIELD = "allclasses_names"
NAMES_FILE = "class_names.txt"


def read_gbu(name: str, files: tuple[Path, ...], keep: Keep, refuse: Refuse) -> Dataset | None:
    """Read a dataset in the GBU layout; arguments as of `read_files`."""
    feature_file, split_file, *names_files = files
    attempt = partial(try_field, refuse)
    mat = attempt(
        "features",
        lambda: MatFile(feature_file, ("features", "labels"), large=("features",)),
    )
    fields = ("att", NAMES_FIELD, *_SPLIT_FIELDS.values())
    splits = attempt("semantics", lambda: MatFile(split_file, fields))
    if mat is None or splits is None:
        return None
    semantics = attempt("semantics", lambda: splits.matrix("att").T)
    class_names = attempt("class_names", partial(_own_names, splits))
    names_place = splits.where(NAMES_FIELD)
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
    return splits.strings(NAMES_FIELD) if NAMES_FIELD in splits else ()


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
    splits = MatFile(split_file, ("att", NAMES_FIELD))
    names = _own_names(splits)
    return np.ascontiguousarray(splits.matrix("att").T), None if _only_count(names) else names
