"""The command ``ablate``: compare a recipe with its ablations, each without one of its ideas."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from gsmflow.cli.verb import Verb
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.run_files import ABLATION_FILE
from gsmflow.reports.tables import ablation_table
from gsmflow.runs.script import ScriptOptions, script_recipe
from gsmflow.runs.variants import ablation_recipes, figures_of, folder_words, run_variants

__all__ = ["VERB", "AblateOptions", "run_ablation"]


@dataclass(frozen=True, kw_only=True)
class AblateOptions(ScriptOptions):
    """Compare a recipe with its ablations, each without one idea of the paper, in one table.

    Each method has its own ablations. Those of GSMFlow, for example, are: the condition in the
    first coupling block alone, no visual perturbation, no relative positioning, no prototype
    loss. Each runs with --seeds seeds, into OUT/DATASET/RUN; the same command goes on where it was
    interrupted.
    """


def run_ablation(options: AblateOptions, console: Console, flags: Sequence[str]) -> None:
    """Run a script's recipe and its ablations.

    Parameters
    ----------
    options
        The script.
    console
        Where progress and tables are printed.
    flags
        Flags of the script.

    Raises
    ------
    InputError
        If the script, a flag, the data or the folder cannot be used.
    """
    script, recipe = script_recipe(
        options.script, flags, prog=f"python -m gsmflow ablate {options.script}"
    )
    variants = ablation_recipes(recipe)
    if len(variants) == 1:
        raise InputError(
            f"--model: found {recipe.model}, which has no ablations, expected a method with some"
        )
    words = ["ablation", *folder_words(recipe), recipe.features, recipe.semantics_label]
    words += [recipe.training.schedule] if recipe.method_info.trains else []
    folder = recipe.out / recipe.dataset / (recipe.run or "-".join(words))
    measured = run_variants(script, recipe, variants, folder, console)
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
