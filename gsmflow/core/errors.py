"""The exceptions that end a program with a sentence, and words for others'."""

__all__ = ["DivergedError", "InputError", "UnavailableError", "one_line"]


class InputError(ValueError):
    """Bad input: a file, a field or a setting that cannot be used.

    The message is one sentence that names the place, what was found and what was expected.
    The command line prints it and exits with code 2.
    """


class DivergedError(InputError):
    """Settings under which training does not stay finite."""


class UnavailableError(Exception):
    """What a server was to give and does not, through no mistake of the user's.

    The message is one sentence. The command line prints it and exits with code 1.
    """


def one_line(error: BaseException) -> str:
    """An exception's text without line breaks, to stand inside a sentence."""
    return " ".join(str(error).split())
