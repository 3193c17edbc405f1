"""The stages of a run that learn.

Training the model on a problem, choosing the penalty on validation classes, and training the
softmax classifiers. All of them log, show progress and resume.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from gsmflow.core.distributed import Group
from gsmflow.core.files import read_json, write_json, write_tensors
from gsmflow.core.precision import Precision
from gsmflow.core.rng import make_generator
from gsmflow.data.dataset import HeldOut, Problem, Rows
from gsmflow.data.splits import repeat_each_class
from gsmflow.evaluation.measures import metrics_in, validation_point
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import Compilable, Model, Scorer, StreamedRows, Trainable
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, SelectedFeed, scale_problem
from gsmflow.learning.scorers import feature_map, own_scorer
from gsmflow.learning.softmax import (
    ClassifierConfig,
    OnEpoch,
    SoftmaxClassifier,
    SoftmaxPair,
    pair_from_rows,
)
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.registry import MODELS
from gsmflow.recipes.fit import (
    check_finite,
    classifier_generators,
    make_model,
    rows_request,
    train_epochs,
)
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.checkpoint import CLASSIFIER_FILE, TENSOR_FILE, read_model, write_model
from gsmflow.runs.directory import RunLog

__all__ = [
    "AtEnd",
    "AtInterval",
    "Fitted",
    "Run",
    "classify",
    "classify_real",
    "fit_classifiers",
    "fit_final",
    "forget_state",
    "progress_bar",
    "run_worker",
    "train_module",
    "validate",
]

_SAVE_EVERY_SECONDS = 20.0
_LOG_LINES = 20
_INTERVALS = 20
# What a problem's training is called on the console: rows of the test split take no part in it.
_TRAINING = {"validation": "validation", "test": "final"}
# What is there once a problem's training is done.
_RESULT = {"validation": "validation.json", "test": TENSOR_FILE}


@dataclass(frozen=True, eq=False)
class Run:
    """What every stage of one run needs.

    Attributes
    ----------
    recipe, model_class
        What is run.
    device, precision, team
        Where, in which products, and by which processes.
    directory, log, console
        Where to write and print.
    """

    recipe: Recipe
    model_class: type[Model]
    device: torch.device
    precision: Precision
    group: Group
    directory: Path
    log: RunLog
    console: Console

    @property
    def label(self) -> str:
        """The model's name in tables: a class of the user's own goes by its own name."""
        kind = MODELS[self.recipe.model]
        return kind.label if self.model_class is kind.model_class else self.model_class.__name__

    def generator(self, *purpose: str, device: torch.device | None = None) -> torch.Generator:
        """A generator of its own for a purpose, on the run's device unless another is named."""
        return make_generator(device or self.device, self.recipe.seed, *purpose)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model.

    Attributes
    ----------
    model
        On the run's device.
    scaled
        What it was trained on, and the feature scaling that it works behind.
    history
        The mean loss parts of each epoch, each with its ``epoch``.
    """

    model: Model
    scaled: Scaled
    history: list[dict[str, float]]


# What to do with the model at an interval of its training: given its data, itself, the epoch.
AtInterval: TypeAlias = Callable[[Run, Scaled, Model, int], object]
# What to do with a model at the end of its training: given its data, itself, and what scores.
AtEnd: TypeAlias = Callable[[Scaled, Model, Scorer], object]


def fit_final(run: Run, problem: Problem, at_interval: AtInterval | None = None) -> Fitted:
    """Train the model on a problem and save it; load it where that is done already.

    Writes ``model.safetensors``, ``model.json`` and ``history.json`` into the run directory.

    Parameters
    ----------
    run
        What is run.
    problem
        What to learn from.
    at_interval
        Called every ``curve_every`` epochs, or twenty times where that is 0, and at the end.
    """
    history_file = run.directory / "history.json"
    scaled = _scale(run, problem)
    if _is_done(run, problem):
        model = read_model(run.directory, run.model_class).model.to(run.device)
        return Fitted(model, scaled, read_json(history_file))
    every = run.recipe.curve_every or math.ceil(run.recipe.total_epochs / _INTERVALS)

    def look(model: Model, epoch: int) -> None:
        if at_interval is not None:
            at_interval(run, scaled, model, epoch)

    model, progress = _train(run, scaled, look, every)
    write_json(history_file, progress["history"])
    write_model(run.directory, model, scaled, run.recipe.feature_scaling)
    _state_file(run, problem).unlink(missing_ok=True)
    return Fitted(model, scaled, progress["history"])


def validate(
    run: Run,
    problem: Problem,
    held_out: HeldOut,
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None,
    at_end: AtEnd | None = None,
) -> dict[str, Any]:
    """Train the model with the validation classes playing unseen, and choose the penalty.

    Parameters
    ----------
    run, problem, held_out
        The run, and the validation problem with its rows to be judged on.
    on_point
        Called with each point of the curve, those included that a resumed run finds measured; an
        exception that it raises ends the training.
    at_end
        Called after the last epoch, unless the training was done already.

    Returns
    -------
    dict
        ``gamma``: the calibration factor of best H at the last epoch; ``curve``: measures
        at the epochs asked for, the last one included. Also written to ``validation.json``, from
        where a resumed run takes it.
    """
    file = _result_file(run, problem)
    if _is_done(run, problem):
        stored: dict[str, Any] = read_json(file)
        for point in stored["curve"]:
            on_point(point)
        return stored
    scaled = _scale(run, problem)

    def measure(model: Model, epoch: int) -> dict[str, float]:
        scorer = _own_scorer(run, scaled, model) or fit_classifiers(run, scaled, model, bars=False)
        outcome = evaluate(scorer, problem, held_out)
        check_finite({"largest class score": float(np.abs(outcome.scores).max())}, epoch)
        if at_end is not None and epoch in (0, run.recipe.total_epochs):
            at_end(scaled, model, scorer)
        return {"epoch": epoch, **validation_point(outcome)}

    _, progress = _train(run, scaled, measure, run.recipe.curve_every, on_point)
    result = {"gamma": progress["curve"][-1]["gamma"], "curve": progress["curve"]}
    write_json(file, result)
    _state_file(run, problem).unlink(missing_ok=True)
    return result


def forget_state(run: Run, problem: Problem) -> None:
    """Delete the saved state of a training that is not to be continued."""
    _state_file(run, problem).unlink(missing_ok=True)


def run_worker(run: Run, problem: Problem) -> None:
    """The part of `validate` or `fit_final` that a process does which does not lead its team."""
    if not _is_done(run, problem):
        _train(run, _scale(run, problem))


def classify(run: Run, fitted: Fitted) -> Scorer:
    """Train the classifiers on the rows that the model gives; writes ``classifier.safetensors``.

    A model that classifies by itself, or by its densities, needs none, and nothing is written.
    """
    own = _own_scorer(run, fitted.scaled, fitted.model)
    if own is not None:
        return own
    classes = len(fitted.scaled.problem.unseen_classes)
    count = run.recipe.synthesized_per_class
    samples = "" if count is None else f"{count} samples of each of "
    run.console.print(f"synthesizing {samples}{classes} unseen classes, training the classifier")
    pair = fit_classifiers(run, fitted.scaled, fitted.model)
    write_tensors(run.directory / CLASSIFIER_FILE, pair.tensors(), {"format": "pt"})
    return pair


def _own_scorer(run: Run, scaled: Scaled, model: Model) -> Scorer | None:
    """What scores without a classifier that learns from the model's rows, if anything does."""
    problem, bayes = scaled.problem, run.recipe.classifier == "bayes"
    classes = problem.seen_classes, problem.unseen_classes
    return own_scorer(model, scaled.scaling, classes, run.device, bayes=bayes)


def classify_real(
    run: Run,
    scaled: Scaled,
    model: Model,
    unseen: Rows,
    *,
    per_class: int | None = None,
    synthesized: int = 0,
) -> SoftmaxPair:
    """Train both classifiers on real rows of seen and of unseen classes.

    Parameters
    ----------
    run
        Gives settings, device and seed.
    scaled
        Gives the real seen rows.
    model
        Makes the rows.
    unseen
        Rows of all unseen classes, unscaled.
    per_class
        Rows of each unseen class that its real ones are repeated to, each as often as any other of
        its class to within one; a class that has more keeps them all. None repeats none.
    synthesized
        Rows to synthesize of each unseen class beside them, for a model that has no numbers of
        its own; 0 for none of any model.
    """
    config = run.recipe.part(ClassifierConfig)
    real: Feed = MemoryFeed(
        torch.from_numpy(scaled.scaling(unseen.features)).to(run.device),
        torch.from_numpy(unseen.labels).to(run.device),
    )
    if per_class is not None:
        repeated = torch.from_numpy(repeat_each_class(unseen.labels, per_class))
        real = SelectedFeed(real, repeated.to(run.device))
    request = replace(
        rows_request(run.recipe, scaled, run.precision),
        real_unseen=real,
        samples_per_class=synthesized,
        synthesizes=synthesized > 0,
    )
    rows = model.classifier_rows(request)
    space = feature_map(scaled.scaling, model, run.device)
    generators = classifier_generators(run.recipe, scaled)
    return pair_from_rows(rows, scaled.problem, space, config, generators)


def fit_classifiers(
    run: Run,
    scaled: Scaled,
    model: Model,
    *,
    bars: bool = True,
    on_epoch: OnEpoch = lambda which, classifier: None,
) -> SoftmaxPair:
    """Train both classifiers on the rows that a model gives.

    Parameters
    ----------
    run
        Gives settings, device and seed.
    scaled
        Gives the real seen rows.
    model
        Makes the rows.
    bars
        Whether to show progress bars on a terminal.
    on_epoch
        Called after each epoch of either classifier.
    """
    config, problem = run.recipe.part(ClassifierConfig), scaled.problem
    generators = classifier_generators(run.recipe, scaled)
    space = feature_map(scaled.scaling, model, run.device)
    samples = run.recipe.samples_per_class * len(problem.unseen_classes)
    with progress_bar(run.console, "synthesizing", samples, shown=bars) as advance:
        request = rows_request(run.recipe, scaled, run.precision, advance)
        rows = model.classifier_rows(request)
        if isinstance(rows, StreamedRows):  # one bar for both
            return pair_from_rows(rows, problem, space, config, generators, on_epoch)
    text = "training the classifier"
    with progress_bar(run.console, text, 2 * config.classifier_epochs, shown=bars) as advance:

        def on_either(which: Literal["gzsl", "zsl"], classifier: SoftmaxClassifier) -> None:
            advance()
            on_epoch(which, classifier)

        return pair_from_rows(rows, problem, space, config, generators, on_either)


def _scale(run: Run, problem: Problem) -> Scaled:
    recipe = run.recipe
    place, processes = recipe.features_in, recipe.devices
    return scale_problem(problem, recipe.feature_scaling, run.device, place, processes)


def _result_file(run: Run, problem: Problem) -> Path:
    return run.directory / _RESULT[problem.split]


def _is_done(run: Run, problem: Problem) -> bool:
    """Whether the problem's training is done already; the same answer in all processes."""
    return run.group.share_result(_result_file(run, problem).exists)


def _state_file(run: Run, problem: Problem) -> Path:
    return run.directory / f"{problem.split}.state.safetensors"


def _train(
    run: Run,
    scaled: Scaled,
    measure: Callable[[Model, int], dict[str, float] | None] = lambda model, epoch: None,
    every: int = 0,
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None,
) -> tuple[Model, dict[str, Any]]:
    """Train a model, from the saved state if there is one.

    ``measure`` is called every ``every`` epochs, unless that is 0, and at the end; what it gives
    is a point of the curve. Returns the model and what was recorded: ``history`` of losses,
    ``curve`` of measures. A model that is not trained has no history and one point, at epoch 0.
    """
    recipe, problem = run.recipe, scaled.problem
    split = problem.split
    model = make_model(recipe, run.model_class, scaled, run.device)
    if not (isinstance(model, Trainable) and isinstance(model, nn.Module)):
        return model, {"history": [], "curve": _measure_once(run, model, split, measure, on_point)}
    training = recipe.part(TrainingConfig)
    return train_module(run, split, model, scaled.feed, training, measure, every, on_point)


def train_module(
    run: Run,
    stage: str,
    model: nn.Module,
    feed: Feed,
    config: TrainingConfig,
    measure: Callable[[Any, int], dict[str, float] | None] = lambda model, epoch: None,
    every: int = 0,
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None,
) -> tuple[Any, dict[str, Any]]:
    """Train a module, from its saved state if there is one, with progress and a log.

    Parameters
    ----------
    run
        Where, and by which processes.
    stage
        Names the training in the log, in its random numbers, and in the file of its state,
        ``STAGE.state.safetensors``, which is to be deleted once the result is kept.
    model
        Has a ``loss``, as `Trainable` says.
    feed
        The training rows.
    config
        Settings.
    measure
        Called every ``every`` epochs, unless that is 0, and at the end; what it gives is a point
        of the curve.
    every
        See ``measure``.
    on_point
        Called with each point of the curve.

    Returns
    -------
    tuple
        The module that the training led to, and what was recorded: ``history`` of losses,
        ``curve`` of measures.
    """
    label, epochs = _TRAINING.get(stage, stage), config.total_epochs
    if run.recipe.compile and isinstance(model, Compilable):
        _compile(run, model)
    generator = run.generator(stage, "training")
    trainer = Trainer(model, feed, config, generator, precision=run.precision, group=run.group)
    progress: dict[str, Any] = {"history": [], "curve": []}
    state_file = run.directory / f"{stage}.state.safetensors"
    if run.group.share_result(state_file.exists):
        progress = trainer.load(state_file)
        run.console.print(f"{label}: continuing after epoch {trainer.epoch}")
    for point in progress["curve"]:
        on_point(point)
    saved = time.monotonic()
    total = epochs * trainer.steps_per_epoch
    done = trainer.epoch * trainer.steps_per_epoch
    with progress_bar(run.console, f"training ({label})", total, done) as advance:
        for record, seconds in train_epochs(trainer, progress["history"], advance):
            run.log.write("epoch", split=stage, seconds=seconds, **record)
            _print_epoch(run, label, record, epochs, seconds)
            last = trainer.epoch == epochs
            due = every > 0 and trainer.epoch % every == 0
            if run.group.is_main and (last or due):
                point = measure(trainer.result, trainer.epoch)
                if point is not None:
                    progress["curve"].append(point)
                    run.log.write("measures", split=stage, **point)
                    _print_point(run, point)
                    on_point(point)
            if run.group.is_main and (last or time.monotonic() - saved > _SAVE_EVERY_SECONDS):
                trainer.save(state_file, progress)
                saved = time.monotonic()
    return trainer.result, progress


def _measure_once(
    run: Run,
    model: Model,
    split: str,
    measure: Callable[[Model, int], dict[str, float] | None],
    on_point: Callable[[Mapping[str, float]], object],
) -> list[dict[str, float]]:
    """The curve of a model that has fitted itself."""
    point = measure(model, 0) if run.group.is_main else None
    if point is None:
        return []
    run.log.write("measures", split=split, **point)
    _print_point(run, point)
    on_point(point)
    return [point]


def _compile(run: Run, model: Compilable) -> None:
    run.console.print("compiling the coupling blocks")
    reason = model.compile_for_training()
    if reason is not None:
        run.console.print(f"warning: not possible here ({reason}), so they run as they are")


def _print_epoch(
    run: Run, training: str, record: Mapping[str, float], epochs: int, seconds: float
) -> None:
    epoch = int(record["epoch"])
    interval = max(1, epochs // _LOG_LINES)
    if epoch in (1, epochs) or epoch % interval == 0:
        parts = "  ".join(f"{k} {v:8.4f}" for k, v in record.items() if k != "epoch")
        run.console.print(f"{training:<10}  epoch {epoch:>3}/{epochs}  {parts}  {seconds:6.1f} s")


def _print_point(run: Run, point: Mapping[str, float]) -> None:
    shown = metrics_in("validation")
    values = "  ".join(f"{metric.label} {100 * point[metric.key]:.1f}" for metric in shown)
    run.console.print(f"  on validation classes, percent:  {values}")


@contextmanager
def progress_bar(
    console: Console, text: str, total: int, done: int = 0, *, shown: bool = True
) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, nothing in a log; yields what advances it, by 1 or a count."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as progress:
        task = progress.add_task(text, total=total, completed=done)
        yield lambda count=1: progress.advance(task, count)
