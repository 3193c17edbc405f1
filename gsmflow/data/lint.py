"""Lint warnings: what a run accepts in a dataset, and its owner should look at all the same."""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.data.checks import Finding
from gsmflow.data.dataset import Dataset, all_rows

__all__ = ["FEW_ROWS", "find_warnings", "first_equal_rows"]

# With fewer rows, one of them moves a class's accuracy by more than a quarter.
FEW_ROWS = 4


def find_warnings(dataset: Dataset) -> Iterator[Finding]:
    """Warnings about a dataset beside those of `examine_dataset`.

    Parameters
    ----------
    dataset
        As read, with splits as `usable_part` gives them.
    """
    yield from _lint_names(dataset)
    yield from _lint_semantics(dataset)
    yield from _lint_dimensions(dataset)
    yield from _lint_features(dataset)
    yield from _lint_splits(dataset)
    yield from _lint_counts(dataset)


def first_equal_rows(features: FloatArray) -> IntArray:
    """For each row of features ``(n, d)``, the first row that equals it, ``(n,)``."""
    firsts: dict[bytes, int] = {}
    first = np.empty(len(features), dtype=np.int64)
    for span, slab in all_rows(features).slabs():
        for row, values in enumerate(slab + 0.0, span.start):  # -0.0 becomes 0.0
            digest = hashlib.blake2b(values.tobytes(), digest_size=16).digest()
            first[row] = firsts.setdefault(digest, row)
    return first


def _warning(dataset: Dataset, about: str, text: str, **indices: IntArray) -> Finding:
    return Finding("warning", about, f"{dataset.where(about)}: {text}", **indices)


def _named(dataset: Dataset, c: int) -> str:
    return f"class {c + dataset.first_number} ({dataset.class_names[c]})"


def _lint_names(dataset: Dataset) -> Iterator[Finding]:
    names, counts = np.unique(dataset.class_names, return_counts=True)
    repeated = np.flatnonzero(np.isin(dataset.class_names, names[counts > 1]))
    if len(repeated):
        name = dataset.class_names[repeated[0]]
        text = f"found {len(repeated)} classes that share a name with another (the first: {name})"
        yield _warning(dataset, "class_names", text, classes=repeated)


def _lint_semantics(dataset: Dataset) -> Iterator[Finding]:
    empty = np.flatnonzero(~dataset.semantics.any(axis=1))
    if len(empty):
        text = (
            f"found {len(empty)} classes whose semantics are all 0 (the first: "
            f"{_named(dataset, empty[0])}): nothing describes them"
        )
        yield _warning(dataset, "semantics", text, classes=empty)
    # Twins of which one is seen and one is unseen are an error.
    unseen = np.isin(np.arange(len(dataset.semantics)), dataset.unseen_classes)
    for kind, is_kind in (("seen", ~unseen), ("unseen", unseen)):
        members = np.setdiff1d(np.flatnonzero(is_kind), empty)
        _, inverse, counts = np.unique(
            dataset.semantics[members], axis=0, return_inverse=True, return_counts=True
        )
        duplicates = members[counts[inverse] > 1]
        if len(duplicates):
            other = members[inverse == inverse[members == duplicates[0]]][1]
            text = (
                f"found {len(duplicates)} {kind} classes with the semantics of another one (the "
                f"first: {_named(dataset, duplicates[0])} and {_named(dataset, other)}): their "
                "semantics do not distinguish them"
            )
            yield _warning(dataset, "semantics", text, classes=duplicates)


def _lint_dimensions(dataset: Dataset) -> Iterator[Finding]:
    a = dataset.semantics.shape[1]
    everywhere = _constant(dataset.semantics)
    if everywhere.any():
        text = (
            f"found {everywhere.sum()} of {a} dimensions that are the same for every class: they "
            "distinguish none"
        )
        yield _warning(dataset, "semantics", text)
    seen = dataset.semantics[dataset.seen_classes]
    if len(seen):
        unlearned = _constant(seen) & ~everywhere
        if unlearned.any():
            text = (
                f"found {unlearned.sum()} of {a} dimensions that vary, but not among the seen "
                "classes: their meaning cannot be learned"
            )
            yield _warning(dataset, "semantics", text)


def _constant(rows: FloatArray) -> NDArray[np.bool_]:
    """Which dimensions are the same in all rows, ``(d,)``."""
    same: NDArray[np.bool_] = (rows == rows[0]).all(axis=0)
    return same


def _lint_features(dataset: Dataset) -> Iterator[Finding]:
    base = dataset.first_number
    slabs = all_rows(dataset.features).slabs()
    empty = np.concatenate([span.start + np.flatnonzero(~x.any(axis=1)) for span, x in slabs])
    if len(empty):
        text = f"found {len(empty)} rows that are all 0 (the first: row {empty[0] + base})"
        yield _warning(dataset, "features", text, rows=empty)
    first = first_equal_rows(dataset.features)
    again = np.setdiff1d(np.flatnonzero(first != np.arange(len(first))), empty)
    if len(again):
        of_others = dataset.labels[again] != dataset.labels[first[again]]
        text = (
            f"found {len(again)} rows that repeat an earlier one (the first: row {again[0] + base} "
            f"repeats row {first[again[0]] + base}), {of_others.sum()} of them under another class"
        )
        yield _warning(dataset, "features", text, rows=again)
    for name in ("test_seen", "test_unseen"):
        rows = np.setdiff1d(getattr(dataset, name), np.append(dataset.trainval, empty))
        leaked = rows[np.isin(first[rows], first[dataset.trainval])]
        if len(leaked):
            text = (
                f"found {len(leaked)} rows whose features are those of a training row (the first: "
                f"row {leaked[0] + base}): the model is trained on them"
            )
            yield _warning(dataset, name, text, rows=leaked)


def _lint_splits(dataset: Dataset) -> Iterator[Finding]:
    base = dataset.first_number
    used = np.concatenate([dataset.trainval, dataset.test_seen, dataset.test_unseen])
    unused = np.setdiff1d(np.arange(len(dataset.labels)), used)
    if len(unused):
        text = f"found {len(unused)} rows in no split (the first: row {unused[0] + base})"
        yield _warning(dataset, "labels", text, rows=unused)
    if len(dataset.val):
        left = np.setdiff1d(dataset.trainval, np.append(dataset.train, dataset.val))
        if len(left):
            text = (
                f"found {len(left)} rows that are in neither {dataset.where('train')} nor "
                f"{dataset.where('val')} (the first: row {left[0] + base}): they are not used to "
                "choose settings"
            )
            yield _warning(dataset, "trainval", text, rows=left)


def _lint_counts(dataset: Dataset) -> Iterator[Finding]:
    seen = dataset.seen_classes
    unseen = np.setdiff1d(dataset.unseen_classes, dataset.classes_without_rows)
    kinds = (
        ("trainval", seen, "seen classes with fewer than {few} training rows"),
        ("test_seen", seen, "seen classes with fewer than {few} test rows"),
        ("test_unseen", unseen, "unseen classes with fewer than {few} rows"),
    )
    for name, classes, kind in kinds:
        rows = getattr(dataset, name)
        if not len(rows):
            continue  # said by `examine_dataset`
        counts = np.bincount(dataset.labels[rows], minlength=len(dataset.semantics))[classes]
        short = counts < FEW_ROWS
        if short.any():
            least = classes[np.argmin(counts)]
            text = (
                f"found {short.sum()} {kind.format(few=FEW_ROWS)} (the fewest: "
                f"{_named(dataset, least)} with {counts.min()})"
            )
            yield _warning(dataset, name, text, classes=classes[short])
