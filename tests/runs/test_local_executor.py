import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from gsmflow.core.errors import InputError
from gsmflow.runs.executors import Ended, LocalSettings, Started, Work, execute

ROOT = Path(__file__).resolve().parents[2]


def note(file: Path, beside: int) -> None:
    """Write when this ran, by the machine's clock, and what its process was given.

    It ends when as many pieces, itself included, have begun.
    """
    start = time.monotonic()
    file.with_suffix(".begun").touch()
    while len(list(file.parent.glob("*.begun"))) < beside and time.monotonic() < start + 60:
        time.sleep(0.01)
    time.sleep(0.1)
    found = {
        "span": (start, time.monotonic()),
        "threads": torch.get_num_threads(),
        "environment": dict(os.environ),
    }
    file.write_text(json.dumps(found))


def sleep_with_pid(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(600)


def fail(error: BaseException) -> None:
    raise error


def print_both_ways() -> None:
    print("to the output")
    print("to the errors", file=sys.stderr)


def overlapping(spans: dict[str, tuple[float, float]]) -> list[set[str]]:
    """What ran at each moment at which something began."""
    return [
        {name for name, (start, end) in spans.items() if start <= moment < end}
        for moment, _ in spans.values()
    ]


def run_notes(
    folder: Path, settings: LocalSettings, memory: dict[str, int], beside: int
) -> tuple[dict[str, dict], list[set[str]]]:
    works = [Work(name, partial(note, folder / name, beside), mib) for name, mib in memory.items()]
    ends = [event for event in execute(works, settings, folder) if isinstance(event, Ended)]
    assert {end.name for end in ends} == set(memory)
    assert all(end.sentence is None for end in ends)
    found = {name: json.loads((folder / name).read_text()) for name in memory}
    at_once = overlapping({name: tuple(entry["span"]) for name, entry in found.items()})
    assert max(map(len, at_once)) >= beside
    return found, at_once


def wait_for(files: Sequence[Path]) -> list[psutil.Process]:
    """The processes whose ids come to stand in files."""
    while not all(file.exists() and file.read_text() for file in files):
        time.sleep(0.02)
    return [psutil.Process(int(file.read_text())) for file in files]


def test_each_piece_starts_and_ends_with_a_sentence_if_it_failed(tmp_path: Path) -> None:
    calls = {
        "works": print_both_ways,
        "bad input": partial(fail, InputError("x.mat: found\n nothing")),
        "a/b": partial(fail, KeyError("seen")),
        "killed": partial(signal.raise_signal, signal.SIGKILL),
        "ended": partial(signal.raise_signal, signal.SIGTERM),
        "left": partial(sys.exit, 3),
    }
    works = [Work(name, call) for name, call in calls.items()]
    (tmp_path / "works.err").write_text("of an earlier try")
    events = [event for event in execute(works, LocalSettings(2), tmp_path) if event is not None]
    assert [e.name for e in events if isinstance(e, Started)] == list(calls)
    assert {e.name: e.sentence for e in events if isinstance(e, Ended)} == {
        "works": None,
        "bad input": "x.mat: found nothing",
        "a/b": "KeyError: 'seen'",
        "killed": "ended by signal 9 (SIGKILL), probably out of memory",
        "ended": "ended by signal 15 (SIGTERM)",
        "left": "its process ended with exit code 3",
    }
    for name in calls:
        places = [i for i, event in enumerate(events) if event.name == name]
        assert [type(events[i]) for i in places] == [Started, Ended]
    assert (tmp_path / "works.log").read_text().splitlines() == ["to the output", "to the errors"]
    assert sorted(path.name for path in tmp_path.glob("*.err")) == ["a_b.err", "bad_input.err"]
    assert "in fail\n    raise error\n" in (tmp_path / "a_b.err").read_text()


def test_pieces_that_run_at_once_fit_into_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=1000 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    memory = {"a": 300, "b": 600, "c": 400, "d": 2000, "e": 100, "f": 100, "g": 1000}
    _, at_once = run_notes(tmp_path, LocalSettings(workers=4), memory, beside=2)
    for names in at_once:
        assert sum(memory[name] for name in names) <= 1000 or names == {"d"}


@pytest.mark.parametrize(
    ("settings", "most"), [(LocalSettings(threads=2), 3), (LocalSettings(workers=2), 2)]
)
def test_no_more_run_at_once_than_cores_or_workers(
    settings: LocalSettings, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found, at_once = run_notes(tmp_path, settings, dict.fromkeys("abcdefg", 0), beside=most)
    assert max(map(len, at_once)) == most
    for entry in found.values():
        assert entry["threads"] == settings.threads
        assert entry["environment"]["OMP_NUM_THREADS"] == str(settings.threads)
        assert entry["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"


def test_environment_of_the_caller_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    before = dict(os.environ)
    run_notes(tmp_path, LocalSettings(threads=3), {"a": 0}, beside=1)
    assert dict(os.environ) == before


def test_each_gpu_has_one_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    found, at_once = run_notes(tmp_path, LocalSettings(), dict.fromkeys("abcdef", 0), beside=2)
    gpus = {name: entry["environment"]["CUDA_VISIBLE_DEVICES"] for name, entry in found.items()}
    assert set(gpus.values()) == {"5", "7"}
    assert max(map(len, at_once)) == 2
    for names in at_once:
        assert len({gpus[name] for name in names}) == len(names)


def use_gpu(file: Path) -> None:
    total = torch.ones(3, device="cuda").sum().item()
    file.write_text(f"{torch.cuda.device_count()} {total}")


@pytest.mark.gpu
def test_piece_computes_on_its_gpu(tmp_path: Path) -> None:
    works = [Work(name, partial(use_gpu, tmp_path / name)) for name in "ab"]
    ends = [e for e in execute(works, LocalSettings(), tmp_path) if isinstance(e, Ended)]
    assert [end.sentence for end in ends] == [None, None]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1 3.0", "1 3.0"]


def test_none_comes_twice_a_second_while_nothing_happens(tmp_path: Path) -> None:
    events = execute([Work("a", partial(time.sleep, 2))], LocalSettings(), tmp_path)
    assert next(events) == Started("a")
    moments = [time.monotonic(), *(time.monotonic() for event in events if event is None)]
    assert sum(after - before < 1 for before, after in pairwise(moments)) >= 2


def test_killed_piece_ends_and_the_next_one_begins(tmp_path: Path) -> None:
    works = [
        Work("a", partial(sleep_with_pid, tmp_path / "pid")),
        Work("b", partial(note, tmp_path / "b", 1)),
    ]
    events = execute(works, LocalSettings(workers=1), tmp_path)
    assert next(events) == Started("a")
    (process,) = wait_for([tmp_path / "pid"])
    process.kill()
    assert [event for event in events if event is not None] == [
        Ended("a", "ended by signal 9 (SIGKILL), probably out of memory"),
        Started("b"),
        Ended("b", None),
    ]


def test_closed_events_leave_no_process(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    works = [Work(file.name, partial(sleep_with_pid, file)) for file in files]
    events = execute(works, LocalSettings(workers=2), tmp_path)
    assert [next(events), next(events)] == [Started("a"), Started("b")]
    processes = wait_for(files)
    events.close()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_pieces_end_with_their_command(number: signal.Signals, tmp_path: Path) -> None:
    program = (
        "import signal\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from gsmflow.runs.executors import LocalSettings, Work, execute\n"
        "from tests.runs.test_local_executor import sleep_with_pid\n"
        "if __name__ == '__main__':\n"
        # A command in the background of a shell inherits that Ctrl-C is ignored.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"    files = [Path({str(tmp_path)!r}) / name for name in 'ab']\n"
        "    works = [Work(file.name, partial(sleep_with_pid, file)) for file in files]\n"
        "    for _ in execute(works, LocalSettings(workers=2), files[0].parent): pass\n"
    )
    file = tmp_path / "command.py"
    file.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = subprocess.Popen(
        [sys.executable, file], env=environment, stderr=subprocess.PIPE, text=True
    )
    processes = wait_for([tmp_path / "a", tmp_path / "b"])
    processes += psutil.Process(command.pid).children(recursive=True)
    command.send_signal(number)
    _, errors = command.communicate(timeout=60)
    assert errors.endswith("KeyboardInterrupt\n") == (number == signal.SIGINT)
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


def test_names_that_share_a_file_are_refused(tmp_path: Path) -> None:
    works = [Work("a/b", print_both_ways), Work("a b", print_both_ways)]
    with pytest.raises(ValueError, match="same name"):
        execute(works, LocalSettings(), tmp_path)
