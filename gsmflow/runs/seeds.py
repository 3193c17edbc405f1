"""The same recipe with several seeds: each run kept, and their mean and standard deviation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.aggregate import summarise
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.files import read_json, write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.section import measured
from gsmflow.reports.tables import print_metrics
from gsmflow.runs.directory import enter_run, open_run
from gsmflow.runs.experiment import run_experiment, run_worker_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS

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
        What is run.
    console
        Where progress and the tables are printed.
    group
        The processes that train together; all of them call this.
    directory
        Where to write, or to go on with what was written; None for what the recipe says.
    on_result
        Called with each run that finishes.

    Returns
    -------
    dict
        What ``metrics.json`` of the directory holds: the shape of one run's, with a mean, a
        standard deviation and the values of the runs in path of each number. In a process that
        is not the main one, nothing.

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
        one = replace(job, recipe=replace(recipe, seed=seed, seeds=1, run=""))
        if group.is_main:
            on_result(run_experiment(one, console, group, folder))
        else:
            run_worker_experiment(one, console, group, folder)
    if not group.is_main:
        return {}
    runs = [read_json(folder / METRICS_FILE) for folder in folders.values()]
    metrics = {**summarise(runs), "seeds": list(seeds)}
    del metrics["seed"]
    write_json(path / METRICS_FILE, metrics)
    record = Field(path / METRICS_FILE, "", metrics)
    shown = measured(record, REPORTS)
    drawn = [report.draw(record, path) for report in shown if report.draw is not None]
    print_metrics(record, REPORTS, console)
    console.print(f"run directory: {path}", soft_wrap=True)
    for picture in drawn:
        console.print(f"picture: {picture}", soft_wrap=True)
    return metrics


def _enter(recipe: Recipe, directory: Path | None) -> Path:
    if directory is None:
        return open_run(recipe)[0]
    enter_run(directory, recipe)
    return directory
