"""The same recipe with several seeds: each run kept, and their mean and standard deviation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.experiment import RunResult, assist_experiment, run_experiment
from gsmflow.interface import Model
from gsmflow.recipe import Recipe
from gsmflow.report import extra_lines, result_table
from gsmflow.rundir import METRICS_FILE, enter_run, open_run
from gsmflow.shotcurves import draw_few_shot, few_shot_table
from gsmflow.spread import summarise
from gsmflow.team import ALONE, Team
from gsmflow.util import read_json, write_json

__all__ = ["run_seeds"]


def run_seeds(
    recipe: Recipe,
    console: Console,
    model_class: type[Model] | None = None,
    team: Team = ALONE,
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
    place = team.share_result(lambda: _enter(recipe, directory))
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    parts = {seed: place / f"seed{seed}" for seed in seeds}
    for seed, part in parts.items():
        if team.share_result((part / METRICS_FILE).exists):
            console.print(f"seed {seed}: finished already, {part}", soft_wrap=True)
            continue
        console.print(f"seed {seed}")
        one = replace(recipe, seed=seed, seeds=1, run="")
        if team.leads:
            on_result(run_experiment(one, console, model_class, team, part))
        else:
            assist_experiment(one, console, model_class, team, part)
    if not team.leads:
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
