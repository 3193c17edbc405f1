"""For the ``train_*.py`` recipes: ``Recipe`` and ``run``.

``Recipe`` holds every hyperparameter and is the command line too (`gsmflow.recipe`); ``run``
parses the flags, runs the recipe and prints the table (`gsmflow.script.run_script`).
"""

from gsmflow.recipe import Recipe
from gsmflow.script import run_script as run

__all__ = ["Recipe", "run"]
