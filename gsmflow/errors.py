"""The one exception for a user's mistake."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input: a file, a field or a setting that cannot be used.

    The message is one sentence that names the place, what was found and what was expected.
    The command line prints it and exits with code 2.
    """
