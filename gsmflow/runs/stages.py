"""The training stages of a run, with log, progress and resumption.

A model chooses its settings (`choose`), is trained with the validation classes as unseen classes
(`validate`), which gives the calibration factor gamma, and is trained for the test split
(`fit_final`). Then the classifiers are trained (`classify`).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from rich.console import Console
from torch import nn

from gsmflow.core.console import warner
from gsmflow.core.distributed import Group
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import read_json, write_json, write_tensors
from gsmflow.core.graphs import Graphs
from gsmflow.core.json_records import as_record, read_record
from gsmflow.core.precision import Precision
from gsmflow.core.progress import counting, progress
from gsmflow.core.rng import Generators
from gsmflow.core.rounding import fixed
from gsmflow.core.run_files import CHOICE_FILE
from gsmflow.data.dataset import HeldOut, Problem, Rows
from gsmflow.data.splits import repeat_each_class
from gsmflow.evaluation.measures import metrics_in
from gsmflow.learning.contract import (
    Choosing,
    ClassifierRows,
    GivesRows,
    Model,
    RowsRequest,
    Scorer,
    StreamedRows,
    Trainable,
)
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, SelectedFeed, scale_problem
from gsmflow.learning.scorers import direct_scorer, feature_map
from gsmflow.learning.softmax import (
    OnEpoch,
    SoftmaxPair,
    TrainedClassifierConfig,
    pair_from_rows,
)
from gsmflow.learning.trainer import Trainer, TrainingConfig, steps_per_epoch
from gsmflow.recipes.fit import (
    classifier_generators,
    make_model,
    rows_request,
    train_epochs,
)
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.acceleration import compiles
from gsmflow.runs.checkpoint import CLASSIFIER_FILE, TENSOR_FILE, read_model, write_model
from gsmflow.runs.clock import StageClock
from gsmflow.runs.directory import RunLog

__all__ = [
    "CHOICE_STAGE",
    "AtInterval",
    "Fitted",
    "Measuring",
    "Run",
    "choose",
    "classifiers_stage",
    "classify",
    "classify_real",
    "fit_classifiers",
    "fit_final",
    "fit_scorer",
    "forget_state",
    "is_done",
    "model_scorer",
    "read_history",
    "result_file",
    "run_worker",
    "scale",
    "train_model",
    "train_module",
    "training_stage",
]

# The stage of `choose`.
CHOICE_STAGE = "choosing settings"

_SAVE_EVERY_SECONDS = 20.0
_LOG_LINES = 20
_INTERVALS = 20
# The name of a problem's training on the console. Neither training reads a test row.
_TRAINING = {"validation": "validation", "test": "final"}
# What the training of classifiers is called while it lasts.
_CLASSIFIERS = "training the classifier"
# The file that marks a problem's training as done.
_RESULT = {"validation": "validation.json", "test": TENSOR_FILE}


@dataclass(frozen=True, eq=False)
class Run:
    """One run: its recipe, where it computes, and where it writes. All stages take it.

    Attributes
    ----------
    recipe, model_class
        The recipe, and the class of the model.
    device, precision, group
        The device, the precision of matrix products, and the distributed group.
    directory, log, console
        Where files, log records and messages are written.
    clock
        Measures the stages; by default nothing of it is written.
    graphs
        The graphs that steps are recorded with; None to launch each kernel.
    warned
        The warnings that `warn` has printed.
    final_directory
        Where the directory is moved when the run is finished; None: it stays.
    """

    recipe: Recipe
    model_class: type[Model]
    device: torch.device
    precision: Precision
    group: Group
    directory: Path
    log: RunLog
    console: Console
    clock: StageClock = field(default_factory=StageClock)
    graphs: Graphs | None = None
    warned: set[str] = field(default_factory=set)
    final_directory: Path | None = None

    @property
    def label(self) -> str:
        """The model's name in tables; for a model class of the user, the name of the class."""
        method = self.recipe.method_info
        return method.label if self.model_class is method.model else self.model_class.__name__

    def warn(self, text: str) -> None:
        """Print a warning, once."""
        if text not in self.warned:
            self.warned.add(text)
            warner(self.console)(text)

    def shown(self, path: Path) -> Path:
        """A path in the directory as it is when the run is finished, for messages."""
        final = self.final_directory or self.directory
        return final / path.relative_to(self.directory)

    def generators(self, stage: str) -> Generators:
        """The random generators of a stage."""
        return Generators(self.recipe.seed, stage, self.device)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model.

    Attributes
    ----------
    model
        The model, on the run's device.
    scaled
        The problem that it was trained on, with the scaling of its features.
    history
        The mean of each loss term in each epoch, with the number of the ``epoch``.
    """

    model: Model
    scaled: Scaled
    history: list[dict[str, float]]


@dataclass(frozen=True, eq=False)
class Measuring:
    """What is measured while a model is trained.

    Attributes
    ----------
    measure
        Called with the model and the epoch, at the end and at the interval; returns a point of the
        curve, or None for no point.
    every
        Epochs between two calls of `measure`; 0: only one at the end.
    on_point
        Called with each point of the curve, also with those that a resumed run has measured
        before; an exception that it raises ends the training.
    """

    measure: Callable[[Any, int], dict[str, float] | None]
    every: int = 0
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None


_NOTHING_MEASURED = Measuring(lambda model, epoch: None)


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """The losses and measures of a training up to an epoch; saved with the trainer's state.

    Attributes
    ----------
    history
        The epochs' mean losses, by name.
    curve
        The points that were measured.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)


# Called at an interval of the training with the run, the data, the model and the epoch.
AtInterval: TypeAlias = Callable[[Run, Scaled, Model, int], object]


def read_history(file: Path) -> list[dict[str, float]]:
    """The mean of each loss term in each epoch, of ``history.json``.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    value: list[dict[str, float]] = read_json(file)
    as_record(str(file), value, list[dict[str, float]])
    return value  # as read: whole numbers stay whole


def choose(run: Run, problem: Problem, held_out: HeldOut) -> dict[str, Any] | None:
    """Let the model choose settings on the validation classes; None if it chooses none.

    The choice is also written to ``choice.json``, which a resumed run reads.
    """
    if not issubclass(run.model_class, Choosing):
        return None
    file = run.directory / CHOICE_FILE
    if file.exists():
        stored = _StoredChoice(read_record(file, dict[str, Any]))
        stored.file = file
        return stored
    count = len(problem.unseen_classes)
    run.console.print(f"{run.label}: choosing settings on {count} validation classes")
    generators = run.generators(problem.split)
    scaled = scale(run, problem)
    text = f"{run.label}: {CHOICE_STAGE}"
    with run.clock.stage(CHOICE_STAGE), progress(run.console, text):
        choice = run.model_class.choose(scaled, held_out, run.recipe.method, generators)
    write_json(file, choice)
    return choice


def fit_final(
    run: Run,
    problem: Problem,
    choice: dict[str, Any] | None = None,
    at_interval: Mapping[str, AtInterval] | None = None,
) -> Fitted:
    """Train the model on a problem and save it, or load it if it is trained already.

    Writes ``model.safetensors``, ``model.json`` and ``history.json`` into the run directory.

    Parameters
    ----------
    run
        The run.
    problem
        The training problem.
    choice
        The settings that `choose` returned.
    at_interval
        Functions that are called every ``curve_every`` epochs, or twenty times if that is 0, and at
        the end, by the key of their section.
    """
    history_file = run.directory / "history.json"
    scaled = scale(run, problem)
    if is_done(run, problem):
        model = read_model(run.directory, run.model_class).model.to(run.device)
        return Fitted(model, scaled, read_history(history_file))
    every = run.recipe.curve_every or math.ceil(run.recipe.training.total_epochs / _INTERVALS)

    def call_at_interval(model: Model, epoch: int) -> None:
        for section, call in (at_interval or {}).items():
            with run.clock.stage(section):
                call(run, scaled, model, epoch)

    model, record = train_model(run, scaled, choice, Measuring(call_at_interval, every))
    write_json(history_file, record.history)
    write_model(run.directory, model, scaled, run.recipe.feature_scaling)
    forget_state(run, problem)
    return Fitted(model, scaled, record.history)


def forget_state(run: Run, problem: Problem) -> None:
    """Delete the saved state of a training that is not to be continued."""
    _state_file(run, problem).unlink(missing_ok=True)


def run_worker(run: Run, problem: Problem) -> None:
    """Train along in a process that is not the group's main one, in `fit_final` or a validation."""
    if not is_done(run, problem):
        train_model(run, scale(run, problem), None, _NOTHING_MEASURED)


def classify(run: Run, fitted: Fitted) -> Scorer:
    """Train the classifiers on the rows that the model gives; writes ``classifier.safetensors``.

    A model that classifies by itself or by its densities needs no classifiers. It is the scorer,
    and nothing is written.
    """
    scorer = model_scorer(run, fitted.scaled, fitted.model)
    if scorer is not None:
        return scorer
    classes = len(fitted.scaled.problem.unseen_classes)
    count = run.recipe.samples_per_class
    samples = "" if count is None else f"{count} samples of each of "
    run.console.print(f"synthesizing {samples}{classes} unseen classes, training the classifier")
    with run.clock.stage(classifiers_stage(fitted.scaled.problem.split)):
        pair = fit_classifiers(run, fitted.scaled, fitted.model)
    write_tensors(run.directory / CLASSIFIER_FILE, pair.tensors(), {"format": "pt"})
    return pair


def model_scorer(run: Run, scaled: Scaled, model: Model) -> Scorer | None:
    """The scorer of a model that needs no trained classifiers; None for other models."""
    problem, bayes = scaled.problem, run.recipe.classifier_name == "bayes"
    classes = problem.seen_classes, problem.unseen_classes
    return direct_scorer(model, scaled.scaling, classes, run.device, bayes=bayes)


def fit_scorer(run: Run, scaled: Scaled, model: Model) -> Scorer:
    """The scorer of a model: itself if it needs none, else classifiers that are trained for it."""
    return model_scorer(run, scaled, model) or fit_classifiers(run, scaled, model)


def classify_real(
    run: Run,
    scaled: Scaled,
    model: Model,
    unseen: Rows,
    config: TrainedClassifierConfig,
    *,
    per_class: int | None = None,
    synthesized: int = 0,
) -> SoftmaxPair:
    """Train both classifiers on real rows of seen and of unseen classes.

    Parameters
    ----------
    run
        The run, for settings, device and seed.
    scaled
        The problem with the real rows of seen classes.
    model
        Makes the rows that the classifiers are trained on.
    unseen
        Real rows of all unseen classes, unscaled.
    config
        The settings of the classifiers.
    per_class
        The real rows of each unseen class are repeated to this number, each equally often to
        within one. A class with more rows keeps them all. None: no row is repeated.
    synthesized
        Rows to synthesize of each unseen class in addition. A model with its own settings for
        their number ignores values above 0; with 0 no model synthesizes rows.
    """
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
    rows = _classifier_rows(run, model, request)
    space = feature_map(scaled.scaling, model, run.device)
    generators = classifier_generators(run.recipe, scaled)
    with progress(run.console, _CLASSIFIERS):
        return pair_from_rows(rows, scaled.problem, space, config, generators, graphs=run.graphs)


def fit_classifiers(
    run: Run,
    scaled: Scaled,
    model: Model,
    *,
    on_epoch: OnEpoch = lambda which, classifier: None,
) -> SoftmaxPair:
    """Train both classifiers on the rows that a model gives.

    Parameters
    ----------
    run
        The run, for settings, device and seed.
    scaled
        The problem with the real rows of seen classes.
    model
        Makes the rows that the classifiers are trained on.
    on_epoch
        Called after each epoch of either classifier.
    """
    config, problem = run.recipe.trained_classifier, scaled.problem
    generators = classifier_generators(run.recipe, scaled)
    space = feature_map(scaled.scaling, model, run.device)
    samples = (run.recipe.samples_per_class or 0) * len(problem.unseen_classes)
    with progress(run.console, _CLASSIFIERS):
        with counting("synthesized rows", samples or None) as advance:
            request = rows_request(run.recipe, scaled, run.precision, advance)
            rows = _classifier_rows(run, model, request)
        return pair_from_rows(rows, problem, space, config, generators, on_epoch, run.graphs)


def _classifier_rows(run: Run, model: Model, request: RowsRequest) -> ClassifierRows:
    """The rows of a model; warns if too few of them are there at a time."""
    assert isinstance(model, GivesRows)
    rows = model.classifier_rows(request)
    scarcity = rows.reservoir.scarcity if isinstance(rows, StreamedRows) else None
    if scarcity is not None:
        mib = math.ceil(scarcity.enough_bytes / 2**20)
        run.warn(
            f"--reservoir-mib: holds {scarcity.held} of the {scarcity.per_class} synthesized rows "
            f"of a class at a time, which makes the classifiers worse; {mib} is enough"
        )
    return rows


def scale(run: Run, problem: Problem) -> Scaled:
    """A problem with the scaling of its features that the recipe asks for."""
    recipe = run.recipe
    with run.clock.stage("scaling the features"):
        return scale_problem(
            problem,
            recipe.feature_scaling,
            run.device,
            recipe.features_in,
            recipe.devices,
            run.graphs,
        )


def result_file(run: Run, problem: Problem) -> Path:
    """The file that marks a problem's training as done."""
    return run.directory / _RESULT[problem.split]


def is_done(run: Run, problem: Problem) -> bool:
    """Whether the problem's training is done already; all processes get the same answer."""
    return run.group.share_result(result_file(run, problem).exists)


def _state_file(run: Run, problem: Problem) -> Path:
    return run.directory / f"{problem.split}.state.safetensors"


def train_model(
    run: Run,
    scaled: Scaled,
    choice: dict[str, Any] | None,
    measuring: Measuring,
) -> tuple[Model, TrainingRecord]:
    """Make a model with the settings that `choose` returned, and train it with `train_module`.

    A model without a training loop has an empty history and at most one point of the curve, at
    epoch 0.
    """
    recipe, problem = run.recipe, scaled.problem
    split = problem.split
    text = f"{run.label}: {training_stage(split)}"
    if not issubclass(run.model_class, Trainable):
        run.console.print(text)
    with run.clock.stage(training_stage(split)):
        with progress(run.console, text), _reading_choice(choice):
            model = make_model(recipe, run.model_class, scaled, run.device, choice)
        for note in model.describe().get("notes", ()):
            run.warn(note)
        if not (isinstance(model, Trainable) and isinstance(model, nn.Module)):
            return model, TrainingRecord(curve=_measure_once(run, model, split, measuring))
        return train_module(run, split, model, scaled.feed, recipe.training, measuring)


class _StoredChoice(dict[str, Any]):
    """The settings of a model as its ``choice.json`` has them; made as any dict is, for copies."""

    file: Path | None = None


@contextmanager
def _reading_choice(choice: Mapping[str, Any] | None) -> Iterator[None]:
    """A context in which a model is made with settings that may have been read from a file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        if isinstance(error, InputError) or not isinstance(choice, _StoredChoice):
            raise
        raise InputError(
            f"{choice.file}: not readable as the settings that this run chose ({one_line(error)}), "
            "expected the file that this run wrote; delete it to choose again"
        ) from error


def training_stage(training: str) -> str:
    """The name of a training's stage, for a name that `train_module` accepts."""
    return f"{_TRAINING.get(training, training)} training"


def classifiers_stage(split: str) -> str:
    """The name of the stage in which the classifiers for a split are trained."""
    return f"{_TRAINING[split]} synthesis and classifiers"


def train_module(
    run: Run,
    stage: str,
    model: nn.Module,
    feed: Feed,
    config: TrainingConfig,
    measuring: Measuring = _NOTHING_MEASURED,
) -> tuple[Any, TrainingRecord]:
    """Train a module, from its saved state if there is one, with progress and a log.

    Parameters
    ----------
    run
        The run.
    stage
        The name of the training in the log, for its random numbers, and for the file of its
        state, ``STAGE.state.safetensors``, which the caller deletes after saving the result.
    model
        A `Trainable` module.
    feed
        The training rows.
    config
        The settings of the training.
    measuring
        What is measured at intervals and at the end.

    Returns
    -------
    tuple
        The trained module, and the record of the training.
    """
    label, epochs = _TRAINING.get(stage, stage), config.total_epochs
    generator = run.generators(stage).on_device("training")
    steps = steps_per_epoch(len(feed.labels), config) * epochs
    trainer = Trainer(
        model,
        feed,
        config,
        generator,
        precision=run.precision,
        group=run.group,
        graphs=run.graphs,
    )
    if compiles(run.recipe, run.device, steps):
        _compile(run, trainer)
    record = TrainingRecord()
    state_file = run.directory / f"{stage}.state.safetensors"
    if run.group.share_result(state_file.exists):
        record = TrainingRecord(**trainer.load(state_file))
        run.console.print(f"{label}: continuing after epoch {trainer.epoch}")
    for earlier in record.curve:
        measuring.on_point(earlier)
    saved = time.monotonic()
    done = trainer.epoch * trainer.steps_per_epoch
    text, size = f"{run.label}: {label} training", trainer.steps_per_epoch
    with progress(run.console, text, steps, done, unit="epochs", size=size) as advance:
        for losses, seconds in train_epochs(trainer, record.history, advance):
            run.log.write("epoch", split=stage, seconds=seconds, **losses)
            run.clock.count_epoch(seconds)
            _print_epoch(run, label, losses, epochs, seconds)
            last = trainer.epoch == epochs
            due = measuring.every > 0 and trainer.epoch % measuring.every == 0
            if run.group.is_main and (last or due):
                point = measuring.measure(trainer.result, trainer.epoch)
                if point is not None:
                    record.curve.append(point)
                    _record_point(run, stage, point)
                    measuring.on_point(point)
            if run.group.is_main and (last or time.monotonic() - saved > _SAVE_EVERY_SECONDS):
                trainer.save(state_file, asdict(record))
                saved = time.monotonic()
    return trainer.result, record


def _measure_once(
    run: Run,
    model: Model,
    split: str,
    measuring: Measuring,
) -> list[dict[str, float]]:
    """The curve of a model that is fitted without a training loop: one point, or none."""
    point = measuring.measure(model, 0) if run.group.is_main else None
    if point is None:
        return []
    _record_point(run, split, point)
    measuring.on_point(point)
    return [point]


def _compile(run: Run, trainer: Trainer[Any]) -> None:
    run.console.print("compiling the loss")
    reason = trainer.compile_loss()
    if reason is not None:
        run.warn(f"--compile: not possible here ({reason}); the loss runs uncompiled")


def _print_epoch(
    run: Run, training: str, record: Mapping[str, float], epochs: int, seconds: float
) -> None:
    epoch = int(record["epoch"])
    interval = max(1, epochs // _LOG_LINES)
    if epoch in (1, epochs) or epoch % interval == 0:
        losses = "  ".join(f"{k} {v:8.4f}" for k, v in record.items() if k != "epoch")
        run.console.print(f"{training:<10}  epoch {epoch:>3}/{epochs}  {losses}  {seconds:6.1f} s")


def _record_point(run: Run, stage: str, point: Mapping[str, float]) -> None:
    """Log and print a point of the curve."""
    run.log.write("measures", split=stage, **point)
    shown = metrics_in("validation")
    values = "  ".join(f"{metric.label} {fixed(100 * point[metric.key])}" for metric in shown)
    run.console.print(f"  on validation classes, percent:  {values}")
