"""The console, and the exit codes of a program."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import NoReturn

from rich.console import Console

from gsmflow.core.errors import InputError, UnavailableError
from gsmflow.core.extras import EXTRA_OF, missing_package

__all__ = ["ending", "make_console"]


# Signs of our tables and sentences for a terminal that lacks them; others become question marks.
_IN_ASCII = "gsmflow_ascii"
_SPELLED = {"±": "+-", "·": "|", "×": "x", "…": "...", "→": "->", "–": "-", "—": "-", "γ": "gamma"}


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in text), error.end


codecs.register_error(_IN_ASCII, _spell)


def make_console(*, stderr: bool = False) -> Console:
    """A console that wraps long lines on a terminal and does not wrap them in a log file."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
        stream.reconfigure(errors=_IN_ASCII)  # rich draws boxes in ASCII there by itself
    # Paths and class names may contain brackets and colons, which are no markup here.
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def ending(console: Console, interrupted: str) -> Iterator[None]:
    """A context that ends the program on bad input, on a failure or on an interruption.

    Parameters
    ----------
    console
        The program's console. If it is quiet, as in all but the main process of a distributed
        group, errors are not printed.
    interrupted
        The message for an interruption.

    Notes
    -----
    The exit code is 2 for bad input (`InputError`), 1 for a failure that is not the user's
    mistake (`UnavailableError`), and 130 for an interruption. The first two print the error's
    sentence. It is 1, as the console's, where the reader of the output has ended, such as ``head``.
    """
    try:
        yield
        sys.stdout.flush()
    except InputError as error:
        _stop(console, f"error: {error}", 2)
    except ModuleNotFoundError as error:
        if error.name is None or error.name not in EXTRA_OF:
            raise
        _stop(console, f"error: {missing_package(error.name, 'this command')}", 2)
    except UnavailableError as error:
        _stop(console, f"error: {error}", 1)
    except BrokenPipeError:
        # What is left in the buffer would raise the error again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _stop(console, interrupted, 130)


def _stop(console: Console, message: str, code: int) -> NoReturn:
    if not console.quiet:
        make_console(stderr=True).print(message, soft_wrap=True)
    sys.exit(code)
