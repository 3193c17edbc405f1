"""A recipe beside variants of itself, over the same seeds; the command ``ablate``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gsmflow.models import ModelName
from gsmflow.recipe import Recipe
from gsmflow.report import ablation_table
from gsmflow.rundir import ABLATION_FILE, enter_run
from gsmflow.script import Script, ScriptOptions, script_recipe
from gsmflow.seeds import run_seeds
from gsmflow.team import gathered_team
from gsmflow.util import write_json

__all__ = ["VARIANTS", "AblateOptions", "figures_of", "run_ablation", "run_variants"]

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


@dataclass(frozen=True, kw_only=True)
class AblateOptions(ScriptOptions):
    """Compare a recipe with itself without each idea of its paper, into one table.

    Of GSMFlow: the full model, the condition in the first coupling block alone, no visual
    perturbation, no relative positioning, no prototype loss. Of CADA-VAE: the full model, without
    the distribution alignment (CA-VAE), without the cross-alignment (DA-VAE), with the slips of
    the published code. Of the prototype discriminant: the full model, without its gate, with
    little shrinkage of the covariance, the semantics and the features as they are, a mean's whole
    length. Each runs with --seeds seeds, into OUT/DATASET/RUN; the same command goes on where it
    was interrupted.
    """


def run_ablation(options: AblateOptions, console: Console, flags: Sequence[str]) -> None:
    """Run a script's recipe and its ablations.

    Parameters
    ----------
    options
        Which script.
    console
        Where progress and tables are printed.
    flags
        The script's own flags.

    Raises
    ------
    InputError
        If the script, a flag, the data or the folder cannot be used.
    """
    script, recipe = script_recipe(
        options.script, flags, prog=f"python -m gsmflow ablate {options.script}"
    )
    words = ["ablation", *recipe.variant, recipe.features, recipe.semantics, recipe.schedule]
    folder = recipe.out / recipe.dataset / (recipe.run or "-".join(words))
    measured = run_variants(script, recipe, _variants(recipe), folder, console)
    if not measured:
        return
    full = measured["full"]
    ablation = {
        **{k: full[k] for k in ("model", "dataset", "features", "semantics", "seeds", "protocol")},
        "variants": {variant: figures_of(metrics) for variant, metrics in measured.items()},
    }
    write_json(folder / ABLATION_FILE, ablation)
    console.print(ablation_table(ablation))
    console.print(f"folder: {folder}", soft_wrap=True)


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
    with gathered_team(recipe.device, recipe.devices, recipe.nodes) as team:
        console.quiet = console.quiet or not team.leads
        team.share_result(lambda: enter_run(folder, recipe))
        measured: dict[str, dict[str, Any]] = {}
        for name, changed in variants.items():
            console.print(f"variant: {name}", style="bold")
            measured[name] = run_seeds(
                changed, console, script.class_for(changed), team, directory=folder / name
            )
        return measured if team.leads else {}


def figures_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a variant that its table shows."""
    return {k: metrics[k] for k in ("T1", "U", "S", "H", "AUSUC", "calibrated")}


def _variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes by their names; one that changes nothing is left out."""
    variants = {"full": replace(recipe, run="")}
    for name, changes in VARIANTS[recipe.model].items():
        # The baselines stand beside the full model; they are the same for every variant.
        changed = replace(recipe, run="", **changes)
        if changed not in variants.values():
            variants[name] = replace(changed, baselines=False)
    return variants
