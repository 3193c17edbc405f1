"""What a dataset is: features, labels, class semantics and splits, checked once at the door.

A `Dataset` holds everything that was read. Code that learns never sees it: it is handed a
`Problem`, which carries the training rows of one GZSL problem and no row to be judged on.
Held-out rows come from `open_held_out` alone, so that one call site decides when the test
split is opened.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.errors import InputError

__all__ = [
    "Dataset",
    "FloatArray",
    "HeldOut",
    "IntArray",
    "Problem",
    "Rows",
    "Split",
    "all_rows",
    "check_dataset",
    "draw_from_each_class",
    "open_held_out",
    "row_slices",
    "training_problem",
]

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Split: TypeAlias = Literal["validation", "test"]

# Which rows play validation-seen, and which classes play validation where a dataset names none,
# must not change with a run's seed: otherwise two seeds would be judged on different problems.
_SPLIT_SEED = 20210
_VALIDATION_SEEN_SHARE = 0.2
_VALIDATION_CLASS_SHARE = 0.25

# So many class names are said in a note.
_NAMED_CLASSES = 8

# Whatever reads all features reads so much of them at a time, so that no copy of their full size
# is made on the way.
_SLAB_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class Dataset:
    """A GZSL dataset: one row per image, one semantics vector per class, and index splits.

    Attributes
    ----------
    name
        The dataset's name, as printed in tables.
    features
        Image features, ``(n, d)``.
    labels
        Zero-based class of every row, ``(n,)``, in ``[0, classes)``.
    semantics
        Description of every class (attributes, sentence vectors), ``(classes, a)``.
    class_names
        One name per class.
    trainval, train, val, test_seen, test_unseen
        Zero-based rows. ``train`` and ``val`` part ``trainval`` by class: the classes of ``val``
        play unseen while hyperparameters are chosen. Both may be empty on input to
        `check_dataset`, which then draws validation classes. ``test_unseen`` may be empty where
        there are classes without rows, which are unseen then.
    features_name, semantics_name
        Which features and semantics these are, as printed in tables.
    source
        Where each field was read, for error messages: field name to ``"file, field"``.
    notes
        What `check_dataset` found worth a warning, one sentence each.
    from_cache
        Whether it was read from a cache instead of its files.
    """

    name: str
    features: FloatArray
    labels: IntArray
    semantics: FloatArray
    class_names: tuple[str, ...]
    trainval: IntArray
    train: IntArray
    val: IntArray
    test_seen: IntArray
    test_unseen: IntArray
    features_name: str = "features"
    semantics_name: str = "semantics"
    source: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    from_cache: bool = False

    @property
    def seen_classes(self) -> IntArray:
        """Classes with training rows, ascending, ``(seen,)``."""
        return np.unique(self.labels[self.trainval])

    @property
    def unseen_classes(self) -> IntArray:
        """Classes that are not trained on, ascending, ``(unseen,)``.

        Those of the test, and those that have semantics and no row at all: they are answers too,
        though nothing judges them.
        """
        return np.union1d(self.labels[self.test_unseen], self.classes_without_rows)

    @property
    def classes_without_rows(self) -> IntArray:
        """Classes that are described and have no row in any split or outside, ascending."""
        return np.setdiff1d(np.arange(len(self.semantics)), self.labels)

    def where(self, name: str) -> str:
        """The place a field was read from, for messages."""
        return self.source.get(name, f"{self.name}, {name}")


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled image features, which stay where they are until some of them are asked for.

    Attributes
    ----------
    source
        Where the features lie, ``(rows, d)``; a memory map if they may be larger than memory.
    labels
        Zero-based class of every row, ``(n,)``.
    index
        The rows of ``source`` that these are, ``(n,)``; None for all of them.
    """

    source: FloatArray
    labels: IntArray
    index: IntArray | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        d: int = self.source.shape[1]
        return d

    @property
    def features(self) -> FloatArray:
        """All features in memory, ``(n, d)``: a copy, unless these rows are all of ``source``."""
        if self.index is None:
            return self.source
        features = np.empty((len(self), self.feature_dim), dtype=self.source.dtype)
        for rows, slab in self.slabs():
            features[rows] = slab
        return features

    def slabs(self) -> Iterator[tuple[slice, FloatArray]]:
        """All features in order, as many rows ``(m, d)`` at a time as are handled with ease."""
        for rows in row_slices(len(self), self.feature_dim * self.source.itemsize):
            features = self.source[rows] if self.index is None else self._gather(self.index[rows])
            yield rows, features

    def take(self, rows: IntArray) -> FloatArray:
        """Features ``(m, d)`` of the rows named ``(m,)``, in their order, in memory."""
        return self._gather(self._index_of(rows))

    def select(self, rows: IntArray) -> "Rows":
        """The rows named ``(m,)``, in their order."""
        return Rows(self.source, self.labels[rows], self._index_of(rows))

    def extremes(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest value of each dimension, ``(d,)`` each."""
        pairs = [(slab.min(axis=0), slab.max(axis=0)) for _, slab in self.slabs()]
        lowest, highest = zip(*pairs, strict=True)
        return np.minimum.reduce(lowest), np.maximum.reduce(highest)

    def _index_of(self, rows: IntArray) -> IntArray:
        return rows if self.index is None else self.index[rows]

    def _gather(self, index: IntArray) -> FloatArray:
        if not isinstance(self.source, np.memmap) or (index[1:] >= index[:-1]).all():
            return self.source[index]
        order = np.argsort(index, kind="stable")  # a disk is read fastest from front to back
        features = np.empty((len(index), self.feature_dim), dtype=np.float32)
        features[order] = self.source[index[order]]
        return features


def all_rows(features: FloatArray) -> Rows:
    """Rows of features ``(n, d)`` whose labels do not matter: all are 0."""
    return Rows(features, np.zeros(len(features), dtype=np.int64))


def row_slices(rows: int, row_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """Part rows into consecutive slabs of bounded size; a slab of no rows where there are none.

    Parameters
    ----------
    rows
        How many rows there are.
    row_bytes
        Size of one row.
    multiple
        Slabs but the last have a multiple of so many rows, unless that is far above the bound.
    """
    step = max(1, _SLAB_BYTES // max(1, row_bytes))
    if multiple <= 4 * step:
        step = max(multiple, step // multiple * multiple)
    for start in range(0, max(1, rows), step):
        yield slice(start, min(start + step, rows))


@dataclass(frozen=True, eq=False)
class Problem:
    """What a model may learn from: training rows of seen classes, and semantics of all classes.

    Attributes
    ----------
    split
        ``"test"``: trainval rows, the dataset's unseen classes. ``"validation"``: most rows of
        the training classes, with the validation classes playing unseen.
    train
        Training rows, labels in ``seen_classes``.
    semantics
        ``(classes, a)``, for every class of the dataset.
    class_names
        One name per class of the dataset.
    seen_classes, unseen_classes
        Disjoint, ascending class numbers.
    """

    split: Split
    train: Rows
    semantics: FloatArray
    class_names: tuple[str, ...]
    seen_classes: IntArray
    unseen_classes: IntArray

    @property
    def classes(self) -> IntArray:
        """Seen then unseen classes; the column order of GZSL scores, ``(seen + unseen,)``."""
        return np.concatenate([self.seen_classes, self.unseen_classes])


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that a `Problem` is judged on, apart by whether their class was seen."""

    seen: Rows
    unseen: Rows


def training_problem(dataset: Dataset, split: Split) -> Problem:
    """The training side of one GZSL problem; reads no row of either test split.

    Parameters
    ----------
    dataset
        A checked dataset.
    split
        ``"validation"`` to choose settings, ``"test"`` to train the final model.
    """
    if split == "test":
        rows, unseen = dataset.trainval, dataset.unseen_classes
    else:
        rows, _ = _split_validation_seen(dataset)
        unseen = np.unique(dataset.labels[dataset.val])
    return Problem(
        split=split,
        train=_take(dataset, rows),
        semantics=dataset.semantics,
        class_names=dataset.class_names,
        seen_classes=np.unique(dataset.labels[rows]),
        unseen_classes=unseen,
    )


def open_held_out(dataset: Dataset, split: Split) -> HeldOut:
    """The rows to be judged on; ``split="test"`` opens the test split."""
    if split == "test":
        return HeldOut(_take(dataset, dataset.test_seen), _take(dataset, dataset.test_unseen))
    _, validation_seen = _split_validation_seen(dataset)
    return HeldOut(_take(dataset, validation_seen), _take(dataset, dataset.val))


def _take(dataset: Dataset, rows: IntArray) -> Rows:
    return Rows(dataset.features, dataset.labels[rows], rows)


def _split_validation_seen(dataset: Dataset) -> tuple[IntArray, IntArray]:
    """Part the ``train`` rows, class by class: rows to fit on, rows that play validation-seen.

    Every class keeps at least one row to fit on; a class of a single row lends none.
    """

    def count(rows: int) -> int:
        return min(max(1, round(_VALIDATION_SEEN_SHARE * rows)), rows - 1)

    rng = np.random.default_rng(_SPLIT_SEED)
    held_out = draw_from_each_class(dataset.labels[dataset.train], count, rng)
    return dataset.train[~held_out], dataset.train[held_out]


def draw_from_each_class(
    labels: IntArray, count: Callable[[int], int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw rows class by class.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    count
        How many to draw of a class with so many rows.
    rng
        Source of the draw.

    Returns
    -------
    NDArray
        Which rows were drawn, ``(n,)``.
    """
    drawn = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == c))
        drawn[members[: count(len(members))]] = True
    return drawn


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
    _check_arrays(dataset)
    _check_splits(dataset)
    notes = [*dataset.notes]
    dataset = _settle_validation(dataset, notes)
    _check_classes(dataset)
    _note_constant_dimensions(dataset, notes)
    bare = dataset.classes_without_rows
    if len(bare):
        named = ", ".join(dataset.class_names[c] for c in bare[:_NAMED_CLASSES])
        more = ", ..." if len(bare) > _NAMED_CLASSES else ""
        notes.append(
            f"{len(bare)} of {len(dataset.class_names)} classes have no rows ({named}{more}): they "
            "are unseen classes, answers like all others, and nothing judges how well they are told"
        )
    absent = len(dataset.class_names) - len(dataset.seen_classes) - len(dataset.unseen_classes)
    if absent:
        notes.append(f"{absent} of {len(dataset.class_names)} classes are in no split")
    return replace(dataset, notes=tuple(notes))


def _check_arrays(dataset: Dataset) -> None:
    n, d = _matrix_shape(dataset, "features")
    classes, _ = _matrix_shape(dataset, "semantics")
    if d < 2:
        raise InputError(f"{dataset.where('features')}: found {d} dimension, expected at least 2")
    if dataset.labels.shape != (n,):
        raise InputError(
            f"{dataset.where('labels')}: found {dataset.labels.size} labels, "
            f"expected one for each of the {n} rows of features"
        )
    if len(dataset.class_names) != classes:
        raise InputError(
            f"{dataset.where('semantics')}: found semantics of {classes} classes, expected "
            f"{len(dataset.class_names)}, the number of names in {dataset.where('class_names')}"
        )
    outside = np.flatnonzero((dataset.labels < 0) | (dataset.labels >= classes))
    if len(outside):
        raise InputError(
            f"{dataset.where('labels')}: found class {dataset.labels[outside[0]] + 1} in row "
            f"{outside[0] + 1}, expected 1 to {classes}, the number of classes with semantics"
        )
    for name in ("features", "semantics"):
        values = getattr(dataset, name)
        first, count = _not_finite(all_rows(values))
        if count:
            raise InputError(
                f"{dataset.where(name)}: found {count} values that are NaN or infinite (the "
                f"first in row {first[0] + 1}, dimension {first[1] + 1}), expected finite numbers"
            )


def _not_finite(rows: Rows) -> tuple[tuple[int, int], int]:
    """Row and dimension of the first value that is NaN or infinite, and how many there are."""
    first, count = (0, 0), 0
    for part, slab in rows.slabs():
        finite = np.isfinite(slab)
        if not finite.all():
            bad = np.argwhere(~finite)
            if not count:
                first = int(part.start + bad[0, 0]), int(bad[0, 1])
            count += len(bad)
    return first, count


def _matrix_shape(dataset: Dataset, name: str) -> tuple[int, int]:
    values = getattr(dataset, name)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(
            f"{dataset.where(name)}: found an array of shape {values.shape}, "
            "expected a matrix that is not empty"
        )
    return values.shape[0], values.shape[1]


def _check_splits(dataset: Dataset) -> None:
    n = len(dataset.labels)
    for name in ("trainval", "train", "val", "test_seen", "test_unseen"):
        rows = getattr(dataset, name)
        outside = rows[(rows < 0) | (rows >= n)]
        if len(outside):
            raise InputError(
                f"{dataset.where(name)}: found row {outside[0] + 1}, expected 1 to {n}, "
                "the number of rows of features"
            )
        if len(np.unique(rows)) != len(rows):
            raise InputError(f"{dataset.where(name)}: found a row twice, expected each row once")
        may_be_empty = name in ("train", "val") or (
            # Then the classes without rows are the unseen ones, and nothing judges them.
            name == "test_unseen" and len(dataset.classes_without_rows)
        )
        if not len(rows) and not may_be_empty:
            raise InputError(f"{dataset.where(name)}: found no rows, expected at least one")
    for name in ("test_seen", "test_unseen"):
        shared = np.intersect1d(dataset.trainval, getattr(dataset, name))
        if len(shared):
            raise InputError(
                f"{dataset.where('trainval')}: found {len(shared)} rows that are also in "
                f"{dataset.where(name)} (the first is {shared[0] + 1}), expected none: "
                "a test row must not be trained on"
            )


def _settle_validation(dataset: Dataset, notes: list[str]) -> Dataset:
    settled: dict[str, IntArray] = {}
    for name, rows in (("train", dataset.train), ("val", dataset.val)):
        inside = rows[np.isin(rows, dataset.trainval)]
        if len(inside) < len(rows):
            test = np.concatenate([dataset.test_seen, dataset.test_unseen])
            notes.append(
                f"{len(rows) - len(inside)} of {len(rows)} rows of {dataset.where(name)} are not "
                f"in trainval ({np.isin(rows, test).sum()} of them are test rows): left out"
            )
        settled[name] = np.sort(inside)
    if not len(settled["val"]):
        seen = dataset.seen_classes
        count = max(1, round(_VALIDATION_CLASS_SHARE * len(seen)))
        drawn = np.random.default_rng(_SPLIT_SEED).choice(seen, size=count, replace=False)
        is_val = np.isin(dataset.labels[dataset.trainval], drawn)
        settled = {"train": dataset.trainval[~is_val], "val": dataset.trainval[is_val]}
        notes.append(
            f"no validation rows are given in trainval: {count} of {len(seen)} seen classes, "
            "drawn with a fixed seed, play validation"
        )
    return replace(dataset, train=settled["train"], val=settled["val"])


def _check_classes(dataset: Dataset) -> None:
    names, seen, unseen = dataset.class_names, dataset.seen_classes, dataset.unseen_classes
    both = np.intersect1d(seen, unseen)
    if len(both):
        raise InputError(
            f"{dataset.where('trainval')}: found rows of class {both[0] + 1} ({names[both[0]]}), "
            f"which is unseen in {dataset.where('test_unseen')}, expected none: "
            "an unseen class must not be trained on"
        )
    untrained = np.setdiff1d(dataset.labels[dataset.test_seen], seen)
    if len(untrained):
        raise InputError(
            f"{dataset.where('test_seen')}: found rows of class {untrained[0] + 1} "
            f"({names[untrained[0]]}), which has no rows in {dataset.where('trainval')}, "
            "expected training rows for every seen class"
        )
    train, val = (np.unique(dataset.labels[rows]) for rows in (dataset.train, dataset.val))
    shared = np.intersect1d(train, val)
    if len(shared):
        raise InputError(
            f"{dataset.where('val')}: found rows of class {shared[0] + 1} ({names[shared[0]]}), "
            f"which is also in {dataset.where('train')}, expected classes of their own: "
            "the validation classes play unseen"
        )
    if len(train) < 2:
        raise InputError(
            f"{dataset.where('train')}: found rows of {len(train)} classes, expected at least 2"
        )
    if len(dataset.train) == len(train):
        raise InputError(
            f"{dataset.where('train')}: found one row of each class, expected two or more of some "
            "class: one of them plays validation-seen"
        )
    for a in seen:
        twins = unseen[(dataset.semantics[unseen] == dataset.semantics[a]).all(axis=1)]
        if len(twins):
            raise InputError(
                f"{dataset.where('semantics')}: found the same semantics for seen class {a + 1} "
                f"({names[a]}) and unseen class {twins[0] + 1} ({names[twins[0]]}), expected "
                "semantics that tell them apart"
            )


def _note_constant_dimensions(dataset: Dataset, notes: list[str]) -> None:
    lowest, highest = _take(dataset, dataset.trainval).extremes()
    constant, d = int((lowest == highest).sum()), len(lowest)
    if constant == d:
        raise InputError(
            f"{dataset.where('features')}: found every one of the {d} dimensions constant over "
            "the training rows, expected features that vary"
        )
    if constant:
        notes.append(
            f"{constant} of {d} feature dimensions are constant over the training rows: "
            "scalings that divide by a spread set them to 0"
        )
