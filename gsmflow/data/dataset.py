"""What a dataset is: features, labels, class semantics and splits, checked once at the door.

A `Dataset` holds everything that was read. Code that learns never sees it: it is handed a
`Problem`, which carries the training rows of one GZSL problem and no row to be evaluated on.
Held-out rows come from `open_held_out` alone, so that one call site decides when the test
split is opened.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray, row_slices
from gsmflow.core.errors import InputError
from gsmflow.data.splits import SPLIT_SEED, draw_fifth

__all__ = [
    "Dataset",
    "HeldOut",
    "Problem",
    "Rows",
    "Split",
    "all_rows",
    "fingerprint",
    "hold_out",
    "open_held_out",
    "redraw_validation",
    "take_rows",
    "training_problem",
]

Split: TypeAlias = Literal["validation", "test"]


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
        Zero-based rows. ``train`` and ``val`` split ``trainval`` by class: the classes of ``val``
        play unseen while hyperparameters are chosen. Both may be empty on input to
        `check_dataset`, which then draws validation classes. ``test_seen`` may be empty, too: then
        T1 alone is measured. So may ``test_unseen``: then classes without training rows are unseen,
        and S alone is measured.
    features_name, semantics_name
        Which features and semantics these are, as printed in tables.
    semantics_parts
        Lengths of the embeddings that were joined to the semantics, each scaled to length 1;
        empty for a single one.
    source
        Where each field was read, for error messages: field name to ``"file, field"``.
    first_number
        The number of the first row and of the first class in the files, for messages: 1 or 0.
    notes
        What `check_dataset` found worth a warning, one sentence each.
    from_cache
        Whether it was read from a cache instead of its files.
    separate_encoders
        What made features and semantics, for messages, where a record says that it was not one
        image-text encoder; empty otherwise.
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
    semantics_parts: tuple[int, ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)
    first_number: int = 1
    notes: tuple[str, ...] = ()
    from_cache: bool = False
    separate_encoders: str = ""

    @property
    def seen_classes(self) -> IntArray:
        """Classes with training rows, ascending, ``(seen,)``."""
        return np.unique(self.labels[self.trainval])

    @property
    def unseen_classes(self) -> IntArray:
        """Classes that are not trained on, ascending, ``(unseen,)``.

        Those with test rows, and those that have semantics and no row at all: they are predicted
        too, though there are no test rows for them. Without any test rows of unseen classes, all
        classes without training rows.
        """
        if not len(self.test_unseen):
            return np.setdiff1d(np.arange(len(self.semantics)), self.seen_classes)
        return np.union1d(self.labels[self.test_unseen], self.classes_without_rows)

    @property
    def classes_without_rows(self) -> IntArray:
        """Classes that are described and have no row in any split or outside, ascending."""
        return np.setdiff1d(np.arange(len(self.semantics)), self.labels)

    def where(self, name: str) -> str:
        """The file and the field that something was read from, for messages."""
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

    def slabs(self, columns: int = 0) -> Iterator[tuple[slice, FloatArray]]:
        """All features in order, as many rows ``(m, d)`` at a time as are handled with ease.

        With many ``columns`` of numbers to compute of each row, as class scores are, fewer rows.
        """
        row_bytes = self.feature_dim * self.source.itemsize
        for rows in row_slices(len(self), row_bytes, columns=columns):
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
    separate_encoders
        As of the `Dataset`.
    """

    split: Split
    train: Rows
    semantics: FloatArray
    class_names: tuple[str, ...]
    seen_classes: IntArray
    unseen_classes: IntArray
    separate_encoders: str = ""

    @property
    def classes(self) -> IntArray:
        """Seen then unseen classes; the column order of GZSL scores, ``(seen + unseen,)``."""
        return np.concatenate([self.seen_classes, self.unseen_classes])


def fingerprint(problem: Problem) -> str:
    """A checksum of a problem's rows, their labels and all semantics."""
    value = 0
    for _, slab in problem.train.slabs():
        value = zlib.crc32(slab.tobytes(), value)
    for array in (problem.train.labels, problem.semantics):
        value = zlib.crc32(array.tobytes(), value)
    return f"{value:08x}"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that a `Problem` is evaluated on, split by whether their class was seen."""

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
        train=take_rows(dataset, rows),
        semantics=dataset.semantics,
        class_names=dataset.class_names,
        seen_classes=np.unique(dataset.labels[rows]),
        unseen_classes=unseen,
        separate_encoders=dataset.separate_encoders,
    )


def open_held_out(dataset: Dataset, split: Split) -> HeldOut:
    """The rows to evaluate on; ``split="test"`` opens the test split."""
    if split == "test":
        return HeldOut(
            take_rows(dataset, dataset.test_seen), take_rows(dataset, dataset.test_unseen)
        )
    _, validation_seen = _split_validation_seen(dataset)
    return HeldOut(take_rows(dataset, validation_seen), take_rows(dataset, dataset.val))


def redraw_validation(dataset: Dataset, draw: int) -> Dataset:
    """The dataset with other validation classes, as many as it has, drawn from the seen ones.

    Draws that follow one another have no class in common, as long as the seen classes last; then
    all of them are shuffled and split anew.

    Parameters
    ----------
    dataset
        A checked dataset.
    draw
        Which draw, from 0 upwards; 0 gives the dataset's validation classes.
    """
    if draw == 0:
        return dataset
    seen, count = dataset.seen_classes, len(np.unique(dataset.labels[dataset.val]))
    turn, block = divmod(draw - 1, len(seen) // count)
    order = np.random.default_rng([SPLIT_SEED, turn]).permutation(seen)
    is_val = np.isin(dataset.labels[dataset.trainval], order[block * count : (block + 1) * count])
    return replace(dataset, train=dataset.trainval[~is_val], val=dataset.trainval[is_val])


def take_rows(dataset: Dataset, rows: IntArray) -> Rows:
    """The rows ``(m,)`` of a dataset, with their labels; features are not read."""
    return Rows(dataset.features, dataset.labels[rows], rows)


def _split_validation_seen(dataset: Dataset) -> tuple[IntArray, IntArray]:
    """Split the ``train`` rows, class by class: rows to fit on, rows that play validation-seen.

    Every class keeps at least one row to fit on; a class of a single row lends none.
    """
    held_out = draw_fifth(dataset.labels[dataset.train])
    return dataset.train[~held_out], dataset.train[held_out]


def hold_out(problem: Problem) -> tuple[Problem, Rows]:
    """Split a problem's training rows, class by class: a problem of most of them, and the others.

    The fixed fifth that is held out plays seen rows that nothing was fitted on; every class keeps
    at least one row to fit on.

    Raises
    ------
    InputError
        If no class has a row to lend.
    """
    held_out = draw_fifth(problem.train.labels)
    if not held_out.any():
        raise InputError(
            "training rows: found one row of each seen class, expected two or more of some class: "
            "one of them is held out"
        )
    kept, held = (problem.train.select(np.flatnonzero(mask)) for mask in (~held_out, held_out))
    return replace(problem, train=kept), held
