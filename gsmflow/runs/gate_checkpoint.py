"""Gate checkpoints: writing a run's gate into its directory, and reading it.

``gate.json`` has the threshold, and the description of the gate's model or the numbers of `cosmo`.
``gate.safetensors`` has the gate's model with its feature scaling. ``gate-classifier.safetensors``
has the classifier of the seen classes, unless the run's scorer gives their scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json, write_json, write_tensors
from gsmflow.core.json_records import as_record
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName
from gsmflow.learning.contract import Classifying, Density, Model, Scorer
from gsmflow.learning.scorers import Bayes, feature_map, seen_log_density
from gsmflow.learning.softmax import FeatureMap, SoftmaxClassifier
from gsmflow.learning.state import (
    Shapes,
    check_shapes,
    shapes_of,
    split_scaling,
    tensors_with_scaling,
)
from gsmflow.methods.gates.base import Gate, Gated, Scores
from gsmflow.methods.gates.boundary import HypersphericalVAEs
from gsmflow.methods.gates.cosmo import NUMBERS, Smoothing
from gsmflow.methods.gates.gaussian import SemanticGaussians
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.checkpoint import TrainedRun, reading

__all__ = [
    "GATE_FILE",
    "GateModel",
    "GateParts",
    "ModelNumber",
    "gate_scaling",
    "make_gated",
    "read_gate",
    "seen_scores",
    "shares_scores",
    "write_gate",
]

GATE_FILE = "gate.safetensors"
_DESCRIPTION_FILE = "gate.json"
_CLASSIFIER_FILE = "gate-classifier.safetensors"
_CLASSIFIER = "seen"

GateModel: TypeAlias = HypersphericalVAEs | SemanticGaussians | Model

# The gates with a model of a class of their own; these models take features of length 1.
_MODELS: Mapping[str, type[HypersphericalVAEs] | type[SemanticGaussians]] = {
    "boundary": HypersphericalVAEs,
    "gaussian": SemanticGaussians,
}

# What ``gate.json`` holds of a smoothing.
_Smoothing: Any = msgspec.defstruct("_Smoothing", [(name, float) for name in NUMBERS])


@dataclass(frozen=True)
class _Name:
    """The part of ``gate.json`` that is the same for all gates."""

    name: str


@dataclass(frozen=True)
class _SmoothedGate:
    """``gate.json`` of the gate `cosmo`."""

    threshold: float
    smoothing: _Smoothing


@dataclass(frozen=True)
class _ModelledGate:
    """``gate.json`` of a gate with a model, whose tensors are in another file."""

    threshold: float
    model: dict[str, Any]
    shapes: Shapes | None = None


@dataclass(frozen=True, eq=False)
class ModelNumber:
    """The number of a gate that has its own model and needs only the features of a row.

    Attributes
    ----------
    model
        `HypersphericalVAEs`, `SemanticGaussians`, or a model with a density.
    scaling
        The scaling of the features that the model takes.
    seen_classes
        Ascending class numbers, ``(s,)``.
    device
        The device of the model.
    """

    model: GateModel
    scaling: FeatureScaling
    seen_classes: IntArray
    device: torch.device

    def __call__(self, features: FloatArray) -> NDArray[Any]:
        """The numbers ``(n,)`` of features ``(n, d)``; a high one suggests an unseen class.

        A number is minus the cosine to the nearest seen class, minus the log-density of the
        likeliest seen class in the space of semantics, or minus that of all seen classes.
        """
        rows = torch.from_numpy(self.scaling(features)).to(self.device)
        if isinstance(self.model, HypersphericalVAEs):
            return np.asarray(-self.model.nearest_cosine(rows).cpu().numpy())
        if isinstance(self.model, SemanticGaussians):
            return np.asarray(self.model.novelty(rows).cpu().numpy())
        assert isinstance(self.model, Density)
        return -seen_log_density(self.model, rows, self.seen_classes)


@dataclass(frozen=True, eq=False)
class GateParts:
    """All that a gate consists of.

    Attributes
    ----------
    name
        The gate's name.
    learned
        Gives its numbers; that of `cosmo` also gives the combined scores.
    threshold
        Rows with at most this number are accepted as rows of seen classes.
    classifier
        The classifier of the seen classes alone; None if the run's scorer gives their scores.
    """

    name: str
    learned: ModelNumber | Smoothing
    threshold: float
    classifier: SoftmaxClassifier | None

    def gate(self) -> Gate:
        """The gate without its experts."""
        learned = self.learned
        if isinstance(learned, Smoothing):
            return Gate(
                number=lambda views: learned.log_odds(views.seen, views.unseen),
                threshold=self.threshold,
                combine=lambda views, numbers, threshold: learned.scores(views.seen, views.unseen),
                temperature=1.0,
            )
        return Gate(lambda views: learned(views.features), self.threshold)


def gate_scaling(recipe: Recipe) -> FeatureScalingName:
    """The feature scaling for the model of a recipe's gate."""
    return "l2" if recipe.gate_name in _MODELS else recipe.feature_scaling


def shares_scores(model: Model, scorer: Scorer) -> bool:
    """Whether the gate uses the run's scores of seen classes, which do not depend on unseen ones.

    Parameters
    ----------
    model, scorer
        The run's model, and its scorer.
    """
    return isinstance(model, Classifying) or isinstance(scorer, Bayes)


def seen_scores(
    classifier: SoftmaxClassifier | None, space: FeatureMap, scorer: Scorer, seen: int
) -> Scores:
    """The function that scores the seen classes for a gate.

    Parameters
    ----------
    classifier
        The classifier of the seen classes alone; None: the scorer's columns of them.
    space
        Maps unscaled features of the dataset to the inputs of the classifier.
    scorer
        The run's scorer.
    seen
        The number of seen classes.
    """
    if classifier is None:
        return lambda features: scorer.gzsl_scores(features)[:, :seen]
    return lambda features: classifier.scores(space(features))


def make_gated(gate_parts: GateParts, space: FeatureMap, scorer: Scorer, seen: int) -> Gated:
    """A gate between its two experts.

    Parameters
    ----------
    gate_parts
        The parts of the gate.
    space, scorer, seen
        As in `seen_scores`; the scorer also scores the unseen classes.
    """
    experts = seen_scores(gate_parts.classifier, space, scorer, seen), scorer.zsl_scores
    return Gated(gate_parts.name, gate_parts.gate(), *experts)


def write_gate(directory: Path, gate_parts: GateParts) -> None:
    """Write the files of a gate; ``gate.json`` comes last and marks them as complete.

    Parameters
    ----------
    directory
        The run directory.
    gate_parts
        The parts of the gate.
    """
    (directory / _DESCRIPTION_FILE).unlink(missing_ok=True)
    record: dict[str, Any] = {"name": gate_parts.name, "threshold": gate_parts.threshold}
    learned, classifier = gate_parts.learned, gate_parts.classifier
    if isinstance(learned, Smoothing):
        record["smoothing"] = learned.numbers()
    else:
        tensors = tensors_with_scaling(learned.model, learned.scaling)
        record |= {"model": learned.model.describe(), "shapes": shapes_of(tensors)}
        write_tensors(directory / GATE_FILE, tensors, {"format": "pt"})
    if classifier is not None:
        tensors = classifier.tensors(_CLASSIFIER)
        write_tensors(directory / _CLASSIFIER_FILE, tensors, {"format": "pt"})
    write_json(directory / _DESCRIPTION_FILE, record)


def read_gate(run: TrainedRun) -> Gated:
    """Read the gate that a run was evaluated with, as `write_gate` wrote it.

    Parameters
    ----------
    run
        A finished run with a gate.

    Raises
    ------
    InputError
        If a file is missing or damaged, or of another gate.
    """
    file, gate = run.directory / _DESCRIPTION_FILE, run.recipe.gate_name
    if not file.exists():
        raise InputError(
            f"{file}: no such file, expected the saved gate of the run ({gate}), which a resumed "
            "training writes"
        )
    record = read_json(file)
    name = as_record(str(file), record, _Name).name
    if name != gate:
        raise InputError(
            f"{file}, field 'name': found {name!r}, expected {gate}, as {RECIPE_FILE} has it"
        )
    space = feature_map(run.kept.scaling, run.kept.model, run.device)
    learned: Smoothing | ModelNumber
    if gate == "cosmo":
        smoothed = as_record(str(file), record, _SmoothedGate)
        threshold, numbers = smoothed.threshold, msgspec.structs.asdict(smoothed.smoothing)
        learned = Smoothing.from_numbers(numbers)
    else:
        modelled = as_record(str(file), record, _ModelledGate)
        threshold, learned = modelled.threshold, _read_number(run, modelled)
    gate_parts = GateParts(
        name=gate,
        learned=learned,
        threshold=threshold,
        classifier=_read_classifier(run, space),
    )
    return make_gated(gate_parts, space, run.scorer, len(run.kept.seen_classes))


def _read_number(run: TrainedRun, stored: _ModelledGate) -> ModelNumber:
    file = run.directory / GATE_FILE
    model_class = _MODELS.get(run.recipe.gate_name, type(run.kept.model))
    with reading(file, "gate", deletable=True):
        tensors = load_file(file)
        check_shapes(tensors, stored.shapes)
        state, scaling = split_scaling(tensors, gate_scaling(run.recipe))
        model: GateModel = model_class.from_state(stored.model, state).to(run.device)
        number = ModelNumber(model, scaling, run.kept.seen_classes, run.device)
        number(_zero_row(run))  # raises an error if the files do not fit each other or the run
    return number


def _read_classifier(run: TrainedRun, space: FeatureMap) -> SoftmaxClassifier | None:
    if shares_scores(run.kept.model, run.scorer):
        return None
    file, seen = run.directory / _CLASSIFIER_FILE, run.kept.seen_classes
    with reading(file, "classifier of the seen classes"):
        tensors = {name: t.to(run.device) for name, t in load_file(file).items()}
        classifier = SoftmaxClassifier.from_tensors(_CLASSIFIER, tensors)
        if not np.array_equal(classifier.classes, seen):
            raise ValueError(f"classes other than the {len(seen)} seen ones")
        found = classifier.scores(space(_zero_row(run))).shape[1]
        if found != len(seen):
            raise ValueError(f"scores of {found} classes, {len(seen)} are seen")
    return classifier


def _zero_row(run: TrainedRun) -> FloatArray:
    """Features ``(1, d)`` of zeros, to check that the files fit each other."""
    return np.zeros((1, run.feature_dim), dtype=np.float32)
