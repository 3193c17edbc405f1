"""NumPy archives: ``<features>.npz``, with the arrays of `gsmflow.data.formats.arrays` as fields.

``class_names (classes,)`` may stand beside ``semantics``. Where ``--semantics NAME`` is asked
for, semantics, class names and splits are read from ``NAME_splits.npz``; with the name
``semantics``, from the archive of the features. Another field beside ``semantics`` may have further
ones, and is named as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.arrays import (
    SPLITS,
    named_semantics,
    read_arrays,
    text_array,
    unreadable,
)
from gsmflow.data.formats.base import (
    Choices,
    Format,
    Keep,
    NamedSemantics,
    Refuse,
    listed_fields,
    second_file,
    try_field,
)

__all__ = ["FORMAT"]

_SPLITS_SUFFIX = "_splits"
_IN_FEATURES = "semantics"
_FROM_FEATURES = ("features", "labels")
# Fields that are no semantics of their own name.
_OTHER_FIELDS = {*_FROM_FEATURES, _IN_FEATURES, "class_names", *SPLITS}


class _Archive:
    """An archive; raises an `InputError` if it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path, str(path)) as archive:
            self._names = set(archive.files)

    def where(self, field: str) -> str:
        return f"{self.path}, field '{field}'"

    def __contains__(self, field: str) -> bool:
        return field in self._names

    def array(self, field: str) -> NDArray[Any]:
        where = self.where(field)
        if field not in self:
            fields = listed_fields(sorted(self._names))
            raise InputError(
                f"{where}: not found, expected in this file, whose fields are {fields}"
            )
        with _opened(self.path, where) as archive:
            values = np.asarray(archive[field])
        return text_array(where, values)

    def class_names(self, classes: int) -> tuple[str, ...]:
        if "class_names" not in self:
            return ()
        values, where = self.array("class_names"), self.where("class_names")
        if values.dtype.kind != "U" or values.ndim != 1:
            raise InputError(
                f"{where}: found {values.dtype} of shape {values.shape}, expected one text per "
                "class"
            )
        return tuple(values.tolist())


class _Fields:
    """The fields of a dataset, of which some are in a second archive.

    ``semantics`` is the name that the semantics have there.
    """

    def __init__(self, features: _Archive, splits: _Archive, semantics: str) -> None:
        self._features, self._splits, self._semantics = features, splits, semantics

    def _of(self, field: str) -> _Archive:
        return self._features if field in _FROM_FEATURES else self._splits

    def _name(self, field: str) -> str:
        return self._semantics if field == _IN_FEATURES else field

    def where(self, field: str) -> str:
        return self._of(field).where(self._name(field))

    def __contains__(self, field: str) -> bool:
        return self._name(field) in self._of(field)

    def array(self, field: str) -> NDArray[Any]:
        return self._of(field).array(self._name(field))

    def class_names(self, classes: int) -> tuple[str, ...]:
        return self._splits.class_names(classes)


@contextmanager
def _opened(path: Path, where: str) -> Iterator[NpzFile]:
    """An archive that is open; whatever NumPy raises becomes an `InputError`."""
    try:
        with path.open("rb") as file:  # NumPy leaves the files open that it fails on
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, NpzFile):
                raise ValueError("it holds one array")
            with loaded:
                yield loaded
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read this file") from error
    except Exception as error:
        # Damaged archives raise a dozen unrelated types, depending on which byte is wrong.
        raise unreadable(where, error, "a complete .npz archive of arrays") from error


def _stems(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.npz") if file.is_file()}


def _matches(folder: Path) -> bool:
    return bool(_choices(folder).features)


def _choices(folder: Path) -> Choices:
    stems = _stems(folder)
    splits = {stem for stem in stems if stem.endswith(_SPLITS_SUFFIX)}
    semantics = {stem.removesuffix(_SPLITS_SUFFIX) for stem in splits}
    return Choices(
        features=frozenset(stems - splits), semantics=frozenset(semantics or {_IN_FEATURES})
    )


def _files(folder: Path, features: str, semantics: str) -> tuple[Path, ...]:
    feature_file = folder / f"{features}.npz"
    return tuple(dict.fromkeys((feature_file, _semantics_file(folder, features, semantics))))


def _semantics_file(folder: Path, features: str, semantics: str) -> Path:
    return _split_file(folder, features, semantics)[0]


def _split_file(folder: Path, features: str, semantics: str) -> tuple[Path, str]:
    """The archive that has semantics of this name beside splits, and their field in it.

    It is the split archive of this name, there or not; or else one with a field of this name,
    ``att_splits.npz`` before others. Without split archives, that of the features may have one.
    """
    feature_file = folder / f"{features}.npz"
    if semantics == _IN_FEATURES:
        return feature_file, _IN_FEATURES
    named = folder / f"{semantics}{_SPLITS_SUFFIX}.npz"
    if named.is_file() or semantics in _OTHER_FIELDS:
        return named, _IN_FEATURES
    files = sorted(file for file in folder.glob(f"*{_SPLITS_SUFFIX}.npz") if file.is_file())
    files.sort(key=lambda file: file.name != f"att{_SPLITS_SUFFIX}.npz")
    for file in files or [feature_file]:
        with suppress(InputError):  # a file that is not asked for may be damaged
            if file.is_file() and semantics in _Archive(file):
                return file, semantics
    return named, _IN_FEATURES


def _read(
    folder: Path, *, features: str, semantics: str, keep: Keep, refuse: Refuse
) -> Dataset | None:
    files = _files(folder, features, semantics)
    abouts = ("features", "semantics")
    archives = [
        try_field(refuse, about, partial(_Archive, file))
        for about, file in zip(abouts, files, strict=False)
    ]
    first, last = archives[0], archives[-1]
    if first is None or last is None:
        return None
    field = _split_file(folder, features, semantics)[1]
    return read_arrays(
        folder.name,
        _Fields(first, last, field),
        features_name=features,
        semantics_name=semantics,
        keep=keep,
        refuse=refuse,
    )


def _read_semantics(folder: Path, features: str, semantics: str) -> NamedSemantics:
    file, field = _split_file(folder, features, semantics)
    archive = _Archive(second_file(file))
    return named_semantics(_Fields(archive, archive, field))


FORMAT = Format(
    name="NumPy archive",
    layout="a NumPy archive ({features}.npz)",
    matches=_matches,
    choices=_choices,
    files=_files,
    read=_read,
    semantics_file=_semantics_file,
    read_semantics=_read_semantics,
)
