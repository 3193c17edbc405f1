"""Images and descriptions brought together, and the dataset that they make."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.extract.descriptions import Descriptions, read_descriptions, read_names
from gsmflow.data.extract.images import ImageFolder, class_key, find_images, said_path
from gsmflow.data.extract.splits import Shares, choose_classes, split_rows

__all__ = ["ExtractionPlan", "assemble", "check_plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """What is known before any image is read.

    Attributes
    ----------
    folder
        The images that were found.
    described
        The classes, in their order.
    paths
        All image files, by class and then by name.
    labels
        The class of each, ``(n,)``.
    unseen
        Classes that a file names unseen, and the file; None where they are drawn.
    """

    folder: ImageFolder
    described: Descriptions
    paths: tuple[Path, ...]
    labels: IntArray
    unseen: tuple[frozenset[int], Path] | None


def make_plan(images: Path, semantics: Path, unseen: Path | None) -> ExtractionPlan:
    """Find images and read descriptions.

    Parameters
    ----------
    images
        As of `find_images`.
    semantics
        As of `read_descriptions`.
    unseen
        File with the unseen classes, one a line; None where they are to be drawn.

    Raises
    ------
    InputError
        If one of them cannot be used, a folder of images has no description, or an unseen class
        has none.
    """
    folder, described = find_images(images), read_descriptions(semantics)
    number = {class_key(name): c for c, name in enumerate(described.names)}
    files: dict[int, tuple[Path, ...]] = {}
    for name, own in zip(folder.classes, folder.files, strict=True):
        c = number.get(class_key(name))
        if c is None:
            raise InputError(
                f"{semantics}: found no description of {said_path(Path(name))}, expected one for "
                f"each folder in {images}"
            )
        files[c] = own
    order = sorted(files)
    return ExtractionPlan(
        folder=folder,
        described=described,
        paths=tuple(path for c in order for path in files[c]),
        labels=np.repeat(np.array(order, dtype=np.int64), [len(files[c]) for c in order]),
        unseen=None if unseen is None else (_numbers_of(unseen, number, semantics), unseen),
    )


def _numbers_of(file: Path, number: Mapping[str, int], semantics: Path) -> frozenset[int]:
    """The classes that a file names."""
    numbers = set()
    for name in read_names(file):
        c = number.get(class_key(name))
        if c is None:
            raise InputError(f"{file}: found {name}, expected the name of a class of {semantics}")
        numbers.add(c)
    return frozenset(numbers)


def check_plan(plan: ExtractionPlan, shares: Shares) -> None:
    """Refuse whatever is wrong with classes and splits before hours of work.

    Raises
    ------
    InputError
        As of `assemble`, taking all files for pictures.
    """
    semantics = plan.described.attributes
    if semantics is None:  # texts, to be encoded later
        semantics = np.eye(len(plan.described.names), dtype=np.float32)
    features = np.arange(2 * len(plan.paths), dtype=np.float32).reshape(-1, 2)
    assemble(plan, shares, features, plan.labels, semantics, name="", features_name="")


def assemble(
    plan: ExtractionPlan,
    shares: Shares,
    features: FloatArray,
    labels: IntArray,
    semantics: FloatArray,
    *,
    name: str,
    features_name: str,
) -> Dataset:
    """The dataset with its splits, checked.

    Parameters
    ----------
    plan
        The classes.
    shares
        How classes and rows are parted.
    features, labels
        Of the pictures, ``(n, d)`` and ``(n,)``.
    semantics
        Of all classes, ``(classes, a)``.
    name, features_name
        What it is called.

    Raises
    ------
    InputError
        If there are too few classes or pictures, or `check_dataset` refuses it.
    """
    images, described = str(plan.folder.root), str(plan.described.source)
    names = plan.described.names
    unseen, place = plan.unseen or (None, Path("--unseen-share"))
    counts = np.bincount(labels, minlength=len(names))
    parts = choose_classes(counts, unseen, shares)
    if len(parts.train) < 2:
        seen = len(parts.train) + len(parts.val)
        raise InputError(
            f"{images}: found {np.count_nonzero(counts)} classes with pictures, {seen} of them "
            "seen, expected at least 3 seen ones: two to train on and one to play validation"
        )
    rows = split_rows(labels, parts, shares)
    if not len(parts.unseen):
        raise InputError(
            f"{place}: found no unseen class, expected one at least: one of those in {images}, or "
            f"one in {described} that has no pictures"
        )
    source = {"features": images, "labels": images, "semantics": described}
    return check_dataset(
        Dataset(
            name=name,
            features=features,
            labels=labels,
            semantics=semantics,
            class_names=names,
            trainval=rows["trainval"],
            train=rows["train"],
            val=rows["val"],
            test_seen=rows["test_seen"],
            test_unseen=rows["test_unseen"],
            features_name=features_name,
            semantics_name="att",
            source={
                **source,
                "class_names": described,
                **{split: f"{images}, {split} pictures" for split in rows},
            },
        )
    )
