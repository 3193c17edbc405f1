import signal
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from gsmflow.core import child_processes
from gsmflow.core.child_processes import end_processes, end_with_parent
from gsmflow.core.files import replacing


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


def write(ready: Event, path: Path) -> None:
    end_with_parent()
    with replacing(path) as temporary:
        temporary.write_text("in the making")
        ready.set()
        time.sleep(600)


def test_process_that_is_asked_to_end_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=write, args=(ready, tmp_path / "file"))
    process.start()
    ready.wait()
    assert list(tmp_path.iterdir())
    end_processes([process])
    assert process.exitcode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
