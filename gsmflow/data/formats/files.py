"""The formats of datasets: the one place that picks the format of a folder."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from gsmflow.core.errors import InputError
from gsmflow.core.nearest import nearest
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset
from gsmflow.data.embedding_names import embedding_label, is_vector_file, split_embeddings
from gsmflow.data.formats import digits, epgn, gbu, npz, plain
from gsmflow.data.formats.base import (
    Format,
    Keep,
    NamedSemantics,
    Refuse,
    keep_in_memory,
    raise_error,
    second_file,
    try_field,
)
from gsmflow.data.formats.embeddings import described_by
from gsmflow.data.formats.vectors import read_vectors

__all__ = [
    "BUILT_IN",
    "FORMATS",
    "dataset_files",
    "has_dataset",
    "load_dataset",
    "read_embedding",
    "read_unchecked",
    "refuse_file",
    "usual_name",
]

# In a folder of several, the first that has the features asked for is read.
FORMATS: tuple[Format, ...] = (gbu.FORMAT, epgn.FORMAT, npz.FORMAT, plain.FORMAT, digits.FORMAT)
# Names of datasets that need no folder.
BUILT_IN = tuple(format_.name for format_ in FORMATS if format_.layout is None)

_DATA_ENDINGS = (".mat", ".npz", ".npy", ".csv", ".txt")

# What is read where nothing is asked for, the first of these that a folder offers.
_USUAL = {"features": ("res101", "features"), "semantics": ("att", "semantics")}


def has_dataset(folder: Path) -> bool:
    """Whether a folder has files of any format, or its name is that of a built-in dataset."""
    return any(format_.matches(folder) for format_ in FORMATS)


def refuse_file(path: Path) -> None:
    """Refuse a file of data where its folder is asked for.

    Raises
    ------
    InputError
        If the path is one.
    """
    if path.is_file() and path.suffix.lower() in _DATA_ENDINGS:
        raise InputError(
            f"{path}: found one file, expected a dataset's folder, which has features, labels, "
            "semantics and splits, such as <features>.mat and <semantics>_splits.mat; "
            "docs/data.md describes it"
        )


def usual_name(kind: Literal["features", "semantics"], folder: Path) -> str:
    """The features or the semantics of a folder that are read where nothing is asked for.

    Parameters
    ----------
    kind
        Which of the two.
    folder
        The dataset's.

    Returns
    -------
    str
        The usual one (``"res101"``, ``"att"``), or the only one; the usual one where there is
        none.

    Raises
    ------
    InputError
        If there are several, and none is the usual one.
    """
    names = _offered(kind, folder)
    for usual in _USUAL[kind]:
        if usual in names or not names:
            return usual
    if len(names) > 1:
        raise InputError(
            f"--{kind}: found {', '.join(sorted(names))} in {folder}, expected the name of one of "
            "them"
        )
    return next(iter(names))


def _offered(kind: Literal["features", "semantics"], folder: Path) -> frozenset[str]:
    """The names that a folder has for features or for semantics, in all formats."""
    choices = [format_.choices(folder) for format_ in _matching(folder)]
    names = [c.features if kind == "features" else c.semantics for c in choices]
    return frozenset().union(*(n for n in names if n is not None))


def dataset_files(root: Path, name: str, *, features: str, semantics: str) -> tuple[Path, ...]:
    """The files that are read of ``<root>/<name>``, in whichever format is there.

    Parameters
    ----------
    root
        Folder of datasets.
    name
        The dataset's folder below ``root``.
    features
        Which features (``"res101"`` for ``res101.mat``).
    semantics
        Which semantics (``"att"`` for ``att_splits.mat``): a name, a file of vectors, or several
        joined by ``+``. The splits are those of the first name, or else the usual ones.

    Returns
    -------
    tuple of Path
        None for a dataset that is built in.

    Raises
    ------
    InputError
        If a file is missing.
    """
    folder = root / name
    base, parts = _embeddings(folder, semantics)
    format_ = _pick(folder, features)
    files = format_.files(folder, features, base)
    for file in files:
        if not file.is_file():
            *others, last = (
                known.layout.format(features=features, semantics=base)
                for known in FORMATS
                if known.layout is not None
            )
            unnamed = base not in _USUAL["semantics"] and file.stem == f"{base}_splits"
            field = f", and no field '{base}' in another split file" if unnamed else ""
            raise InputError(
                f"{file}: no such file{field}, expected {', '.join(others)} or {last} in {folder}; "
                f"{_near(folder, features, base) or 'data/README.md says where to get them'}"
            )
    further = [_part_file(format_, folder, features, part) for part in parts if part != base]
    return tuple(dict.fromkeys((*files, *further)))


def _near(folder: Path, features: str, semantics: str) -> str:
    """What a folder has that is named like what it lacks; empty where it has nothing similar."""
    asked: dict[Literal["features", "semantics"], str] = {
        "features": features,
        "semantics": semantics,
    }
    for kind, name in asked.items():
        offered = _offered(kind, folder)
        similar = None if name in offered else nearest(name, offered)
        if similar is not None:
            return f"there is --{kind} {similar}"
    return ""


def load_dataset(
    root: Path, name: str, *, features: str, semantics: str, keep: Keep = keep_in_memory
) -> Dataset:
    """Read and check ``<root>/<name>`` in whichever format is there.

    Parameters
    ----------
    root, name, features, semantics
        As of `dataset_files`.
    keep
        Where the features are put.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or the dataset is faulty.
    """
    dataset = read_unchecked(root, name, features=features, semantics=semantics, keep=keep)
    assert dataset is not None  # what cannot be read is refused
    return check_dataset(dataset)


def read_unchecked(
    root: Path,
    name: str,
    *,
    features: str,
    semantics: str,
    keep: Keep = keep_in_memory,
    refuse: Refuse = raise_error,
) -> Dataset | None:
    """Read ``<root>/<name>`` in whichever format is there, for `check_dataset`.

    Parameters
    ----------
    root, name, features, semantics
        As of `dataset_files`.
    keep
        Where the features are put.
    refuse
        Called with each fault at which a field cannot be read; by default, it raises the first
        one as an `InputError`.

    Returns
    -------
    Dataset or None
        With class numbers for names, and empty splits, in place of those that could not be read;
        None if features, labels or semantics could not.

    Raises
    ------
    InputError
        If a file is missing.
    """
    dataset_files(root, name, features=features, semantics=semantics)  # refuses missing ones
    folder = root / name
    base, parts = _embeddings(folder, semantics)
    dataset = _pick(folder, features).read(
        folder, features=features, semantics=base, keep=keep, refuse=refuse
    )
    if dataset is None:
        return None
    dataset = replace(dataset, name=name)
    if parts == (base,):
        return dataset
    describe = partial(_describe, dataset, folder, features, base, parts)
    described = try_field(refuse, "semantics", describe)
    if described is None:
        return None
    notes = described.notes
    if base not in (*parts, *_USUAL["semantics"]) and len(_offered("semantics", folder)) > 1:
        notes += (
            f"{dataset.where('trainval')}: found several files of splits in this folder; this is "
            "the first of them, which is read as no name of semantics says which",
        )
    return replace(described, semantics_name=embedding_label(semantics), notes=notes)


def _describe(
    dataset: Dataset, folder: Path, features: str, base: str, parts: Sequence[str]
) -> Dataset:
    """The dataset with the embeddings of these parts in place of its first one."""
    own = NamedSemantics(dataset.semantics, None, dataset.where("semantics"))
    return described_by(
        dataset,
        [own if part == base else _read_part(dataset, folder, features, part) for part in parts],
    )


def _read_part(dataset: Dataset, folder: Path, features: str, part: str) -> NamedSemantics:
    """One embedding of a dataset's classes."""
    if is_vector_file(part):
        return read_vectors(_vector_file(folder, part), dataset.class_names)
    return _pick(folder, features).read_semantics(folder, features, part)


def _part_file(format_: Format, folder: Path, features: str, part: str) -> Path:
    """The file of an embedding beside the first, or an `InputError` if it is missing."""
    if is_vector_file(part):
        return _vector_file(folder, part)
    return second_file(format_.semantics_file(folder, features, part))


def _vector_file(folder: Path, part: str) -> Path:
    """A file of vectors as it is named, or else below the dataset's folder."""
    for file in (Path(part), folder / part):
        if file.is_file():
            return file
    raise InputError(
        f"{part}: no such file, nor in {folder}, expected class vectors, as --semantics asks for"
    )


def _embeddings(folder: Path, semantics: str) -> tuple[str, tuple[str, ...]]:
    """The name of the semantics that a folder's splits are read with, and all embeddings."""
    offered = _offered("semantics", folder)
    if semantics in offered:
        return semantics, (semantics,)  # its own name may have a +
    parts = split_embeddings(semantics)
    names = [part for part in parts if not is_vector_file(part)]
    usual = [name for name in _USUAL["semantics"] if name in offered or not offered]
    return next(iter([*names, *usual, *sorted(offered)])), parts


def read_embedding(dataset: Dataset, root: Path, part: str) -> NamedSemantics:
    """A further embedding of the classes of a dataset that was read from ``<root>/<its name>``.

    Parameters
    ----------
    dataset
        As it was read.
    root
        As of `dataset_files`.
    part
        A name in the dataset's format, or a file of vectors.

    Raises
    ------
    InputError
        If it is missing or unreadable, or the format cannot have it.
    """
    return _read_part(dataset, root / dataset.name, dataset.features_name, part)


def _matching(folder: Path) -> list[Format]:
    return [format_ for format_ in FORMATS if format_.matches(folder)]


def _pick(folder: Path, features: str) -> Format:
    """The format that a folder is read in.

    One that has features of this name goes before one that has features without a name. Where
    there is neither, the format whose files are named in the error.
    """
    matching = _matching(folder)
    offered = [(format_, format_.choices(folder).features) for format_ in matching]
    named = [format_ for format_, names in offered if names is not None and features in names]
    unnamed = [format_ for format_, names in offered if names is None]
    return next(iter([*named, *unnamed, *matching, *FORMATS]))
