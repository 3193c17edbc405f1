"""One validation of a recipe, in a directory of its own, never on a row of the test split."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from filelock import FileLock
from rich.console import Console

from gsmflow.core.devices import pick_device
from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.errors import DivergedError, InputError
from gsmflow.core.files import read_json, write_json
from gsmflow.core.precision import Precision, pick_precision
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.data.dataset import (
    HeldOut,
    Problem,
    open_held_out,
    redraw_validation,
    training_problem,
)
from gsmflow.learning.contract import Model
from gsmflow.recipes.files import describe_recipe
from gsmflow.recipes.recipe import Recipe, setting_value
from gsmflow.runs.directory import RunLog
from gsmflow.runs.experiment import open_dataset
from gsmflow.runs.job import Job
from gsmflow.runs.stages import Run, choose, forget_state, validate
from gsmflow.tuning.space import Space

__all__ = [
    "Objective",
    "Place",
    "TrialEndedError",
    "TrialOutcome",
    "open_place",
    "outcome_of",
    "validate_recipe",
]

Objective: TypeAlias = Literal["H_calibrated", "H", "T1", "AUSUC"]

_OUTCOME = "outcome.json"


class TrialEndedError(Exception):
    """Raised by a callback that wants no more of a trial."""


@dataclass(frozen=True)
class TrialOutcome:
    """What a validation came to.

    Attributes
    ----------
    measures
        At the end of the training; None where it diverged.
    reason
        Why it diverged.
    """

    measures: dict[str, float] | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Place:
    """What the trials of a study share.

    Attributes
    ----------
    folder
        The study's.
    space
        What is searched, around the script's recipe.
    model_class
        The model, or a variant of it.
    device, precision
        Where the trials compute, and in which products.
    class_draws
        For each draw of validation classes, the dataset's own first, its problem and its rows to be
        judged on.
    """

    folder: Path
    space: Space
    model_class: type[Model]
    device: torch.device
    precision: Precision
    class_draws: tuple[tuple[Problem, HeldOut], ...]

    def directory(self, recipe: Recipe, draw: int) -> Path:
        """Where a recipe is validated on a draw of classes: its settings and seed name it too."""
        values = {name: setting_value(recipe, name) for name in self.space.dimensions}
        key = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8)
        name = f"{key.hexdigest()}-seed{recipe.seed}{f'-draw{draw}' if draw else ''}"
        return self.folder / "trials" / name

    def data_digest(self) -> str:
        """A hash of all that a trial can see of the dataset."""
        digest = hashlib.blake2b(digest_size=16)
        problem, held_out = self.class_draws[0]  # the others are drawn from its rows
        for classes in (problem.seen_classes, problem.unseen_classes):
            digest.update(classes.tobytes())
        digest.update(problem.semantics.tobytes())
        for rows in (problem.train, held_out.seen, held_out.unseen):
            digest.update(rows.labels.tobytes())
            for _, features in rows.slabs():
                digest.update(features.tobytes())
        return digest.hexdigest()


def open_place(folder: Path, space: Space, job: Job, class_draws: int) -> Place:
    """Read the dataset of a study.

    Parameters
    ----------
    folder
        The study's.
    space
        What is searched, around the job's recipe.
    job
        What is validated.
    class_draws
        Draws of validation classes.

    Raises
    ------
    InputError
        If the data or the device cannot be used.
    """
    recipe = space.recipe
    if recipe.devices * recipe.nodes > 1:
        raise InputError(
            f"--devices: found {recipe.devices} with --nodes {recipe.nodes}, expected 1 and 1: a "
            "trial trains in one process, and --workers says how many there are"
        )
    device = pick_device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    dataset = open_dataset(job)
    draws = [redraw_validation(dataset, draw) for draw in range(class_draws)]
    sides = tuple(
        (training_problem(drawn, "validation"), open_held_out(drawn, "validation"))
        for drawn in draws
    )
    model_class = job.model_class or recipe.method_info.model
    return Place(folder, space, model_class, device, precision, sides)


def validate_recipe(
    place: Place,
    recipe: Recipe,
    draw: int,
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None,
    *,
    patience: float = -1,
) -> dict[str, float]:
    """Validate a recipe, from where an earlier process has left it; its measures at the end.

    Parameters
    ----------
    place
        The study's.
    recipe
        One of its space.
    draw
        Which draw of validation classes.
    on_point
        Called with each measured point of the curve; a `TrialEndedError` that it raises ends the
        training for good.
    patience
        Seconds to wait for another process that validates the same recipe; -1: until it is done.

    Raises
    ------
    DivergedError
        If the training does not stay finite.
    TimeoutError
        If another process took longer.
    """
    directory, (problem, held_out) = place.directory(recipe, draw), place.class_draws[draw]
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / ".lock").acquire(timeout=patience):
        outcome = outcome_of(place, recipe, draw)
        if outcome is not None and outcome.measures is None:
            raise DivergedError(outcome.reason)
        write_json(directory / RECIPE_FILE, describe_recipe(recipe))
        log, console = RunLog(directory / "log.jsonl"), Console(quiet=True)
        machine = (place.model_class, place.device, place.precision, SINGLE_PROCESS)
        run = Run(recipe, *machine, directory, log, console)
        try:
            choice = choose(run, problem, held_out)
            point = validate(run, problem, held_out, choice, on_point).curve[-1]
        except DivergedError as error:
            forget_state(run, problem)
            write_json(directory / _OUTCOME, asdict(TrialOutcome(None, str(error))))
            raise
        except TrialEndedError:
            forget_state(run, problem)
            raise
        write_json(directory / _OUTCOME, asdict(TrialOutcome(point)))
    measures: dict[str, float] = point
    return measures


def outcome_of(place: Place, recipe: Recipe, draw: int) -> TrialOutcome | None:
    """What a recipe's validation on a draw of classes came to; None where it is not done."""
    file = place.directory(recipe, draw) / _OUTCOME
    return TrialOutcome(**read_json(file)) if file.exists() else None
