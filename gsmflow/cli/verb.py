"""What a verb of the command line is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

__all__ = ["Verb"]


@dataclass(frozen=True)
class Verb:
    """One verb: its options, and what it does with them.

    Attributes
    ----------
    options
        A dataclass whose fields are the flags and whose docstring is the help text.
    run
        Called with the options, a console and further words of the command line: flags of a
        recipe, if ``takes_flags``.
    takes_flags
        Whether words that are none of the options are flags of a recipe.
    """

    options: type[Any]
    run: Callable[[Any, Console, Sequence[str]], object]
    takes_flags: bool = False
