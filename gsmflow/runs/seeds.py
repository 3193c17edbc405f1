"""Runs of one recipe with several seeds, summarised as mean and standard deviation."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.aggregate import summarise_seeds
from gsmflow.core.console import warner
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.files import write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.section import draw_reports
from gsmflow.reports.tables import print_metrics
from gsmflow.runs.directory import opened_run
from gsmflow.runs.experiment import open_dataset, run_experiment, run_worker_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.parallel import in_parallel, run_in_parallel
from gsmflow.runs.sections import REPORTS

__all__ = ["run_each", "run_seeds", "run_together", "seed_jobs"]


def run_seeds(
    job: Job,
    console: Console,
    group: Group = SINGLE_PROCESS,
    *,
    directory: Path | None = None,
    on_result: Callable[[RunResult], object] | None = None,
) -> dict[str, Any]:
    """Run a recipe with ``recipe.seeds`` seeds; runs that are finished already are not repeated.

    Parameters
    ----------
    job
        The recipe, model class and data.
    console
        Where progress and the tables are printed.
    group
        The distributed group; all its processes call this function.
    directory
        The directory to make or resume; None for the one that the recipe names.
    on_result
        Called with each run that finishes, in the process that has run it; None for nothing.

    Returns
    -------
    dict
        The content of the directory's ``metrics.json``: as of one run, but with a mean, a
        standard deviation and the values of the runs in place of each number. Empty in a process
        that is not the main one.

    Raises
    ------
    InputError
        If the data, the device or a run directory cannot be used.
    """
    with ExitStack() as stack:
        path, _ = group.share_result(
            # The data too, so that all seeds have the same.
            lambda: stack.enter_context(opened_run(job.recipe, open_dataset(job), directory))
        )
        return _run_in(path, job, console, group, on_result)


def _run_in(
    path: Path,
    job: Job,
    console: Console,
    group: Group,
    on_result: Callable[[RunResult], object] | None,
) -> dict[str, Any]:
    """Run the seeds that are not finished in the directory of all seeds, and summarise them."""
    jobs = seed_jobs(job, path)
    if in_parallel(job.recipe):
        run_in_parallel(jobs, job.recipe, path, console, on_result)

    def run(folder: Path) -> None:
        if group.is_main:
            result = run_experiment(jobs[folder], console, group, folder)
            if on_result is not None:
                on_result(result)
        else:
            run_worker_experiment(jobs[folder], console, group, folder)

    folders = {seed_job.recipe.seed: folder for folder, seed_job in jobs.items()}
    return run_each(path, "seed", folders, run, summarise_seeds, console, group)


def run_each(
    path: Path,
    kind: str,
    folders: Mapping[int, Path],
    run: Callable[[Path], object],
    summarise: Callable[[Mapping[int, Mapping[str, Any]]], dict[str, Any]],
    console: Console,
    group: Group,
) -> dict[str, Any]:
    """Run what is not finished of several runs, one after the other, and summarise all of them.

    Parameters
    ----------
    path
        The directory of all of them.
    kind
        What a number stands for, for the console.
    folders
        The directory of each run, by its number.
    run
        Makes the run of a directory.
    summarise
        Makes one record of the metrics of the runs, by number.
    console
        Where progress and the tables are printed.
    group
        The distributed group; all its processes call this function.

    Returns
    -------
    dict
        The content of the directory's ``metrics.json``; empty in a process that is not the main
        one.

    Raises
    ------
    InputError
        As of ``run``, or if the metrics of a run are damaged.
    """
    for number, folder in folders.items():
        if group.share_result((folder / METRICS_FILE).exists):
            console.print(f"{kind} {number}: finished already, {folder}", soft_wrap=True)
            continue
        console.print(f"{kind} {number}")
        run(folder)
    if not group.is_main:
        return {}
    metrics = summarise(
        {number: open_metrics(folder / METRICS_FILE).object() for number, folder in folders.items()}
    )
    write_json(path / METRICS_FILE, metrics)
    _show_summary(path, metrics, console)
    return metrics


def _show_summary(path: Path, metrics: Mapping[str, Any], console: Console) -> None:
    """Draw and print what the directory of several runs says of all of them."""
    record = Field(path / METRICS_FILE, "", metrics)
    print_metrics(record, REPORTS, console)
    console.print(f"run directory: {path}", soft_wrap=True)
    for picture in draw_reports(record, REPORTS, path, warner(console)):
        console.print(f"picture: {picture}", soft_wrap=True)


def seed_jobs(job: Job, path: Path) -> dict[Path, Job]:
    """The job of each seed, by its run directory below the directory of all seeds."""
    recipe = job.recipe
    return {
        path / f"seed{seed}": replace(job, recipe=replace(recipe, seed=seed, seeds=1, run=""))
        for seed in range(recipe.seed, recipe.seed + recipe.seeds)
    }


def run_together(
    jobs: Mapping[Path, Job],
    recipe: Recipe,
    folder: Path,
    console: Console,
    on_result: Callable[[RunResult], object] | None = None,
) -> None:
    """Run the seeds of several jobs that are not finished, as many at the same time as it says.

    Parameters
    ----------
    jobs
        Jobs of several seeds by the directory of each, below ``folder``.
    recipe, folder, console, on_result
        As of `run_in_parallel`.

    Raises
    ------
    InputError
        If a run failed, or a directory has another recipe or other data.
    """
    runs: dict[Path, Job] = {}
    for path, job in jobs.items():
        with opened_run(job.recipe, open_dataset(job), path):
            runs |= seed_jobs(job, path)
    run_in_parallel(runs, recipe, folder, console, on_result)
