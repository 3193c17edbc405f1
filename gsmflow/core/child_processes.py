"""Child processes that live no longer than their parent."""

import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NoReturn

__all__ = ["EndedByParentError", "end_processes", "end_with_parent"]

# Seconds in which a process is to end when it is asked to.
_PATIENCE = 5


class EndedByParentError(SystemExit):
    """A child process was asked to end by its parent; what it does at this moment did not fail."""


def end_with_parent() -> None:
    """Leave Ctrl-C to this process's parent, and end this process as soon as the parent has ended.

    A child process calls it at its beginning, in its main thread. It cleans up when its parent asks
    it to end by SIGTERM, and has the exit code 143 then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise EndedByParentError(128 + number)


def _exit_after_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def end_processes(processes: Sequence[BaseProcess]) -> None:
    """End those of the processes that were started, and wait until they have ended."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    for process in started:
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
