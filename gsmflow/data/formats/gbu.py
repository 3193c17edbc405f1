"""The GBU format (also called xlsa17; Xian et al., TPAMI 2018), in MATLAB files.

``<features>.mat`` has ``features (d, n)`` and one-based ``labels (n, 1)``;
``<semantics>_splits.mat`` has ``att (a, classes)``, ``allclasses_names`` and one-based row lists
``trainval_loc, train_loc, val_loc, test_seen_loc, test_unseen_loc``, of which all but the first
may be missing. Where the names are missing
or merely count the classes, ``class_names.txt`` gives them, if it is there: UTF-8, a name a line,
in the order of ``att``. Another field of a split file may have further semantics ``(a, classes)``.
"""

from functools import partial
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.base import (
    NAMES_FILE,
    REQUIRED_SPLIT,
    Choices,
    Format,
    Keep,
    NamedSemantics,
    Refuse,
    complete_splits,
    names_only_count,
    read_class_names,
    second_file,
    try_field,
)
from gsmflow.data.formats.class_order import check_folders, check_order, rows_to_look_at
from gsmflow.data.formats.matlab import MatFile, field_names, open_mat, texts_at
from gsmflow.data.patterns import transposed_semantics

__all__ = [
    "FORMAT",
    "NAMES_FIELD",
    "class_names_in",
    "read_picture_files",
    "read_semantics",
    "semantics_file",
]

# The field of class names.
NAMES_FIELD = "allclasses_names"

_SPLIT_FIELDS = {
    "trainval": "trainval_loc",
    "train": "train_loc",
    "val": "val_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}
# The field of the pictures' files, beside the features.
_PICTURES_FIELD = "image_files"
_SPLITS_SUFFIX = "_splits"
# The field of the semantics that the file's name names.
_SEMANTICS_FIELD = "att"
# Fields of a split file that are no semantics of their own name.
_OTHER_FIELDS = {_SEMANTICS_FIELD, NAMES_FIELD, *_SPLIT_FIELDS.values()}
# What labels are, for messages.
_LABELS = ", from 1: the column of att that describes the image's class"
# Files of the E-PGN format, which may lie in the same folder.
_OTHERS = {"data", "label"}


def _matches(folder: Path) -> bool:
    return any(folder.glob("*.mat"))


def _choices(folder: Path) -> Choices:
    stems = {file.stem for file in folder.glob("*.mat") if file.is_file()}
    splits = {stem for stem in stems if stem.endswith(_SPLITS_SUFFIX)}
    others = stems - splits - _OTHERS
    if len(others) > 1:
        with_features = {s for s in others if "features" in field_names(folder / f"{s}.mat")}
        others = with_features or others
    return Choices(
        features=frozenset(others),
        semantics=frozenset(stem.removesuffix(_SPLITS_SUFFIX) for stem in splits),
    )


def _files(folder: Path, features: str, semantics: str) -> tuple[Path, ...]:
    """The feature file, the split file, and the file of names if it is there."""
    names_file = folder / NAMES_FILE
    return (
        folder / f"{features}.mat",
        semantics_file(folder, features, semantics),
        *([names_file] if names_file.is_file() else []),
    )


def semantics_file(folder: Path, features: str, semantics: str) -> Path:
    """The file of semantics of this name; as of `Format`.

    It is the split file of this name, there or not; or else one with a field of this name,
    ``att_splits.mat`` before others.
    """
    return _split_file(folder, semantics)[0]


def _split_file(folder: Path, semantics: str) -> tuple[Path, str]:
    """The split file of semantics of this name, and their field in it."""
    named = folder / f"{semantics}{_SPLITS_SUFFIX}.mat"
    if named.is_file() or semantics in _OTHER_FIELDS:
        return named, _SEMANTICS_FIELD
    files = sorted(file for file in folder.glob(f"*{_SPLITS_SUFFIX}.mat") if file.is_file())
    files.sort(key=lambda file: file.name != f"{_SEMANTICS_FIELD}{_SPLITS_SUFFIX}.mat")
    with_field = (file for file in files if semantics in field_names(file))
    file = next(with_field, None)
    return (named, _SEMANTICS_FIELD) if file is None else (file, semantics)


def _read(
    folder: Path, *, features: str, semantics: str, keep: Keep, refuse: Refuse
) -> Dataset | None:
    feature_file, split_file, *names_files = _files(folder, features, semantics)
    attempt = partial(try_field, refuse)
    field = _split_file(folder, semantics)[1]
    needed = (field, _SPLIT_FIELDS[REQUIRED_SPLIT])
    further = (NAMES_FIELD, *_SPLIT_FIELDS.values())
    large = ("features",)
    mat = attempt("features", lambda: open_mat(feature_file, ("features", "labels"), large=large))
    splits = attempt("semantics", lambda: open_mat(split_file, needed, further))
    if mat is None or splits is None:
        return None
    att = attempt("semantics", lambda: splits.matrix(field).T)
    rows = _read_splits(splits, refuse)
    labels = attempt("labels", lambda: mat.indices("labels", _LABELS))
    shape = attempt("features", lambda: mat.shape("features"))
    if att is None or labels is None or shape is None:
        return None
    named = NAMES_FIELD in splits or bool(names_files)
    if (
        not named
        and attempt("semantics", partial(_refuse_class_per_row, splits, field, labels)) is None
    ):
        return None
    d, n = shape
    values = attempt("features", lambda: keep((n, d), mat.pieces("features", columns=True)))
    if values is None:
        return None
    names, names_source = _read_names(splits, field, names_files, len(att), refuse)
    if not names_only_count(names):
        order = partial(_check_order, splits, field, names_files, names, names_source)
        attempt("class_names", order)
        attempt("class_names", partial(_check_pictures, mat, labels, names, names_source))
    source = {
        "features": mat.where("features"),
        "labels": mat.where("labels"),
        "semantics": splits.where(field),
        "class_names": names_source,
    }
    unsure = _class_per_row_note(att, named=named)
    return Dataset(
        name=folder.name,
        features=values,
        labels=labels,
        semantics=np.ascontiguousarray(att),
        class_names=names or tuple(f"class {c + 1}" for c in range(len(att))),
        trainval=rows["trainval"],
        train=rows["train"],
        val=rows["val"],
        test_seen=rows["test_seen"],
        test_unseen=rows["test_unseen"],
        features_name=feature_file.stem,
        semantics_name=semantics,
        notes=(f"{splits.where(field)}: {unsure}",) if unsure else (),
        source=source | {split: splits.where(f) for split, f in _SPLIT_FIELDS.items()},
    )


def _read_splits(splits: MatFile, refuse: Refuse) -> dict[str, IntArray]:
    """All splits by name, those that cannot be read empty."""
    rows: dict[str, IntArray] = {}
    for split, field in _SPLIT_FIELDS.items():
        if split == REQUIRED_SPLIT or field in splits:
            listed = try_field(refuse, split, partial(splits.indices, field))
            rows[split] = np.empty(0, dtype=np.int64) if listed is None else listed
    return complete_splits(rows)


def _read_names(
    splits: MatFile, field: str, names_files: list[Path], classes: int, refuse: Refuse
) -> tuple[tuple[str, ...], str]:
    """The class names, none if there are none to be read, and where they stand."""
    names = try_field(refuse, "class_names", partial(_listed_names, splits))
    if names is None or not names_files or not names_only_count(names):
        return names or (), splits.where(NAMES_FIELD)
    read = partial(read_class_names, names_files[0], classes, field)
    return try_field(refuse, "class_names", read) or (), str(names_files[0])


def _refuse_class_per_row(splits: MatFile, field: str, labels: IntArray) -> bool:
    """True, if the labels do not say that the semantics have a class per row."""
    rows, columns = splits.shape(field)
    used = int(labels.max(initial=-1)) + 1
    if columns != rows == used:
        raise InputError(
            f"{splits.where(field)}: found {columns} columns and {rows} rows for {used} classes, "
            f"expected a column each: {transposed_semantics(1)}"
        )
    return True


def _class_per_row_note(att: FloatArray, *, named: bool) -> str:
    """Why semantics ``(columns, rows)`` may have a class per row; empty if they have not."""
    columns, rows = att.shape
    if columns == rows:
        why = f"found as many rows as columns ({rows})"
    elif columns > rows and not named:
        why = f"found more columns ({columns}) than rows ({rows}), and no names of classes"
    else:
        return ""
    return f"{why}: read with a class per column, which nothing confirms"


def _check_order(
    splits: MatFile, semantics: str, names_files: list[Path], names: tuple[str, ...], source: str
) -> None:
    """Refuse names that other files of the folder have in another order."""
    for file in sorted(splits.path.parent.glob(f"*{_SPLITS_SUFFIX}.mat")):
        if file == splits.path:
            continue
        try:
            others = class_names_in(MatFile(file, (NAMES_FIELD,)))
        except InputError:
            continue  # a file that is not asked for may be damaged
        check_order(names, source, others or (), f"{file}, field '{NAMES_FIELD}'")
    for file in names_files:
        try:
            others = read_class_names(file, len(names), semantics)
        except InputError:
            continue  # as above
        check_order(names, source, others, str(file))


def _check_pictures(mat: MatFile, labels: IntArray, names: tuple[str, ...], source: str) -> None:
    """Refuse names that are not in the order of the labels, by the folders of the pictures."""
    rows = rows_to_look_at(labels)
    wanted = np.concatenate([*rows.values()]) if rows else labels
    files = dict(
        zip(wanted, texts_at(mat.path, _PICTURES_FIELD, wanted, len(labels)), strict=False)
    )
    pictures = {c: [file for row in own if (file := files.get(row))] for c, own in rows.items()}
    check_folders(names, source, pictures, mat.where(_PICTURES_FIELD))


def _listed_names(splits: MatFile) -> tuple[str, ...]:
    """The class names in a split file; none if it has no field of them."""
    return splits.strings(NAMES_FIELD) if NAMES_FIELD in splits else ()


def class_names_in(splits: MatFile) -> tuple[str, ...] | None:
    """Class names in a MATLAB file; None if there are none, or they merely count classes."""
    names = _listed_names(splits)
    return None if names_only_count(names) else names


def read_picture_files(
    folder: Path, features: str, count: int, rows: IntArray | None = None
) -> tuple[str, ...] | None:
    """The picture of each row, or of some, as a feature file lists them.

    Parameters
    ----------
    folder, features
        The dataset's folder, and which of its features.
    count
        Number of rows.
    rows
        Which of them, ``(m,)``; None for all.

    Returns
    -------
    tuple of str or None
        None unless there is such a list with a text for each of these rows.

    Raises
    ------
    InputError
        If the feature file is not readable.
    """
    file = folder / f"{features}.mat"
    if not file.is_file():
        return None
    wanted = np.arange(count) if rows is None else rows
    files = tuple(text for text in texts_at(file, _PICTURES_FIELD, wanted, count) if text)
    return files if len(files) == len(wanted) else None


def read_semantics(folder: Path, features: str, semantics: str) -> NamedSemantics:
    """The semantics of a split file, and its class names; as of `Format`."""
    file, field = _split_file(folder, semantics)
    splits = MatFile(second_file(file), (field, NAMES_FIELD))
    return NamedSemantics(
        np.ascontiguousarray(splits.matrix(field).T), class_names_in(splits), splits.where(field)
    )


FORMAT = Format(
    name="GBU",
    layout="the GBU layout ({features}.mat with the image features and {semantics}_splits.mat "
    "with semantics and splits)",
    matches=_matches,
    choices=_choices,
    files=_files,
    read=_read,
    semantics_file=semantics_file,
    read_semantics=read_semantics,
)
