"""The console, and how a program ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console

from gsmflow.core.errors import InputError, UnavailableError
from gsmflow.core.extras import EXTRA_OF, missing_package

__all__ = ["ending", "make_console"]


def make_console(*, stderr: bool = False) -> Console:
    """A console that folds long lines on a terminal and leaves them whole in a log file."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    # Paths and class names are printed as they are, whatever brackets and colons they have.
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def ending(console: Console, interrupted: str) -> Iterator[None]:
    """A context for a program's work, which ends it on bad input, a failure or an interruption.

    Parameters
    ----------
    console
        The program's; while it is quiet, as in a process of a team that does not lead, errors
        are not printed either.
    interrupted
        What to say when interrupted.

    Notes
    -----
    Bad input ends the program with exit code 2 and its sentence, what is not the user's mistake
    with 1, an interruption with 130.
    """
    try:
        yield
    except InputError as error:
        _stop(console, f"error: {error}", 2)
    except ModuleNotFoundError as error:
        if error.name is None or error.name not in EXTRA_OF:
            raise
        _stop(console, f"error: {missing_package(error.name, 'this command')}", 2)
    except UnavailableError as error:
        _stop(console, f"error: {error}", 1)
    except KeyboardInterrupt:
        _stop(console, interrupted, 130)


def _stop(console: Console, message: str, code: int) -> NoReturn:
    if not console.quiet:
        make_console(stderr=True).print(message, soft_wrap=True)
    sys.exit(code)
