"""Running a recipe as a script: command line in, table out, and the exit code."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console

from gsmflow.errors import InputError
from gsmflow.experiment import RunResult, assist_experiment, run_experiment
from gsmflow.model import GSMFlow
from gsmflow.recipe import Recipe, parse_recipe
from gsmflow.team import gathered_team
from gsmflow.util import make_console

__all__ = ["ending", "run_script"]


def run_script(recipes: Mapping[str, Recipe], model_class: type[GSMFlow] = GSMFlow) -> RunResult:
    """Parse the command line over a script's recipes, run, and print the table.

    Parameters
    ----------
    recipes
        Recipes by the stem of the feature file that they were made for; ``--features`` picks
        one, and the first serves all other features.
    model_class
        `GSMFlow`, or a variant with its interface.

    Notes
    -----
    Ends the program with exit code 2 and one sentence on bad input, and with 130 when
    interrupted.
    """
    main = sys.modules["__main__"]
    console = make_console()
    with ending(console, "interrupted; the same command with --resume continues this run"):
        recipe = parse_recipe(
            recipes,
            sys.argv[1:],
            prog=sys.argv[0],
            description=inspect.getdoc(main) or "Train GSMFlow.",
        )
        with gathered_team(recipe.device, recipe.devices, recipe.nodes) as team:
            if team.leads:
                return run_experiment(recipe, console, model_class, team)
            console.quiet = True
            assist_experiment(recipe, console, model_class, team)
        sys.exit(0)


@contextmanager
def ending(console: Console, interrupted: str) -> Iterator[None]:
    """A context for a program's work, which ends it on bad input or an interruption.

    Parameters
    ----------
    console
        The program's; while it is quiet, as in a process of a team that does not lead, errors
        are not printed either.
    interrupted
        What to say when interrupted.

    Notes
    -----
    Bad input ends the program with exit code 2 and its sentence, an interruption with 130.
    """
    try:
        yield
    except InputError as error:
        _stop(console, f"error: {error}", 2)
    except KeyboardInterrupt:
        _stop(console, interrupted, 130)


def _stop(console: Console, message: str, code: int) -> NoReturn:
    if not console.quiet:
        make_console(stderr=True).print(message, soft_wrap=True)
    sys.exit(code)
