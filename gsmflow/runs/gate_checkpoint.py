"""A run's gate in its directory: what it is made of, how that is kept, and reading it back.

``gate.json`` has the threshold and what is said of the gate's model, or the numbers of `cosmo`;
``gate.safetensors`` that model with its feature scaling; ``gate-classifier.safetensors`` the
classifier of the seen classes, unless those scores are columns of the run's own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json, write_json, write_tensors
from gsmflow.core.json_fields import Field
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName
from gsmflow.learning.contract import Classifying, Density, Model, Scorer
from gsmflow.learning.scorers import Bayes, feature_map, seen_log_density
from gsmflow.learning.softmax import FeatureMap, SoftmaxClassifier
from gsmflow.learning.state import split_scaling, tensors_with_scaling
from gsmflow.methods.gates.base import Gate, Gated, Scores
from gsmflow.methods.gates.boundary import HypersphericalVAEs
from gsmflow.methods.gates.cosmo import NUMBERS, Smoothing
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

GateModel: TypeAlias = HypersphericalVAEs | Model


@dataclass(frozen=True, eq=False)
class ModelNumber:
    """The number of a gate that sees features alone, by a model of its own.

    Attributes
    ----------
    model
        `HypersphericalVAEs`, or a model with a density.
    scaling
        What it was trained behind.
    seen_classes
        Ascending class numbers, ``(s,)``.
    device
        Where the model is.
    """

    model: GateModel
    scaling: FeatureScaling
    seen_classes: IntArray
    device: torch.device

    def __call__(self, features: FloatArray) -> NDArray[Any]:
        """Higher, ``(n,)``, for features ``(n, d)`` that are more likely of an unseen class.

        Minus the cosine to the nearest seen class, or minus the log-density of the seen classes.
        """
        rows = torch.from_numpy(self.scaling(features)).to(self.device)
        if isinstance(self.model, HypersphericalVAEs):
            return np.asarray(-self.model.nearest_cosine(rows).cpu().numpy())
        assert isinstance(self.model, Density)
        return -seen_log_density(self.model, rows, self.seen_classes)


@dataclass(frozen=True, eq=False)
class GateParts:
    """What a gate is made of.

    Attributes
    ----------
    name
        Of the gate.
    learned
        What gives its numbers; of `cosmo` also the scores.
    threshold
        Rows with at most this number are accepted.
    classifier
        Of the seen classes alone; None where their scores are columns of the run's own.
    """

    name: str
    learned: ModelNumber | Smoothing
    threshold: float
    classifier: SoftmaxClassifier | None

    def gate(self) -> Gate:
        """The gate by itself."""
        learned = self.learned
        if isinstance(learned, Smoothing):
            return Gate(
                number=lambda views: learned.log_odds(views.seen, views.unseen),
                threshold=self.threshold,
                combine=lambda views, numbers, threshold: learned.scores(views.seen, views.unseen),
            )
        return Gate(lambda views: learned(views.features), self.threshold)


def gate_scaling(recipe: Recipe) -> FeatureScalingName:
    """What the model of a recipe's gate is trained behind."""
    return "l2" if recipe.gate_name == "boundary" else recipe.feature_scaling


def shares_scores(model: Model, scorer: Scorer) -> bool:
    """Whether a run's own scores of seen classes know nothing of other ones.

    Parameters
    ----------
    model, scorer
        The run's model, and what scores with it.
    """
    return isinstance(model, Classifying) or isinstance(scorer, Bayes)


def seen_scores(
    classifier: SoftmaxClassifier | None, space: FeatureMap, scorer: Scorer, seen: int
) -> Scores:
    """What scores the seen classes for a gate.

    Parameters
    ----------
    classifier
        Of the seen classes alone; None: the scorer's columns of them.
    space
        From features as the dataset has them to what the classifier scores.
    scorer
        The run's own.
    seen
        How many seen classes there are.
    """
    if classifier is None:
        return lambda features: scorer.gzsl_scores(features)[:, :seen]
    return lambda features: classifier.scores(space(features))


def make_gated(parts: GateParts, space: FeatureMap, scorer: Scorer, seen: int) -> Gated:
    """A gate between its two experts.

    Parameters
    ----------
    parts
        What the gate is made of.
    space, scorer, seen
        As `seen_scores` takes them; the scorer also scores the unseen classes.
    """
    experts = seen_scores(parts.classifier, space, scorer, seen), scorer.zsl_scores
    return Gated(parts.name, parts.gate(), *experts)


def write_gate(directory: Path, parts: GateParts) -> None:
    """Write the files that a gate has; ``gate.json``, the last, marks them as complete.

    Parameters
    ----------
    directory
        The run directory.
    parts
        What the gate is made of.
    """
    (directory / _DESCRIPTION_FILE).unlink(missing_ok=True)
    told: dict[str, Any] = {"name": parts.name, "threshold": parts.threshold}
    learned, classifier = parts.learned, parts.classifier
    if isinstance(learned, Smoothing):
        told["smoothing"] = learned.numbers()
    else:
        told["model"] = learned.model.describe()
        tensors = tensors_with_scaling(learned.model, learned.scaling)
        write_tensors(directory / GATE_FILE, tensors, {"format": "pt"})
    if classifier is not None:
        tensors = classifier.tensors(_CLASSIFIER)
        write_tensors(directory / _CLASSIFIER_FILE, tensors, {"format": "pt"})
    write_json(directory / _DESCRIPTION_FILE, told)


def read_gate(run: TrainedRun) -> Gated:
    """The gate that a run was judged with, from what `write_gate` wrote.

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
    if not file.is_file():
        raise InputError(
            f"{file}: no such file, expected what the run keeps of its gate ({gate}); --gate none "
            "answers without it, and training again with --resume keeps it"
        )
    told = Field(file, "", read_json(file))
    if told["name"].text() != gate:
        raise told["name"].refused(f"{gate}, as {RECIPE_FILE} has it")
    space = feature_map(run.kept.scaling, run.kept.model, run.device)
    parts = GateParts(
        name=gate,
        learned=_read_smoothing(told) if gate == "cosmo" else _read_number(run, told),
        threshold=told["threshold"].number(),
        classifier=_read_classifier(run, space),
    )
    return make_gated(parts, space, run.scorer, len(run.kept.seen_classes))


def _read_smoothing(told: Field) -> Smoothing:
    numbers = told["smoothing"]
    return Smoothing.from_numbers({name: numbers[name].number() for name in NUMBERS})


def _read_number(run: TrainedRun, told: Field) -> ModelNumber:
    file, description = run.directory / GATE_FILE, told["model"].object()
    model_class = HypersphericalVAEs if run.recipe.gate_name == "boundary" else type(run.kept.model)
    with reading(file, "gate", deletable=True):
        own, scaling = split_scaling(load_file(file), gate_scaling(run.recipe))
        model: GateModel = model_class.from_state(description, own).to(run.device)
        number = ModelNumber(model, scaling, run.kept.seen_classes, run.device)
        number(_a_row(run))  # fails where the parts do not fit each other or the run
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
        found = classifier.scores(space(_a_row(run))).shape[1]
        if found != len(seen):
            raise ValueError(f"scores of {found} classes, {len(seen)} are seen")
    return classifier


def _a_row(run: TrainedRun) -> FloatArray:
    """Features ``(1, d)`` to try things with."""
    return np.zeros((1, run.feature_dim), dtype=np.float32)
