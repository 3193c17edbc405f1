"""The training with the validation classes as unseen classes, and what is chosen there.

These are the calibration factor gamma, the temperatures of the scores, and what sections of the run
look for with the validation model.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.errors import writing
from gsmflow.core.files import parse_json, read_json, write_json, write_tensors
from gsmflow.core.json_records import as_record
from gsmflow.core.progress import progress
from gsmflow.core.run_files import LOG_FILE
from gsmflow.data.dataset import (
    Dataset,
    HeldOut,
    Problem,
    open_held_out,
    redraw_validation,
    training_problem,
)
from gsmflow.evaluation.balance import (
    BalanceCurve,
    GammaChoice,
    balance_curve,
    gamma_for,
)
from gsmflow.evaluation.measures import validation_point
from gsmflow.evaluation.probabilities import KeptScores, Temperatures
from gsmflow.evaluation.protocol import OnScores, Outcome, evaluate
from gsmflow.learning.contract import Model, Scorer, Trainable
from gsmflow.learning.feed import Scaled
from gsmflow.recipes.fit import check_finite
from gsmflow.runs.checkpoint import reading
from gsmflow.runs.directory import RunLog
from gsmflow.runs.stages import (
    Measuring,
    Run,
    choose,
    classifiers_stage,
    fit_scorer,
    forget_state,
    is_done,
    result_file,
    scale,
    train_model,
)

__all__ = [
    "AtEnd",
    "Finding",
    "Validated",
    "choose_and_validate",
    "further_draws",
    "read_validation",
    "validate",
]

_FOUND_FILE = "validation.safetensors"
# The folder of the models of further draws, which is there until gamma is chosen.
_DRAWS_FOLDER = "validation-draws"
_CURVE_FILE = "curve.safetensors"
# The keys of the choice of gamma and of the temperatures among the findings of the last epoch.
_BALANCE, _TEMPERATURES = "balance", "temperatures"
# Draws of validation classes for a method that is fitted in one go.
_DRAWS = 5

# Called at the end of the validation training with the data, the model and its scorer.
AtEnd: TypeAlias = Callable[[Scaled, Model, Scorer], "Finding"]
# Makes such a function for a run, from the validation problem and the rows to evaluate on.
_MakesAtEnd: TypeAlias = Callable[[Run, Problem, HeldOut], AtEnd]


@dataclass(frozen=True, eq=False)
class Finding:
    """Values that a section found with the validation model, saved with the validation's result.

    Attributes
    ----------
    facts
        Values by name, JSON-ready.
    tensors
        Tensors by name.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Validated:
    """The result of the training with the validation classes as unseen classes.

    Attributes
    ----------
    gamma
        The calibration factor gamma; 0 for no calibration.
    curve
        The measures at intervals of the training and at its last epoch.
    found
        The findings of the run's sections, by section key.
    temperatures
        The temperatures of the scores at the last epoch; None in a run that was made before they
        were fitted.
    choice
        How gamma was chosen at the last epoch; None in a run that took the gamma of best H on one
        draw, as runs once did.
    """

    gamma: float
    curve: list[dict[str, float]]
    found: dict[str, Finding]
    temperatures: Temperatures | None = None
    choice: GammaChoice | None = None

    def describe(self) -> dict[str, Any]:
        """The calibration factor, its choice, the temperatures and the curve, JSON-ready."""
        known = {_BALANCE: self.choice, _TEMPERATURES: self.temperatures}
        described = {key: asdict(value) for key, value in known.items() if value is not None}
        return {"gamma": self.gamma, **described, "curve": self.curve}


@dataclass(frozen=True)
class _StoredValidation:
    """What ``validation.json`` holds, as `Validated.describe` gives it."""

    gamma: float
    curve: Annotated[list[dict[str, float]], Meta(min_length=1)]
    temperatures: Temperatures | None = None
    balance: GammaChoice | None = None


def read_validation(file: Path) -> Validated:
    """What ``validation.json`` holds: all but the findings of sections.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    value = read_json(file)
    stored = as_record(str(file), value, _StoredValidation)
    curve = value["curve"]  # as read: whole numbers stay whole
    return Validated(stored.gamma, curve, {}, stored.temperatures, stored.balance)


def further_draws(run: Run, dataset: Dataset) -> list[Dataset]:
    """The dataset with other validation classes, for all draws but the first that a run asks for.

    A method may name a number of draws. By default there are five for one that is fitted in one
    go, and one for one that is trained epoch by epoch. A draw that takes all classes with two rows
    or more, so that no row is left to play validation-seen, is left out.
    """
    recipe = run.recipe
    usual = 1 if issubclass(run.model_class, Trainable) else _DRAWS
    count = recipe.validation_draws or recipe.method_info.validation_draws or usual
    if recipe.balance == "none":
        count = 1
    drawn = [redraw_validation(dataset, draw) for draw in range(1, count)]
    return [other for other in drawn if len(open_held_out(other, "validation").seen)]


def choose_and_validate(
    run: Run, dataset: Dataset, at_end: Mapping[str, _MakesAtEnd] | None = None
) -> tuple[dict[str, Any] | None, Validated | None]:
    """Choose a model's settings, then its calibration factor gamma, on the validation classes.

    Parameters
    ----------
    run, dataset
        The run and its data.
    at_end
        What makes the functions that `validate` calls after the last epoch, by their keys.

    Returns
    -------
    tuple
        What `choose` returns, and what `validate` does; None without calibration.
    """
    problem = training_problem(dataset, "validation")
    held_out = open_held_out(dataset, "validation")
    choice = choose(run, problem, held_out)
    if not run.recipe.calibrate:
        return choice, None
    made = {key: make(run, problem, held_out) for key, make in (at_end or {}).items()}
    further = further_draws(run, dataset)
    return choice, validate(run, problem, held_out, choice, at_end=made, further=further)


def validate(
    run: Run,
    problem: Problem,
    held_out: HeldOut,
    choice: dict[str, Any] | None = None,
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None,
    at_end: Mapping[str, AtEnd] | None = None,
    further: Sequence[Dataset] = (),
) -> Validated:
    """Train with the validation classes as unseen classes; choose the calibration factor gamma.

    With that factor, the temperatures are fitted on the scores of the last epoch.

    Parameters
    ----------
    run, problem, held_out
        The run, the validation problem, and the rows to evaluate on.
    choice
        The settings that `choose` returned.
    on_point
        Called with each point of the curve, also with those that a resumed run has measured
        before; an exception that it raises ends the training.
    at_end
        Functions that are called after the last epoch, by the key of their section.
    further
        The `further_draws` that gamma is chosen on as well. Their models have the settings of the
        first one.

    Returns
    -------
    Validated
        The result. It is also written to ``validation.json``, its findings to
        ``validation.safetensors``; a resumed run reads both.
    """
    file, found_file = result_file(run, problem), run.directory / _FOUND_FILE
    if is_done(run, problem):
        stored = read_validation(file)
        _remove_draws(run)
        for point in stored.curve:
            on_point(point)
        found = _read_found(found_file)
        for key in (_BALANCE, _TEMPERATURES):
            found.pop(key, None)
        return replace(stored, found=found)
    scaled, finders = scale(run, problem), at_end or {}

    def measure(model: Model, epoch: int) -> dict[str, float]:
        kept = KeptScores(problem, held_out)
        scorer, outcome = _evaluate(run, scaled, model, held_out, kept.add)
        scores = np.stack([outcome.best.seen_scores, outcome.best.unseen_scores])
        check_finite({"largest class score": float(np.abs(scores).max())}, epoch)
        point = {"epoch": epoch, **validation_point(outcome)}
        if epoch in (0, run.recipe.training.total_epochs):
            gamma_choice = _choose_gamma(run, problem, outcome, choice, further)
            found = {
                _BALANCE: Finding(asdict(gamma_choice)),
                _TEMPERATURES: Finding(asdict(kept.temperatures(gamma_choice.gamma))),
            }
            for section, find in finders.items():
                with run.clock.stage(section):
                    found[section] = find(scaled, model, scorer)
            # Written before the saved state says that this epoch is measured.
            _write_found(found_file, found)
        return point

    measuring = Measuring(measure, run.recipe.curve_every, on_point)
    curve = train_model(run, scaled, choice, measuring)[1].curve
    found = _read_found(found_file)
    name = str(found_file)
    gamma_choice = as_record(name, found.pop(_BALANCE, Finding()).facts, GammaChoice)
    temperatures = as_record(name, found.pop(_TEMPERATURES, Finding()).facts, Temperatures)
    validated = Validated(gamma_choice.gamma, curve, found, temperatures, gamma_choice)
    write_json(file, validated.describe())
    if not found:  # the other values stand in the other file now
        found_file.unlink(missing_ok=True)
    forget_state(run, problem)
    _remove_draws(run)
    run.console.print(gamma_choice.sentence(), soft_wrap=True)
    return validated


def _remove_draws(run: Run) -> None:
    shutil.rmtree(run.directory / _DRAWS_FOLDER, ignore_errors=True)


def _evaluate(
    run: Run, scaled: Scaled, model: Model, held_out: HeldOut, on_scores: OnScores | None = None
) -> tuple[Scorer, Outcome]:
    """Train the classifiers of a validation model, if it needs any, and evaluate it."""
    text, problem = "evaluating on validation classes", scaled.problem
    with run.clock.stage(classifiers_stage(problem.split)), progress(run.console, text):
        scorer = fit_scorer(run, scaled, model)
        return scorer, evaluate(scorer, problem, held_out, on_scores)


def _choose_gamma(
    run: Run,
    problem: Problem,
    outcome: Outcome,
    choice: dict[str, Any] | None,
    further: Sequence[Dataset],
) -> GammaChoice:
    """Choose gamma by the outcome of the first draw and by models for the further ones."""
    curves = []
    if further:
        text = "further draws of validation classes"
        with progress(run.console, text, len(further), unit="draws") as advance:
            for number, dataset in enumerate(further, 1):
                curves.append(_curve_of_draw(run, number, dataset, choice))
                advance()
    return gamma_for(outcome, problem, run.recipe.balance, curves)


def _curve_of_draw(
    run: Run, number: int, dataset: Dataset, choice: dict[str, Any] | None
) -> BalanceCurve:
    """Train on a further draw of validation classes, in a folder that a resumed run goes on in."""
    directory = run.directory / _DRAWS_FOLDER / str(number)
    file = directory / _CURVE_FILE
    if file.exists():
        return _read_curve(file)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    # Only the main process does this, alone.
    log, quiet = RunLog(directory / LOG_FILE), Console(quiet=True)
    draw_run = replace(run, directory=directory, log=log, console=quiet, group=SINGLE_PROCESS)
    problem, held_out = (
        training_problem(dataset, "validation"),
        open_held_out(dataset, "validation"),
    )
    scaled = scale(draw_run, problem)

    def measure(model: Model, epoch: int) -> None:
        _, outcome = _evaluate(draw_run, scaled, model, held_out)
        curve = balance_curve(outcome, problem, run.recipe.balance)
        # Written before the saved state says that the last epoch is measured.
        write_tensors(file, curve.as_tensors(), {"format": "pt"})

    train_model(draw_run, scaled, choice, Measuring(measure))
    forget_state(draw_run, problem)
    return _read_curve(file)


def _read_curve(file: Path) -> BalanceCurve:
    with reading(file, "measures of a draw of validation classes"):
        return BalanceCurve.from_tensors(load_file(file))


def _write_found(file: Path, found: Mapping[str, Finding]) -> None:
    """Write the findings of sections, by section key."""
    tensors = {
        f"{key}.{k}": t for key, finding in found.items() for k, t in finding.tensors.items()
    }
    facts = {key: finding.facts for key, finding in found.items()}
    write_tensors(file, tensors, {"facts": json.dumps(facts)})


def _read_found(file: Path) -> dict[str, Finding]:
    """Read what `_write_found` wrote; empty where nothing was."""
    if not file.exists():
        return {}
    with reading(file, "findings on validation classes"), safe_open(file, framework="pt") as stored:
        facts = parse_json(stored.metadata()["facts"])
        found = {key: Finding(values) for key, values in facts.items()}
        for name in stored.keys():  # noqa: SIM118
            key, _, inner = name.partition(".")
            found[key].tensors[inner] = stored.get_tensor(name)
    return found
