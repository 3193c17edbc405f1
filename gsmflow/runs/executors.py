"""Executors: where pieces of work are done, on this machine or on a SLURM cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from gsmflow.runs.local_executor import LocalSettings, execute_locally
from gsmflow.runs.slurm_executor import SlurmSettings, execute_on_slurm
from gsmflow.runs.work import Ended, Events, Started, Work

__all__ = [
    "Ended",
    "Events",
    "ExecutorName",
    "LocalSettings",
    "SlurmSettings",
    "Started",
    "Work",
    "execute",
    "executor_settings",
]

ExecutorName: TypeAlias = Literal["local", "slurm"]


def executor_settings(
    executor: ExecutorName,
    *,
    device: str,
    workers: int | None,
    threads: int | None,
    partition: str | None,
    gpus: int,
    minutes: int,
    memory_gib: int | None,
) -> LocalSettings | SlurmSettings:
    """Where pieces of work are done, from what flags say.

    Parameters
    ----------
    executor
        ``local`` or ``slurm``; the last four are of the second alone.
    device
        As ``--device`` takes it; with ``cpu``, pieces are given no GPU.
    workers
        The most pieces at once; None: as many as there is room for.
    threads
        Cores of each; None: its share of this process's, on SLURM the cluster's default.
    partition, gpus, minutes, memory_gib
        What SLURM gives to each; None, 0 or an empty text: the cluster's default.
    """
    if executor == "local":
        share = max(1, torch.get_num_threads() // (workers or 1))
        return LocalSettings(workers, threads or share, () if device == "cpu" else None)
    return SlurmSettings(
        partition=partition or None,
        gpus=gpus or None,
        minutes=minutes,
        cpus=threads,
        memory_mib=1024 * memory_gib if memory_gib else None,
        parallel=workers,
    )


def execute(works: Sequence[Work], settings: LocalSettings | SlurmSettings, folder: Path) -> Events:
    """Do pieces of work where the settings say.

    Parameters
    ----------
    works
        The pieces, in the order in which they are to begin.
    settings
        Where they are done: on this machine or on a SLURM cluster.
    folder
        Where their files are written: ``NAME.err`` with the traceback of one that failed, and what
        they print. A SLURM cluster's machines must see it.

    Returns
    -------
    Events
        What happens, as it happens, and None after each half second without an event. Once it is
        closed, or an exception such as `KeyboardInterrupt` has left it, no piece runs any more.
        Pieces on this machine end with this process too, however it ends.

    Raises
    ------
    InputError
        If there is no SLURM here, or no package for it, or it takes no such jobs.
    ValueError
        If two pieces would write the same files.
    """
    if isinstance(settings, SlurmSettings):
        return execute_on_slurm(works, settings, folder)
    return execute_locally(works, settings, folder)
