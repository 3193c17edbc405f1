"""Running variants of a recipe over the same seeds, for ablations and sweeps."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.distributed import joined_group
from gsmflow.evaluation.measures import METRICS
from gsmflow.recipes.checks import check_one_split
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.directory import opened_run
from gsmflow.runs.parallel import in_parallel
from gsmflow.runs.script import Script
from gsmflow.runs.seeds import run_seeds, run_together

__all__ = ["ablation_recipes", "figures_of", "folder_words", "run_variants"]


def run_variants(
    script: Script,
    recipe: Recipe,
    variants: Mapping[str, Recipe],
    folder: Path,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Run those variants of a recipe that are not finished.

    Parameters
    ----------
    script
        The script, with its model class and data.
    recipe
        The recipe of the folder; the variants have its seeds and its device.
    variants
        The recipes of the variants, by name.
    folder
        The folder of all variants, each in a subfolder of its name.
    console
        Where progress and tables are printed.

    Returns
    -------
    dict
        The content of ``metrics.json`` of each variant, by name; empty in a process that is not
        the main one.

    Raises
    ------
    InputError
        If the data or the folder cannot be used.
    """
    with joined_group(recipe.device, recipe.devices, recipe.nodes) as group, ExitStack() as stack:
        console.quiet = console.quiet or not group.is_main
        check_one_split(recipe, "ablate or sweep")
        # The variants may have different data, which the directory of each knows.
        group.share_result(lambda: stack.enter_context(opened_run(recipe, directory=folder)))
        if in_parallel(recipe):
            jobs = {folder / name: script.job(variant) for name, variant in variants.items()}
            run_together(jobs, recipe, folder, console)
        measured: dict[str, dict[str, Any]] = {}
        for name, variant in variants.items():
            console.print(f"variant: {name}", style="bold")
            measured[name] = run_seeds(script.job(variant), console, group, directory=folder / name)
        return measured if group.is_main else {}


def figures_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a variant that the table of variants shows."""
    names = {metric.name for metric in METRICS} | {"calibrated"}
    return {name: metrics[name] for name in metrics if name in names}


def folder_words(recipe: Recipe) -> list[str]:
    """The words for the method in a folder's name: none for GSMFlow."""
    return [] if recipe.model == "gsmflow" else [recipe.model]


def ablation_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe (``full``) and its ablations, by name; one that changes nothing is left out."""
    variants = {"full": replace(recipe, run="")}
    for name, changes in recipe.method_info.variants.items():
        changed = recipe.replace(run="", **changes)
        if changed not in variants.values():
            # The methods for comparison are the same for all variants, so that one run has them.
            variants[name] = replace(changed, beside=())
    return variants
