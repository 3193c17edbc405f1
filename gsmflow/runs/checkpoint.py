"""Checkpoints: writing trained models into run directories, and reading finished runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import refuse_folder, write_json, write_tensors
from gsmflow.core.json_records import as_record, read_record
from gsmflow.core.run_files import DESCRIPTION_FILE, METRICS_FILE
from gsmflow.data.dataset import fingerprint
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName
from gsmflow.evaluation.probabilities import Temperatures
from gsmflow.learning.contract import Model, Scorer
from gsmflow.learning.feed import Scaled
from gsmflow.learning.scorers import direct_scorer, feature_map
from gsmflow.learning.softmax import SoftmaxPair
from gsmflow.learning.state import (
    Shapes,
    check_numbers,
    check_shapes,
    shapes_of,
    split_scaling,
    tensors_with_scaling,
)
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.run_list import no_finished_run
from gsmflow.runs.directory import read_run_recipe

__all__ = [
    "CLASSIFIER_FILE",
    "TENSOR_FILE",
    "SavedModel",
    "TrainedRun",
    "open_trained",
    "read_model",
    "reading",
    "write_model",
]

CLASSIFIER_FILE = "classifier.safetensors"
TENSOR_FILE = "model.safetensors"


@contextmanager
def reading(file: Path, what: str, *, deletable: bool = False) -> Iterator[None]:
    """A context that turns every error into an `InputError` about a damaged file of a run.

    A damaged file may raise any of a dozen unrelated types.

    Parameters
    ----------
    file
        The file.
    what
        What the file should contain, in a few words.
    deletable
        Whether a resumed run trains the content again if the file is missing.
    """
    try:
        refuse_folder(file)
        yield
    except Exception as error:
        raise InputError(
            f"{file}: not readable as this run's {what} ({one_line(error)}), expected the file "
            f"that this run wrote{'; delete it to train again' if deletable else ''}"
        ) from error


def write_model(
    directory: Path, model: Model, scaled: Scaled, feature_scaling: FeatureScalingName
) -> None:
    """Write ``model.json``, then ``model.safetensors``, which marks the model as complete.

    Parameters
    ----------
    directory
        The run directory.
    model
        The model.
    scaled
        The problem with its classes, and the scaling of the features.
    feature_scaling
        The name of that scaling.
    """
    problem, tensors = scaled.problem, tensors_with_scaling(model, scaled.scaling)
    write_json(
        directory / DESCRIPTION_FILE,
        model.describe()
        | {
            "class_names": list(problem.class_names),
            "seen_classes": problem.seen_classes.tolist(),
            "unseen_classes": problem.unseen_classes.tolist(),
            "feature_scaling": feature_scaling,
            "fingerprint": fingerprint(problem),
            "shapes": shapes_of(tensors),
        },
    )
    write_tensors(directory / TENSOR_FILE, tensors, {"format": "pt"})


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A model as read from a run directory.

    Attributes
    ----------
    model
        The model, on the CPU.
    scaling
        The scaling of the features that the model takes.
    class_names
        One name per class of the dataset.
    seen_classes, unseen_classes
        Disjoint class numbers, in the order of the score columns.
    """

    model: Model
    scaling: FeatureScaling
    class_names: tuple[str, ...]
    seen_classes: IntArray
    unseen_classes: IntArray


def read_model(directory: Path, model_class: type[Model]) -> SavedModel:
    """Read what `write_model` wrote.

    Raises
    ------
    InputError
        If a file is missing or damaged, or of another model.
    """
    file = directory / TENSOR_FILE
    description = read_record(directory / DESCRIPTION_FILE, dict[str, Any])
    about = as_record(str(directory / DESCRIPTION_FILE), description, _Description)
    with reading(file, "model", deletable=True):
        tensors = load_file(file)
        check_numbers(tensors)
        check_shapes(tensors, about.shapes)
        state, scaling = split_scaling(tensors, about.feature_scaling)
        seen, unseen = (
            np.array(numbers, dtype=np.int64)
            for numbers in (about.seen_classes, about.unseen_classes)
        )
        names = about.class_names
        classes = np.concatenate([seen, unseen])
        unique = len(np.unique(classes)) == len(classes)
        if not unique or classes.min() < 0 or classes.max() >= len(names):
            raise ValueError(f"classes are not among {len(names)} names")
        model = model_class.from_state(description, state)
        return SavedModel(model, scaling, names, seen, unseen)


@dataclass(frozen=True)
class _Description:
    """What ``model.json`` has of a run; the rest is the model's."""

    feature_scaling: FeatureScalingName
    seen_classes: list[int]
    unseen_classes: list[int]
    class_names: tuple[str, ...]
    shapes: Shapes | None = None


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run, ready to score rows.

    Attributes
    ----------
    directory
        The run directory.
    recipe
        The recipe of the run.
    metrics
        The content of ``metrics.json``.
    kept
        The saved model, on the device, with its scaling and its classes.
    scorer
        The scorer that the run was evaluated with.
    device
        The device of the model.
    """

    directory: Path
    recipe: Recipe
    metrics: dict[str, Any]
    kept: SavedModel
    scorer: Scorer
    device: torch.device

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return len(self.kept.scaling.shift)

    @property
    def classes(self) -> IntArray:
        """Seen then unseen classes, the columns of GZSL scores, ``(seen + unseen,)``."""
        return np.concatenate([self.kept.seen_classes, self.kept.unseen_classes])

    @property
    def gamma(self) -> float | None:
        """The calibration factor gamma that was chosen on validation classes; None without one."""
        calibrated = self.metrics["calibrated"]
        return None if calibrated is None else float(calibrated["gamma"])

    @property
    def temperatures(self) -> Temperatures | None:
        """The temperatures that were fitted on validation classes; None of a run without them."""
        stored = (self.metrics["validation"] or {}).get("temperatures")
        where = f"{self.directory / METRICS_FILE}, field 'validation.temperatures'"
        return None if stored is None else as_record(where, stored, Temperatures)


def open_trained(
    directory: Path, device: torch.device, model_class: type[Model] | None = None
) -> TrainedRun:
    """Read a finished run.

    Parameters
    ----------
    directory
        The run directory.
    device
        Where to put the model.
    model_class
        The class of the model, for a run of a user's class; None for the package's methods.

    Raises
    ------
    InputError
        If there is no finished run of this model, or one of its files is missing or damaged.
    """
    metrics = _read_metrics(directory)
    recipe = read_run_recipe(directory)
    method = recipe.method_info
    label = method.label if model_class is None else model_class.__name__
    if metrics["model"] != label:
        raise InputError(
            f"{directory / METRICS_FILE}, field 'model': found {metrics['model']}, expected "
            f"{label}; a run of your own model class is opened in Python, with that class"
        )
    kept = read_model(directory, model_class or method.model)
    kept.model.to(device)
    scorer = _scorer(directory, kept, device, bayes=recipe.classifier_name == "bayes")
    run = TrainedRun(directory, recipe, metrics, kept, scorer, device)
    _check_scores(run)
    return run


def _read_metrics(directory: Path) -> dict[str, Any]:
    file = directory / METRICS_FILE
    if not file.exists():
        raise no_finished_run(directory, f"{file}: no such file")
    metrics = open_metrics(file).object()
    if "seeds" in metrics:
        found = "class splits" if "class_splits" in metrics else "seeds"
        raise InputError(
            f"{file}: found the mean of several {found}, expected the run of one seed, which is "
            f"in a subfolder of {directory}"
        )
    calibrated = metrics.setdefault("calibrated", None)
    if calibrated is not None and type(calibrated.get("gamma")) not in (int, float):
        raise InputError(
            f"{file}, field 'calibrated.gamma': found {calibrated.get('gamma')!r}, expected a "
            "number, or null for 'calibrated'"
        )
    return {"validation": None, **metrics}


def _scorer(directory: Path, kept: SavedModel, device: torch.device, *, bayes: bool) -> Scorer:
    classes = kept.seen_classes, kept.unseen_classes
    model_scorer = direct_scorer(kept.model, kept.scaling, classes, device, bayes=bayes)
    if model_scorer is not None:
        return model_scorer
    file = directory / CLASSIFIER_FILE
    with reading(file, "classifiers"):
        tensors = {name: t.to(device) for name, t in load_file(file).items()}
        check_numbers(tensors)
        space = feature_map(kept.scaling, kept.model, device)
        return SoftmaxPair.from_tensors(space, tensors)


def _check_scores(run: TrainedRun) -> None:
    """Raise `InputError` unless the files of a run fit each other; scores one row to see it."""
    row = np.zeros((1, run.feature_dim), dtype=np.float32)
    try:
        found = run.scorer.gzsl_scores(row).shape, run.scorer.zsl_scores(row).shape
    except Exception as error:
        raise InputError(
            f"{run.directory}: found files that do not fit each other ({one_line(error)}), "
            "expected those that one run wrote"
        ) from error
    expected = (1, len(run.classes)), (1, len(run.kept.unseen_classes))
    if found != expected:
        raise InputError(
            f"{run.directory}: found scores of {found[0][1]} classes, {found[1][1]} of them "
            f"unseen, expected {expected[0][1]} and {expected[1][1]}, as model.json has them"
        )
