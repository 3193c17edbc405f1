"""The command ``train``: run a script's recipe, or train the recommended method on a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from gsmflow.cli.verb import Verb
from gsmflow.core.console import ending
from gsmflow.runs.script import ScriptOptions, run_job, script_recipe

__all__ = ["VERB", "TrainOptions", "run_training"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ScriptOptions):
    """Train on a dataset: print its table, and keep the run in OUT/DATASET/RUN.

    python -m gsmflow train data/MINE

    python -m gsmflow train data/MINE --model gsmflow --schedule fast --seeds 3

    python -m gsmflow train train_FLO.py --epochs 5

    A dataset's folder is trained on by the recommended method (docs/beyond.md), by another with
    --model; a script is run with its own settings. The folder or script comes first, then flags.

    Test rows are never trained on: learning is inductive, and there is no transductive setting
    (docs/protocol.md).
    """


def run_training(options: TrainOptions, console: Console, flags: Sequence[str]) -> None:
    """Run a script's recipe, or the recommended method on a dataset.

    Parameters
    ----------
    options
        The script or the dataset's folder.
    console
        Where progress and the table are printed.
    flags
        Flags of the recipe.

    Raises
    ------
    InputError
        If the script, a flag, the data or the run directory cannot be used.

    Notes
    -----
    Ends the program with exit code 130 or 143 when interrupted; see `ending`.
    """
    prog = f"python -m gsmflow train {options.script}"
    with ending(console, "--resume"):
        script, recipe = script_recipe(options.script, flags, prog=prog)
        run_job(script.job(recipe), script.on_result, console)


# Words after the folder or script are flags of its recipe.
VERB = Verb(TrainOptions, run_training, takes_flags=True, option_words=1)
