"""The E-PGN format (Yu et al., CVPR 2020; CUB and FLO only), in MATLAB files.

``data.mat`` has ``train_fea, test_seen_fea, test_unseen_fea (n, d)``, ``seen_pro (seen, a)``,
``unseen_pro (unseen, a)`` and ``att_train (n, a)``; ``label.mat`` has ``train_idx,
test_seen_idex, test_unseen_idex``. Despite their names these are one-based class labels, one per
row. A list numbers the rows of ``seen_pro`` or of ``unseen_pro``, or those of
``attribute (classes, a)``, which has all classes: so does ``test_seen_idex`` of the published FLO.
Both fields of a test split may be missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.checks import Finding
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.base import Choices, Format, Keep, Refuse, try_field
from gsmflow.data.formats.gbu import read_semantics, semantics_file
from gsmflow.data.formats.matlab import MatFile, open_mat
from gsmflow.data.patterns import transposed_features, transposed_semantics

__all__ = ["FORMAT"]


class _Split(NamedTuple):
    """A split of a dataset: the fields of its features and of its labels."""

    features: str
    labels: str
    unseen: bool = False
    needed: bool = False


_SPLITS = (
    _Split("train_fea", "train_idx", needed=True),
    _Split("test_seen_fea", "test_seen_idex"),
    _Split("test_unseen_fea", "test_unseen_idex", unseen=True),
)

# The field of the semantics of all classes, which may be missing.
_ALL = "attribute"

# Semantics of one class that are stored twice differ by no more than this.
_TOLERANCE = 1e-5


def _files(folder: Path, features: str, semantics: str) -> tuple[Path, ...]:
    return folder / "data.mat", folder / "label.mat"


def _matches(folder: Path) -> bool:
    return all(file.is_file() for file in _files(folder, "", ""))


def _choices(folder: Path) -> Choices:
    return Choices(features=None, semantics=None)


def _read(
    folder: Path, *, features: str, semantics: str, keep: Keep, refuse: Refuse
) -> Dataset | None:
    """Read a dataset; as of `Read`.

    The seen classes come first, in the order of ``seen_pro``, then the unseen ones in the order
    of ``unseen_pro``. The format names no validation classes: `check_dataset` draws them.
    """
    data_file, label_file = _files(folder, features, semantics)
    faults: list[Finding] = []

    def refuse_here(finding: Finding) -> None:
        faults.append(finding)
        refuse(finding)

    attempt = partial(try_field, refuse_here)
    fields = tuple(split.features for split in _SPLITS)
    large, needed = (*fields, "att_train"), (fields[0], "seen_pro", "unseen_pro")
    data = attempt("features", lambda: open_mat(data_file, needed, (*large, _ALL), large))
    lists = tuple(split.labels for split in _SPLITS)
    label = attempt("labels", lambda: open_mat(label_file, lists[:1], lists[1:]))
    if data is None or label is None:
        return None
    seen = attempt("semantics", lambda: data.matrix("seen_pro"))
    unseen = attempt("semantics", lambda: data.matrix("unseen_pro"))
    if seen is None or unseen is None:
        return None
    if seen.shape[1] != unseen.shape[1]:
        refuse_here(_other_dimensions(data, seen.shape, unseen.shape))
        if seen.shape[0] == unseen.shape[0]:  # what labels number is not known
            return None
    given = [s for s in _SPLITS if s.needed or s.features in data or s.labels in label]
    labels, notes = _read_labels(data, label, given, (seen, unseen), refuse_here)
    if not faults:
        attempt("semantics", lambda: _check_att_train(data, seen, labels[_SPLITS[0]]))
    if faults:
        return None
    d = data.shape(fields[0])[1]
    pieces = chain.from_iterable(data.pieces(split.features) for split in given)
    values = attempt("features", lambda: keep((sum(map(len, labels.values())), d), pieces))
    if values is None:
        return None
    of_split = [labels.get(split, np.empty(0, dtype=np.int64)) for split in _SPLITS]
    dataset = _dataset(folder.name, data, label, values, of_split, (seen, unseen))
    return replace(dataset, notes=tuple(notes))


def _read_labels(
    data: MatFile,
    label: MatFile,
    given: Sequence[_Split],
    semantics: tuple[FloatArray, FloatArray],
    refuse: Refuse,
) -> tuple[dict[_Split, IntArray], list[str]]:
    """The classes of the rows of each split that is given, seen ones first, and notes on them.

    A split whose labels or features cannot be read is left out.
    """
    attempt, (seen, unseen) = partial(try_field, refuse), semantics
    shapes = [attempt("features", partial(data.shape, split.features)) for split in given]
    described = attempt("semantics", lambda: data.matrix(_ALL)) if _ALL in data else None
    listed = [attempt("labels", partial(label.indices, split.labels)) for split in given]
    labels: dict[_Split, IntArray] = {}
    notes: list[str] = []
    transposed = _transposed(data, given, shapes, listed)
    if transposed is not None:
        refuse(transposed)
    for split, shape, numbers in zip(given, shapes, listed, strict=True):
        if numbers is not None and shape is not None:
            if transposed is None:  # else all faults of shapes follow from it
                d = (shapes[0] or shape)[1]
                for finding in _split_faults(data, label, split, len(numbers), d):
                    refuse(finding)
            where, own = label.where(split.labels), unseen if split.unseen else seen
            read = partial(_read_classes, where, split, numbers, own, described, notes)
            classes = attempt("labels", read)
            if classes is not None:
                labels[split] = classes + (len(seen) if split.unseen else 0)
    return labels, notes


def _other_dimensions(data: MatFile, seen: tuple[int, ...], unseen: tuple[int, ...]) -> Finding:
    """What is wrong with semantics of seen and of unseen classes that differ in length."""
    text = f"found {unseen[1]} dimensions, expected {seen[1]} as in seen_pro"
    if seen[0] == unseen[0]:
        text = (
            f"found {unseen[1]} columns beside {seen[1]} in seen_pro and {seen[0]} rows in both, "
            f"expected a row for each class: {transposed_semantics(0)}"
        )
    return Finding("error", "semantics", f"{data.where('unseen_pro')}: {text}")


def _transposed(
    data: MatFile,
    given: Sequence[_Split],
    shapes: Sequence[tuple[int, int] | None],
    listed: Sequence[IntArray | None],
) -> Finding | None:
    """The splits whose features are transposed, as one fault; None if there are none."""
    found = [
        (split.features, shape)
        for split, shape, numbers in zip(given, shapes, listed, strict=True)
        if shape is not None and numbers is not None and shape[0] != len(numbers) == shape[1]
    ]
    if not found:
        return None
    (first, shape), *others = found
    text = transposed_features(shape, "row", [field for field, _ in others])
    return Finding("error", "features", f"{data.where(first)}: {text}")


def _split_faults(
    data: MatFile, label: MatFile, split: _Split, count: int, first_dim: int
) -> Iterator[Finding]:
    """What is wrong with the number of a split's labels and the shape of its features."""
    n, d = data.shape(split.features)
    if n != count:
        text = f"found {count} labels, expected {n}, one for each row of {split.features}"
        yield Finding("error", "labels", f"{label.where(split.labels)}: {text}")
    if d != first_dim:
        text = f"found {d} dimensions, expected {first_dim} as in {_SPLITS[0].features}"
        yield Finding("error", "features", f"{data.where(split.features)}: {text}")


def _read_classes(
    where: str,
    split: _Split,
    numbers: IntArray,
    own: FloatArray,
    described: FloatArray | None,
    notes: list[str],
) -> IntArray:
    """The class of each row of a split, as row of its semantics, ``(n,)``.

    Parameters
    ----------
    where
        The file and the field of the labels, for messages.
    split
        The split.
    numbers
        Its labels from 0, ``(n,)``: rows of ``own`` or of ``described``.
    own
        ``seen_pro`` or ``unseen_pro``, ``(k, a)``.
    described
        ``attribute``, ``(classes, a)``, if it is there.
    notes
        Gets a sentence if the labels fit both and mean other classes.

    Raises
    ------
    InputError
        If the labels fit neither.
    """
    count, field = len(own), "unseen_pro" if split.unseen else "seen_pro"
    outside = numbers[(numbers < 0) | (numbers >= count)]
    others = None if described is None else _take(_rows_in(own, described), numbers)
    if not len(outside):
        if others is not None and not np.array_equal(others, numbers):
            notes.append(
                f"{where}: numbers that fit rows of {field} and of {_ALL} are read as rows of "
                f"{field}"
            )
        return numbers
    if others is None:
        known = "" if described is None else f", or rows of {_ALL} that are also in {field}"
        from_0 = numbers.min() == -1 and numbers.max() < count - 1
        remedy = "; they count from 0: add 1 to them" if from_0 else ""
        raise InputError(
            f"{where}: found class {outside[0] + 1}, expected 1 to {count}, rows of {field}{known}"
            f"{remedy}"
        )
    return others


def _rows_in(own: FloatArray, described: FloatArray) -> IntArray:
    """For each row of ``described`` the first equal row of ``own``, -1 where there is none."""
    if own.shape[1] != described.shape[1]:
        return np.full(len(described), -1, dtype=np.int64)
    equal = np.array([np.isclose(own, row, atol=_TOLERANCE).all(axis=1) for row in described])
    return np.where(equal.any(axis=1), equal.argmax(axis=1), -1)


def _take(rows: IntArray, numbers: IntArray) -> IntArray | None:
    """``rows[numbers]``, if all of the numbers name a row that is there."""
    if ((numbers < 0) | (numbers >= len(rows))).any():
        return None
    taken: IntArray = rows[numbers]
    return None if (taken < 0).any() else taken


def _dataset(
    name: str,
    data: MatFile,
    label: MatFile,
    features: FloatArray,
    labels: list[IntArray],
    semantics: tuple[FloatArray, FloatArray],
) -> Dataset:
    """The dataset of three splits, from its features, their labels, and seen and unseen semantics.

    Classes and rows are numbered in the order in which they stand here.
    """
    seen, unseen = semantics
    ends = np.cumsum([len(classes) for classes in labels])
    trainval, test_seen, test_unseen = np.split(np.arange(ends[-1]), ends[:-1])
    none = np.empty(0, dtype=np.int64)
    fields = [split.features for split in _SPLITS]
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
            "labels": f"{label.path}, fields {', '.join(split.labels for split in _SPLITS)}",
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
        wrong = start + np.flatnonzero(~np.isclose(piece, expected, atol=_TOLERANCE).all(axis=1))
        if len(wrong):
            raise InputError(
                f"{data.where('att_train')}: found semantics in row {wrong[0] + 1} that are not "
                f"those of its class {labels[wrong[0]] + 1} in seen_pro, expected labels that "
                "number the rows of seen_pro"
            )
        start += len(piece)


FORMAT = Format(
    name="E-PGN",
    layout="the E-PGN layout (data.mat and label.mat)",
    matches=_matches,
    choices=_choices,
    files=_files,
    read=_read,
    semantics_file=semantics_file,
    read_semantics=read_semantics,
)
