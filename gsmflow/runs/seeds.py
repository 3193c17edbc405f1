"""Runs of one recipe with several seeds, summarised as mean and standard deviation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.aggregate import summarise
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.files import read_json, write_json
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.few_shot import draw_few_shot, few_shot_table
from gsmflow.reports.tables import extra_lines, result_table
from gsmflow.runs.directory import enter_run, open_run
from gsmflow.runs.experiment import run_experiment, run_worker_experiment
from gsmflow.runs.job import Job, RunResult

__all__ = ["run_seeds"]


def run_seeds(
    job: Job,
    console: Console,
    group: Group = SINGLE_PROCESS,
    *,
    directory: Path | None = None,
    on_result: Callable[[RunResult], object] = lambda result: None,
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
        Called with each run that finishes.

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
    recipe = job.recipe
    path = group.share_result(lambda: _enter(recipe, directory))
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    folders = {seed: path / f"seed{seed}" for seed in seeds}
    for seed, folder in folders.items():
        if group.share_result((folder / METRICS_FILE).exists):
            console.print(f"seed {seed}: finished already, {folder}", soft_wrap=True)
            continue
        console.print(f"seed {seed}")
        seed_job = replace(job, recipe=replace(recipe, seed=seed, seeds=1, run=""))
        if group.is_main:
            on_result(run_experiment(seed_job, console, group, folder))
        else:
            run_worker_experiment(seed_job, console, group, folder)
    if not group.is_main:
        return {}
    runs = [read_json(folder / METRICS_FILE) for folder in folders.values()]
    metrics = {**summarise(runs), "seeds": list(seeds)}
    del metrics["seed"]
    write_json(path / METRICS_FILE, metrics)
    few_shot_picture = draw_few_shot(path, metrics)
    console.print(result_table(metrics))
    if few_shot_picture is not None:
        console.print(few_shot_table(path, metrics))
    for line in extra_lines(metrics):
        console.print(line, soft_wrap=True)
    console.print(f"run directory: {path}", soft_wrap=True)
    if few_shot_picture is not None:
        console.print(f"picture: {few_shot_picture}", soft_wrap=True)
    return metrics


def _enter(recipe: Recipe, directory: Path | None) -> Path:
    """Make the directory of all seeds, or resume it."""
    if directory is None:
        return open_run(recipe)[0]
    enter_run(directory, recipe)
    return directory
