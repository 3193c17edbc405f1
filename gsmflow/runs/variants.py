"""A recipe beside variants of itself, over the same seeds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.distributed import joined_group
from gsmflow.evaluation.measures import METRICS
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.directory import enter_run
from gsmflow.runs.script import Script
from gsmflow.runs.seeds import run_seeds

__all__ = ["ablation_recipes", "figures_of", "folder_words", "run_variants"]


def run_variants(
    script: Script,
    recipe: Recipe,
    variants: Mapping[str, Recipe],
    folder: Path,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Run the variants of a recipe, those that are not finished.

    Parameters
    ----------
    script
        Gives the model.
    recipe
        What the folder is of; the variants have its seeds and its device.
    variants
        The recipes by name.
    folder
        Each variant is run in a folder of its name below it.
    console
        Where progress and tables are printed.

    Returns
    -------
    dict
        What ``metrics.json`` of each variant holds; nothing in a process that is not the main one.

    Raises
    ------
    InputError
        If the data or the folder cannot be used.
    """
    with joined_group(recipe.device, recipe.devices, recipe.nodes) as group:
        console.quiet = console.quiet or not group.is_main
        group.share_result(lambda: enter_run(folder, recipe))
        measured: dict[str, dict[str, Any]] = {}
        for name, changed in variants.items():
            console.print(f"variant: {name}", style="bold")
            measured[name] = run_seeds(script.job(changed), console, group, directory=folder / name)
        return measured if group.is_main else {}


def figures_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a variant that its table shows."""
    names = {metric.name for metric in METRICS} | {"calibrated"}
    return {name: metrics[name] for name in metrics if name in names}


def folder_words(recipe: Recipe) -> list[str]:
    """What names the method in a folder's name: nothing for GSMFlow."""
    return [] if recipe.model == "gsmflow" else [recipe.model]


def ablation_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes by their names; one that changes nothing is left out."""
    variants = {"full": replace(recipe, run="")}
    for name, changes in recipe.method_info.variants.items():
        changed = recipe.replace(run="", **changes)
        if changed not in variants.values():
            # The methods beside the full model are the same for every variant.
            variants[name] = replace(changed, beside=())
    return variants
