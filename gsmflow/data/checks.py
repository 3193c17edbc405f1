"""What a sound dataset is: every fault and warning, with the file, the field and the rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset, Rows, all_rows, take_rows
from gsmflow.data.patterns import frequent_causes, transposed_semantics
from gsmflow.data.scaling import scale_fault
from gsmflow.data.splits import SPLIT_SEED

__all__ = ["Finding", "check_dataset", "examine_dataset", "settle_splits", "usable_part"]


_VALIDATION_CLASS_SHARE = 0.25


# At most so many class names are listed in a note.
_NAMED_CLASSES = 8


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Finding:
    """Something about a dataset that is wrong, or worth knowing before it is used.

    Attributes
    ----------
    level
        ``"error"``: no run accepts the dataset. ``"warning"``: the user should know.
    about
        The field of `Dataset` that it is about.
    sentence
        What was found; names the file and the field.
    rows, classes
        Zero-based rows ``(m,)`` and classes ``(k,)`` that it is about, all of them; empty where
        it is about the whole field.
    """

    level: Literal["error", "warning"]
    about: str
    sentence: str
    rows: IntArray = field(default_factory=_none)
    classes: IntArray = field(default_factory=_none)


def check_dataset(dataset: Dataset) -> Dataset:
    """Validate a dataset as read, and settle its splits.

    ``train`` and ``val`` are intersected with ``trainval`` (the published index lists reach into
    the test-seen rows); where no validation rows remain, a quarter of the seen classes, drawn
    with a fixed seed, plays validation.

    Returns
    -------
    Dataset
        The same arrays, with settled splits and `Dataset.notes` filled.

    Raises
    ------
    InputError
        At the first fault, naming its file and field.
    """
    notes = [*dataset.notes]
    for finding in examine_dataset(dataset):
        if finding.level == "error":
            raise InputError(finding.sentence)
        notes.append(finding.sentence)
    return replace(settle_splits(dataset), notes=tuple(notes))


def examine_dataset(dataset: Dataset) -> Iterator[Finding]:
    """Everything that `check_dataset` would refuse or note in a dataset as read.

    A check is made as soon as its finding is asked for. Rows that an earlier check found at fault
    are left out of the later ones; where nothing is left to make a check on, it is not made.
    """
    causes = frequent_causes(dataset)
    for name, text in causes:
        yield _error(dataset, name, text)
    # What follows from them is not listed.
    shapes = [] if causes else list(_examine_shapes(dataset))
    yield from shapes
    if not shapes and not causes:
        yield from _examine_labels(dataset)
    yield from _examine_values(dataset)
    if shapes or causes:
        return
    yield from _examine_splits(dataset)
    usable = usable_part(dataset)
    if usable is not None and len(usable.trainval):
        settled, notes = _settle_validation(usable)
        yield from notes
        yield from _examine_classes(settled)
        yield from _examine_dimensions(settled)
        yield from _examine_classes_without_rows(usable)
        yield from _examine_missing_test_rows(usable)
        classes = np.arange(len(usable.class_names))
        absent = np.setdiff1d(classes, np.union1d(usable.seen_classes, usable.unseen_classes))
        if len(absent):
            sentence = f"{len(absent)} of {len(classes)} classes are in no split"
            yield Finding("warning", "labels", sentence, classes=absent)


def _error(dataset: Dataset, name: str, text: str, **indices: IntArray) -> Finding:
    return Finding("error", name, f"{dataset.where(name)}: {text}", **indices)


def _bound(dataset: Dataset) -> str:
    """What the largest number of a row or a class is, for messages."""
    return "the number" if dataset.first_number == 1 else "one less than the number"


def _examine_shapes(dataset: Dataset) -> Iterator[Finding]:
    flawed = [name for name in ("features", "semantics") if not _is_matrix(dataset, name)]
    for name in flawed:
        shape = getattr(dataset, name).shape
        text = f"found an array of shape {shape}, expected a matrix that is not empty"
        yield _error(dataset, name, text)
    if "features" not in flawed:
        n, d = dataset.features.shape
        if d < 2:
            yield _error(dataset, "features", f"found {d} dimension, expected at least 2")
        if dataset.labels.shape != (n,):
            yield _error(
                dataset,
                "labels",
                f"found {dataset.labels.size} labels, "
                f"expected one for each of the {n} rows of features",
            )
    if "semantics" not in flawed and len(dataset.class_names) != len(dataset.semantics):
        text = (
            f"found semantics of {len(dataset.semantics)} classes, expected "
            f"{len(dataset.class_names)}, the number of names in {dataset.where('class_names')}"
        )
        if len(dataset.class_names) == dataset.semantics.shape[1]:
            text += f": {transposed_semantics(dataset.first_number)}"
        yield _error(dataset, "semantics", text)


def _is_matrix(dataset: Dataset, name: str) -> bool:
    values = getattr(dataset, name)
    return values.ndim == 2 and 0 not in values.shape


def _examine_labels(dataset: Dataset) -> Iterator[Finding]:
    classes, base = len(dataset.semantics), dataset.first_number
    counted = _bound(dataset)
    outside = np.flatnonzero((dataset.labels < 0) | (dataset.labels >= classes))
    if len(outside):
        yield _error(
            dataset,
            "labels",
            f"found class {dataset.labels[outside[0]] + base} in row {outside[0] + base}, expected "
            f"{base} to {classes + base - 1}, {counted} of classes with semantics",
            rows=outside,
        )


def _examine_values(dataset: Dataset) -> Iterator[Finding]:
    base = dataset.first_number
    for name in ("features", "semantics"):
        if _is_matrix(dataset, name):
            first, count, rows = _not_finite(all_rows(getattr(dataset, name)))
            if count:
                yield _error(
                    dataset,
                    name,
                    f"found {count} values that are NaN or infinite (the first in row "
                    f"{first[0] + base}, dimension {first[1] + base}), expected finite numbers",
                    **{"rows" if name == "features" else "classes": rows},
                )


def _not_finite(rows: Rows) -> tuple[tuple[int, int], int, IntArray]:
    """NaN or infinite values: row and dimension of the first, their count, all their rows."""
    first, count, bad_rows = (0, 0), 0, [_none()]
    for span, slab in rows.slabs():
        finite = np.isfinite(slab)
        if not finite.all():
            bad = np.argwhere(~finite)
            if not count:
                first = int(span.start + bad[0, 0]), int(bad[0, 1])
            count += len(bad)
            bad_rows.append(span.start + np.unique(bad[:, 0]))
    return first, count, np.concatenate(bad_rows)


def _examine_splits(dataset: Dataset) -> Iterator[Finding]:
    n, base = len(dataset.labels), dataset.first_number
    counted = _bound(dataset)
    for name in ("trainval", "train", "val", "test_seen", "test_unseen"):
        rows = getattr(dataset, name)
        outside = rows[(rows < 0) | (rows >= n)]
        if len(outside):
            yield _error(
                dataset,
                name,
                f"found row {outside[0] + base}, expected {base} to {n + base - 1}, {counted} of "
                "rows of features",
                rows=outside,
            )
        values, counts = np.unique(rows, return_counts=True)
        if len(values) != len(rows):
            text = "found a row twice, expected each row once"
            yield _error(dataset, name, text, rows=values[counts > 1])
        if not len(rows) and not _may_be_empty(dataset, name):
            yield _error(dataset, name, "found no rows, expected at least one")
    for name in ("test_seen", "test_unseen"):
        shared = np.intersect1d(dataset.trainval, getattr(dataset, name))
        if len(shared):
            yield _error(
                dataset,
                "trainval",
                f"found {len(shared)} rows that are also in {dataset.where(name)} (the first is "
                f"{shared[0] + base}), expected none: a test row must not be trained on",
                rows=shared,
            )


def _may_be_empty(dataset: Dataset, split: str) -> bool:
    if split == "test_seen":
        return len(dataset.test_unseen) > 0
    if split == "test_unseen":
        # Then the classes that are not trained on are the unseen ones, without test rows.
        return _has_untrained_classes(dataset) and len(dataset.test_seen) > 0
    return split in ("train", "val")


def _has_untrained_classes(dataset: Dataset) -> bool:
    rows = dataset.trainval
    trained = dataset.labels[rows[(rows >= 0) & (rows < len(dataset.labels))]]
    return len(np.setdiff1d(np.arange(len(dataset.semantics)), trained)) > 0


def usable_part(dataset: Dataset) -> Dataset | None:
    """A dataset with splits that name each row once, and only rows that have a class.

    None if its arrays do not belong together, or are numbered otherwise.
    """
    if frequent_causes(dataset) or any(True for _ in _examine_shapes(dataset)):
        return None
    n, classes = len(dataset.labels), len(dataset.semantics)
    sound = (dataset.labels >= 0) & (dataset.labels < classes)

    def keep(rows: IntArray) -> IntArray:
        rows = rows[(rows >= 0) & (rows < n)]
        rows = rows[sound[rows]]
        _, firsts = np.unique(rows, return_index=True)
        return rows[np.sort(firsts)]

    return replace(
        dataset,
        trainval=keep(dataset.trainval),
        train=keep(dataset.train),
        val=keep(dataset.val),
        test_seen=keep(dataset.test_seen),
        test_unseen=keep(dataset.test_unseen),
    )


def settle_splits(dataset: Dataset) -> Dataset:
    """With the splits ``train`` and ``val`` that `check_dataset` would settle on."""
    return _settle_validation(dataset)[0] if len(dataset.trainval) else dataset


def _settle_validation(dataset: Dataset) -> tuple[Dataset, list[Finding]]:
    """With the splits ``train`` and ``val`` that are used, and what to say about them."""
    settled: dict[str, IntArray] = {}
    notes = []
    for name, rows in (("train", dataset.train), ("val", dataset.val)):
        inside = np.isin(rows, dataset.trainval)
        if not inside.all():
            test = np.concatenate([dataset.test_seen, dataset.test_unseen])
            sentence = (
                f"{(~inside).sum()} of {len(rows)} rows of {dataset.where(name)} are not "
                f"in trainval ({np.isin(rows, test).sum()} of them are test rows): left out"
            )
            notes.append(Finding("warning", name, sentence, rows=rows[~inside]))
        settled[name] = np.sort(rows[inside])
    if not len(settled["val"]):
        seen = dataset.seen_classes
        count = max(1, round(_VALIDATION_CLASS_SHARE * len(seen)))
        drawn = np.random.default_rng(SPLIT_SEED).choice(seen, size=count, replace=False)
        is_val = np.isin(dataset.labels[dataset.trainval], drawn)
        settled = {"train": dataset.trainval[~is_val], "val": dataset.trainval[is_val]}
        sentence = (
            f"no validation rows are given in trainval: {count} of {len(seen)} seen classes, "
            "drawn with a fixed seed, play validation"
        )
        notes.append(Finding("warning", "val", sentence, classes=np.sort(drawn)))
    return replace(dataset, train=settled["train"], val=settled["val"]), notes


def _examine_classes(dataset: Dataset) -> Iterator[Finding]:
    names, base = dataset.class_names, dataset.first_number
    seen, unseen = dataset.seen_classes, dataset.unseen_classes
    both = np.intersect1d(seen, unseen)
    if len(both):
        yield _error(
            dataset,
            "trainval",
            f"found rows of class {both[0] + base} ({names[both[0]]}), which is unseen in "
            f"{dataset.where('test_unseen')}, expected none: an unseen class must not be trained "
            "on",
            rows=dataset.trainval[np.isin(dataset.labels[dataset.trainval], both)],
            classes=both,
        )
    untrained = np.setdiff1d(dataset.labels[dataset.test_seen], seen)
    if len(untrained):
        yield _error(
            dataset,
            "test_seen",
            f"found rows of class {untrained[0] + base} ({names[untrained[0]]}), which has no rows "
            f"in {dataset.where('trainval')}, expected training rows for every seen class",
            rows=dataset.test_seen[np.isin(dataset.labels[dataset.test_seen], untrained)],
            classes=untrained,
        )
    yield from _examine_validation_classes(dataset)
    yield from _examine_twins(dataset, seen, np.setdiff1d(unseen, both))


def _examine_twins(dataset: Dataset, seen: IntArray, unseen: IntArray) -> Iterator[Finding]:
    """An error for each seen class with the semantics of an unseen one."""
    names, base = dataset.class_names, dataset.first_number
    values = dataset.semantics + 0.0  # -0.0 becomes 0.0
    unequal = np.isnan(values).any(axis=1)  # to themselves, too
    unseen_of: dict[bytes, list[int]] = {}
    for c in unseen[~unequal[unseen]].tolist():
        unseen_of.setdefault(values[c].tobytes(), []).append(c)
    for a in seen[~unequal[seen]].tolist():
        equal = unseen_of.get(values[a].tobytes(), [])
        if equal:
            yield _error(
                dataset,
                "semantics",
                f"found the same semantics for seen class {a + base} ({names[a]}) and unseen class "
                f"{equal[0] + base} ({names[equal[0]]}), expected semantics that tell them apart",
                classes=np.array([a, *equal]),
            )


def _examine_classes_without_rows(dataset: Dataset) -> Iterator[Finding]:
    bare = dataset.classes_without_rows
    if len(bare):
        named = ", ".join(dataset.class_names[c] for c in bare[:_NAMED_CLASSES])
        more = ", ..." if len(bare) > _NAMED_CLASSES else ""
        sentence = (
            f"{len(bare)} of {len(dataset.class_names)} classes have no rows ({named}{more}): they "
            "are unseen classes, predicted like all others, and there are no test rows for them"
        )
        yield Finding("warning", "labels", sentence, classes=bare)


def _examine_missing_test_rows(dataset: Dataset) -> Iterator[Finding]:
    for split, kind, measured in (
        ("test_seen", "seen", "T1, plain zero-shot learning,"),
        ("test_unseen", "unseen", "S"),
    ):
        if not len(getattr(dataset, split)):
            sentence = (
                f"{dataset.where(split)}: no rows of {kind} classes to evaluate on: {measured} "
                "alone is measured"
            )
            yield Finding("warning", split, sentence)


def _examine_validation_classes(dataset: Dataset) -> Iterator[Finding]:
    names, base = dataset.class_names, dataset.first_number
    train, val = (np.unique(dataset.labels[rows]) for rows in (dataset.train, dataset.val))
    shared = np.intersect1d(train, val)
    if len(shared):
        yield _error(
            dataset,
            "val",
            f"found rows of class {shared[0] + base} ({names[shared[0]]}), which is also in "
            f"{dataset.where('train')}, expected other classes: the validation classes play "
            "unseen",
            rows=dataset.val[np.isin(dataset.labels[dataset.val], shared)],
            classes=shared,
        )
    if len(train) < 2:
        text = f"found rows of {len(train)} classes, expected at least 2"
        yield _error(dataset, "train", text, classes=train)
    if len(train) and len(dataset.train) == len(train):
        yield _error(
            dataset,
            "train",
            "found one row of each class, expected two or more of some class: one of them plays "
            "validation-seen",
        )


def _examine_dimensions(dataset: Dataset) -> Iterator[Finding]:
    lowest, highest = take_rows(dataset, dataset.trainval).extremes()
    of_semantics = dataset.semantics.min(axis=0), dataset.semantics.max(axis=0)
    for name, extremes in (("features", (lowest, highest)), ("semantics", of_semantics)):
        fault = scale_fault(*extremes)
        if fault is not None:
            yield _error(dataset, name, fault)
    constant, d = int((lowest == highest).sum()), len(lowest)
    if constant == d:
        yield _error(
            dataset,
            "features",
            f"found every one of the {d} dimensions constant over the training rows, expected "
            "features that vary",
        )
    elif constant:
        sentence = (
            f"{constant} of {d} feature dimensions are constant over the training rows: "
            "scalings that divide by a spread set them to 0"
        )
        yield Finding("warning", "features", sentence)
