"""Executors: where pieces of work are done, on this machine or on a SLURM cluster."""

from collections.abc import Sequence
from pathlib import Path

from gsmflow.runs.local_executor import LocalSettings, execute_locally
from gsmflow.runs.slurm_executor import SlurmSettings, execute_on_slurm
from gsmflow.runs.work import Ended, Events, Started, Work

__all__ = ["Ended", "Events", "LocalSettings", "SlurmSettings", "Started", "Work", "execute"]


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
