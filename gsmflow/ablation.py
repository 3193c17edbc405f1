"""What each idea of the paper contributes: the same recipe without it, over the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from gsmflow.recipe import Recipe
from gsmflow.report import ablation_table
from gsmflow.rundir import ABLATION_FILE, enter_run
from gsmflow.script import ScriptOptions, script_recipe
from gsmflow.seeds import run_seeds
from gsmflow.team import gathered_team
from gsmflow.util import write_json

__all__ = ["VARIANTS", "AblateOptions", "run_ablation"]

# Each variant's name and folder, and what it changes.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "condition-first": {"condition_blocks": "first"},
    "no-perturbation": {"perturbation": False},
    "no-positioning": {"relative_positioning": False},
    "no-prototypes": {"prototype_weight": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class AblateOptions(ScriptOptions):
    """Compare a recipe with itself without each idea of the paper, into one table.

    The variants: the full model, the condition in the first coupling block alone, no visual
    perturbation, no relative positioning, no prototype loss. Each runs with --seeds seeds, into
    OUT/DATASET/RUN; the same command goes on where it was interrupted.
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
    name = recipe.run or "-".join(words)
    folder = recipe.out / recipe.dataset / name
    with gathered_team(recipe.device, recipe.devices, recipe.nodes) as team:
        console.quiet = console.quiet or not team.leads
        team.share_result(lambda: enter_run(folder, recipe))
        measured: dict[str, dict[str, Any]] = {}
        for variant, changed in _variants(recipe).items():
            console.print(f"variant: {variant}", style="bold")
            measured[variant] = run_seeds(
                changed, console, script.class_for(recipe), team, directory=folder / variant
            )
        if not team.leads:
            return
    full = measured["full"]
    ablation = {
        **{k: full[k] for k in ("model", "dataset", "features", "semantics", "seeds", "protocol")},
        "variants": {variant: _figures(metrics) for variant, metrics in measured.items()},
    }
    write_json(folder / ABLATION_FILE, ablation)
    console.print(ablation_table(ablation))
    console.print(f"folder: {folder}", soft_wrap=True)


def _variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes by their names; one that changes nothing is left out."""
    variants = {"full": replace(recipe, run="")}
    for name, changes in VARIANTS.items():
        # The baselines stand beside the full model; they are the same for every variant.
        changed = replace(recipe, run="", **changes)
        if changed not in variants.values():
            variants[name] = replace(changed, baselines=False)
    return variants


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {k: metrics[k] for k in ("T1", "U", "S", "H", "AUSUC", "calibrated")}
