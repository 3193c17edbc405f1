"""The console, and the exit codes of a program."""

import codecs
import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from gsmflow.core.errors import InputError, UnavailableError, WriteError
from gsmflow.core.extras import EXTRA_OF, missing_package

__all__ = ["TerminatedError", "command_line", "ending", "importing", "make_console", "warner"]


class TerminatedError(KeyboardInterrupt):
    """The program was asked to end by SIGTERM, as by a system that shuts down."""


@contextmanager
def importing() -> Iterator[None]:
    """A context for the imports of a program, in which Ctrl-C ends it without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)


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
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before the program began
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
        stream.reconfigure(errors=_IN_ASCII)  # rich draws boxes in ASCII there by itself
    # Paths and class names may contain brackets and colons, which are no markup here.
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def warner(console: Console) -> Callable[[str], None]:
    """A function that prints a sentence as a warning."""

    def warn(text: str) -> None:
        console.print(f"warning: {text}", soft_wrap=True)

    return warn


def command_line(*added: str) -> str:
    """The command line that started the program, as a user would type it.

    Flags ``added`` that it has not got are appended.
    """
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        started = ["python", "-m", program.parent.name]
    else:
        started = ["python", sys.argv[0]] if program.suffix == ".py" else [program.name]
    words = [*started, *sys.argv[1:]]
    return shlex.join([*words, *(flag for flag in added if flag not in words)])


@contextmanager
def ending(console: Console, *resuming: str) -> Iterator[None]:
    """A context that ends the program on bad input, on a failure or on an interruption.

    Parameters
    ----------
    console
        The program's console. If it is quiet, as in all but the main process of a distributed
        group, errors are not printed.
    resuming
        Flags with which the command continues after an interruption.

    Notes
    -----
    The exit code is 2 for bad input (`InputError`); 1 for a failure that is not the user's
    mistake (`UnavailableError`, and files that cannot be read or written); 130 for an interruption
    with Ctrl-C and 143 for one by SIGTERM, also where the program was started with signals
    ignored. All print one sentence, the last two with the command that continues. It is 1, as the
    console's, where the reader of the output has ended, such as ``head``.
    """
    try:
        with _heeding_signals():
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
        _discard_output()
        sys.exit(1)
    except OSError as error:
        is_mistake = error.errno == errno.ENAMETOOLONG
        is_mistake |= isinstance(error, WriteError) and error.is_mistake
        _stop(console, f"error: {_sentence(error)}", 2 if is_mistake else 1)
    except KeyboardInterrupt as error:
        code = 143 if isinstance(error, TerminatedError) else 130
        _stop(console, f"interrupted; this continues it: {command_line(*resuming)}", code)


@contextmanager
def _heeding_signals() -> Iterator[None]:
    """A context in which SIGINT and SIGTERM interrupt the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # Another one must not cut the cleaning up short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise TerminatedError


def _sentence(error: OSError) -> str:
    """One sentence on a file that cannot be read or written."""
    if isinstance(error, WriteError):
        return str(error)
    where = error.filename or "a file"
    if error.filename is None and error.errno == errno.ENOSPC:  # a file would be named
        where = "standard output"
        _discard_output()
    return f"{where}: found {error.strerror or error}, expected to read or write there"


def _discard_output() -> None:
    """Send what is left in the buffer of the output nowhere, or Python would fail as it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(console: Console, message: str, code: int) -> NoReturn:
    if not console.quiet:
        with suppress(OSError):
            make_console(stderr=True).print(message, soft_wrap=True)
    sys.exit(code)
