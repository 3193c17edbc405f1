"""The command ``add-class``: further unseen classes join a run whose model stays as trained."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gsmflow.core.arrays import FloatArray
from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.environment import describe_environment
from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json, write_json
from gsmflow.core.precision import pick_precision
from gsmflow.core.run_files import ADDED_FILE
from gsmflow.data.dataset import Dataset, Problem, fingerprint, training_problem
from gsmflow.data.extract.record import copy_record
from gsmflow.data.new_classes import NewClasses
from gsmflow.learning.contract import Extensible
from gsmflow.learning.feed import scale_problem
from gsmflow.runs.checkpoint import TrainedRun, write_model
from gsmflow.runs.directory import RunLog, make_run_directory
from gsmflow.runs.experiment import conclude, run_facts
from gsmflow.runs.sections import SECTIONS
from gsmflow.runs.stages import Fitted, Run, classify

__all__ = ["add_classes", "added_classes", "check_same_dataset", "grow_dataset", "path_beside"]

_NAMED = 3


def add_classes(
    trained: TrainedRun,
    dataset: Dataset,
    classes: NewClasses,
    directory: Path,
    console: Console,
) -> None:
    """Let classes join a run.

    Parameters
    ----------
    trained
        The run.
    dataset
        What it was trained on, with the classes that were added to it before.
    classes
        Names and semantics of the new ones.
    directory
        Of the new run; must not exist.
    console
        Where progress and the table are printed.

    Raises
    ------
    InputError
        If a class is there already, or the directory is, or the model takes no further classes.
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
        oracle=False,
        test_selected=False,
        shots=(),
        gate=None,
    )
    scaled = scale_problem(problem, recipe.feature_scaling, trained.device, recipe.features_in)
    fitted = Fitted(
        model.with_classes(problem).to(trained.device),
        scaled,
        read_json(trained.directory / "history.json"),
    )
    if not make_run_directory(directory, recipe):
        raise InputError(
            f"{directory}: exists already, expected a new name; name another with --into"
        )
    try:
        precision = pick_precision(recipe.precision, trained.device)
        log = RunLog(directory / "log.jsonl")
        run = Run(
            recipe, type(model), trained.device, precision, SINGLE_PROCESS, directory, log, console
        )
        _write(run, trained, fitted, classes)
        sections = [section for section in SECTIONS if section.wanted(recipe)]
        facts = run_facts(run, dataset, trained.metrics["validation"], _note(classes))
        conclude(run, dataset, fitted, classify(run, fitted), facts, sections, {})
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _write(run: Run, trained: TrainedRun, fitted: Fitted, classes: NewClasses) -> None:
    """All but what the classifiers and the figures are."""
    write_json(
        run.directory / "environment.json", describe_environment(run.device, run.recipe.seed)
    )
    copy_record(trained.directory, run.directory)
    write_json(run.directory / "history.json", fitted.history)
    if trained.metrics["validation"] is not None:
        write_json(run.directory / "validation.json", trained.metrics["validation"])
    every = added_classes(trained.directory) | classes
    write_json(
        run.directory / ADDED_FILE,
        {
            "run": trained.directory.resolve(),
            "classes": {name: vector.tolist() for name, vector in every.items()},
        },
    )
    run.log.write("add-class", run=str(trained.directory), classes=[*classes])
    write_model(run.directory, fitted.model, fitted.scaled, run.recipe.feature_scaling)


def _note(classes: Mapping[str, Any]) -> str:
    said = ", ".join(classes) if len(classes) <= _NAMED else f"{len(classes)} classes"
    return f"; {said} added to a trained run"


def path_beside(run: Path, classes: Mapping[str, Any]) -> Path:
    """``RUN-with-NAME``, in letters that file names can have."""
    said = "+".join(classes) if len(classes) <= _NAMED else f"{len(classes)}-classes"
    said = re.sub(r"[^\w.+-]+", "_", said)[:100]
    place = run if run.name else run.resolve()
    return place.parent / f"{place.name}-with-{said}"


def added_classes(directory: Path) -> NewClasses:
    """The classes that were added to a run before, by name."""
    file = directory / ADDED_FILE
    if not file.exists():
        return {}
    content = read_json(file)
    try:
        return {name: np.array(v, dtype=np.float32) for name, v in content["classes"].items()}
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(
            f"{file}: found something else, expected the classes that were added to the run"
        ) from error


def grow_dataset(dataset: Dataset, classes: NewClasses) -> Dataset:
    """A dataset with further classes, which have no rows."""
    vectors: list[FloatArray] = [dataset.semantics, *(v[None] for v in classes.values())]
    return replace(
        dataset,
        semantics=np.concatenate(vectors),
        class_names=(*dataset.class_names, *classes),
    )


def _problem(trained: TrainedRun, dataset: Dataset) -> Problem:
    """The problem of a run's final training, with all classes that it does not know yet."""
    known = trained.kept
    further = np.arange(len(known.class_names), len(dataset.class_names))
    problem = training_problem(dataset, "test")
    return replace(problem, unseen_classes=np.concatenate([known.unseen_classes, further]))


def check_same_dataset(trained: TrainedRun, dataset: Dataset) -> None:
    """Raise `InputError` unless a dataset is what the run was trained on."""
    kept = trained.kept
    if not kept.fingerprint:
        raise InputError(
            f"{trained.directory / 'model.json'}: found no field 'fingerprint', which tells the "
            "dataset, expected it for classes to be added; train again"
        )
    if (
        kept.class_names != dataset.class_names
        or fingerprint(training_problem(dataset, "test")) != kept.fingerprint
    ):
        raise InputError(
            f"{dataset.where('features')}: found other classes or rows than {trained.directory} "
            "was trained on, expected the same dataset"
        )


def _check_new(dataset: Dataset, classes: NewClasses) -> None:
    for name, vector in classes.items():
        if name in dataset.class_names:
            raise InputError(
                f"--name: found {name}, which the run knows already, expected another name"
            )
        twins = np.flatnonzero((dataset.semantics == vector).all(axis=1))
        if len(twins):
            raise InputError(
                f"--semantics: found the same vector for {name} and "
                f"{dataset.class_names[twins[0]]}, expected semantics that tell them apart"
            )
