"""The command ``sweep``: run a recipe with several values of one or more settings, and compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import UseAppendAction

from gsmflow.cli.verb import Verb
from gsmflow.core.console import warner
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_bytes, write_json
from gsmflow.core.run_files import SWEEP_FILE
from gsmflow.core.settings import flag_of, plain_type
from gsmflow.core.tables import markdown, terminal_table
from gsmflow.evaluation.measures import metrics_in
from gsmflow.recipes.recipe import Recipe, settings_of
from gsmflow.reports.drawing import drawn
from gsmflow.reports.figures import sweep_figure
from gsmflow.reports.tables import sweep_grid
from gsmflow.runs.directory import STORAGE_FIELDS
from gsmflow.runs.script import Script, ScriptOptions, script_recipe
from gsmflow.runs.validation import read_validation
from gsmflow.runs.variants import figures_of, folder_words, run_variants

__all__ = ["VERB", "SweepOptions", "run_sweep"]

# Fields that say what is evaluated, not how; figures for several of their values do not compare.
_FIXED = {
    *("dataset", "data", "seed", "seeds", "device", "devices", "nodes", "shots", "shot_draws"),
    *("class_split", "class_splits", "split_unseen", "unseen_names"),
}
# Flags that choose a part of the recipe by its name.
_CHOICES = {"model", "classifier", "gate"}
# The only fields of a recipe that its baselines depend on.
_DATA = {"features", "semantics", "second_semantics", "mix_seen", "mix_unseen"}


@dataclass(frozen=True, kw_only=True)
class SweepOptions(ScriptOptions):
    """Run a recipe with several values of a setting; write one table and one picture.

    python -m gsmflow sweep train_CUB.py --model cada-vae --over latent_dim 16 32 64 128 --seeds 3

    Each runs with --seeds seeds, into OUT/DATASET/RUN; the same command goes on where it was
    interrupted. The figures are those on test: they show the effect of a setting. To choose a
    value, take the one that is best on the validation classes, which have their own column.
    """

    over: Annotated[tuple[tuple[str, ...], ...], UseAppendAction] = ()
    """A field of the recipe and its values; true and false for a switch. Given more than once: all
    combinations are run, and the first field is the x axis of the picture."""


def run_sweep(options: SweepOptions, console: Console, flags: Sequence[str]) -> None:
    """Run a script's recipe with all combinations of the values to sweep over.

    Parameters
    ----------
    options
        The script, and the fields and values to sweep over.
    console
        Where progress and tables are printed.
    flags
        Flags of the script.

    Raises
    ------
    InputError
        If the script, a field, a value, the data or the folder cannot be used.
    """
    prog = f"python -m gsmflow sweep {options.script}"
    script, recipe = script_recipe(options.script, flags, prog=prog)
    over = _fields_and_values(options.over, recipe)
    points = [dict(zip(over, values, strict=True)) for values in product(*over.values())]
    known = settings_of(recipe)
    hints = {name: known[name].hint if name in known else str for name in over}
    recipes = {_name(point): _recipe_at(script, flags, point, hints, prog) for point in points}
    words = ["sweep", *folder_words(recipe), recipe.features, recipe.semantics_label, *over]
    folder = recipe.out / recipe.dataset / (recipe.run or "-".join(words))
    measured = run_variants(script, recipe, _without_repeats(recipes, over), folder, console)
    if not measured:
        return
    first = next(iter(measured.values()))
    sweep = {
        **{k: first[k] for k in ("model", "dataset", "features", "seeds", "protocol")},
        "semantics": first.get("semantics", "several"),
        **({"model": "several methods"} if "model" in over else {}),
        "over": over,
        "points": [
            {
                "values": point,
                **figures_of(measured[name]),
                "validation": _validation(folder / name, recipes[name]),
            }
            for name, point in zip(recipes, points, strict=True)
        ],
    }
    write_json(folder / SWEEP_FILE, sweep)
    grid = sweep_grid(sweep)
    write_bytes(folder / "sweep.md", markdown(grid).encode())
    console.print(terminal_table(grid))
    console.print(f"folder: {folder}", soft_wrap=True)
    for picture in drawn(partial(sweep_figure, folder / "sweep.png", sweep), warner(console)):
        console.print(f"picture: {picture}", soft_wrap=True)


def _fields_and_values(over: Sequence[Sequence[str]], recipe: Recipe) -> dict[str, list[str]]:
    """The values by field; raises `InputError` if a field cannot be swept over."""
    allowed = (settings_of(recipe).keys() | _CHOICES) - _FIXED - STORAGE_FIELDS
    found: dict[str, list[str]] = {}
    for name, *values in over:
        field = name.replace("-", "_")
        if field not in allowed or field in found:
            reason = "twice" if field in found else f"{name!r}"
            raise InputError(
                f"--over: found {reason}, expected a field of the recipe such as latent_dim, once"
            )
        if not values:
            raise InputError(f"--over: found {name} without a value, expected some after it")
        found[field] = list(dict.fromkeys(values))
    if not found:
        raise InputError("--over: found nothing, expected a field of the recipe and its values")
    return found


def _recipe_at(
    script: Script,
    flags: Sequence[str],
    point: Mapping[str, str],
    hints: Mapping[str, Any],
    prog: str,
) -> Recipe:
    """The recipe of a script with its flags and the values of a point."""
    words = [word for name, value in point.items() for word in _words(name, value, hints[name])]
    _, recipe = script_recipe(script.path, [*flags, *words], prog=prog)
    return replace(recipe, run="")


def _words(name: str, value: str, hint: Any) -> list[str]:
    if plain_type(hint)[0] is not bool:
        return [flag_of(name), value]
    if value not in ("true", "false"):
        raise InputError(f"--over {name}: found {value!r}, expected true or false")
    return [flag_of(name if value == "true" else f"no_{name}")]


def _name(point: Mapping[str, str]) -> str:
    """The name of a point's folder."""
    return ",".join(f"{name}={value.replace('/', '_')}" for name, value in point.items())


def _without_repeats(
    recipes: Mapping[str, Recipe], over: Mapping[str, object]
) -> dict[str, Recipe]:
    """The recipes; only the first keeps its baselines if those are the same for all points."""
    baselines_differ = bool(over.keys() & _DATA)
    return {
        name: recipe if baselines_differ or i == 0 else replace(recipe, beside=())
        for i, (name, recipe) in enumerate(recipes.items())
    }


def _validation(folder: Path, recipe: Recipe) -> dict[str, float] | None:
    """H on the validation classes at the end of the training, mean over the seeds."""
    if not recipe.calibrate:
        return None
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    files = [folder / f"seed{seed}" / "validation.json" for seed in seeds]
    ends = [read_validation(file).curve[-1] for file in files]
    names = [metric.key for metric in metrics_in("sweep_validation")]
    return {name: fmean(end[name] for end in ends) for name in names}


VERB = Verb(SweepOptions, run_sweep, takes_flags=True)
