"""Names in messages: the nearest of those that are known, and the first of many."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = ["first_names", "nearest", "such_as"]

# At most so many names are listed in a message.
_LISTED_NAMES = 3


def nearest(found: str, known: Iterable[str]) -> str | None:
    """The one of the known names that is most similar to another; None where none is similar.

    Parameters
    ----------
    found
        The name; its case does not matter.
    known
        The names that there are.
    """
    names = {name.casefold(): name for name in known}
    similar = get_close_matches(found.casefold(), names, n=1)
    return names[similar[0]] if similar else None


def such_as(found: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown name: ``", such as X"`` with the nearest, or nothing."""
    similar = nearest(found, known)
    return "" if similar is None else f", such as {similar}"


def first_names(names: Sequence[str], word: str = "and") -> str:
    """The first of some names, and how many more there are.

    Parameters
    ----------
    names
        The names.
    word
        ``"or"`` for choices, which then stands between all of them.
    """
    between = ", " if word == "and" else f" {word} "
    listed, more = between.join(names[:_LISTED_NAMES]), len(names) - _LISTED_NAMES
    return f"{listed} {word} {more} more" if more > 0 else listed
