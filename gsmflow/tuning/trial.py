"""One trial of a study: a recipe is validated in its own directory; no test row is read."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from rich.console import Console

from gsmflow.core.devices import pick_device
from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.errors import DivergedError, InputError
from gsmflow.core.files import write_json
from gsmflow.core.folders import locked, remove_leftovers
from gsmflow.core.json_records import read_record
from gsmflow.core.precision import Precision, pick_precision
from gsmflow.core.run_files import LOG_FILE, RECIPE_FILE
from gsmflow.data.dataset import (
    HeldOut,
    Problem,
    open_held_out,
    redraw_validation,
    training_problem,
)
from gsmflow.data.digest import digest_of
from gsmflow.learning.contract import Model
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.recipes.checks import check_one_split
from gsmflow.recipes.files import describe_recipe
from gsmflow.recipes.recipe import Recipe, setting_value
from gsmflow.runs.acceleration import graphs_of
from gsmflow.runs.directory import RunLog
from gsmflow.runs.experiment import open_dataset
from gsmflow.runs.job import Job
from gsmflow.runs.stages import Run, choose, forget_state
from gsmflow.runs.validation import validate
from gsmflow.tuning.space import Space

__all__ = [
    "Objective",
    "StudySetup",
    "TrialEndedError",
    "TrialOutcome",
    "open_setup",
    "outcome_of",
    "validate_recipe",
]

Objective: TypeAlias = Literal["H_calibrated", "H", "T1", "AUSUC"]

_OUTCOME = "outcome.json"


class TrialEndedError(Exception):
    """Raised by a callback to end a trial."""


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a validation.

    Attributes
    ----------
    measures
        The measures at the end of the training; None if it diverged.
    reason
        Why it diverged; empty if it did not.
    """

    measures: dict[str, float] | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class StudySetup:
    """What the trials of a study share.

    Attributes
    ----------
    folder
        The study's folder.
    space
        The settings that are searched, around the script's recipe.
    model_class
        The class of the model.
    device, precision
        The device and the precision of matrix products that the trials compute with.
    class_draws
        For each draw of validation classes, its training problem and the rows to evaluate on. The
        first draw has the validation classes that the dataset comes with.
    rows_per_class
        Mean number of training rows of a seen class in the final training.
    trains
        Whether this process runs trials; one that waits for the jobs of a cluster does not.
    """

    folder: Path
    space: Space
    model_class: type[Model]
    device: torch.device
    precision: Precision
    class_draws: tuple[tuple[Problem, HeldOut], ...]
    rows_per_class: float
    trains: bool = True

    def directory(self, recipe: Recipe, class_draw: int) -> Path:
        """The directory of a validation, named after searched settings, seed and class draw."""
        values = {name: setting_value(recipe, name) for name in self.space.dimensions}
        key = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8)
        name = f"{key.hexdigest()}-seed{recipe.seed}{f'-draw{class_draw}' if class_draw else ''}"
        return self.folder / "trials" / name

    def training_of(self, recipe: Recipe, class_draw: int) -> TrainingConfig:
        """The training on a draw of classes, with the final training's steps per seen class.

        A seen class has fewer training rows there than in the final training, as some are held out
        to evaluate on. With as many epochs, a number that is best on the validation classes would
        be too high for the final training.
        """
        problem, _ = self.class_draws[class_draw]
        rows_per_class = len(problem.train.labels) / len(problem.seen_classes)
        training = recipe.training
        epochs = max(1, round(training.total_epochs * self.rows_per_class / rows_per_class))
        return training.with_epochs(epochs)

    def data_digest(self) -> str:
        """A hash of all data that a trial reads."""
        problem, held_out = self.class_draws[0]  # the others are drawn from its rows
        classes = problem.seen_classes, problem.unseen_classes
        rows = problem.train, held_out.seen, held_out.unseen
        return digest_of(*classes, problem.semantics, *rows)


def open_setup(
    folder: Path, space: Space, job: Job, class_draws: int, *, trains: bool = True
) -> StudySetup:
    """Read the dataset of a study and draw its validation classes.

    Parameters
    ----------
    folder
        The study's folder.
    space
        The settings that are searched, around the job's recipe.
    job
        Gives the data and the class of the model.
    class_draws
        How many draws of validation classes there are.
    trains
        Whether this process runs trials; one that does not needs no device.

    Raises
    ------
    InputError
        If the data or the device cannot be used.
    """
    recipe = space.recipe
    check_one_split(recipe, "tune")
    if recipe.devices * recipe.nodes > 1:
        raise InputError(
            f"--devices: found {recipe.devices} with --nodes {recipe.nodes}, expected 1 and 1: a "
            "trial trains in one process, and --workers says how many there are"
        )
    device = pick_device(recipe.device if trains else "cpu")
    precision = pick_precision(recipe.precision, device)
    dataset = open_dataset(job)
    redrawn = [redraw_validation(dataset, class_draw) for class_draw in range(class_draws)]
    problems_and_rows = tuple(
        (training_problem(drawn, "validation"), open_held_out(drawn, "validation"))
        for drawn in redrawn
    )
    model_class = job.model_class or recipe.method_info.model
    rows_per_class = len(dataset.trainval) / len(dataset.seen_classes)
    return StudySetup(
        folder, space, model_class, device, precision, problems_and_rows, rows_per_class, trains
    )


def validate_recipe(
    setup: StudySetup,
    recipe: Recipe,
    class_draw: int,
    on_half_way: Callable[[Mapping[str, float]], object] | None = None,
    *,
    patience: float = -1,
) -> dict[str, float]:
    """Validate a recipe; resume the validation that an earlier process began.

    Parameters
    ----------
    setup
        The setup of the study.
    recipe
        A recipe of its search space.
    class_draw
        The index of the draw of validation classes.
    on_half_way
        Called with the measures after half of the epochs; if it raises a `TrialEndedError`, the
        training ends and cannot be resumed. None: nothing is measured before the end.
    patience
        Seconds to wait for another process that validates the same recipe; -1: until it is done.

    Returns
    -------
    dict
        The measures at the end of the training, by name.

    Raises
    ------
    DivergedError
        If the training does not stay finite.
    BusyError
        If another process took longer than ``patience``.
    """
    directory = setup.directory(recipe, class_draw)
    problem, held_out = setup.class_draws[class_draw]
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, patience):
        remove_leftovers(directory)
        outcome = outcome_of(setup, recipe, class_draw)
        if outcome is not None and outcome.measures is None:
            raise DivergedError(outcome.reason)
        write_json(directory / RECIPE_FILE, describe_recipe(recipe))
        training = setup.training_of(recipe, class_draw)
        epochs = training.total_epochs
        curve_every = (epochs + 1) // 2 if on_half_way else 0
        recipe = replace(recipe, training=training, curve_every=curve_every)

        def on_point(point: Mapping[str, float]) -> None:
            if on_half_way is not None and point["epoch"] < epochs:
                on_half_way(point)

        log, console = RunLog(directory / LOG_FILE), Console(quiet=True)
        model_and_device = (setup.model_class, setup.device, setup.precision, SINGLE_PROCESS)
        graphs = graphs_of(recipe, setup.device, console)
        run = Run(recipe, *model_and_device, directory, log, console, graphs=graphs)
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


def outcome_of(setup: StudySetup, recipe: Recipe, class_draw: int) -> TrialOutcome | None:
    """The result of a recipe's validation on a draw of classes; None if it is not done."""
    file = setup.directory(recipe, class_draw) / _OUTCOME
    return read_record(file, TrialOutcome) if file.exists() else None
