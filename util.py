"""For the ``train_*.py`` recipes: ``Recipe``, ``run`` and ``draw_digit_pairs``.

``Recipe`` holds every hyperparameter and is the command line too (`gsmflow.recipes.recipe`), with
``TrainingConfig`` for the training loop; ``run`` parses the flags, runs the recipe and prints the
table (`gsmflow.runs.script.run_script`); ``draw_digit_pairs`` shows what a run on the built-in
dataset learned (`gsmflow.runs.digit_pictures`).
"""

from gsmflow.data.dataset import Dataset
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.digit_pictures import draw_digit_pairs
from gsmflow.runs.experiment import RunResult
from gsmflow.runs.script import run_script as run

__all__ = ["Dataset", "Recipe", "RunResult", "TrainingConfig", "draw_digit_pairs", "run"]
