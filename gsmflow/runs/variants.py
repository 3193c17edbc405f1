"""A recipe beside variants of itself, over the same seeds; the command ``ablate``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.core.distributed import joined_group
from gsmflow.evaluation.measures import METRICS
from gsmflow.methods.registry import ModelName
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.directory import enter_run
from gsmflow.runs.script import Script
from gsmflow.runs.seeds import run_seeds

__all__ = ["VARIANTS", "ablation_recipes", "figures_of", "run_variants"]

# Of each model: each variant's name and folder, and what it changes.
VARIANTS: Mapping[ModelName, Mapping[str, Mapping[str, Any]]] = {
    "gsmflow": {
        "full": {},
        "condition-first": {"condition_blocks": "first"},
        "no-perturbation": {"perturbation": False},
        "no-positioning": {"relative_positioning": False},
        "no-prototypes": {"prototype_weight": 0.0},
    },
    "cada-vae": {
        "full": {},
        "ca-vae": {"delta": 0.0},
        "da-vae": {"gamma": 0.0},
        "as-published": {"as_published": True},
    },
    "discriminant": {
        "full": {},
        "no-gate": {"gated": False},
        "no-shrinkage": {"covariance_shrinkage": False},
        "no-whitening": {"semantics_whitening": False},
        "no-transform": {"feature_transform": "none"},
        "whole-length": {"length_exponent": 0.0},
    },
}


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
        What ``metrics.json`` of each variant holds; nothing in a process that does not lead.

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
            measured[name] = run_seeds(
                changed, console, script.class_for(changed), group, directory=folder / name
            )
        return measured if group.is_main else {}


def figures_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a variant that its table shows."""
    names = {metric.name for metric in METRICS} | {"calibrated"}
    return {name: metrics[name] for name in metrics if name in names}


def ablation_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes by their names; one that changes nothing is left out."""
    variants = {"full": replace(recipe, run="")}
    for name, changes in VARIANTS[recipe.model].items():
        # The baselines stand beside the full model; they are the same for every variant.
        changed = replace(recipe, run="", **changes)
        if changed not in variants.values():
            variants[name] = replace(changed, baselines=False)
    return variants
