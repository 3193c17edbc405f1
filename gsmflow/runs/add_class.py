"""Adding unseen classes to a finished run: its model is kept, its classifiers are trained again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from rich.console import Console

from gsmflow.core.arrays import FloatArray
from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.environment import describe_environment
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.folders import whole_folder
from gsmflow.core.json_records import read_record
from gsmflow.core.precision import pick_precision
from gsmflow.core.progress import heartbeat
from gsmflow.core.run_files import (
    ADDED_FILE,
    CHOICE_FILE,
    DATA_FILE,
    DESCRIPTION_FILE,
    ENVIRONMENT_FILE,
    LOG_FILE,
)
from gsmflow.data.dataset import Dataset, Problem, training_problem
from gsmflow.data.extract.record import copy_record
from gsmflow.data.new_classes import NewClasses
from gsmflow.learning.contract import Extensible
from gsmflow.learning.feed import scale_problem
from gsmflow.runs.acceleration import graphs_of
from gsmflow.runs.checkpoint import TrainedRun, write_model
from gsmflow.runs.clock import StageClock
from gsmflow.runs.directory import RunLog, check_data, read_digest, write_start
from gsmflow.runs.experiment import conclude, run_facts
from gsmflow.runs.novelty import add_to_novelty
from gsmflow.runs.sections import SECTIONS
from gsmflow.runs.stages import Fitted, Run, classify, read_history

__all__ = ["add_classes", "added_classes", "check_same_dataset", "grow_dataset", "path_beside"]

_MAX_NAMES = 3


def add_classes(
    trained: TrainedRun,
    dataset: Dataset,
    classes: NewClasses,
    directory: Path,
    console: Console,
) -> None:
    """Add unseen classes to a finished run, as a new run in its own directory.

    Parameters
    ----------
    trained
        The finished run.
    dataset
        The dataset that it was trained on, with the classes that were added to the run before.
    classes
        Names and semantics of the new classes.
    directory
        The directory of the new run; must not exist.
    console
        Where progress and the table are printed.

    Raises
    ------
    InputError
        If a class or the directory exists already, or classes cannot be added to the model.
    """
    model = trained.kept.model
    if not isinstance(model, Extensible):
        raise InputError(
            f"{trained.directory}: found a model that takes no further classes, expected "
            "one with with_classes()"
        )
    _check_new(dataset, classes)
    dataset = grow_dataset(dataset, classes)
    problem = _problem(trained, dataset)
    recipe = replace(
        trained.recipe,
        run=directory.name,
        resume=False,
        beside=(),
        classifiers_beside=(),
        oracle=False,
        test_selected=False,
        shots=(),
        gate=None,
    )
    scaled = scale_problem(problem, recipe.feature_scaling, trained.device, recipe.features_in)
    fitted = Fitted(
        model.with_classes(problem).to(trained.device),
        scaled,
        read_history(trained.directory / "history.json"),
    )
    if directory.exists():
        raise InputError(
            f"{directory}: exists already, expected a new name; name another with --into"
        )
    with heartbeat(console), whole_folder(directory) as temporary:
        write_start(temporary, recipe, read_digest(trained.directory))
        precision = pick_precision(recipe.precision, trained.device)
        log = RunLog(temporary / LOG_FILE)
        run = Run(
            recipe,
            type(model),
            trained.device,
            precision,
            SINGLE_PROCESS,
            temporary,
            log,
            console,
            StageClock(log, trained.device),
            graphs_of(recipe, trained.device, console),
            final_directory=directory,
        )
        _write_files(run, trained, fitted, classes)
        sections = [section for section in SECTIONS if section.wanted(recipe)]
        facts = run_facts(
            run,
            dataset,
            trained.metrics["validation"],
            trained.metrics.get("choices"),
            _note(classes),
        )
        scorer, novelty = classify(run, fitted), add_to_novelty(run, trained, scaled)
        conclude(run, dataset, fitted, scorer, facts, sections, {}, novelty)


def _write_files(run: Run, trained: TrainedRun, fitted: Fitted, classes: NewClasses) -> None:
    """Write the files of the new run, except those of the classifiers and the evaluation."""
    write_json(run.directory / ENVIRONMENT_FILE, describe_environment(run.device, run.recipe.seed))
    copy_record(trained.directory, run.directory)
    write_json(run.directory / "history.json", fitted.history)
    if "choices" in trained.metrics:
        write_json(run.directory / CHOICE_FILE, trained.metrics["choices"])
    if trained.metrics["validation"] is not None:
        write_json(run.directory / "validation.json", trained.metrics["validation"])
    all_added = added_classes(trained.directory) | classes
    write_json(
        run.directory / ADDED_FILE,
        {
            "run": trained.directory.resolve(),
            "classes": {name: vector.tolist() for name, vector in all_added.items()},
        },
    )
    run.log.write("add-class", run=str(trained.directory), classes=[*classes])
    write_model(run.directory, fitted.model, fitted.scaled, run.recipe.feature_scaling)


def _note(classes: Mapping[str, Any]) -> str:
    """The addition as a note for the protocol line of the table."""
    names = ", ".join(classes) if len(classes) <= _MAX_NAMES else f"{len(classes)} classes"
    return f"; {names} added to a trained run"


def path_beside(run: Path, classes: Mapping[str, Any]) -> Path:
    """The path ``RUN-with-NAME``, with characters that are safe in file names."""
    names = "+".join(classes) if len(classes) <= _MAX_NAMES else f"{len(classes)}-classes"
    names = re.sub(r"[^\w.+-]+", "_", names)[:100]
    named_run = run if run.name else run.resolve()
    return named_run.parent / f"{named_run.name}-with-{names}"


# The largest number of float32.
_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Added:
    """What ``added.json`` has: the vector of each class that was added, by name."""

    classes: dict[str, list[Annotated[float, Meta(ge=-_MOST, le=_MOST)]]]


def added_classes(directory: Path) -> NewClasses:
    """The semantics of the classes that were added to a run, by name."""
    file = directory / ADDED_FILE
    if not file.exists():
        return {}
    added = read_record(file, _Added).classes
    return {name: np.array(values, dtype=np.float32) for name, values in added.items()}


def grow_dataset(dataset: Dataset, classes: NewClasses) -> Dataset:
    """The dataset with new classes, which have no rows."""
    length = dataset.semantics.shape[1]
    for name, vector in classes.items():
        if len(vector) != length:
            raise InputError(
                f"class {name}: found {len(vector)} semantics, expected {length}, as of the others"
            )
    vectors: list[FloatArray] = [dataset.semantics, *(v[None] for v in classes.values())]
    return replace(
        dataset,
        semantics=np.concatenate(vectors),
        class_names=(*dataset.class_names, *classes),
    )


def _problem(trained: TrainedRun, dataset: Dataset) -> Problem:
    """The problem of the run's final training, with the new classes as unseen classes."""
    known = trained.kept
    new_classes = np.arange(len(known.class_names), len(dataset.class_names))
    problem = training_problem(dataset, "test")
    return replace(problem, unseen_classes=np.concatenate([known.unseen_classes, new_classes]))


def check_same_dataset(trained: TrainedRun, dataset: Dataset) -> None:
    """Raise `InputError` unless the run was trained on this dataset, without its added classes."""
    directory = trained.directory
    has_digest = (directory / DATA_FILE).exists()
    # The fingerprint that earlier versions kept is that of the problem with the added classes.
    grown = dataset if has_digest else grow_dataset(dataset, added_classes(directory))
    if not check_data(directory, grown):
        raise InputError(
            f"{directory / DESCRIPTION_FILE}: found no field 'fingerprint', expected that of the "
            "run's dataset, which is checked before classes are added; train again"
        )


def _check_new(dataset: Dataset, classes: NewClasses) -> None:
    """Raise `InputError` if a name or a semantics vector exists already."""
    for name, vector in classes.items():
        if name in dataset.class_names:
            raise InputError(
                f"--name: found {name}, which the run knows already, expected another name"
            )
        equal = np.flatnonzero((dataset.semantics == vector).all(axis=1))
        if len(equal):
            raise InputError(
                f"--semantics: found the same vector for {name} and "
                f"{dataset.class_names[equal[0]]}, expected different vectors"
            )
