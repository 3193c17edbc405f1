"""What is to be run, and what comes of it."""

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
    """What is to be run.

    Attributes
    ----------
    recipe
        A checked recipe.
    model_class
        A variant of the model that the recipe's method names; None for that model.
    dataset
        Data in memory in place of the files that the recipe names; None for those.
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
        What ``metrics.json`` holds.
    problem, held_out
        What the final model was trained and evaluated on.
    fitted
        The model.
    """

    directory: Path
    metrics: dict[str, Any]
    problem: Problem
    held_out: HeldOut
    fitted: "Fitted"
