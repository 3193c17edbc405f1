"""Names of classes: the spellings of one, lists of them in text files, and rows in their order."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.nearest import first_names

__all__ = [
    "bare_key",
    "class_key",
    "names_list_beside",
    "rows_of_classes",
    "without_ids",
    "without_own_id",
]

# Lists of class names that lie beside a matrix without names.
_LISTS = ("classes.txt", "class_names.txt")
# CUB has its list above the folder of this name, which has the matrix.
_BELOW_LIST = "attributes"
_ID_AND_NAME = re.compile(r"(\d{1,9})\s+(\S.*)")


def class_key(name: str) -> str:
    """A key that is equal for different spellings of a class name.

    It ignores case, the Unicode form (which file systems change), and the difference between
    spaces and underscores.
    """
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def bare_key(name: str) -> str:
    """A name without case, signs, and a leading number, unless it is nothing else."""
    letters = "".join(ch for ch in name.casefold() if ch.isalnum())
    return letters.lstrip("0123456789") or letters


def without_own_id(name: str) -> str:
    """A name without the number in front of it, as ``5 otter`` has one."""
    match = _ID_AND_NAME.fullmatch(name)
    return match[2] if match else name


def without_ids(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a list; its lines may be numbers and names, such as ``1 antelope``.

    Only numbers that count the lines, from 0 or 1, are taken off.
    """
    found = [_ID_AND_NAME.fullmatch(name) for name in names]
    ids = [int(match[1]) for match in found if match]
    if names and any(ids == list(range(c, c + len(names))) for c in (0, 1)):
        return tuple(map(without_own_id, names))
    return tuple(names)


def names_list_beside(file: Path) -> Path | None:
    """The list of class names that belongs to a matrix without names; None if there is none.

    It is ``classes.txt`` or ``class_names.txt`` in the matrix's folder; where that is called
    ``attributes``, as in CUB, also in the folder above.
    """
    folders = [file.parent]
    if file.absolute().parent.name == _BELOW_LIST:
        folders.append(file.absolute().parent.parent)
    candidates = [folder / name for folder in folders for name in _LISTS]
    return next((path for path in candidates if path.is_file() and path != file), None)


def rows_of_classes(
    where: str, names: Sequence[str], classes: Sequence[str], source: str
) -> IntArray:
    """The row of each class in a table of vectors, ``(classes,)``.

    Names are compared by `class_key`; where that leaves a class without a vector, by `bare_key`.

    Parameters
    ----------
    where
        The table, for messages.
    names
        The names of its rows; further ones are allowed.
    classes
        The names of the classes.
    source
        Where those were read, for messages.

    Raises
    ------
    InputError
        If a class has no row, or several, or two classes have one name.
    """
    keys: list[Callable[[str], str]] = [class_key, bare_key]
    same = next((key for key in keys if not _absent(key, classes, names)), keys[-1])
    absent = _absent(same, classes, names)
    if absent:
        raise InputError(
            f"{where}: found no vector of {first_names(absent)}, expected one of each class in "
            f"{source}"
        )
    for listed, place in ((classes, source), (names, where)):
        counts = Counter(map(same, listed))
        twice = [name for name in classes if counts[same(name)] > 1]
        if twice:
            raise InputError(
                f"{place}: found {first_names(list(dict.fromkeys(twice)))} twice, expected the "
                "name of each class once, as vectors are found by it"
            )
    row_of = {same(name): row for row, name in enumerate(names)}
    return np.array([row_of[same(name)] for name in classes], dtype=np.int64)


def _absent(key: Callable[[str], str], classes: Sequence[str], names: Sequence[str]) -> list[str]:
    known = set(map(key, names))
    return [name for name in classes if key(name) not in known]
