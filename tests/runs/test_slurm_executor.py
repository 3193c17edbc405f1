"""SLURM is itself where a node is up (`.ci/slurm`), elsewhere stand-ins for its commands."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from gsmflow.core.errors import InputError
from gsmflow.runs import slurm_executor
from gsmflow.runs.executors import Ended, Events, SlurmSettings, Started, Work, execute

# As SLURM's: sbatch runs the tasks of an array at once, squeue shows a file, all note their words.
COMMANDS = {
    "sbatch": """
        echo "sbatch $*" >>$STANDIN/calls
        id=$(($(grep -c ^sbatch $STANDIN/calls) + 6))
        cp "$1" $STANDIN/script-$id
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        if [ -e $STANDIN/works ]; then
          for task in $(seq 0 $last); do
            echo "${id}_$task RUNNING" >>$STANDIN/queue
            SLURM_JOB_ID=1$task SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task bash "$1" \\
              >/dev/null 2>&1 &
          done
        fi
        echo "Submitted batch job $id"
    """,
    "srun": 'shift 5; exec "$@"',
    "squeue": "cat $STANDIN/queue",
    "scancel": 'echo "scancel $*" >>$STANDIN/calls',
}


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a SLURM that is none: ``calls``, ``queue``, and ``works`` if jobs run."""
    pytest.importorskip("submitit")
    folder = tmp_path / "standin"
    folder.mkdir()
    for name, script in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("STANDIN", str(folder))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_executor, "_QUEUE_SECONDS", 0.1)
    monkeypatch.setattr(slurm_executor, "_GRACE_SECONDS", 4)


def note(file: Path) -> None:
    print("noted")
    file.write_text(os.environ.get("OMP_NUM_THREADS", ""))


def pieces(folder: Path) -> list[Work]:
    works = [Work(name, partial(note, folder / name)) for name in ("one", "two")]
    return [*works, Work("three", partial(int, "no number"))]


def sentences(events: Events) -> dict[str, str | None]:
    """How pieces ended; each has started before."""
    started, ended = set[str](), dict[str, str | None]()
    for event in events:
        if isinstance(event, Started):
            started.add(event.name)
        elif isinstance(event, Ended):
            ended[event.name] = event.sentence
            assert event.name in started
    return ended


def check_pieces(events: Events, folder: Path) -> None:
    assert sentences(events) == {
        "one": None,
        "two": None,
        "three": "ValueError: invalid literal for int() with base 10: 'no number'",
    }
    assert [(folder / name).read_text() for name in ("one", "two")] == ["2", "2"]
    assert [path.name for path in folder.glob("*.err")] == ["three.err"]


def test_pieces_are_the_tasks_of_one_array(standin: Path, tmp_path: Path) -> None:
    (standin / "works").touch()
    settings = SlurmSettings("long", gpus=1, minutes=90, cpus=2, memory_mib=3000, parallel=2)
    check_pieces(execute(pieces(tmp_path), settings, tmp_path), tmp_path)
    assert len((standin / "calls").read_text().splitlines()) == 1  # nothing is left to cancel
    lines = (standin / "script-7").read_text().splitlines()
    flags = dict(line.removeprefix("#SBATCH --").split("=", 1) for line in lines if "=" in line)
    expected = {"partition": "long", "gpus-per-node": "1", "time": "90", "cpus-per-task": "2"}
    assert flags.items() >= (expected | {"mem": "3000M", "array": "0-2%2"}).items()
    logs = [path.read_text() for path in (tmp_path / "slurm").glob("*.out")]
    assert not logs  # the stand-in throws them away


def test_cluster_defaults_are_not_named(standin: Path, tmp_path: Path) -> None:
    events = execute(pieces(tmp_path), SlurmSettings(), tmp_path)
    next(events)
    script = (standin / "script-7").read_text()
    assert "#SBATCH --array=0-2%3\n" in script
    for flag in ("partition", "gpus", "cpus", "mem"):
        assert f"--{flag}" not in script


def test_more_pieces_than_an_array_takes_are_several_arrays(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "_ARRAY_SIZE", 2)
    (standin / "works").touch()
    works = [Work(name, partial(note, tmp_path / name)) for name in "abcd"]
    assert sentences(execute(works, SlurmSettings(), tmp_path)) == dict.fromkeys("abcd")
    assert sorted(path.name for path in standin.glob("script-*")) == ["script-7", "script-8"]


def test_states_of_the_queue_become_events(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "_GRACE_SECONDS", 1)
    events = execute(pieces(tmp_path), SlurmSettings(), tmp_path)
    queue = standin / "queue"
    queue.write_text("7_0 PENDING\n7_1 RUNNING\n7_2 PENDING\n5 RUNNING\n")
    assert next(event for event in events if event is not None) == Started("two")
    queue.write_text("7_0 PENDING\n7_1 TIMEOUT\n7_2 PENDING\n")
    since = time.monotonic()
    ended = next(event for event in events if event is not None)
    assert isinstance(ended, Ended)
    assert ended.name == "two"
    assert ended.sentence
    assert ended.sentence.startswith("its job ended without a result (state TIMEOUT), see /")
    assert time.monotonic() - since > 1
    queue.write_text("")  # SLURM has forgotten them all
    assert {"one", "three"} == {event.name for event in events if isinstance(event, Ended)}


def test_silent_controller_ends_no_piece(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "_GRACE_SECONDS", 0)
    (standin / "queue").unlink()
    events = execute(pieces(tmp_path), SlurmSettings(), tmp_path)
    assert [next(events) for _ in range(3)] == [None, None, None]


def test_closed_events_cancel_the_array(standin: Path, tmp_path: Path) -> None:
    (standin / "queue").write_text("7_0 RUNNING\n")
    events = execute(pieces(tmp_path), SlurmSettings(), tmp_path)
    assert next(event for event in events if event is not None) == Started("one")
    events.close()
    assert (standin / "calls").read_text().splitlines()[1:] == ["scancel 7"]


def test_refused_jobs_are_an_input_error(standin: Path, tmp_path: Path) -> None:
    (standin / "sbatch").write_text(
        "#!/bin/bash\necho 'invalid partition specified: x' >&2; exit 1"
    )
    with pytest.raises(InputError, match=r"refuses the jobs: invalid partition specified: x$"):
        next(execute(pieces(tmp_path), SlurmSettings(), tmp_path))


def test_missing_slurm_or_package_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"found no sbatch on the PATH|\.\[slurm\]"):
        execute([], SlurmSettings(), tmp_path)
    monkeypatch.setattr("gsmflow.core.extras.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"found no package submitit.*\.\[slurm\]"):
        execute([], SlurmSettings(), tmp_path)


@pytest.mark.slurm
def test_pieces_run_on_a_real_cluster(tmp_path: Path) -> None:
    check_pieces(execute(pieces(tmp_path), SlurmSettings(minutes=20, cpus=2), tmp_path), tmp_path)
    logs = [path.read_text() for path in (tmp_path / "slurm").glob("*.out")]
    assert sum("noted\n" in log for log in logs) == 2


def wait_in_first_try(folder: Path) -> None:
    tries = next(number for number in count(1) if not (folder / f"try-{number}").exists())
    (folder / f"try-{tries}").touch()
    if tries == 1:
        time.sleep(600)


def wait_until(condition: Callable[[], bool], events: Events) -> None:
    while not condition():
        assert next(events) in (None, Started("a"))


def queued_tasks(folder: Path) -> list[str]:
    """Ids of jobs that have not ended, of those that were submitted from a folder."""
    (script,) = (folder / "slurm").glob("*_submission.sh")
    job = script.name.removesuffix("_submission.sh")
    command = ["squeue", f"--jobs={job}", "--array", "--noheader", "--format=%i"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slurm
def test_preempted_job_goes_on_in_another_try(tmp_path: Path) -> None:
    events = execute(
        [Work("a", partial(wait_in_first_try, tmp_path))], SlurmSettings(minutes=20), tmp_path
    )
    wait_until((tmp_path / "try-1").exists, events)
    (job,) = queued_tasks(tmp_path)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)  # as before the end of its time
    assert [event for event in events if isinstance(event, Ended)] == [Ended("a", None)]
    assert (tmp_path / "try-2").exists()


@pytest.mark.slurm
def test_closed_events_leave_no_job(tmp_path: Path) -> None:
    works = [Work(name, partial(time.sleep, 600)) for name in "abc"]
    events = execute(works, SlurmSettings(minutes=20), tmp_path)
    while next(events) is None:
        pass
    events.close()
    deadline = time.monotonic() + 60
    while queued_tasks(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slurm
def test_killed_job_ends_with_its_state(tmp_path: Path) -> None:
    events = execute([Work("a", partial(sys.exit, 3))], SlurmSettings(minutes=20), tmp_path)
    (ended,) = (event for event in events if isinstance(event, Ended))
    assert ended.sentence
    assert ended.sentence.startswith("its job ended without a result (state FAILED)")
