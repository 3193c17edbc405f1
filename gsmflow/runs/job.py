"""The input and the result of a run: `Job` and `RunResult`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsmflow.data.dataset import Dataset, HeldOut, Problem
from gsmflow.learning.contract import Model
from gsmflow.recipes.recipe import Recipe

if TYPE_CHECKING:
    from gsmflow.runs.stages import Fitted

__all__ = ["Job", "RunResult"]


@dataclass(frozen=True, eq=False)
class Job:
    """A recipe to run, with a model class and data that may replace the recipe's.

    Attributes
    ----------
    recipe
        A checked recipe.
    model_class
        A class to use in place of the model of the recipe's method; None for that model.
    dataset
        Data in memory; None to read the files that the recipe names.
    """

    recipe: Recipe
    model_class: type[Model] | None = None
    dataset: Dataset | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run.

    Attributes
    ----------
    directory
        The run directory.
    metrics
        The content of ``metrics.json``.
    problem, held_out
        The data that the final model was trained and evaluated on.
    fitted
        The final model.
    """

    directory: Path
    metrics: dict[str, Any]
    problem: Problem
    held_out: HeldOut
    fitted: "Fitted"
