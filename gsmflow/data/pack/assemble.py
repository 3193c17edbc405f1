"""Read all parts of a new dataset, check them together, and write them in the GBU layout."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.text_cells import Header
from gsmflow.data.cache import keep_where_it_fits
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, all_rows
from gsmflow.data.extract.gbu import SEMANTICS, write_features, write_splits
from gsmflow.data.extract.splits import Shares
from gsmflow.data.formats.class_order import check_folders, rows_to_look_at
from gsmflow.data.given_labels import GivenLabels, labels_beside, read_labels
from gsmflow.data.new_rows import NewRows, open_rows
from gsmflow.data.pack.classes import (
    CountedFrom,
    PackedClasses,
    Source,
    label_classes,
    read_classes,
)
from gsmflow.data.pack.splits import PackedSplits, read_splits

__all__ = ["RECORD_FILE", "Packed", "Parts", "read_parts", "write_dataset"]

RECORD_FILE = "pack.json"
_SPLIT_FILE = f"{SEMANTICS}_splits.mat"


@dataclass(frozen=True)
class Parts:
    """Where the parts of a dataset are, and how they are read.

    Attributes
    ----------
    features
        As of `open_rows`.
    labels
        As of `read_labels`; None for those of the features' file, as of `labels_beside`.
    semantics, class_names
        As of `read_classes`.
    splits
        As of `read_splits`.
    test_share
        With lists of classes: the share of the rows of each seen class that become test rows, in
        (0, 1).
    seed
        Seed of that draw, ``>= 0``.
    labels_from, rows_from
        What class numbers and row numbers count from.
    header
        Whether the first line of a ``.csv`` with features is a header.
    """

    features: Source
    labels: Source | None
    semantics: Source
    splits: Path
    class_names: Path | None = None
    test_share: float = 0.2
    seed: int = 0
    labels_from: CountedFrom = "auto"
    rows_from: CountedFrom = "auto"
    header: Header = "auto"


@dataclass(frozen=True, eq=False)
class Packed:
    """A checked dataset that is not written yet.

    Attributes
    ----------
    dataset
        The dataset, with settled splits.
    splits
        The splits as they are to be written.
    row_names
        The name of each row; None if there are none.
    notes
        What the user should know, one sentence each.
    """

    dataset: Dataset
    splits: PackedSplits
    row_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_parts(parts: Parts, name: str, features_name: str, scratch: Path) -> Packed:
    """Read and check all parts of a dataset.

    Parameters
    ----------
    parts
        Where they are.
    name, features_name
        Names of the dataset and of its features.
    scratch
        A file for the features, which are mapped from there, if they are large.

    Raises
    ------
    InputError
        If a part cannot be used, or `check_dataset` refuses them together.
    """
    rows = open_rows(parts.features.path, None, parts.features.field, parts.header)
    classes = read_classes(parts.semantics, parts.class_names)
    given = _read_labels(parts)
    labels = label_classes(given, classes, parts.labels_from)
    if rows.total is not None:
        _check_count(parts, given, len(labels), rows.total)
    shares = Shares(unseen=0, val=0, test=parts.test_share, seed=parts.seed)
    splits = read_splits(parts.splits, labels, classes, shares, parts.rows_from)
    features, row_names = _read_features(parts, rows, given, len(labels), scratch)
    if row_names is not None and classes.names:
        pictures = {
            c: [row_names[row] for row in own] for c, own in rows_to_look_at(labels).items()
        }
        check_folders(classes.names, classes.names_where, pictures, str(parts.features.path))
    dataset = _dataset(parts, name, features_name, features, labels, given, classes, splits)
    notes = [*rows.notes, *classes.notes, *splits.notes]
    if not classes.names:
        notes.append(
            f"{classes.where}: no names of classes are known, they are called "
            f"{dataset.class_names[0]} to {dataset.class_names[-1]}; --class-names gives others"
        )
    return Packed(dataset, splits, row_names, (*notes, *dataset.notes))


def _read_labels(parts: Parts) -> GivenLabels:
    if parts.labels is not None:
        return read_labels(parts.labels.path, parts.labels.field)
    beside = labels_beside(parts.features.path, parts.header)
    if beside is None:
        raise InputError(
            f"--labels: found none, and no labels in {parts.features.path}, expected one of the two"
        )
    return beside


def _check_count(parts: Parts, given: GivenLabels, labels: int, rows: int) -> None:
    if labels != rows:
        raise InputError(
            f"{given.where}: found {labels} labels, expected {rows}, one for each row of "
            f"{parts.features.path}"
        )


def _read_features(
    parts: Parts, rows: NewRows, given: GivenLabels, count: int, scratch: Path
) -> tuple[FloatArray, tuple[str, ...] | None]:
    """Features ``(count, d)``, and the names of the rows if they have some."""
    names: list[str] = []

    def pieces() -> Iterator[FloatArray]:
        done, remaining = 0, rows.pieces()
        for piece in remaining:
            done += len(piece.features)
            if done > count:
                total = done + sum(len(further.features) for further in remaining)
                _check_count(parts, given, count, total)
            names.extend(name for name in piece.names if isinstance(name, str))
            yield piece.features
        _check_count(parts, given, count, done)

    remaining = pieces()
    first = next(remaining)
    keep = keep_where_it_fits(scratch)
    features = keep((count, first.shape[1]), chain([first], remaining))
    for _ in remaining:  # a single piece is not followed to its end
        pass
    return features, (*names,) if names else None


def _dataset(
    parts: Parts,
    name: str,
    features_name: str,
    features: FloatArray,
    labels: IntArray,
    given: GivenLabels,
    classes: PackedClasses,
    splits: PackedSplits,
) -> Dataset:
    count, rows = len(classes.semantics), splits.complete()
    source = {
        "features": str(parts.features.path),
        "labels": given.where,
        "semantics": classes.where,
        "class_names": classes.names_where,
        **splits.where,
    }
    return check_dataset(
        Dataset(
            name=name,
            features=features,
            labels=labels,
            semantics=np.ascontiguousarray(classes.semantics),
            class_names=classes.names or tuple(f"class {c + 1}" for c in range(count)),
            trainval=rows["trainval"],
            train=rows["train"],
            val=rows["val"],
            test_seen=rows["test_seen"],
            test_unseen=rows["test_unseen"],
            features_name=features_name,
            semantics_name=SEMANTICS,
            source=source,
            first_number=splits.first_number,
        )
    )


def write_dataset(packed: Packed, parts: Parts, folder: Path) -> None:
    """Write a dataset in the GBU layout, and ``pack.json``, a record of where it came from.

    Parameters
    ----------
    packed
        The dataset.
    parts
        Where its parts were.
    folder
        An existing folder.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    dataset = packed.dataset
    write_features(
        folder / f"{dataset.features_name}.mat",
        (len(dataset.features), dataset.features.shape[1]),
        (slab for _, slab in all_rows(dataset.features).slabs()),
        dataset.labels,
        packed.row_names,
    )
    write_splits(
        folder / _SPLIT_FILE,
        dataset.semantics,
        dataset.class_names,
        {f"{split}_loc": rows for split, rows in packed.splits.rows.items()},
    )
    write_json(folder / RECORD_FILE, _record(packed, parts))


def _record(packed: Packed, parts: Parts) -> dict[str, Any]:
    """Where the dataset came from, JSON-ready."""
    source: Callable[[str], str] = packed.dataset.where
    drawn = parts.splits.is_dir()
    return {
        "features": source("features"),
        "labels": source("labels"),
        "semantics": source("semantics"),
        "class_names": source("class_names"),
        "splits": str(parts.splits),
        "test_share": parts.test_share if drawn else None,
        "seed": parts.seed if drawn else None,
        "rows": {split: len(rows) for split, rows in packed.splits.rows.items()},
    }
