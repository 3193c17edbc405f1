"""The command ``ablate``: a recipe beside itself without each idea of its paper."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from gsmflow.cli.verb import Verb
from gsmflow.core.files import write_json
from gsmflow.core.run_files import ABLATION_FILE
from gsmflow.reports.tables import ablation_table
from gsmflow.runs.script import ScriptOptions, script_recipe
from gsmflow.runs.variants import ablation_recipes, figures_of, run_variants

__all__ = ["VERB", "AblateOptions", "run_ablation"]


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
    measured = run_variants(script, recipe, ablation_recipes(recipe), folder, console)
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


VERB = Verb(AblateOptions, run_ablation, takes_flags=True)
