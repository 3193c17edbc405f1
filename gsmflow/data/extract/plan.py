"""Match pictures with class descriptions and splits, and assemble the dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import path_text
from gsmflow.core.nearest import such_as
from gsmflow.data.checks import check_dataset
from gsmflow.data.class_names import class_key, without_own_id
from gsmflow.data.class_table import read_names
from gsmflow.data.dataset import Dataset
from gsmflow.data.extract.descriptions import Descriptions
from gsmflow.data.extract.existing import (
    Existing,
    match_pictures,
    stand_in_features,
)
from gsmflow.data.extract.gbu import SEMANTICS
from gsmflow.data.extract.images import Skipped, find_images, walk_files
from gsmflow.data.extract.splits import Shares, choose_classes, split_rows
from gsmflow.data.splits import places_among

__all__ = [
    "SPLITS",
    "ExtractionPlan",
    "assemble",
    "check_plan",
    "plan_pictures",
    "plan_pictures_like",
    "plan_reuse",
    "plan_reuse_like",
    "planned_splits",
]

SPLITS = ("trainval", "train", "val", "test_seen", "test_unseen")


@dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """Everything that is known before any image is read.

    Attributes
    ----------
    source
        The folder of images, or that of a dataset whose features are used again.
    described
        The classes and their descriptions.
    names
        The picture of each row, ``(n,)``, as the dataset will list it; None where it is not known.
    labels
        Class of each row, ``(n,)``.
    paths
        The image file of each row, below ``source``; none for features that are used again.
    index
        The row of each row in the dataset whose features are used again, ``(n,)``; None for all.
    skipped
        Entries of the folder of images that are left out.
    unseen
        The unseen classes that a file names, and that file; None if they are drawn.
    splits
        The rows of each split of another dataset; None if they are drawn.
    missing
        The pictures of that other dataset's rows that are not found.
    """

    source: Path
    described: Descriptions
    names: tuple[str, ...] | None
    labels: IntArray
    paths: tuple[Path, ...] = ()
    index: IntArray | None = None
    skipped: tuple[Skipped, ...] = ()
    unseen: tuple[frozenset[int], Path] | None = None
    splits: Mapping[str, IntArray] | None = None
    missing: tuple[str, ...] = ()


def plan_pictures(images: Path, described: Descriptions, unseen: Path | None) -> ExtractionPlan:
    """Find images and match the classes; rows are sorted by class and then by name.

    Parameters
    ----------
    images
        Folder as for `find_images`.
    described
        The classes.
    unseen
        File with one unseen class on each line; None to draw the unseen classes.

    Raises
    ------
    InputError
        If one of them cannot be used, or if a folder of images or an unseen class has no
        description.
    """
    folder = find_images(images)
    numbers = _numbers_of([path_text(Path(name)) for name in folder.classes], images, described)
    files = dict(zip(numbers, folder.files, strict=True))
    order = sorted(files)
    paths = tuple(path for c in order for path in files[c])
    return ExtractionPlan(
        source=images,
        described=described,
        names=tuple(map(path_text, paths)),
        labels=np.repeat(np.array(order, dtype=np.int64), [len(files[c]) for c in order]),
        paths=paths,
        skipped=folder.skipped,
        unseen=_read_unseen(unseen, described),
    )


def plan_reuse(
    reused: Existing, described: Descriptions | None, unseen: Path | None
) -> ExtractionPlan:
    """Take all rows of a dataset, in their order, and match the classes.

    Parameters
    ----------
    reused
        The dataset whose features are used again.
    described
        The classes; None for those of the dataset, with their semantics.
    unseen
        As in `plan_pictures`.

    Raises
    ------
    InputError
        If a class with rows or an unseen class has no description.
    """
    described, dataset = described or reused.described, reused.dataset
    have_rows = np.unique(dataset.labels)
    numbers = _numbers_of([dataset.class_names[c] for c in have_rows], reused.folder, described)
    return ExtractionPlan(
        source=reused.folder,
        described=described,
        names=reused.files,
        labels=np.array(numbers, dtype=np.int64)[np.searchsorted(have_rows, dataset.labels)],
        unseen=_read_unseen(unseen, described),
    )


def plan_pictures_like(
    images: Path, like: Existing, described: Descriptions | None
) -> ExtractionPlan:
    """Find the pictures of a dataset's rows, at any depth, and take its classes and splits.

    Parameters
    ----------
    images
        Folder with the pictures.
    like
        The dataset.
    described
        The classes; None for the semantics of the dataset.

    Raises
    ------
    InputError
        If the dataset does not list its pictures, none of them is found, or one is found twice;
        or if ``described`` has other classes.
    """
    if not images.is_dir():
        raise InputError(f"{images}: no such folder, expected one with the pictures")
    paths = [file.relative_to(images) for file in walk_files(images)]
    whole = images.resolve()  # a picture may lie right in the folder
    files = [path_text(whole / path) for path in paths]
    plan = _plan_like(images, files, [*map(path_text, paths)], like, described)
    assert plan.index is not None
    return replace(plan, paths=tuple(paths[i] for i in plan.index), index=None)


def plan_reuse_like(
    reused: Existing, like: Existing, described: Descriptions | None
) -> ExtractionPlan:
    """Find a dataset's rows among those of another, and take the former's classes and splits.

    Parameters
    ----------
    reused
        The dataset whose features are used again.
    like, described
        As in `plan_pictures_like`.

    Raises
    ------
    InputError
        As `plan_pictures_like`.
    """
    files = reused.expect_files("--reuse")
    return _plan_like(reused.folder, files, files, like, described)


def _plan_like(
    source: Path,
    files: Sequence[str],
    listed: Sequence[str],
    like: Existing,
    described: Descriptions | None,
) -> ExtractionPlan:
    """The rows of a dataset that are among files; ``index`` says which each of them is.

    ``listed`` has the files as they are listed where they are left out.
    """
    dataset, wanted = like.dataset, like.expect_files("--like")
    found = match_pictures(wanted, f"--like {like.folder}", files, str(source))
    kept = np.flatnonzero(found >= 0)
    if not len(kept):
        raise InputError(
            f"{source}: found none of the {len(wanted)} pictures of {like.folder}, expected some, "
            f"such as {wanted[0]}: pictures are matched by the ends of their paths"
        )
    missing = tuple(wanted[row] for row in np.flatnonzero(found < 0))
    unused = sorted(listed[i] for i in {*range(len(files))} - {*found.tolist()})
    return ExtractionPlan(
        source=source,
        described=_in_order(described, like) if described else like.described,
        names=tuple(wanted[row] for row in kept),
        labels=dataset.labels[kept],
        index=found[kept],
        skipped=(
            *(Skipped(Path(file), f"not found in {source}") for file in missing),
            *(Skipped(Path(file), f"in no row of {like.folder}") for file in unused),
        ),
        splits={name: places_among(getattr(dataset, name), kept) for name in SPLITS},
        missing=missing,
    )


def _in_order(described: Descriptions, like: Existing) -> Descriptions:
    """Descriptions of a dataset's classes in their order; raise `InputError` for other ones."""
    names = like.dataset.class_names
    order = _numbers_of(names, like.folder, described)
    others = sorted({*range(len(described.names))} - {*order})
    if others:
        raise InputError(
            f"{described.source}: found {described.names[others[0]]}, expected only classes of "
            f"{like.folder}{such_as(described.names[others[0]], names)}"
        )
    attributes = None if described.attributes is None else described.attributes[order]
    texts = tuple(described.texts[c] for c in order) if described.texts else ()
    return Descriptions(described.source, names, attributes, texts)


def _numbers_of(names: Sequence[str], where: Path, described: Descriptions) -> list[int]:
    """The number of each class that has pictures, among those described."""
    number = {class_key(name): c for c, name in enumerate(described.names)}
    for name in names:
        if class_key(name) not in number:
            raise InputError(
                f"{described.source}: found no description of {name}, expected one for each class "
                f"in {where}{such_as(name, described.names)}"
            )
    return [number[class_key(name)] for name in names]


def _read_unseen(file: Path | None, described: Descriptions) -> tuple[frozenset[int], Path] | None:
    """Numbers of the classes that a file names."""
    if file is None:
        return None
    number = {class_key(name): c for c, name in enumerate(described.names)}
    numbers = set()
    for name in read_names(file):
        c = number.get(class_key(name), number.get(class_key(without_own_id(name))))
        if c is None:
            raise InputError(
                f"{file}: found {name}, expected the name of a class of {described.source}"
                f"{such_as(name, described.names)}"
            )
        numbers.add(c)
    return frozenset(numbers), file


def check_plan(plan: ExtractionPlan, shares: Shares) -> None:
    """Check classes and splits before hours of extraction.

    Raises
    ------
    InputError
        As `planned_splits` and `assemble` would if all files were readable pictures.
    """
    semantics = plan.described.attributes
    if semantics is None:  # the texts are encoded later
        semantics = np.eye(len(plan.described.names), dtype=np.float32)
    rows = np.arange(len(plan.labels))
    splits = planned_splits(plan, shares, rows)
    features = stand_in_features(len(rows))
    assemble(plan, rows, splits, features, semantics, name="", features_name="")


def planned_splits(plan: ExtractionPlan, shares: Shares, kept: IntArray) -> Mapping[str, IntArray]:
    """The splits of the rows that are kept: those of another dataset, or drawn.

    Parameters
    ----------
    plan
        The classes and rows.
    shares
        Sizes of the splits of classes and rows that are drawn.
    kept
        The rows of the plan that can be read, ascending, ``(m,)``.

    Returns
    -------
    Mapping
        Rows among the ``m`` by name of the split.

    Raises
    ------
    InputError
        If there are too few classes or pictures.
    """
    if plan.splits is not None:
        return {name: places_among(rows, kept) for name, rows in plan.splits.items()}
    unseen, unseen_source = plan.unseen or (None, Path("--unseen-share"))
    labels = plan.labels[kept]
    counts = np.bincount(labels, minlength=len(plan.described.names))
    classes = choose_classes(counts, unseen, shares)
    if len(classes.train) < 2:
        seen = len(classes.train) + len(classes.val)
        raise InputError(
            f"{plan.source}: found {np.count_nonzero(counts)} classes with pictures, {seen} of "
            "them seen, expected at least 3 seen ones: two for training and one for validation"
        )
    if not len(classes.unseen):
        raise InputError(
            f"{unseen_source}: found no unseen class, expected at least one: one of those in "
            f"{plan.source}, or one in {plan.described.source} that has no pictures"
        )
    return split_rows(labels, classes, shares)


def assemble(
    plan: ExtractionPlan,
    kept: IntArray,
    splits: Mapping[str, IntArray],
    features: FloatArray,
    semantics: FloatArray,
    *,
    name: str,
    features_name: str,
) -> Dataset:
    """Put the dataset together, and check it.

    Parameters
    ----------
    plan
        The classes and rows.
    kept
        The rows of the plan that can be read, ``(m,)``.
    splits
        Their splits, of `planned_splits`.
    features
        Their features, ``(m, d)``.
    semantics
        Semantics of all classes, ``(classes, a)``.
    name, features_name
        Names of the dataset and of its feature file.

    Raises
    ------
    InputError
        If `check_dataset` refuses it.
    """
    source, described = str(plan.source), str(plan.described.source)
    return check_dataset(
        Dataset(
            name=name,
            features=features,
            labels=plan.labels[kept],
            semantics=semantics,
            class_names=plan.described.names,
            trainval=splits["trainval"],
            train=splits["train"],
            val=splits["val"],
            test_seen=splits["test_seen"],
            test_unseen=splits["test_unseen"],
            features_name=features_name,
            semantics_name=SEMANTICS,
            source={
                **dict.fromkeys(("features", "labels"), source),
                **dict.fromkeys(("semantics", "class_names"), described),
                **{split: f"{source}, {split} pictures" for split in splits},
            },
        )
    )
