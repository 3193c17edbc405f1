import signal
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Event

import pytest

from gsmflow.core import child_processes
from gsmflow.core.child_processes import end_processes


def sleep(ready: Event, deaf: bool) -> None:
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(600)


def test_processes_end_whether_they_listen_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_processes, "_PATIENCE", 0.2)
    context = get_context("spawn")
    ready = [context.Event(), context.Event()]
    listening = context.Process(target=sleep, args=(ready[0], False))
    deaf = context.Process(target=sleep, args=(ready[1], True))
    for process in (listening, deaf):
        process.start()
    for event in ready:
        event.wait()
    end_processes([listening, deaf, context.Process(target=sleep)])
    assert [listening.exitcode, deaf.exitcode] == [-signal.SIGTERM, -signal.SIGKILL]
