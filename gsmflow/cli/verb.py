"""The type of a verb of the command line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

__all__ = ["Verb"]


@dataclass(frozen=True)
class Verb:
    """One verb: its options, and the function that runs it.

    Attributes
    ----------
    options
        A dataclass whose fields are the flags and whose docstring is the help text.
    run
        Called with the options, a console and the other words of the command line, which are
        flags of a recipe; there are none without ``takes_flags``.
    takes_flags
        Whether words other than the options are allowed, as flags of a recipe.
    option_words
        How many words at most are options; all later ones are flags, ``--help`` too. None: any of
        them may be options.
    """

    options: type[Any]
    run: Callable[[Any, Console, Sequence[str]], object]
    takes_flags: bool = False
    option_words: int | None = None
