"""Running a recipe as a script: command line in, table out, and the exit code.

A script's recipes can also be had without running them, for the commands that work on a script.
"""

import inspect
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from tyro.conf import Positional

from gsmflow.errors import InputError, UnavailableError, one_line
from gsmflow.experiment import RunResult, assist_experiment, run_experiment
from gsmflow.interface import Model
from gsmflow.recipe import Recipe, parse_recipe
from gsmflow.seeds import run_seeds
from gsmflow.team import gathered_team
from gsmflow.util import make_console

__all__ = ["Script", "ScriptOptions", "ending", "read_script", "run_script", "script_recipe"]

# Set while a script is read: what it hands to `run_script` is then wanted, not its run.
_READING: ContextVar[bool] = ContextVar("reading", default=False)


@dataclass(frozen=True, eq=False)
class Script:
    """What a script hands to `run_script`.

    Attributes
    ----------
    recipes, model_class
        The arguments of `run_script`.
    description
        The script's docstring.
    path
        The file.
    """

    recipes: Mapping[str, Recipe]
    model_class: type[Model] | None
    description: str
    path: Path

    def class_for(self, recipe: Recipe) -> type[Model] | None:
        """The script's variant of the model that a recipe names, if it has one."""
        return _own_class(self.recipes, self.model_class, recipe)


@dataclass(frozen=True, kw_only=True)
class ScriptOptions:
    """Options of a command that works on a script; words beside them are the recipe's flags."""

    script: Positional[Path]
    """The script, such as train_FLO.py; after it any of its own flags too, which
    python train_FLO.py --help lists."""


class _HandedOver(BaseException):
    """Carries a script's recipes out of it, past whatever it does about exceptions."""

    def __init__(
        self, recipes: Mapping[str, Recipe], model_class: type[Model] | None, description: str
    ) -> None:
        super().__init__()
        self.recipes = recipes
        self.model_class = model_class
        self.description = description


def run_script(
    recipes: Mapping[str, Recipe],
    model_class: type[Model] | None = None,
    on_result: Callable[[RunResult], object] = lambda result: None,
) -> None:
    """Parse the command line over a script's recipes, run, and print the table.

    Parameters
    ----------
    recipes
        Recipes by the stem of the feature file that they were made for; ``--features`` picks
        one, and the first serves all other features.
    model_class
        A variant of the model that the recipes name, for that model; ``--model`` with another
        name leaves it aside.
    on_result
        Called with the run when it is finished, with each run where there are several seeds.

    Notes
    -----
    Ends the program with exit code 2 and one sentence on bad input, and with 130 when
    interrupted.
    """
    description = inspect.getdoc(sys.modules["__main__"]) or "Train GSMFlow."
    if _READING.get():
        raise _HandedOver(recipes, model_class, description)
    console = make_console()
    with ending(console, "interrupted; the same command with --resume continues this run"):
        recipe = parse_recipe(
            recipes,
            sys.argv[1:],
            prog=sys.argv[0],
            description=description,
        )
        own_class = _own_class(recipes, model_class, recipe)
        with gathered_team(recipe.device, recipe.devices, recipe.nodes) as team:
            console.quiet = not team.leads
            if recipe.seeds > 1:
                run_seeds(recipe, console, own_class, team, on_result=on_result)
            elif team.leads:
                on_result(run_experiment(recipe, console, own_class, team))
            else:
                assist_experiment(recipe, console, own_class, team)


def read_script(path: Path) -> Script:
    """What a script hands to `run_script`, which it calls as ``run``, without running a recipe.

    The script is executed up to that call, with its folder on ``sys.path`` for that time.

    Raises
    ------
    InputError
        If the file is missing, is not Python, fails, or never makes the call.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a script such as train_FLO.py")
    token, argv, folders = _READING.set(True), sys.argv, sys.path
    sys.argv, sys.path = [str(path)], [str(path.resolve().parent), *folders]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except _HandedOver as handed:
        return Script(handed.recipes, handed.model_class, handed.description, path)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{path}: found {type(error).__name__} ({one_line(error)}), expected a Python script "
            "that calls run() with its recipes"
        ) from error
    finally:
        sys.argv, sys.path = argv, folders
        _READING.reset(token)
    raise InputError(f"{path}: found no call of run(), expected one with the script's recipes")


def script_recipe(path: Path, flags: Sequence[str], *, prog: str) -> tuple[Script, Recipe]:
    """A script, and the recipe that it would run with these flags.

    Parameters
    ----------
    path
        The script.
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
    script = read_script(path)
    return script, parse_recipe(script.recipes, flags, prog=prog, description=script.description)


def _own_class(
    recipes: Mapping[str, Recipe], model_class: type[Model] | None, recipe: Recipe
) -> type[Model] | None:
    """A script's own class, where a recipe is of the model that the script's recipes name."""
    return model_class if recipe.model == next(iter(recipes.values())).model else None


@contextmanager
def ending(console: Console, interrupted: str) -> Iterator[None]:
    """A context for a program's work, which ends it on bad input, a failure or an interruption.

    Parameters
    ----------
    console
        The program's; while it is quiet, as in a process of a team that does not lead, errors
        are not printed either.
    interrupted
        What to say when interrupted.

    Notes
    -----
    Bad input ends the program with exit code 2 and its sentence, what is not the user's mistake
    with 1, an interruption with 130.
    """
    try:
        yield
    except InputError as error:
        _stop(console, f"error: {error}", 2)
    except UnavailableError as error:
        _stop(console, f"error: {error}", 1)
    except KeyboardInterrupt:
        _stop(console, interrupted, 130)


def _stop(console: Console, message: str, code: int) -> NoReturn:
    if not console.quiet:
        make_console(stderr=True).print(message, soft_wrap=True)
    sys.exit(code)
