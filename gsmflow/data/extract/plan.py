"""Match images with class descriptions, and assemble the dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import path_text
from gsmflow.data.checks import check_dataset
from gsmflow.data.class_names import class_key, without_own_id
from gsmflow.data.class_table import read_names
from gsmflow.data.dataset import Dataset
from gsmflow.data.extract.descriptions import Descriptions, read_descriptions
from gsmflow.data.extract.images import ImageFolder, find_images
from gsmflow.data.extract.splits import Shares, choose_classes, split_rows

__all__ = ["ExtractionPlan", "assemble", "check_plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """Everything that is known before any image is read.

    Attributes
    ----------
    folder
        The image files.
    described
        The classes and their descriptions.
    paths
        All image files, sorted by class and then by name.
    labels
        Class of each image, ``(n,)``.
    unseen
        The unseen classes that a file names, and that file; None if they are drawn.
    """

    folder: ImageFolder
    described: Descriptions
    paths: tuple[Path, ...]
    labels: IntArray
    unseen: tuple[frozenset[int], Path] | None


def make_plan(images: Path, semantics: Path, unseen: Path | None) -> ExtractionPlan:
    """Find images, read descriptions and match the classes.

    Parameters
    ----------
    images
        Folder as for `find_images`.
    semantics
        File or folder as for `read_descriptions`.
    unseen
        File with one unseen class on each line; None to draw the unseen classes.

    Raises
    ------
    InputError
        If one of them cannot be used, or if a folder of images or an unseen class has no
        description.
    """
    folder, described = find_images(images), read_descriptions(semantics)
    number = {class_key(name): c for c, name in enumerate(described.names)}
    files: dict[int, tuple[Path, ...]] = {}
    for name, paths in zip(folder.classes, folder.files, strict=True):
        c = number.get(class_key(name))
        if c is None:
            raise InputError(
                f"{semantics}: found no description of {path_text(Path(name))}, expected one for "
                f"each folder in {images}"
            )
        files[c] = paths
    order = sorted(files)
    return ExtractionPlan(
        folder=folder,
        described=described,
        paths=tuple(path for c in order for path in files[c]),
        labels=np.repeat(np.array(order, dtype=np.int64), [len(files[c]) for c in order]),
        unseen=None if unseen is None else (_numbers_of(unseen, number, semantics), unseen),
    )


def _numbers_of(file: Path, number: Mapping[str, int], semantics: Path) -> frozenset[int]:
    """Numbers of the classes that a file names."""
    numbers = set()
    for name in read_names(file):
        c = number.get(class_key(name), number.get(class_key(without_own_id(name))))
        if c is None:
            raise InputError(f"{file}: found {name}, expected the name of a class of {semantics}")
        numbers.add(c)
    return frozenset(numbers)


def check_plan(plan: ExtractionPlan, shares: Shares) -> None:
    """Check classes and splits before hours of extraction.

    Raises
    ------
    InputError
        As `assemble` would if all files were readable pictures.
    """
    semantics = plan.described.attributes
    if semantics is None:  # the texts are encoded later
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
    """Split and check the dataset.

    Parameters
    ----------
    plan
        The classes.
    shares
        Sizes of the splits of classes and rows.
    features, labels
        Features ``(n, d)`` and classes ``(n,)`` of the pictures.
    semantics
        Semantics of all classes, ``(classes, a)``.
    name, features_name
        Names of the dataset and of its feature file.

    Raises
    ------
    InputError
        If there are too few classes or pictures, or `check_dataset` refuses it.
    """
    images, described = str(plan.folder.root), str(plan.described.source)
    names = plan.described.names
    unseen, unseen_source = plan.unseen or (None, Path("--unseen-share"))
    counts = np.bincount(labels, minlength=len(names))
    classes = choose_classes(counts, unseen, shares)
    if len(classes.train) < 2:
        seen = len(classes.train) + len(classes.val)
        raise InputError(
            f"{images}: found {np.count_nonzero(counts)} classes with pictures, {seen} of them "
            "seen, expected at least 3 seen ones: two for training and one for validation"
        )
    rows = split_rows(labels, classes, shares)
    if not len(classes.unseen):
        raise InputError(
            f"{unseen_source}: found no unseen class, expected at least one: one of those in "
            f"{images}, or one in {described} that has no pictures"
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
