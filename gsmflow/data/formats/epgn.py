"""The E-PGN format (Yu et al., CVPR 2020; CUB and FLO only), in MATLAB files.

``data.mat`` has ``train_fea, test_seen_fea, test_unseen_fea (n, d)``, ``seen_pro (seen, a)``,
``unseen_pro (unseen, a)`` and ``att_train (n, a)``; ``label.mat`` has ``train_idx,
test_seen_idex, test_unseen_idex``. Despite their names these are one-based class labels, one per
row; seen and unseen classes are numbered separately, in the row order of ``seen_pro`` and
``unseen_pro``.
"""

from collections.abc import Iterator
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
from gsmflow.data.formats.gbu import read_semantics
from gsmflow.data.formats.matlab import MatFile

__all__ = ["FORMAT"]


class _Split(NamedTuple):
    """A split of a dataset: the fields of its features and of its labels."""

    features: str
    labels: str
    unseen: bool = False


_SPLITS = (
    _Split("train_fea", "train_idx"),
    _Split("test_seen_fea", "test_seen_idex"),
    _Split("test_unseen_fea", "test_unseen_idex", unseen=True),
)


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
    large = (*fields, "att_train")
    data = attempt(
        "features", lambda: MatFile(data_file, (*large, "seen_pro", "unseen_pro"), large)
    )
    label = attempt("labels", lambda: MatFile(label_file, tuple(split.labels for split in _SPLITS)))
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
    for split, shape in zip(_SPLITS, shapes, strict=True):
        classes = attempt("labels", partial(label.indices, split.labels))
        if classes is not None and shape is not None:
            count = len(unseen if split.unseen else seen)
            d = (shapes[0] or shape)[1]
            for finding in _split_faults(data, label, split, classes, count, d):
                refuse_here(finding)
            labels.append(classes + (len(seen) if split.unseen else 0))
    if not faults:
        attempt("semantics", lambda: _check_att_train(data, seen, labels[0]))
    if faults:
        return None
    d = data.shape(fields[0])[1]
    pieces = chain.from_iterable(data.pieces(field) for field in fields)
    values = attempt("features", lambda: keep((sum(map(len, labels)), d), pieces))
    if values is None:
        return None
    return _dataset(folder.name, data, label, values, labels, (seen, unseen))


def _split_faults(
    data: MatFile, label: MatFile, split: _Split, classes: IntArray, count: int, first_dim: int
) -> Iterator[Finding]:
    """What is wrong with a split's labels ``(n,)``, of ``count`` classes, and its features."""
    n, d = data.shape(split.features)
    if n != len(classes):
        text = f"found {len(classes)} labels, expected {n}, one for each row of {split.features}"
        yield Finding("error", "labels", f"{label.where(split.labels)}: {text}")
    if d != first_dim:
        text = f"found {d} dimensions, expected {first_dim} as in {_SPLITS[0].features}"
        yield Finding("error", "features", f"{data.where(split.features)}: {text}")
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        text = f"found class {outside[0] + 1}, expected 1 to {count}"
        yield Finding("error", "labels", f"{label.where(split.labels)}: {text}")


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
        wrong = start + np.flatnonzero(~np.isclose(piece, expected, atol=1e-5).all(axis=1))
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
    read_semantics=read_semantics,
)
