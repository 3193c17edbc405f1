"""The E-PGN format (Yu et al., CVPR 2020): ``data.mat`` and ``label.mat``."""

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
from gsmflow.data.formats.matlab import Keep, MatFile, Refuse, try_field

__all__ = ["EPGN_LABELS", "read_epgn"]


EPGN_LABELS = "label.mat"


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


def read_epgn(name: str, files: tuple[Path, ...], keep: Keep, refuse: Refuse) -> Dataset | None:
    """Read a dataset in the E-PGN layout.

    The seen classes come first, in the order of ``seen_pro``, then the unseen ones in the order
    of ``unseen_pro``. The layout names no validation classes: `check_dataset` draws them.
    """
    data_file, label_file = files
    faults: list[Finding] = []

    def refuse_here(finding: Finding) -> None:
        faults.append(finding)
        refuse(finding)

    attempt = partial(try_field, refuse_here)
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
