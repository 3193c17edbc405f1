"""Running a recipe as a script: command line in, table out, and the exit code."""

import inspect
import sys
from collections.abc import Mapping
from typing import NoReturn

from gsmflow.errors import InputError
from gsmflow.experiment import RunResult, assist_experiment, run_experiment
from gsmflow.model import GSMFlow
from gsmflow.recipe import Recipe, parse_recipe
from gsmflow.team import ALONE, Team, gather_team
from gsmflow.util import make_console

__all__ = ["run_script"]


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
    console, team = make_console(), ALONE
    try:
        recipe = parse_recipe(
            recipes,
            sys.argv[1:],
            prog=sys.argv[0],
            description=inspect.getdoc(main) or "Train GSMFlow.",
        )
        team = gather_team(recipe.device, recipe.devices, recipe.nodes)
        if team.leads:
            return run_experiment(recipe, console, model_class, team)
        console.quiet = True
        assist_experiment(recipe, console, model_class, team)
        sys.exit(0)
    except InputError as error:
        _stop(team, f"error: {error}", 2)
    except KeyboardInterrupt:
        _stop(team, "interrupted; the same command with --resume continues this run", 130)


def _stop(team: Team, message: str, code: int) -> NoReturn:
    """End the program; of a team, the process that leads says why."""
    if team.leads:
        make_console(stderr=True).print(message, soft_wrap=True)
    sys.exit(code)
