"""The splits of a new dataset: from lists of classes, or from lists of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import parse_json
from gsmflow.data.array_files import ENDINGS, open_array_file
from gsmflow.data.class_table import read_names
from gsmflow.data.extract.splits import ClassParts, Shares, split_rows
from gsmflow.data.formats.arrays import SPLITS
from gsmflow.data.formats.base import (
    REQUIRED_SPLIT,
    check_numbers,
    complete_splits,
    listed_fields,
    whole_numbers,
)
from gsmflow.data.formats.matlab import MatFile
from gsmflow.data.pack.classes import CountedFrom, PackedClasses, count_from

__all__ = ["PackedSplits", "read_splits"]

_TRAIN, _VAL, _UNSEEN = "trainclasses.txt", "valclasses.txt", "testclasses.txt"
_EXPECTED = (
    f"a folder with {_TRAIN}, {_UNSEEN} and perhaps {_VAL}, or a file of row lists that ends in "
    f".json, .mat, {', '.join(ENDINGS)}"
)


@dataclass(frozen=True, eq=False)
class PackedSplits:
    """The rows of each split.

    Attributes
    ----------
    rows
        Rows from 0 by split; splits that are not given are missing.
    where
        Where each was read, for messages.
    first_number
        What the rows were counted from.
    notes
        How rows were drawn or left out, one sentence each.
    """

    rows: Mapping[str, IntArray]
    where: Mapping[str, str]
    first_number: int = 0
    notes: tuple[str, ...] = ()

    def complete(self) -> dict[str, IntArray]:
        """All splits, with what follows for the missing ones."""
        return complete_splits(self.rows)


def read_splits(
    path: Path,
    labels: IntArray,
    classes: PackedClasses,
    shares: Shares,
    counted: CountedFrom = "auto",
) -> PackedSplits:
    """Splits from lists of classes or of rows.

    Parameters
    ----------
    path
        A folder with lists of class names, ``trainclasses.txt``, ``testclasses.txt`` and perhaps
        ``valclasses.txt``; or a ``.json``, ``.npz``, ``.pt``, ``.h5`` or ``.mat`` with lists of
        rows, or masks, ``trainval_loc``, ``test_seen_loc``, ``test_unseen_loc``, ``train_loc``,
        ``val_loc``; ``_loc`` may be left out.
    labels
        The class of each row, ``(n,)``.
    classes
        The classes.
    shares
        With lists of classes: the share of the rows of each seen class that become test rows, and
        the seed of the draw.
    counted
        What rows count from: 0, 1, or auto if 0 or the number of rows is among them.

    Raises
    ------
    InputError
        If a file is missing or unreadable, a class is unknown or in two lists, or rows are no
        whole numbers.
    """
    if path.is_dir():
        return _from_class_lists(path, labels, classes, shares)
    return _from_row_lists(path, len(labels), counted)


def _from_class_lists(
    folder: Path, labels: IntArray, classes: PackedClasses, shares: Shares
) -> PackedSplits:
    lists = {name: _class_list(folder / name, classes) for name in (_TRAIN, _VAL, _UNSEEN)}
    _check_lists(folder, lists, labels, classes)
    train, val, unseen = (lists[name] for name in (_TRAIN, _VAL, _UNSEEN))
    listed = np.flatnonzero(np.isin(labels, np.concatenate([train, val, unseen])))
    parts = split_rows(labels[listed], ClassParts(train, val, unseen), shares)
    rows = {split: listed[own] for split, own in parts.items()}
    test = len(rows["test_seen"])
    notes = [
        f"{test} rows, a share of {shares.test} of the rows of each seen class, are drawn as test "
        f"rows with seed {shares.seed}"
    ]
    if not len(val):
        del rows["train"], rows["val"]  # a reader of the dataset draws validation classes
    if len(listed) < len(labels):
        absent = len(np.setdiff1d(labels, labels[listed]))
        notes.append(
            f"{len(labels) - len(listed)} rows of {absent} classes that no list in {folder} has "
            "are in no split"
        )
    return PackedSplits(rows, {split: f"{folder}, {split} rows" for split in SPLITS}, 0, (*notes,))


def _class_list(file: Path, classes: PackedClasses) -> IntArray:
    """The classes of a list, ascending; none where the list may be missing."""
    if not file.is_file():
        if file.name == _VAL:
            return np.empty(0, dtype=np.int64)
        raise InputError(f"{file}: no such file, expected {_EXPECTED}")
    return np.unique([classes.number_of(name, str(file)) for name in read_names(file)])


def _check_lists(
    folder: Path, lists: Mapping[str, IntArray], labels: IntArray, classes: PackedClasses
) -> None:
    """Refuse a class in two lists, and a seen class without rows."""
    list_of: dict[int, str] = {}
    for name, own in lists.items():
        for c in own.tolist():
            if list_of.setdefault(c, name) != name:
                raise InputError(
                    f"{folder / name}: found {classes.names[c]!r}, which is also in {list_of[c]}, "
                    "expected each class in one list"
                )
    for name in (_TRAIN, _VAL):
        without = np.setdiff1d(lists[name], labels)
        if len(without):
            raise InputError(
                f"{folder / name}: found {classes.names[without[0]]!r}, which has no rows, "
                "expected rows of every seen class"
            )


def _from_row_lists(path: Path, n: int, counted: CountedFrom) -> PackedSplits:
    found = _row_lists(path)
    fields = {name.removesuffix("_loc"): name for name in found}
    given = {split: found[fields[split]] for split in SPLITS if split in fields}
    where = {split: f"{path}, field '{fields.get(split, f'{split}_loc')}'" for split in SPLITS}
    if not given.keys() & {REQUIRED_SPLIT, "train"}:
        raise InputError(
            f"{where[REQUIRED_SPLIT]}: not found, expected in this file, whose fields are "
            f"{listed_fields([' '.join(name.split()) for name in found])}"
        )
    masks, numbers = dict[str, IntArray](), dict[str, IntArray]()
    for split, values in given.items():
        if values.dtype.kind == "b":
            masks[split] = _rows_of_mask(where[split], values, n)
        else:
            check_numbers(where[split], values)
            numbers[split] = whole_numbers(where[split], values)
    base = 0
    if path.suffix.lower() == ".mat":
        base = 1
    elif numbers:
        every = np.concatenate([*numbers.values()])
        what = f"row numbers for {n} rows"
        base = count_from(every, n, counted, str(path), "--rows-from", what)
    rows = masks | {split: values - base for split, values in numbers.items()}
    if REQUIRED_SPLIT not in rows:
        rows[REQUIRED_SPLIT] = np.concatenate([rows[s] for s in ("train", "val") if s in rows])
    return PackedSplits(rows, where, base)


def _rows_of_mask(where: str, values: NDArray[Any], n: int) -> IntArray:
    if values.shape != (n,):
        raise InputError(
            f"{where}: found a mask of shape {values.shape}, expected one value for each of the "
            f"{n} rows of features"
        )
    return np.flatnonzero(values)


def _row_lists(path: Path) -> dict[str, NDArray[Any]]:
    """The lists of a file by field, those of no split left out where that is cheap."""
    ending = path.suffix.lower()
    if ending == ".json":
        return _json_lists(path)
    names = [name for split in SPLITS for name in (f"{split}_loc", split)]
    if ending == ".mat":
        mat = MatFile(path, (*names,))
        return {name: mat.numbers(name) for name in names if name in mat}
    if ending in ENDINGS:
        file = open_array_file(path)
        return {name: file.find(name).read() for name in names if name in file}
    found = "another ending" if path.exists() else "no such file or folder"
    raise InputError(f"{path}: found {found}, expected {_EXPECTED}")


def _json_lists(path: Path) -> dict[str, NDArray[Any]]:
    expected = "expected an object of lists of row numbers"
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({one_line(error)}), {expected}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, {expected}")
    lists = {}
    for name, values in content.items():
        if name.removesuffix("_loc") not in SPLITS:
            continue
        numbers = isinstance(values, list) and all(isinstance(v, int) for v in values)
        if not numbers or any(abs(v) > 2**53 for v in values):
            raise InputError(f"{path}, field '{name}': found other values, {expected}")
        lists[name] = np.array(values, dtype=None if values else np.int64)
    return lists
