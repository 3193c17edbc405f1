"""Pieces of work on a SLURM cluster, as the tasks of job arrays that `submitit` submits."""

import math
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, TypeAlias

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.extras import require
from gsmflow.runs.work import (
    POLL_SECONDS,
    Ended,
    Events,
    Started,
    Work,
    check_names,
    do_work,
    thread_variables,
)

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

__all__ = ["Queue", "SlurmSettings", "execute_on_slurm", "this_job"]

# Tasks of an array: SLURM takes 1001 unless its administrator says otherwise.
_ARRAY_SIZE = 1000
# How often a piece of work may run out of its time and go on in another job.
_MOST_TIMEOUTS = 20
# Seconds between two questions to SLURM's controller, which all users share.
_QUEUE_SECONDS = 10
# Seconds after the end of a job in which its result may still come through a shared file system,
# or in which SLURM may put it back into the queue.
_GRACE_SECONDS = 30
# States of a job that has not ended; in all others it has.
_ALIVE = frozenset(
    (
        *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT"),
        *("SIGNALING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
        "RESV_DEL_HOLD",
    )
)


@dataclass(frozen=True)
class SlurmSettings:
    """What each piece of work is given on a SLURM cluster; None: the cluster's default.

    Attributes
    ----------
    partition
        The partition to submit to.
    gpus
        GPUs of a piece.
    minutes
        Minutes after which a piece is stopped and put back into the queue, to go on from its files.
    cpus
        Cores of a piece; None: 1.
    memory_mib
        MiB of memory of a piece.
    parallel
        The most pieces that run at once; None: no limit.
    """

    partition: str | None = None
    gpus: int | None = None
    minutes: int = 240
    cpus: int | None = None
    memory_mib: int | None = None
    parallel: int | None = None


@dataclass(frozen=True)
class _OnNode:
    """What submitit calls on a node with a piece of work: `do_work`, which can be called again."""

    folder: Path

    def __call__(self, work: Work) -> str | None:
        return do_work(work, self.folder)

    def checkpoint(self, work: Work) -> "DelayedSubmission":
        """What is to be submitted when a job is preempted or out of time: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, work)


# A piece's sentence; None if it did not fail.
_Job: TypeAlias = "Job[str | None]"


def execute_on_slurm(works: Sequence[Work], settings: SlurmSettings, folder: Path) -> Events:
    """Do pieces of work as jobs of a SLURM cluster; see `gsmflow.runs.executors.execute`.

    An array of jobs has at most 1000 pieces; the next one is submitted when all of them have ended.
    What a piece prints is in the files of its job in ``folder/slurm``. Jobs go on if this process
    is killed.
    """
    require("submitit", "SLURM")
    if which("sbatch") is None:
        raise InputError("SLURM: found no sbatch on the PATH, expected a machine that submits jobs")
    check_names(works)
    return _events(works, settings, folder.absolute())


def _events(works: Sequence[Work], settings: SlurmSettings, folder: Path) -> Events:
    for first in range(0, len(works), _ARRAY_SIZE):
        array = works[first : first + _ARRAY_SIZE]
        jobs = _submit(array, settings, folder)
        waiting = {work.name: job for work, job in zip(array, jobs, strict=True)}
        try:
            yield from _array_events(waiting)
        finally:
            if waiting:
                array_id = jobs[0].job_id.split("_")[0]
                subprocess.run(["scancel", array_id], check=False, capture_output=True)


def _submit(works: Sequence[Work], settings: SlurmSettings, folder: Path) -> "list[_Job]":
    """Submit pieces of work as one array of jobs."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError
    from submitit.helpers import clean_env

    given = {
        "partition": settings.partition,
        "gpus_per_node": settings.gpus,
        "cpus_per_task": settings.cpus,
        "mem": None if settings.memory_mib is None else f"{settings.memory_mib}M",
        "array_parallelism": settings.parallel or len(works),
    }
    threads = thread_variables(settings.cpus or 1)
    try:
        with clean_env():
            executor = SlurmExecutor(folder / "slurm", max_num_timeout=_MOST_TIMEOUTS)
            executor.update_parameters(
                job_name="gsmflow",
                time=settings.minutes,
                setup=[f"export {name}={value}" for name, value in threads.items()],
                **{name: value for name, value in given.items() if value is not None},
            )
            return executor.map_array(_OnNode(folder), works)
    except FailedJobError as error:
        raise InputError(f"SLURM: found that sbatch refuses the jobs: {one_line(error)}") from error


def _array_events(waiting: "dict[str, _Job]") -> Events:
    """The events of submitted jobs, by the names of their pieces; those that end are taken out."""
    queue, started = Queue(), set[str]()
    while waiting:
        time.sleep(POLL_SECONDS)
        queue.ask([job.job_id for job in waiting.values()])
        events = list[Started | Ended]()
        for name, job in list(waiting.items()):
            state, has_result = queue.state(job.job_id), job.paths.result_pickle.exists()
            if name not in started and (state == "RUNNING" or has_result):
                started.add(name)
                events.append(Started(name))
            if has_result or job.job_id in queue.lost:
                del waiting[name]
                events.append(Ended(name, _sentence(job) if has_result else _loss(job, state)))
        yield from events or (None,)


class Queue:
    """What SLURM's controller says of jobs; it is asked every few seconds.

    Attributes
    ----------
    lost
        Ids of jobs that have ended so long ago that neither a result nor a new try will come.
    """

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self._states: dict[str, str] = {}
        self._ended_at: dict[str, float] = {}
        self._asked_at = -math.inf

    def state(self, job_id: str) -> str:
        """The last known state of a job."""
        return self._states.get(job_id, "UNKNOWN")

    def ask(self, job_ids: Sequence[str]) -> None:
        """Learn the states of jobs, if it is time to; nothing is learnt without an answer."""
        now = time.monotonic()
        if now - self._asked_at < _QUEUE_SECONDS or which("squeue") is None:
            return
        self._asked_at = now
        command = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            return
        words = answer.stdout.split()
        self._states = dict(zip(words[::2], words[1::2], strict=True))
        ended = [job_id for job_id in job_ids if self.state(job_id) not in _ALIVE]
        self._ended_at = {job_id: self._ended_at.get(job_id, now) for job_id in ended}
        self.lost = {job_id for job_id in ended if now - self._ended_at[job_id] > _GRACE_SECONDS}


def this_job() -> tuple[str, int] | None:
    """The id of this process's job, as `Queue` names it, and how often the job began again.

    None in a process of no job.
    """
    job, array = (os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID"))
    if job is None:
        return None
    name = job if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return name, int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _sentence(job: "_Job") -> str | None:
    """What a job with a result says."""
    if job.exception() is None:
        return job.result()
    return f"its job failed before it began, see {job.paths.stderr}"


def _loss(job: "_Job", state: str) -> str:
    """One sentence on a job that ended without a result."""
    return f"its job ended without a result (state {state}), see {job.paths.stderr}"
