"""A folder of plain files: the arrays of `gsmflow.data.formats.arrays` in ``.npy`` or text files.

``features``, ``labels``, ``semantics`` and the splits are files of these names: ``.npy``, ``.csv``
or, for labels and splits, ``.txt`` with a value a line. ``splits.csv``, with the split of each row
on a line, stands in place of the splits' files. ``class_names.txt`` or the first column of
``semantics.csv`` names the classes. ``--features NAME`` and ``--semantics NAME`` read
``features_NAME`` and ``semantics_NAME`` in place of ``features`` and ``semantics``.
"""

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.text_cells import delimiter_of, has_header, is_missing, is_number
from gsmflow.data.class_table import table_lines, table_numbers
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.arrays import (
    SPLITS,
    named_semantics,
    read_arrays,
    text_array,
)
from gsmflow.data.formats.base import (
    NAMES_FILE,
    Choices,
    Format,
    Keep,
    NamedSemantics,
    Refuse,
    read_class_names,
)
from gsmflow.data.npy import read_npy
from gsmflow.data.text_rows import parse_batches, split_cells, text_lines

__all__ = ["FORMAT", "read_column"]

_MATRIX_ENDINGS = (".npy", ".csv")
_VECTOR_ENDINGS = (".npy", ".csv", ".txt")
_SPLITS_FILE = "splits.csv"
_IN_NO_SPLIT = "none"
# What to do where it is not clear whether the first line is a header.
_NAME_COLUMNS = "name all columns in a line above the numbers"


class _Folder:
    """The fields of a dataset in a folder; raises an `InputError` for what it does not have."""

    def __init__(self, folder: Path, features: str, semantics: str) -> None:
        self._folder = folder
        self._stems = {
            "features": _stem("features", features),
            "semantics": _stem("semantics", semantics),
        }
        self._splits_file = folder / _SPLITS_FILE

    def files(self) -> tuple[Path, ...]:
        """All that are there, and the features' file, there or not."""
        features = self._found("features") or [self._folder / f"{self._stems['features']}.npy"]
        others = [file for f in ("labels", "semantics", *SPLITS) for file in self._found(f)]
        named = [self._folder / NAMES_FILE, self._splits_file]
        return *features, *others, *(file for file in named if file.is_file())

    def where(self, field: str) -> str:
        if field in SPLITS and self._splits_file.is_file():
            return f"{self._splits_file}, split '{field}'"
        if field == "class_names":
            file = self._folder / NAMES_FILE
            return str(file) if file.is_file() else f"{self.where('semantics')}, class names"
        candidates = self._found(field) or self._candidates(field)
        return str(candidates[0])

    def __contains__(self, field: str) -> bool:
        if self._splits_file.is_file() and field in self._split_of_rows:
            return True
        return bool(self._found(field))

    def array(self, field: str) -> NDArray[Any]:
        found = self._found(field)
        if field in SPLITS and self._splits_file.is_file():
            if found:
                raise InputError(
                    f"{found[0]}: found beside {_SPLITS_FILE}, expected one of the two"
                )
            words = ("trainval", "train", "val") if field == "trainval" else field
            return np.isin(self._split_of_rows, words)
        if len(found) != 1:
            names = [file.name for file in found or self._candidates(field)]
            if field in SPLITS and not found:
                names.append(_SPLITS_FILE)
            listed = " and ".join(names) if found else f"none of {', '.join(names)}"
            raise InputError(f"{self._folder}: found {listed}, expected one of them")
        (file,) = found
        if file.suffix == ".npy":
            return text_array(str(file), read_npy(file, mapped=field == "features"))
        if field == "features":
            return _read_numbers(file)
        return self._semantics_csv[0] if field == "semantics" else read_column(file)

    def class_names(self, classes: int) -> tuple[str, ...]:
        file, (semantics, *_) = self._folder / NAMES_FILE, self._found("semantics")
        in_semantics = self._semantics_csv[1] if semantics.suffix == ".csv" else ()
        if not file.is_file():
            return in_semantics
        names = read_class_names(file, classes, semantics.name)
        for c, (name, other) in enumerate(zip(names, in_semantics, strict=False)):
            if name != other:
                raise InputError(
                    f"{file}: found {name!r} as class {c}, expected {other!r} as in "
                    f"{semantics.name}"
                )
        return names

    def _candidates(self, field: str) -> list[Path]:
        endings = _MATRIX_ENDINGS if field in self._stems else _VECTOR_ENDINGS
        return [self._folder / f"{self._stems.get(field, field)}{ending}" for ending in endings]

    def _found(self, field: str) -> list[Path]:
        return [file for file in self._candidates(field) if file.is_file()]

    @cached_property
    def _semantics_csv(self) -> tuple[FloatArray, tuple[str, ...]]:
        """The semantics and the class names in the text file of the semantics."""
        return _read_semantics_csv(self._folder / f"{self._stems['semantics']}.csv")

    @cached_property
    def _split_of_rows(self) -> list[str]:
        """The split of each row."""
        lines = _text_of(self._splits_file).splitlines()
        if lines and lines[0].strip() == "split":
            del lines[0]
        known = (*SPLITS, _IN_NO_SPLIT)
        words = [line.strip().strip('"') for line in lines]
        for row, word in enumerate(words):
            if word not in known:
                raise InputError(
                    f"{self._splits_file}: found {word!r} for row {row}, expected one of "
                    f"{', '.join(known)}"
                )
        return words


def _stem(kind: str, name: str) -> str:
    return kind if name == kind else f"{kind}_{name}"


def _read_numbers(file: Path) -> FloatArray:
    """A matrix in a text file, below a header or not."""
    lines = text_lines(file)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{file}: found no line, expected rows of numbers")
    delimiter = delimiter_of(first.text) or ","
    cells = split_cells(first.text, delimiter)
    if not has_header(str(file), cells, _NAME_COLUMNS):
        lines = text_lines(file)
    batches = list(parse_batches(file, lines, delimiter, len(cells), "as in the first line"))
    if not batches:
        raise InputError(f"{file}: found no line below the header, expected rows of numbers")
    return np.concatenate(batches)


def _read_semantics_csv(file: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """Semantics ``(classes, a)``, and the class names in the first column, none if it has none."""
    lines, _ = table_lines(file)
    if lines and _is_header(file, lines[0][1]):
        del lines[0]
    if not lines:
        raise InputError(f"{file}: found no numbers, expected a line for each class")
    named = not is_number(lines[0][1][0])
    for number, cells in lines:
        if named and not cells[0]:
            raise InputError(
                f"{file}, line {number}: found no name in the first cell, expected that of a class"
            )
    values = table_numbers(file, lines, named=named)
    return values, tuple(cells[0] for _, cells in lines) if named else ()


def _is_header(file: Path, cells: Sequence[str]) -> bool:
    """Whether the first line of semantics, whose first cell may be a name, is a header."""
    named = len(cells) > 1 and (is_missing(cells[0]) or not is_number(cells[0]))
    name = cells[0] if named else None
    return has_header(str(file), cells[named:], _NAME_COLUMNS, name=name)


def read_column(file: Path) -> NDArray[Any]:
    """The texts of a file with one a line, ``(n,)``.

    A first line that is no number above nothing but numbers is a header.

    Raises
    ------
    InputError
        If the file is unreadable, or a line of a ``.csv`` file has several cells.
    """
    texts = [" ".join(line.split()) for line in _text_of(file).rstrip().splitlines()]
    if file.suffix == ".csv":
        try:
            rows = list(csv.reader(texts))
        except csv.Error as error:
            raise InputError(
                f"{file}: not CSV ({one_line(error)}), expected one value a line"
            ) from error
        for number, cells in enumerate(rows, start=1):
            if len(cells) > 1:
                raise InputError(
                    f"{file}, line {number}: found {len(cells)} cells, expected one value a line"
                )
        texts = [cells[0] if cells else "" for cells in rows]
    title = len(texts) > 1 and not is_number(texts[0]) and not is_missing(texts[0])
    if title and all(map(is_number, texts[1:])):
        del texts[0]
    return np.array(texts, dtype=np.str_)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file}: not readable ({one_line(error)}), expected UTF-8 text"
        ) from error


def _names_of(folder: Path, kind: str) -> frozenset[str]:
    """The names that features or semantics have in a folder."""
    files = [file for file in folder.glob(f"{kind}*") if file.suffix in _MATRIX_ENDINGS]
    stems = {file.stem for file in files if file.is_file()}
    further = {stem.removeprefix(f"{kind}_") for stem in stems if stem.startswith(f"{kind}_")}
    return frozenset(further | ({kind} & stems))


def _matches(folder: Path) -> bool:
    return bool(_names_of(folder, "features"))


def _choices(folder: Path) -> Choices:
    return Choices(_names_of(folder, "features"), _names_of(folder, "semantics"))


def _files(folder: Path, features: str, semantics: str) -> tuple[Path, ...]:
    return _Folder(folder, features, semantics).files()


def _read(
    folder: Path, *, features: str, semantics: str, keep: Keep, refuse: Refuse
) -> Dataset | None:
    return read_arrays(
        folder.name,
        _Folder(folder, features, semantics),
        features_name=features,
        semantics_name=semantics,
        keep=keep,
        refuse=refuse,
    )


def _semantics_file(folder: Path, features: str, semantics: str) -> Path:
    return Path(_Folder(folder, features, semantics).where("semantics"))


def _read_semantics(folder: Path, features: str, semantics: str) -> NamedSemantics:
    return named_semantics(_Folder(folder, features, semantics))


FORMAT = Format(
    name="plain arrays",
    layout="plain files (features.npy or features.csv with labels, semantics and splits)",
    matches=_matches,
    choices=_choices,
    files=_files,
    read=_read,
    semantics_file=_semantics_file,
    read_semantics=_read_semantics,
)
