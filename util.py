"""For the ``train_*.py`` recipes: ``Recipe``, ``run`` and ``draw_digit_pairs``.

``Recipe`` holds every hyperparameter and is the command line too (`gsmflow.recipes.recipe`), with
``TrainingConfig`` for the training loop; ``run`` parses the flags, runs the recipe and prints the
table (`gsmflow.runs.script.run_script`); ``Dataset`` is data in memory for it;
``draw_digit_pairs`` shows what a run on the built-in dataset learned.
"""

from gsmflow.core.console import importing

with importing():
    from gsmflow.data.dataset import Dataset
    from gsmflow.learning.trainer import TrainingConfig
    from gsmflow.recipes.recipe import Recipe
    from gsmflow.runs.job import RunResult
    from gsmflow.runs.script import run_script as run

__all__ = ["Dataset", "Recipe", "RunResult", "TrainingConfig", "draw_digit_pairs", "run"]


def draw_digit_pairs(result: RunResult) -> None:
    """Draw real and synthesized numbers of a run on digit pairs into its directory."""
    # Matplotlib, which --help is not to wait for.
    from gsmflow.runs.digit_pictures import draw_digit_pairs as draw

    picture = result.directory / "digits.png"
    if draw(result, picture):
        print(f"real and synthesized numbers: {picture}")
