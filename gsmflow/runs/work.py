"""Independent pieces of work for an executor, and what becomes of them."""

import re
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gsmflow.core.errors import InputError, UnavailableError, WriteError, one_line
from gsmflow.core.files import write_bytes

__all__ = [
    "POLL_SECONDS",
    "Ended",
    "Events",
    "Started",
    "Work",
    "check_names",
    "do_work",
    "file_name",
    "thread_variables",
]

# Seconds between two looks at what runs.
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Work:
    """A piece of work that needs no other piece.

    Attributes
    ----------
    name
        What it is called, also in the names of its files: two pieces differ in what `file_name`
        makes of it.
    call
        What does it, and leaves its result in files. It can be pickled: a function of a module, or
        a `functools.partial` of one. Called again after it was cut off, it goes on from its files.
    memory_mib
        MiB of the machine's memory that it needs at most.
    """

    name: str
    call: Callable[[], object]
    memory_mib: int = 0


@dataclass(frozen=True)
class Started:
    """A piece of work has begun."""

    name: str


@dataclass(frozen=True)
class Ended:
    """A piece of work has ended; ``sentence`` says why it failed, and is None if it did not."""

    name: str
    sentence: str | None


# None stands for half a second in which nothing happened.
Events: TypeAlias = Generator[Started | Ended | None, None, None]


def do_work(work: Work, folder: Path) -> str | None:
    """Do a piece of work in this process.

    Parameters
    ----------
    work
        The piece.
    folder
        Where the traceback of an exception is written, as ``NAME.err``; an old one is deleted.

    Returns
    -------
    str or None
        One sentence on why it failed; None if it did not.
    """
    errors = folder / f"{file_name(work.name)}.err"
    errors.unlink(missing_ok=True)
    try:
        work.call()
    except Exception as error:
        with suppress(OSError):  # where the disk is full, the sentence is what can be said
            write_bytes(errors, traceback.format_exc().encode())
        if isinstance(error, InputError | UnavailableError | WriteError):
            return one_line(error)
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def file_name(name: str) -> str:
    """The name of a piece of work with ``_`` for what is unsafe in the name of a file."""
    return re.sub(r"[^\w.+-]+", "_", name)


def check_names(works: Sequence[Work]) -> None:
    """Raise `ValueError` if two pieces of work would write the same files."""
    if len({file_name(work.name) for work in works}) < len(works):
        raise ValueError("two pieces of work have the same name in their files")


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables for a process that shares the machine and computes on some cores.

    They count from when numpy and torch are loaded. Waiting threads sleep at once.
    """
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
