"""The stages of a run that learn.

Training the model on a problem, choosing the penalty on validation classes, and training the
softmax classifiers. All of them log, show progress and resume.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from torch import Tensor, nn

from gsmflow.core.distributed import Group
from gsmflow.core.files import read_json, write_json, write_tensors
from gsmflow.core.precision import Precision
from gsmflow.core.rng import Generators
from gsmflow.data.dataset import HeldOut, Problem, Rows
from gsmflow.data.splits import repeat_each_class
from gsmflow.evaluation.measures import metrics_in, validation_point
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import (
    Choosing,
    Compilable,
    GivesRows,
    Model,
    Scorer,
    StreamedRows,
    Trainable,
)
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, SelectedFeed, scale_problem
from gsmflow.learning.scorers import direct_scorer, feature_map
from gsmflow.learning.softmax import (
    OnEpoch,
    SoftmaxClassifier,
    SoftmaxPair,
    pair_from_rows,
)
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.recipes.fit import (
    check_finite,
    classifier_generators,
    make_model,
    rows_request,
    train_epochs,
)
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.checkpoint import CLASSIFIER_FILE, TENSOR_FILE, read_model, reading, write_model
from gsmflow.runs.directory import RunLog

__all__ = [
    "AtEnd",
    "AtInterval",
    "Finding",
    "Fitted",
    "Run",
    "Validated",
    "choose",
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
_FOUND_FILE = "validation.safetensors"
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
        """The model's name in tables: a variant of the user goes by the name of its class."""
        method = self.recipe.method_info
        return method.label if self.model_class is method.model else self.model_class.__name__

    def generators(self, stage: str) -> Generators:
        """The random generators of a stage."""
        return Generators(self.recipe.seed, stage, self.device)


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
# What a part of a run finds with the validation model at the end of its training: given its data,
# the model, and what scores.
AtEnd: TypeAlias = Callable[[Scaled, Model, Scorer], "Finding"]


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found with the validation model, to be kept with the validation's result.

    Attributes
    ----------
    facts
        JSON-ready.
    tensors
        By name.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Validated:
    """What the training on validation classes came to.

    Attributes
    ----------
    penalty
        The penalty on seen classes of best H at the last epoch.
    curve
        Measures at the epochs asked for, the last one included.
    found
        What the parts of the run found, by their names.
    """

    penalty: float
    curve: list[dict[str, float]]
    found: dict[str, Finding]

    def describe(self) -> dict[str, Any]:
        """The penalty and the curve, as ``metrics.json`` has them."""
        return {"gamma": self.penalty, "curve": self.curve}


def choose(run: Run, problem: Problem, held_out: HeldOut) -> dict[str, Any] | None:
    """Let the model choose settings on the validation classes; None where it chooses none.

    Also written to ``choice.json``, from where a resumed run takes it.
    """
    if not issubclass(run.model_class, Choosing):
        return None
    file = run.directory / "choice.json"
    if file.exists():
        stored: dict[str, Any] = read_json(file)
        return stored
    count = len(problem.unseen_classes)
    run.console.print(f"{run.label}: choosing settings on {count} validation classes")
    generators = run.generators(problem.split)
    choice = run.model_class.choose(_scale(run, problem), held_out, run.recipe.method, generators)
    write_json(file, choice)
    return choice


def fit_final(
    run: Run,
    problem: Problem,
    choice: dict[str, Any] | None = None,
    at_interval: AtInterval | None = None,
) -> Fitted:
    """Train the model on a problem and save it; load it where that is done already.

    Writes ``model.safetensors``, ``model.json`` and ``history.json`` into the run directory.

    Parameters
    ----------
    run
        What is run.
    problem
        What to learn from.
    choice
        What `choose` gave.
    at_interval
        Called every ``curve_every`` epochs, or twenty times where that is 0, and at the end.
    """
    history_file = run.directory / "history.json"
    scaled = _scale(run, problem)
    if _is_done(run, problem):
        model = read_model(run.directory, run.model_class).model.to(run.device)
        return Fitted(model, scaled, read_json(history_file))
    every = run.recipe.curve_every or math.ceil(run.recipe.training.total_epochs / _INTERVALS)

    def look(model: Model, epoch: int) -> None:
        if at_interval is not None:
            at_interval(run, scaled, model, epoch)

    model, progress = _train(run, scaled, choice, look, every)
    write_json(history_file, progress["history"])
    write_model(run.directory, model, scaled, run.recipe.feature_scaling)
    _state_file(run, problem).unlink(missing_ok=True)
    return Fitted(model, scaled, progress["history"])


def validate(
    run: Run,
    problem: Problem,
    held_out: HeldOut,
    choice: dict[str, Any] | None = None,
    on_point: Callable[[Mapping[str, float]], object] = lambda point: None,
    at_end: Mapping[str, AtEnd] | None = None,
) -> Validated:
    """Train the model with the validation classes playing unseen, and choose the penalty.

    Parameters
    ----------
    run, problem, held_out
        The run, and the validation problem with its rows to be evaluated on.
    choice
        What `choose` gave.
    on_point
        Called with each point of the curve, those included that a resumed run finds measured; an
        exception that it raises ends the training.
    at_end
        Called after the last epoch, by the name of the part of the run that asks.

    Returns
    -------
    Validated
        Also written to ``validation.json``, and what was found to ``validation.safetensors``, from
        where a resumed run takes it.
    """
    file, found_file = _result_file(run, problem), run.directory / _FOUND_FILE
    if _is_done(run, problem):
        stored = read_json(file)
        for point in stored["curve"]:
            on_point(point)
        return Validated(stored["gamma"], stored["curve"], _read_found(found_file))
    scaled, wanted = _scale(run, problem), at_end or {}

    def measure(model: Model, epoch: int) -> dict[str, float]:
        scorer = _model_scorer(run, scaled, model) or fit_classifiers(
            run, scaled, model, bars=False
        )
        outcome = evaluate(scorer, problem, held_out)
        check_finite({"largest class score": float(np.abs(outcome.scores).max())}, epoch)
        if epoch in (0, run.recipe.training.total_epochs):
            found = {name: find(scaled, model, scorer) for name, find in wanted.items()}
            if found:  # before the training's state says that this epoch was measured
                _write_found(found_file, found)
        return {"epoch": epoch, **validation_point(outcome)}

    _, progress = _train(run, scaled, choice, measure, run.recipe.curve_every, on_point)
    curve = progress["curve"]
    validated = Validated(curve[-1]["gamma"], curve, _read_found(found_file))
    write_json(file, validated.describe())
    _state_file(run, problem).unlink(missing_ok=True)
    return validated


def _write_found(file: Path, found: Mapping[str, Finding]) -> None:
    tensors = {f"{name}.{k}": t for name, one in found.items() for k, t in one.tensors.items()}
    facts = {name: one.facts for name, one in found.items()}
    write_tensors(file, tensors, {"facts": json.dumps(facts)})


def _read_found(file: Path) -> dict[str, Finding]:
    """What `_write_found` wrote; nothing where there is no such file."""
    if not file.exists():
        return {}
    with reading(file, "findings on validation classes"), safe_open(file, framework="pt") as kept:
        facts = json.loads(kept.metadata()["facts"])
        found = {name: Finding(one) for name, one in facts.items()}
        for name in kept.keys():  # noqa: SIM118
            part, _, inner = name.partition(".")
            found[part].tensors[inner] = kept.get_tensor(name)
    return found


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
    own = _model_scorer(run, fitted.scaled, fitted.model)
    if own is not None:
        return own
    classes = len(fitted.scaled.problem.unseen_classes)
    count = run.recipe.samples_per_class
    samples = "" if count is None else f"{count} samples of each of "
    run.console.print(f"synthesizing {samples}{classes} unseen classes, training the classifier")
    pair = fit_classifiers(run, fitted.scaled, fitted.model)
    write_tensors(run.directory / CLASSIFIER_FILE, pair.tensors(), {"format": "pt"})
    return pair


def _model_scorer(run: Run, scaled: Scaled, model: Model) -> Scorer | None:
    """What scores without a classifier that learns from the model's rows, if anything does."""
    problem, bayes = scaled.problem, run.recipe.classifier_name == "bayes"
    classes = problem.seen_classes, problem.unseen_classes
    return direct_scorer(model, scaled.scaling, classes, run.device, bayes=bayes)


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
    config = run.recipe.softmax
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
    assert isinstance(model, GivesRows)
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
    config, problem = run.recipe.softmax, scaled.problem
    generators = classifier_generators(run.recipe, scaled)
    space = feature_map(scaled.scaling, model, run.device)
    samples = (run.recipe.samples_per_class or 0) * len(problem.unseen_classes)
    with progress_bar(run.console, "synthesizing", samples, shown=bars) as advance:
        request = rows_request(run.recipe, scaled, run.precision, advance)
        assert isinstance(model, GivesRows)
        rows = model.classifier_rows(request)
        if isinstance(rows, StreamedRows):  # one bar for both
            return pair_from_rows(rows, problem, space, config, generators, on_epoch)
    text = "training the classifier"
    with progress_bar(run.console, text, 2 * config.epochs, shown=bars) as advance:

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
    choice: dict[str, Any] | None = None,
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
    model = make_model(recipe, run.model_class, scaled, run.device, choice)
    if not (isinstance(model, Trainable) and isinstance(model, nn.Module)):
        return model, {"history": [], "curve": _measure_once(run, model, split, measure, on_point)}
    return train_module(run, split, model, scaled.feed, recipe.training, measure, every, on_point)


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
    generator = run.generators(stage).on_device("training")
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
