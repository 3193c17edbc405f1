"""One run of a grid's cell, in a process of its own, and the record of how it ended."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psutil
import torch
from rich.console import Console

from gsmflow.core.errors import InputError, UnavailableError, WriteError, lacks_room, one_line
from gsmflow.core.files import write_json
from gsmflow.core.json_records import read_record
from gsmflow.core.run_files import ENVIRONMENT_FILE, LOG_FILE
from gsmflow.reports.metrics_file import CLASSIFIERS_BESIDE
from gsmflow.reports.stage_seconds import read_stages
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.script import script_recipe

__all__ = ["CellOutcome", "State", "read_outcome", "run_cell", "write_failure"]


State: TypeAlias = Literal["done", "failed"]


@dataclass(frozen=True)
class CellOutcome:
    """How a run of a cell ended.

    Attributes
    ----------
    state
        Whether it is finished, or why not is known.
    sentence
        Why it failed; empty if it did not.
    seconds
        The seconds of all its stages but that of other classifiers, in all parts of a resumed run.
    peak_mib
        The most memory that its process used, MiB, of the GPU too; None where it is not known.
    machine
        The machine's name.
    device
        The name of the processor or GPU that it ran on; empty where it is not known.
    """

    state: State
    sentence: str = ""
    seconds: float | None = None
    peak_mib: int | None = None
    machine: str = ""
    device: str = ""


def run_cell(script: Path, words: Sequence[str], folder: Path, outcome: Path) -> None:
    """Run one seed of a cell, resuming what an earlier process began; write how it ended.

    Parameters
    ----------
    script
        The script of its dataset, or the dataset's folder.
    words
        The flags of the run.
    folder
        The run directory.
    outcome
        The file of the outcome.

    Notes
    -----
    An error that is none of the user's ends the process without an outcome, so that the executor
    says what it was. So does a full disk, which says nothing of the run.

    Raises
    ------
    InputError
        If the disk is full.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.log").open("a", encoding="utf-8") as stream:
            console = Console(file=stream, width=120, highlight=False, markup=False, emoji=False)
            found, recipe = script_recipe(script, words, prog=str(script))
            run_experiment(found.job(recipe), console, directory=folder)
        stages = read_stages(folder / LOG_FILE)
        done = CellOutcome(
            "done",
            seconds=sum(stage.seconds for stage in stages if stage.name != CLASSIFIERS_BESIDE),
            peak_mib=_peak_mib(),
            machine=platform.node(),
            device=read_record(folder / ENVIRONMENT_FILE, dict[str, Any])["device_name"],
        )
        write_json(outcome, asdict(done))
    except (InputError, UnavailableError, MemoryError, torch.OutOfMemoryError) as error:
        write_failure(outcome, one_line(error) or "out of memory")
    except OSError as error:
        if not lacks_room(error):
            raise
        raise WriteError(Path(error.filename or folder), error) from error


def write_failure(outcome: Path, sentence: str) -> None:
    """Record that a run failed, and why."""
    write_json(outcome, asdict(CellOutcome("failed", sentence, machine=platform.node())))


def read_outcome(file: Path) -> CellOutcome | None:
    """How a run ended; None if it is not over.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not file.exists():
        return None
    return read_record(file, CellOutcome)


def _peak_mib() -> int:
    """The most memory that this process has used, and that of the GPU, MiB."""
    if sys.platform == "win32":
        bytes_used = int(psutil.Process().memory_info().peak_wset)
    else:
        import resource  # which Windows does not have

        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bytes_used = resident * (1 if sys.platform == "darwin" else 1024)
    if torch.cuda.is_available():
        bytes_used += torch.cuda.max_memory_allocated()
    return bytes_used // 2**20
