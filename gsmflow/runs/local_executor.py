"""Pieces of work on this machine, each in a process of its own."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import torch

from gsmflow.core.child_processes import end_processes, end_with_parent
from gsmflow.runs.work import (
    POLL_SECONDS,
    Ended,
    Events,
    Started,
    Work,
    check_names,
    do_work,
    file_name,
    thread_variables,
)

__all__ = ["LocalSettings", "execute_locally"]

# What takes seconds to import; an optimizer imports the second.
_PRELOADED = ["gsmflow.runs.experiment", "torch._dynamo"]


@dataclass(frozen=True)
class LocalSettings:
    """How many pieces of work run at once on this machine.

    Attributes
    ----------
    workers
        The most that run at once; None: as many as there are GPUs, without a GPU as many as the
        cores allow. In both cases no more than fit into the free memory together.
    threads
        Cores that each computes on.
    gpus
        GPUs to use, one for each piece, by their names in ``CUDA_VISIBLE_DEVICES``; None: all that
        torch sees. An empty tuple leaves the variable as it is.
    """

    workers: int | None = None
    threads: int = 1
    gpus: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class _Running:
    """A piece of work that runs: its process, where its sentence will arrive, and its GPU."""

    work: Work
    process: BaseProcess
    answers: Connection
    gpu: str | None

    def ended(self) -> Ended:
        """What became of it; its process has ended."""
        self.process.join()
        with self.answers:
            ended = Ended(self.work.name, self._sentence())
        self.process.close()
        return ended

    def _sentence(self) -> str | None:
        with suppress(EOFError):
            if self.answers.poll():
                answer: str | None = self.answers.recv()
                return answer
        return _end_of(self.process.exitcode)


def execute_locally(works: Sequence[Work], settings: LocalSettings, folder: Path) -> Events:
    """Do pieces of work in processes of this machine; see `gsmflow.runs.executors.execute`.

    A piece begins as soon as it fits beside those that run; one that needs more memory than there
    is runs alone. What it prints is in ``NAME.log``.
    """
    check_names(works)
    folder.mkdir(parents=True, exist_ok=True)
    return _events(works, settings, folder)


def _events(works: Sequence[Work], settings: LocalSettings, folder: Path) -> Events:
    waiting, running = list(works), list[_Running]()
    gpus = _visible_gpus() if settings.gpus is None else settings.gpus
    most = settings.workers or len(gpus) or max(1, _core_count() // settings.threads)
    free_mib = psutil.virtual_memory().available // 2**20
    context = _context()
    try:
        while waiting or running:
            used = {piece.gpu for piece in running}
            gpu = next((gpu for gpu in gpus if gpu not in used), None)
            work = _next_that_fits(waiting, [piece.work for piece in running], free_mib)
            if work is not None and len(running) < most and (gpu is not None or not gpus):
                waiting.remove(work)
                running.append(_start(context, work, settings.threads, gpu, folder))
                yield Started(work.name)
                continue
            wait([piece.process.sentinel for piece in running], POLL_SECONDS)
            ended = [piece for piece in running if not piece.process.is_alive()]
            for piece in ended:
                running.remove(piece)
                yield piece.ended()
            if not ended:
                yield None
    finally:
        end_processes([piece.process for piece in running])


def _next_that_fits(waiting: Sequence[Work], running: Sequence[Work], free_mib: int) -> Work | None:
    """The first piece of work that the memory has room for; the first of all where none runs."""
    rest = free_mib - sum(work.memory_mib for work in running)
    fitting = (work for work in waiting if not running or work.memory_mib <= rest)
    return next(fitting, None)


def _visible_gpus() -> tuple[str, ...]:
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",") if named else map(str, range(count)))[:count]


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _context() -> BaseContext:
    """How processes are started.

    On Linux they are forked from a process that has imported what they need. Elsewhere libraries
    do not stand forking.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _start(
    context: BaseContext, work: Work, threads: int, gpu: str | None, folder: Path
) -> _Running:
    """Start the process of a piece of work."""
    variables = thread_variables(threads)
    answers, sender = context.Pipe(duplex=False)
    arguments = work, threads, gpu, folder, sender
    process = context.Process(target=_run_child, args=arguments, name=work.name)  # type: ignore[attr-defined]
    with _environment(variables), sender:
        process.start()
    return _Running(work, process, answers, gpu)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """A context in which environment variables have other values: those of a process to start."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_child(
    work: Work, threads: int, gpu: str | None, folder: Path, answers: Connection
) -> None:
    """The main function of a process: do a piece of work and send its sentence."""
    end_with_parent()
    # The caller shows a table where this process would print.
    with (folder / f"{file_name(work.name)}.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(thread_variables(threads))
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)
    answers.send(do_work(work, folder))


def _end_of(exit_code: int | None) -> str:
    """One sentence on a process that ended without an answer."""
    if exit_code == 128 + signal.SIGTERM:  # it cleaned up first
        exit_code = -signal.SIGTERM
    if exit_code is None or exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    cause = ", probably out of memory" if -exit_code == signal.SIGKILL else ""
    return f"ended by signal {-exit_code} ({signal.Signals(-exit_code).name}){cause}"
