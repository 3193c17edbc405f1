"""The nearest of some known names, for messages about a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["nearest", "such_as"]


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
