"""Processes that are killed at a chosen point, for tests of resuming."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock


def killed_at(owner: object, name: str, number: int, call: Callable[[], object]) -> bool:
    """Whether a copy of this process was killed in a call.

    The copy kills itself, with nothing cleaned up, instead of calling the function ``name`` of
    ``owner``, a module or class, for the ``number``-th time, from 1.
    """
    process = os.fork()
    if process == 0:
        _call_until(owner, name, number, call)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _call_until(owner: object, name: str, number: int, call: Callable[[], object]) -> None:
    code, count, original = 1, 0, getattr(owner, name)

    def counting(*arguments: Any, **keywords: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    try:
        with mock.patch.object(owner, name, counting):
            call()
        code = 0
    finally:
        os._exit(code)


def leftovers(folder: Path) -> list[Path]:
    """What a killed process left unfinished."""
    return sorted(folder.rglob(".*.part"))
