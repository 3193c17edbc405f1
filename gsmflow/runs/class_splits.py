"""Runs of one recipe on several random class splits, summarised over the splits."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.aggregate import summarise_splits
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.runs.directory import opened_run
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.parallel import in_parallel
from gsmflow.runs.seeds import run_each, run_seeds, run_together

__all__ = ["run_splits"]


def run_splits(
    job: Job,
    console: Console,
    group: Group = SINGLE_PROCESS,
    *,
    on_result: Callable[[RunResult], object] | None = None,
) -> dict[str, Any]:
    """Run a recipe on ``recipe.class_splits`` splits; finished runs are not repeated.

    The run of a seed on a split is an ordinary run directory, ``RUN/splitK/seedN``.

    Parameters
    ----------
    job
        The recipe, model class and data.
    console
        Where progress and the tables are printed.
    group
        The distributed group; all its processes call this function.
    on_result
        Called with each run that finishes, in the process that has run it; None for nothing.

    Returns
    -------
    dict
        The content of the directory's ``metrics.json``: as of one run, but with a mean, a standard
        deviation, a 95% interval and the values of the splits in place of each number. Empty in a
        process that is not the main one.

    Raises
    ------
    InputError
        If the data, the device or a run directory cannot be used.
    """
    with ExitStack() as stack:
        # The splits are different data, which the directory of each knows.
        path, _ = group.share_result(lambda: stack.enter_context(opened_run(job.recipe)))
        return _run_in(path, job, console, group, on_result)


def _run_in(
    path: Path,
    job: Job,
    console: Console,
    group: Group,
    on_result: Callable[[RunResult], object] | None,
) -> dict[str, Any]:
    """Run the splits that are not finished in the directory of all, and summarise them."""
    recipe = job.recipe
    first = recipe.class_split or 0
    folders = {split: path / f"split{split}" for split in range(first, first + recipe.class_splits)}
    jobs = {
        folder: replace(job, recipe=replace(recipe, class_split=split, class_splits=0, run=""))
        for split, folder in folders.items()
    }
    if in_parallel(recipe):
        run_together(jobs, recipe, path, console, on_result)
    return run_each(
        path,
        "class split",
        folders,
        lambda folder: run_seeds(
            jobs[folder], console, group, directory=folder, on_result=on_result
        ),
        summarise_splits,
        console,
        group,
    )
