"""Exceptions whose message is one sentence for the user."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DivergedError", "InputError", "UnavailableError", "naming_parameters", "one_line"]


class InputError(ValueError):
    """Bad input: a file, a field or a setting that cannot be used.

    The message is one sentence: where it is, what was found and what was expected.
    The command line prints it and exits with code 2.
    """


class DivergedError(InputError):
    """Training became NaN or infinite under these settings."""


class UnavailableError(Exception):
    """A server does not deliver a file, through no mistake of the user.

    The message is one sentence. The command line prints it and exits with code 1.
    """


def one_line(error: BaseException) -> str:
    """An exception's text without line breaks, for use inside a sentence."""
    return " ".join(str(error).split())


@contextmanager
def naming_parameters() -> Iterator[None]:
    """A context, or decorator, for use in Python: an `InputError` names parameters, not flags.

    A parameter has the name of its flag, with underscores.
    """
    try:
        yield
    except InputError as error:
        named = re.sub(r"--([a-z][\w-]*)", lambda flag: flag[1].replace("-", "_"), str(error))
        raise type(error)(named) from error
