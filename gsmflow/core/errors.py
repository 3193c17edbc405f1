"""Exceptions whose message is one sentence for the user."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "DivergedError",
    "InputError",
    "UnavailableError",
    "WriteError",
    "is_of_writing",
    "lacks_room",
    "naming_flag",
    "naming_parameters",
    "one_line",
    "writing",
]

# What a full disk and a full quota give.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WITH_ROOM = "a folder with room"
# What is expected where a path cannot be.
_PATHS = {
    errno.EEXIST: "another path",
    errno.EISDIR: "no folder of this name",
    errno.ENAMETOOLONG: "a shorter name",
    errno.ENOTDIR: "a path through folders",
}


class InputError(ValueError):
    """Bad input: a file, a field or a setting that cannot be used.

    The message is one sentence: where it is, what was found and what was expected.
    The command line prints it and exits with code 2.
    """


class DivergedError(InputError):
    """Training became NaN or infinite under these settings."""


class UnavailableError(Exception):
    """Something is not to be had, through no mistake of the user: a server's file, room on a disk.

    The message is one sentence. The command line prints it and exits with code 1.
    """


class WriteError(OSError):
    """A file or folder cannot be written.

    The message is one sentence. The command line prints it and exits with code 1, or with 2 where
    it is a mistake in what was asked for.

    Parameters
    ----------
    path
        The file or folder.
    error
        Why it cannot be written.
    needed
        Bytes of the file; None where they are not known.
    """

    def __init__(self, path: Path, error: OSError, needed: int | None = None) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))
        self.needed = needed

    @property
    def is_mistake(self) -> bool:
        """Whether the path cannot be: its name is too long, or a file is in a folder's place."""
        return self.errno in _PATHS

    def __str__(self) -> str:
        facts = [f"{self.strerror}"]
        if self.needed is not None and lacks_room(self):
            facts.append(f"{_mib(self.needed)} are needed")
        if self.errno in _FULL:
            facts.append(f"{_mib(_free_bytes(Path(self.filename)))} are free")
        expected = _PATHS.get(self.errno or 0, f"{_WITH_ROOM} that may be written to")
        return f"{self.filename}: cannot be written ({', '.join(facts)}), expected {expected}"


def is_of_writing(sentence: str) -> bool:
    """Whether a sentence is that of a `WriteError`, which another process has ended with."""
    return _WITH_ROOM in sentence


def lacks_room(error: OSError) -> bool:
    """Whether a file could not be written for a full disk, a full quota or a limit on its size."""
    return error.errno in (*_FULL, errno.EFBIG)


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _free_bytes(path: Path) -> int:
    """Free bytes of the disk that a path lies on, or would."""
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    return shutil.disk_usage(existing).free


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """A context in which a failure to write a file or folder becomes a `WriteError` about it.

    Raises
    ------
    InputError
        If the path has a NUL character, which no path can have.
    """
    if "\0" in str(path):
        raise InputError(f"{str(path)!r}: found a NUL character, expected a path without")
    try:
        yield
    except (WriteError, TimeoutError):  # of the file itself, or of a lock
        raise
    except OSError as error:
        raise WriteError(path, error, needed) from error


@contextmanager
def naming_flag(flag: str, path: Path, expected: str = "a file") -> Iterator[None]:
    """A context that writes to a path that a flag names.

    Raises
    ------
    InputError
        If the path is a mistake: a folder in the place of a file, or a file in that of a folder.
    WriteError
        If it cannot be written for another reason.
    """
    try:
        with writing(path):
            yield
    except WriteError as error:
        if not error.is_mistake:
            raise
        raise InputError(
            f"{flag}: found {path}, which cannot be written ({error.strerror}), expected {expected}"
        ) from error


def one_line(error: BaseException) -> str:
    """An exception's text without line breaks, for use inside a sentence."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
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
