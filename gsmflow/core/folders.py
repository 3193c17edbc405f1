"""Folders: one process at a time writes to them, and each is made whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gsmflow.core.errors import InputError, writing

__all__ = ["LOCK_FILE", "BusyError", "locked", "remove_leftovers", "whole_folder"]

LOCK_FILE = ".lock"


class BusyError(InputError):
    """Another process writes to a folder."""


@contextmanager
def locked(folder: Path, patience: float = 0) -> Iterator[None]:
    """A context in which this process alone writes to a folder.

    The lock is free again as soon as its process has ended, however it ended. Its file stays.

    Parameters
    ----------
    folder
        The folder, which exists.
    patience
        Seconds to wait for another process; -1: until it is done.

    Raises
    ------
    BusyError
        If another process has the lock for longer.
    WriteError
        If the lock's file cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        with writing(folder / LOCK_FILE):
            lock.acquire(timeout=patience)
    except Timeout as error:
        raise BusyError(
            f"{folder}: found another process that writes to it, expected it to end first"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A context that makes a folder atomically.

    It yields a temporary folder beside it, and renames that to ``folder`` at the end. After an
    exception the temporary folder is deleted. What a killed process has left of it is made anew.

    Raises
    ------
    BusyError
        If another process makes the same folder.
    WriteError
        If the folder cannot be made.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    with writing(temporary):
        if temporary.is_symlink() or temporary.is_file():
            temporary.unlink()  # no folder of a killed process
        temporary.mkdir(parents=True, exist_ok=True)
    with locked(temporary):
        for path in temporary.iterdir():
            if path.name != LOCK_FILE:
                _remove(path)
        try:
            yield temporary
            with writing(folder):
                temporary.rename(folder)
                (folder / LOCK_FILE).unlink()
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left unfinished in a folder that this process has locked.

    Folders in it that have a lock of their own are left to the process that locks them.
    """
    for path in folder.iterdir():
        has_lock = (path / LOCK_FILE).exists()
        if path.match(".*.part"):
            with suppress(BusyError):  # another process makes this folder now
                if has_lock:
                    with locked(path):
                        _remove(path)
                else:
                    _remove(path)
        elif path.is_dir() and not path.is_symlink() and not has_lock:
            remove_leftovers(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
