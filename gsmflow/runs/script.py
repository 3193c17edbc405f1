"""Running a recipe from a script or the command ``train``, and reading a script without running it.

The commands that work on a script (`tune`, `sweep`, ...) read its recipes. A dataset's folder can
take the place of a script: its recipe is the recommended method.
"""

import inspect
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

from rich.console import Console
from tyro.conf import Positional, arg

from gsmflow.core.child_processes import EndedByParentError
from gsmflow.core.console import ending, make_console
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.nearest import nearest
from gsmflow.core.settings import shortened
from gsmflow.data.dataset import Dataset
from gsmflow.learning.contract import Model
from gsmflow.methods.registry import RECOMMENDED, find_method
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.job import Job, RunResult

__all__ = [
    "Script",
    "ScriptOptions",
    "ignore_result",
    "read_script",
    "run_job",
    "run_script",
    "script_recipe",
]

_OnResult: TypeAlias = Callable[[RunResult], object]

_EXPECTED = "expected a script such as train_FLO.py, or a dataset's folder such as data/FLO"

# The script that `read_script` reads; `run_script` then hands over its arguments and runs nothing.
_READING: ContextVar[Path | None] = ContextVar("reading", default=None)


@dataclass(frozen=True, eq=False)
class Script:
    """The arguments of a script's call of `run_script`, or their equivalent for a dataset's folder.

    Attributes
    ----------
    recipes, model_class, on_result, dataset
        The arguments of `run_script`.
    description
        The script's docstring.
    path
        The script, or the folder.
    """

    recipes: Mapping[str, Recipe]
    model_class: type[Model] | None
    on_result: _OnResult
    dataset: Dataset | None
    description: str
    path: Path

    @property
    def command(self) -> tuple[str, ...]:
        """Words of the command that runs it."""
        program = ("python",) if self.path.is_file() else ("python", "-m", "gsmflow", "train")
        return *program, str(self.path)

    def job(self, recipe: Recipe) -> Job:
        """The recipe as a job, with the script's model class and data, if it has any."""
        return _job(self.recipes, recipe, self.model_class, self.dataset)


@dataclass(frozen=True, kw_only=True)
class ScriptOptions:
    """Options of a command that works on a script; all other words are flags of the recipe."""

    script: Annotated[Positional[Path], arg(metavar="SCRIPT|DATASET")]
    """A script, such as train_FLO.py, or a dataset's folder, such as data/MINE, for the
    recommended method on it. Flags of the run may follow: python -m gsmflow train
    SCRIPT|DATASET --help lists those that matter most, --help-all all of them."""


class _HandedOver(BaseException):
    """Carries a script's arguments out of it; a `BaseException`, which scripts do not catch."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script


def ignore_result(result: RunResult) -> None:
    """Do nothing with a finished run; other than a lambda, it can be handed to a process."""


def run_script(
    recipes: Mapping[str, Recipe],
    model_class: type[Model] | None = None,
    on_result: _OnResult = ignore_result,
    *,
    dataset: Dataset | None = None,
) -> None:
    """Parse a script's command line, run the recipe, and print the table.

    Parameters
    ----------
    recipes
        Recipes by the stem of the feature file that they were made for; ``--features`` picks
        one, and the first serves all other features.
    model_class
        A class to use in place of the model of the recipes' method; it is not used if ``--model``
        names another method.
    on_result
        Called with each finished run; there are several with ``--seeds``.
    dataset
        Data in memory, which the run checks; None to read the files that the recipe names.

    Notes
    -----
    Ends the program with exit code 2 and one sentence on bad input, and with 130 or 143 when
    interrupted; see `ending`.
    """
    _check_recipes(recipes)
    main = sys.modules["__main__"]
    description = inspect.getdoc(main) or "Train on a dataset."
    path = _READING.get()
    if path is not None:
        raise _HandedOver(Script(recipes, model_class, on_result, dataset, description, path))
    console = make_console()
    with ending(console, "--resume"):
        recipe = parse_recipe(recipes, sys.argv[1:], prog=sys.argv[0], description=description)
        run_job(_job(recipes, recipe, model_class, dataset), on_result, console)


def _check_recipes(recipes: object) -> None:
    """End the program with one sentence unless a script's recipes are some, by name."""
    found = [*recipes.values()] if isinstance(recipes, Mapping) else []
    if found and all(isinstance(recipe, Recipe) for recipe in found):
        return
    message = (
        f"run(): found {shortened(recipes)}, expected recipes by the name of their features, such "
        "as {'res101': Recipe(...)}"
    )
    if _READING.get() is not None:
        raise InputError(message)
    with ending(make_console()):
        raise InputError(message)


def run_job(job: Job, on_result: _OnResult, console: Console) -> None:
    """Run a job with one seed or several, on one class split or several, alone or in a group."""
    # Imported here so that --help is fast.
    from gsmflow.core.distributed import joined_group
    from gsmflow.runs.class_splits import run_splits
    from gsmflow.runs.experiment import run_experiment, run_worker_experiment
    from gsmflow.runs.seeds import run_seeds

    recipe = job.recipe
    if recipe.seeds == 1 and not recipe.class_splits and recipe.executor != "local":
        raise InputError(
            f"--executor: found {recipe.executor} with one run, expected several, with --seeds or "
            "--class-splits, or of ablate, sweep or benchmark"
        )
    with joined_group(recipe.device, recipe.devices, recipe.nodes) as group:
        console.quiet = not group.is_main
        if recipe.class_splits:
            run_splits(job, console, group, on_result=on_result)
        elif recipe.seeds > 1:
            run_seeds(job, console, group, on_result=on_result)
        elif group.is_main:
            on_result(run_experiment(job, console, group))
        else:
            run_worker_experiment(job, console, group)


def _job(
    recipes: Mapping[str, Recipe],
    recipe: Recipe,
    model_class: type[Model] | None,
    dataset: Dataset | None,
) -> Job:
    """A recipe as a job; a script's model class only serves the method of the script's recipes."""
    is_script_method = recipe.model == next(iter(recipes.values())).model
    return Job(recipe, model_class if is_script_method else None, dataset)


def read_script(path: Path, flags: Sequence[str] = ()) -> Script:
    """Read the arguments of a script's call of `run_script` (in scripts, ``run``); run nothing.

    The script is executed up to that call, with its folder on ``sys.path`` for that time. In place
    of a script there may be a dataset's folder, or ``DIGITS`` for the built-in one.

    Parameters
    ----------
    path
        The script or the folder.
    flags
        Words of the command line, which may name one of several feature files in a folder.

    Raises
    ------
    InputError
        If the file is missing, is not Python, raises an error, or does not call `run_script`; if
        a folder has no dataset, or several.
    """
    try:
        is_file = path.is_file()
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise InputError(f"{path}: not readable ({error.strerror}), {_EXPECTED}") from error
    if is_file and path.suffix != ".py":
        from gsmflow.data.formats.files import refuse_file

        refuse_file(path)
    if not is_file:
        return _dataset_script(path, flags)
    token, argv, folders = _READING.set(path), sys.argv, sys.path
    sys.argv, sys.path = [str(path)], [str(path.resolve().parent), *folders]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except _HandedOver as handed_over:
        return handed_over.script
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except EndedByParentError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{path}: found {type(error).__name__} ({one_line(error)}), expected a Python script "
            "that calls run() with its recipes"
        ) from error
    finally:
        sys.argv, sys.path = argv, folders
        _READING.reset(token)
    raise InputError(f"{path}: found no call of run(), expected one with the script's recipes")


def _dataset_script(folder: Path, flags: Sequence[str]) -> Script:
    """The recommended method on a dataset, in the form of a script."""
    named = folder if folder.name else folder.resolve()
    config = find_method(RECOMMENDED).config()
    recipe = Recipe(dataset=named.name, data=named.parent, method=config)
    # Imported here so that --help of a script is fast: the import takes a second.
    from gsmflow.data.formats.files import has_dataset, usual_name

    if not has_dataset(folder):
        if not folder.is_dir():
            beside = [
                str(p) for p in folder.parent.glob("*") if p.suffix == ".py" or has_dataset(p)
            ]
            similar = nearest(str(folder), beside)
            there = "" if similar is None else f"; there is {similar}"
            raise InputError(f"{folder}: no such file, {_EXPECTED}{there}")
        raise InputError(
            f"{folder}: found no dataset in this folder, {_EXPECTED}; python -m gsmflow "
            "extract makes one of pictures"
        )
    given_flags = {word.partition("=")[0] for word in flags}
    if "--features" not in given_flags:
        recipe = replace(recipe, features=usual_name("features", folder))
    if "--semantics" not in given_flags:
        recipe = replace(recipe, semantics=usual_name("semantics", folder))
    description = f"Train on {named.name}: the recommended method, or another with --model."
    recipes = {recipe.features: recipe}
    return Script(recipes, None, ignore_result, None, description, folder)


def script_recipe(path: Path, flags: Sequence[str], *, prog: str) -> tuple[Script, Recipe]:
    """A script, and the recipe that it would run with these flags.

    Parameters
    ----------
    path
        The script, or a dataset's folder.
    flags
        Words of its command line.
    prog
        The program's name, for the help text.

    Raises
    ------
    InputError
        If the script cannot be read, or a flag's value is out of range. An unknown flag or a
        wrong type ends the program with exit code 2 and a message.
    """
    script = read_script(path, flags)
    return script, parse_recipe(script.recipes, flags, prog=prog, description=script.description)
