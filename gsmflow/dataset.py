"""What a dataset is: features, labels, class semantics and splits, checked once at the door.

A `Dataset` holds everything that was read. Code that learns never sees it: it is handed a
`Problem`, which carries the training rows of one GZSL problem and no row to be judged on.
Held-out rows come from `open_held_out` alone, so that one call site decides when the test
split is opened.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsmflow.errors import InputError

__all__ = [
    "Dataset",
    "Finding",
    "FloatArray",
    "HeldOut",
    "IntArray",
    "Problem",
    "Rows",
    "Split",
    "all_rows",
    "check_dataset",
    "draw_fifth",
    "draw_from_each_class",
    "examine_dataset",
    "fingerprint",
    "hold_out",
    "open_held_out",
    "redraw_validation",
    "row_slices",
    "settle_splits",
    "shuffle_each_class",
    "training_problem",
    "usable_part",
]

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Split: TypeAlias = Literal["validation", "test"]

# Which rows play validation-seen, and which classes play validation where a dataset names none,
# must not change with a run's seed: otherwise two seeds would be judged on different problems.
_SPLIT_SEED = 20210
_HELD_OUT_SHARE = 0.2
_VALIDATION_CLASS_SHARE = 0.25

# So many class names are said in a note.
_NAMED_CLASSES = 8

# Whatever reads all features reads so much of them at a time, so that no copy of their full size
# is made on the way.
_SLAB_BYTES = 2**24


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


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


def fingerprint(problem: Problem) -> str:
    """What tells a problem from others: a checksum of its rows, their labels and all semantics."""
    value = 0
    for _, slab in problem.train.slabs():
        value = zlib.crc32(slab.tobytes(), value)
    for array in (problem.train.labels, problem.semantics):
        value = zlib.crc32(array.tobytes(), value)
    return f"{value:08x}"


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


def redraw_validation(dataset: Dataset, draw: int) -> Dataset:
    """The dataset with other validation classes, as many as its own, drawn from the seen ones.

    Draws that follow one another have no class in common, as long as the seen classes last; then
    all of them are shuffled and parted anew.

    Parameters
    ----------
    dataset
        A checked dataset.
    draw
        Which draw, from 0 upwards; 0 is the dataset's own.
    """
    if draw == 0:
        return dataset
    seen, count = dataset.seen_classes, len(np.unique(dataset.labels[dataset.val]))
    turn, part = divmod(draw - 1, len(seen) // count)
    order = np.random.default_rng([_SPLIT_SEED, turn]).permutation(seen)
    is_val = np.isin(dataset.labels[dataset.trainval], order[part * count : (part + 1) * count])
    return replace(dataset, train=dataset.trainval[~is_val], val=dataset.trainval[is_val])


def _take(dataset: Dataset, rows: IntArray) -> Rows:
    return Rows(dataset.features, dataset.labels[rows], rows)


def _split_validation_seen(dataset: Dataset) -> tuple[IntArray, IntArray]:
    """Part the ``train`` rows, class by class: rows to fit on, rows that play validation-seen.

    Every class keeps at least one row to fit on; a class of a single row lends none.
    """
    held_out = draw_fifth(dataset.labels[dataset.train])
    return dataset.train[~held_out], dataset.train[held_out]


def hold_out(problem: Problem) -> tuple[Problem, Rows]:
    """Part a problem's training rows, class by class: a problem of most of them, and the others.

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
    kept, held = (problem.train.select(np.flatnonzero(own)) for own in (~held_out, held_out))
    return replace(problem, train=kept), held


def draw_fifth(labels: IntArray) -> NDArray[np.bool_]:
    """Which rows ``(n,)`` are held out: a fifth of each class, drawn with a fixed seed."""

    def count(rows: int) -> int:
        return min(max(1, round(_HELD_OUT_SHARE * rows)), rows - 1)

    return draw_from_each_class(labels, count, np.random.default_rng(_SPLIT_SEED))


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
    _, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    counts = np.array([count(int(size)) for size in sizes], dtype=np.int64)
    return shuffle_each_class(labels, rng) < counts[own]


def shuffle_each_class(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Place of each row, from 0, in a random order of its class's rows.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    rng
        Source of the order.

    Returns
    -------
    IntArray
        ``(n,)``; the rows of a place below ``k`` are a draw of ``k`` rows of each class.
    """
    places = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == c))
        places[members] = np.arange(len(members))
    return places


def repeat_each_class(labels: IntArray, count: int) -> IntArray:
    """Numbers of rows such that every class has so many, of the rows that there are.

    Parameters
    ----------
    labels
        Class of each row, ``(n,)``.
    count
        Rows of each class; a class that has more keeps them all.

    Returns
    -------
    IntArray
        Ascending places in their classes, one of every class after the other: each row as often as
        any other of its class, to within one.
    """
    rows = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    repeated = [np.resize(own, max(count, len(own))) for own in rows]
    places = np.concatenate([np.arange(len(own)) for own in repeated])
    return np.concatenate(repeated)[np.argsort(places, kind="stable")]


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
    """All that `check_dataset` would refuse or note in a dataset as read.

    A check is made as soon as its finding is asked for. Rows that an earlier check found at fault
    are left out of the later ones; where nothing is left to make a check on, it is not made.
    """
    shapes = list(_examine_shapes(dataset))
    yield from shapes
    if not shapes:
        yield from _examine_labels(dataset)
    yield from _examine_values(dataset)
    if shapes:
        return
    yield from _examine_splits(dataset)
    usable = usable_part(dataset)
    if usable is not None and len(usable.trainval):
        settled, notes = _settle_validation(usable)
        yield from notes
        yield from _examine_classes(settled)
        yield from _examine_constant_dimensions(settled)
        yield from _examine_classes_without_rows(usable)
        classes = np.arange(len(usable.class_names))
        absent = np.setdiff1d(classes, np.union1d(usable.seen_classes, usable.unseen_classes))
        if len(absent):
            sentence = f"{len(absent)} of {len(classes)} classes are in no split"
            yield Finding("warning", "labels", sentence, classes=absent)


def _error(dataset: Dataset, name: str, text: str, **places: IntArray) -> Finding:
    return Finding("error", name, f"{dataset.where(name)}: {text}", **places)


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
        yield _error(
            dataset,
            "semantics",
            f"found semantics of {len(dataset.semantics)} classes, expected "
            f"{len(dataset.class_names)}, the number of names in {dataset.where('class_names')}",
        )


def _is_matrix(dataset: Dataset, name: str) -> bool:
    values = getattr(dataset, name)
    return values.ndim == 2 and 0 not in values.shape


def _examine_labels(dataset: Dataset) -> Iterator[Finding]:
    classes = len(dataset.semantics)
    outside = np.flatnonzero((dataset.labels < 0) | (dataset.labels >= classes))
    if len(outside):
        yield _error(
            dataset,
            "labels",
            f"found class {dataset.labels[outside[0]] + 1} in row {outside[0] + 1}, expected 1 to "
            f"{classes}, the number of classes with semantics",
            rows=outside,
        )


def _examine_values(dataset: Dataset) -> Iterator[Finding]:
    for name in ("features", "semantics"):
        if _is_matrix(dataset, name):
            first, count, rows = _not_finite(all_rows(getattr(dataset, name)))
            if count:
                yield _error(
                    dataset,
                    name,
                    f"found {count} values that are NaN or infinite (the first in row "
                    f"{first[0] + 1}, dimension {first[1] + 1}), expected finite numbers",
                    **{"rows" if name == "features" else "classes": rows},
                )


def _not_finite(rows: Rows) -> tuple[tuple[int, int], int, IntArray]:
    """NaN or infinite values: row and dimension of the first, their count, all their rows."""
    first, count, places = (0, 0), 0, [_none()]
    for part, slab in rows.slabs():
        finite = np.isfinite(slab)
        if not finite.all():
            bad = np.argwhere(~finite)
            if not count:
                first = int(part.start + bad[0, 0]), int(bad[0, 1])
            count += len(bad)
            places.append(part.start + np.unique(bad[:, 0]))
    return first, count, np.concatenate(places)


def _examine_splits(dataset: Dataset) -> Iterator[Finding]:
    n = len(dataset.labels)
    for name in ("trainval", "train", "val", "test_seen", "test_unseen"):
        rows = getattr(dataset, name)
        outside = rows[(rows < 0) | (rows >= n)]
        if len(outside):
            yield _error(
                dataset,
                name,
                f"found row {outside[0] + 1}, expected 1 to {n}, the number of rows of features",
                rows=outside,
            )
        values, counts = np.unique(rows, return_counts=True)
        if len(values) != len(rows):
            text = "found a row twice, expected each row once"
            yield _error(dataset, name, text, rows=values[counts > 1])
        may_be_empty = name in ("train", "val") or (
            # Then the classes without rows are the unseen ones, and nothing judges them.
            name == "test_unseen" and len(dataset.classes_without_rows)
        )
        if not len(rows) and not may_be_empty:
            yield _error(dataset, name, "found no rows, expected at least one")
    for name in ("test_seen", "test_unseen"):
        shared = np.intersect1d(dataset.trainval, getattr(dataset, name))
        if len(shared):
            yield _error(
                dataset,
                "trainval",
                f"found {len(shared)} rows that are also in {dataset.where(name)} (the first is "
                f"{shared[0] + 1}), expected none: a test row must not be trained on",
                rows=shared,
            )


def usable_part(dataset: Dataset) -> Dataset | None:
    """A dataset with splits that name each row once, and only rows that have a class.

    None if its arrays do not belong together.
    """
    if any(True for _ in _examine_shapes(dataset)):
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
        drawn = np.random.default_rng(_SPLIT_SEED).choice(seen, size=count, replace=False)
        is_val = np.isin(dataset.labels[dataset.trainval], drawn)
        settled = {"train": dataset.trainval[~is_val], "val": dataset.trainval[is_val]}
        sentence = (
            f"no validation rows are given in trainval: {count} of {len(seen)} seen classes, "
            "drawn with a fixed seed, play validation"
        )
        notes.append(Finding("warning", "val", sentence, classes=np.sort(drawn)))
    return replace(dataset, train=settled["train"], val=settled["val"]), notes


def _examine_classes(dataset: Dataset) -> Iterator[Finding]:
    names, seen, unseen = dataset.class_names, dataset.seen_classes, dataset.unseen_classes
    both = np.intersect1d(seen, unseen)
    if len(both):
        yield _error(
            dataset,
            "trainval",
            f"found rows of class {both[0] + 1} ({names[both[0]]}), which is unseen in "
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
            f"found rows of class {untrained[0] + 1} ({names[untrained[0]]}), which has no rows "
            f"in {dataset.where('trainval')}, expected training rows for every seen class",
            rows=dataset.test_seen[np.isin(dataset.labels[dataset.test_seen], untrained)],
            classes=untrained,
        )
    yield from _examine_validation_classes(dataset)
    unseen = np.setdiff1d(unseen, both)
    for a in seen:
        twins = unseen[(dataset.semantics[unseen] == dataset.semantics[a]).all(axis=1)]
        if len(twins):
            yield _error(
                dataset,
                "semantics",
                f"found the same semantics for seen class {a + 1} ({names[a]}) and unseen class "
                f"{twins[0] + 1} ({names[twins[0]]}), expected semantics that tell them apart",
                classes=np.append(a, twins),
            )


def _examine_classes_without_rows(dataset: Dataset) -> Iterator[Finding]:
    bare = dataset.classes_without_rows
    if len(bare):
        named = ", ".join(dataset.class_names[c] for c in bare[:_NAMED_CLASSES])
        more = ", ..." if len(bare) > _NAMED_CLASSES else ""
        sentence = (
            f"{len(bare)} of {len(dataset.class_names)} classes have no rows ({named}{more}): they "
            "are unseen classes, answers like all others, and nothing judges how well they are told"
        )
        yield Finding("warning", "labels", sentence, classes=bare)


def _examine_validation_classes(dataset: Dataset) -> Iterator[Finding]:
    names = dataset.class_names
    train, val = (np.unique(dataset.labels[rows]) for rows in (dataset.train, dataset.val))
    shared = np.intersect1d(train, val)
    if len(shared):
        yield _error(
            dataset,
            "val",
            f"found rows of class {shared[0] + 1} ({names[shared[0]]}), which is also in "
            f"{dataset.where('train')}, expected classes of their own: the validation classes "
            "play unseen",
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


def _examine_constant_dimensions(dataset: Dataset) -> Iterator[Finding]:
    lowest, highest = _take(dataset, dataset.trainval).extremes()
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
