"""Whether the order of the classes is the same in all files of a folder, where names tell."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.data.class_names import bare_key

__all__ = ["check_folders", "check_order", "rows_to_look_at"]

# As many pictures of each class are looked at.
_PICTURES = 3


def check_order(
    names: Sequence[str], source: str, others: Sequence[str], other_source: str
) -> None:
    """Refuse names that are those of another file in another order.

    Names that differ in case, signs and leading numbers are the same; lists of other classes are
    not compared.

    Parameters
    ----------
    names, source
        The names of the classes, and where they were read.
    others, other_source
        Those of another file.

    Raises
    ------
    InputError
        Names the first class that differs.
    """
    keys, other_keys = [bare_key(name) for name in names], [bare_key(name) for name in others]
    if keys == other_keys or sorted(keys) != sorted(other_keys):
        return
    c = next(c for c, key in enumerate(keys) if key != other_keys[c])
    raise InputError(
        f"{other_source}: found {others[c]!r} as class {c + 1}, expected {names[c]!r} as in "
        f"{source}: these are the same classes in another order, and the labels follow one"
    )


def rows_to_look_at(labels: IntArray) -> dict[int, IntArray]:
    """A few rows of each class, spread over all of its rows."""
    rows = {int(c): np.flatnonzero(labels == c) for c in np.unique(labels)}
    return {
        c: own[np.unique(np.linspace(0, len(own) - 1, _PICTURES).round().astype(int))]
        for c, own in rows.items()
    }


def check_folders(
    names: Sequence[str], source: str, pictures: Mapping[int, Sequence[str]], where: str
) -> None:
    """Refuse names in another order than the labels, by the folders of labelled pictures.

    Parameters
    ----------
    names, source
        The names of the classes, and where they were read.
    pictures
        Files of pictures of each class, by its number from 0.
    where
        Where the files of the pictures are listed.

    Raises
    ------
    InputError
        If the pictures of two classes or more lie in folders named as other classes are. Names
        the first class that differs.
    """
    number_of = {bare_key(name): c for c, name in enumerate(names)}
    moved: list[tuple[int, str]] = []
    for c, files in pictures.items():
        if c not in range(len(names)):
            continue
        found = {_class_of(file, names[c], number_of) for file in files}
        if len(found) == 1 and not found & {c, None}:
            moved.append((c, _folders(files[0])[-1]))
    # A single class is one that other files call otherwise, such as a part of its name; and where
    # all pictures lie in one folder, it says nothing of their classes.
    if len({folder for _, folder in moved}) > 1:
        c, folder = moved[0]
        raise InputError(
            f"{where}: found pictures of class {c + 1} in the folder {folder!r}, expected "
            f"{names[c]!r}, its name in {source}: names and semantics are in another order than "
            "the labels"
        )


def _class_of(file: str, name: str, number_of: Mapping[str, int]) -> int | None:
    """The class that a picture's folders name, that of this name before others; None if none."""
    keys = [bare_key(folder) for folder in _folders(file)]
    # The folders of some classes are nested: bar/outdoor.
    ends = ["".join(keys[start:]) for start in range(len(keys))]
    if bare_key(name) in {*keys, *ends}:
        return number_of[bare_key(name)]
    return next((number_of[end] for end in reversed(ends) if end in number_of), None)


def _folders(file: str) -> list[str]:
    """The names of a file's folders, of either system; the last is that of the file."""
    return ["", *re.split(r"[\\/]+", file)[:-1]]
