"""Runs that need nothing of each other, in several processes or as jobs of a SLURM cluster."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.console import Console

from gsmflow.core.errors import InputError, UnavailableError, is_of_writing, one_line
from gsmflow.core.progress import progress
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.executors import (
    Ended,
    LocalSettings,
    SlurmSettings,
    Started,
    Work,
    execute,
    executor_settings,
)
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult

__all__ = ["do_all", "in_parallel", "recipe_executor", "run_in_parallel"]


def in_parallel(recipe: Recipe) -> bool:
    """Whether a recipe asks for several runs at the same time, or for jobs of a cluster.

    Raises
    ------
    InputError
        If each run would be distributed too.
    """
    if recipe.executor == "local" and recipe.workers == 1:
        return False
    if recipe.devices * recipe.nodes > 1:
        raise InputError(
            f"--workers: found {recipe.workers} on {recipe.executor} with --devices "
            f"{recipe.devices} and --nodes {recipe.nodes}, expected one process for each run"
        )
    return True


def run_in_parallel(
    jobs: Mapping[Path, Job],
    recipe: Recipe,
    folder: Path,
    console: Console,
    on_result: Callable[[RunResult], object] | None = None,
) -> None:
    """Run jobs that are not finished; all are tried, whichever of them fails.

    Parameters
    ----------
    jobs
        Jobs by the run directory of each, below ``folder``.
    recipe
        Says where they run, and how many at the same time.
    folder
        The folder of all of them; what they print is in ``executor`` below it.
    console
        Where their beginning and end are printed.
    on_result
        Called with each run that finishes, in the process that has run it; None for nothing.

    Raises
    ------
    InputError
        If a run failed: why the first one did.
    """
    works = [
        Work(path.relative_to(folder).as_posix(), partial(_run, job, path, on_result))
        for path, job in jobs.items()
        if not (path / METRICS_FILE).exists()
    ]
    _check_picklable(works)
    do_all(works, recipe_executor(recipe), folder / "executor", console)


def do_all(
    works: Sequence[Work],
    settings: LocalSettings | SlurmSettings,
    folder: Path,
    console: Console,
) -> None:
    """Do pieces of work; all are tried, whichever of them fails.

    Parameters
    ----------
    works, settings, folder
        As of `execute`.
    console
        Where their beginning and end are printed.

    Raises
    ------
    InputError
        If a piece failed: why the first one did.
    UnavailableError
        If that is a file that could not be written.
    """
    failures: list[str] = []
    with (
        progress(console, "runs", len(works)) as advance,
        closing(execute(works, settings, folder)) as events,
    ):
        for event in events:
            advance(isinstance(event, Ended))
            if isinstance(event, Started):
                console.print(f"started {event.name}", soft_wrap=True)
            elif isinstance(event, Ended):
                failed = event.sentence is not None
                failures += [f"{event.name}: {event.sentence}"] if failed else []
                console.print(f"{'failed' if failed else 'done'} {event.name}", soft_wrap=True)
    if failures:
        kind = UnavailableError if is_of_writing(failures[0]) else InputError
        raise kind(failures[0])


def _check_picklable(works: Sequence[Work]) -> None:
    """Raise `InputError` if the first piece cannot be handed to another process."""
    try:
        pickle.dumps(works[:1])
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"--workers: found something that no other process can be given ({one_line(error)}), "
            "expected the script's model class and functions in a module of their own"
        ) from error


def recipe_executor(recipe: Recipe) -> LocalSettings | SlurmSettings:
    """Where the runs of a recipe run."""
    return executor_settings(
        recipe.executor,
        device=recipe.device,
        workers=recipe.workers,
        threads=None,
        partition=recipe.partition,
        gpus=recipe.job_gpus,
        minutes=recipe.job_minutes,
        memory_gib=recipe.job_memory_gib,
    )


def _run(job: Job, folder: Path, on_result: Callable[[RunResult], object] | None) -> None:
    """Run a job; called in a process of its own, whose output goes to a file."""
    console = Console(width=120, highlight=False, markup=False, emoji=False)
    result = run_experiment(job, console, directory=folder)
    if on_result is not None:
        on_result(result)
