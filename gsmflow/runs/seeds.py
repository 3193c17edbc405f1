"""The same recipe with several seeds: each run kept, and their mean and standard deviation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.aggregate import summarise
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.files import read_json, write_json
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.learning.contract import Model
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.few_shot import draw_few_shot, few_shot_table
from gsmflow.reports.tables import extra_lines, result_table
from gsmflow.runs.directory import enter_run, open_run
from gsmflow.runs.experiment import RunResult, run_experiment, run_worker_experiment

__all__ = ["run_seeds"]


def run_seeds(
    recipe: Recipe,
    console: Console,
    model_class: type[Model] | None = None,
    group: Group = SINGLE_PROCESS,
    *,
    directory: Path | None = None,
    on_result: Callable[[RunResult], object] = lambda result: None,
) -> dict[str, Any]:
    """Run a recipe with ``recipe.seeds`` seeds; runs that are finished already are not repeated.

    Parameters
    ----------
    recipe
        A checked recipe.
    console
        Where progress and the tables are printed.
    model_class
        A variant of the model that the recipe names; None for that model itself.
    team
        The processes that train together; all of them call this.
    directory
        Where to write, or to go on with what was written; None for what the recipe says.
    on_result
        Called with each run that finishes.

    Returns
    -------
    dict
        What ``metrics.json`` of the directory holds: the shape of one run's, with a mean, a
        standard deviation and the values of the runs in place of each number. In a process that
        does not lead, nothing.

    Raises
    ------
    InputError
        If the data, the device or a run directory cannot be used.
    """
    place = group.share_result(lambda: _enter(recipe, directory))
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    parts = {seed: place / f"seed{seed}" for seed in seeds}
    for seed, part in parts.items():
        if group.share_result((part / METRICS_FILE).exists):
            console.print(f"seed {seed}: finished already, {part}", soft_wrap=True)
            continue
        console.print(f"seed {seed}")
        one = replace(recipe, seed=seed, seeds=1, run="")
        if group.is_main:
            on_result(run_experiment(one, console, model_class, group, part))
        else:
            run_worker_experiment(one, console, model_class, group, part)
    if not group.is_main:
        return {}
    runs = [read_json(part / METRICS_FILE) for part in parts.values()]
    metrics = {**summarise(runs), "seeds": list(seeds)}
    del metrics["seed"]
    write_json(place / METRICS_FILE, metrics)
    few_shot = draw_few_shot(place, metrics)
    console.print(result_table(metrics))
    if few_shot is not None:
        console.print(few_shot_table(place, metrics))
    for line in extra_lines(metrics):
        console.print(line, soft_wrap=True)
    console.print(f"run directory: {place}", soft_wrap=True)
    if few_shot is not None:
        console.print(f"picture: {few_shot}", soft_wrap=True)
    return metrics


def _enter(recipe: Recipe, directory: Path | None) -> Path:
    if directory is None:
        return open_run(recipe)[0]
    enter_run(directory, recipe)
    return directory
