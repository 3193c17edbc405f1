"""What a model is to a run: the interface that all of them share.

A run makes a model for a `Problem`, trains it if it is to be trained, keeps its tensors, asks it
for the rows that the classifiers learn from, and passes features through its encoder before a
classifier scores them. A model that synthesizes features is a `synthesis.Sampler` besides; the
generation shifts are measured of such a model alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.precision import Precision
from gsmflow.core.rng import BatchRandom
from gsmflow.data.dataset import Problem
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, join
from gsmflow.learning.sampling import Reservoir

__all__ = [
    "CalibratedScorer",
    "ClassifierRows",
    "Classifying",
    "Compilable",
    "Density",
    "Extensible",
    "Losses",
    "Model",
    "RowsByEpoch",
    "RowsRequest",
    "Scorer",
    "StreamedRows",
    "Trainable",
    "WarmedUp",
    "rows_with",
    "with_semantics",
]


class Losses(NamedTuple):
    """One step's losses: what is minimised, and its parts for the log, all scalars."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class RowsRequest:
    """What a model is asked to make the classifiers' rows of.

    Attributes
    ----------
    scaled
        The problem, and its real seen rows as the model learned from them.
    generator
        Source of what is drawn, on the rows' device.
    samples_per_class
        Rows to synthesize of each unseen class, for a model that has no numbers of its own.
    capacity_bytes
        How many bytes of synthesized rows may be held at once.
    precision
        Of the matrix products.
    real_unseen
        Real labelled rows of unseen classes that may be learned from too, scaled as the seen
        ones; None where there are none, as in zero-shot learning proper. A row that is to count
        more is there more often.
    synthesizes
        Whether the unseen classes are to be synthesized; if not, there are ``real_unseen`` rows of
        all of them.
    on_samples
        To be called with the number of rows after each part of the synthesis, for a progress bar.
    """

    scaled: Scaled
    generator: torch.Generator
    samples_per_class: int
    capacity_bytes: int
    precision: Precision = "fp32"
    real_unseen: Feed | None = None
    synthesizes: bool = True
    on_samples: Callable[[int], object] = lambda count: None


@dataclass(frozen=True, eq=False)
class RowsByEpoch:
    """Rows that are there before an epoch of a classifier begins.

    Attributes
    ----------
    gzsl, zsl
        Called before each epoch of the classifier of seen and unseen classes, and of that of the
        unseen classes alone; give the same rows every time, or draw them anew.
    """

    gzsl: Callable[[], Feed]
    zsl: Callable[[], Feed]


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Real rows, and synthesized ones that are made while the classifiers learn from them.

    Attributes
    ----------
    real
        Of seen classes, and of unseen ones where some are given.
    reservoir
        Of the unseen classes, on the same device.
    """

    real: Feed
    reservoir: Reservoir


ClassifierRows: TypeAlias = RowsByEpoch | StreamedRows
AnyModel = TypeVar("AnyModel", bound="Model")


def rows_with(real: Feed, reservoir: Reservoir, real_unseen: Feed | None = None) -> ClassifierRows:
    """The classifiers' rows from real and synthesized ones, streamed if those are many.

    Parameters
    ----------
    real
        Real rows of the seen classes.
    reservoir
        Synthesized rows of the unseen classes, on the same device; they are streamed if it does
        not hold all of them at once.
    real_unseen
        Real rows of unseen classes, if there are any.
    """
    known = real if real_unseen is None else join(real, real_unseen)
    if reservoir.streams:
        return StreamedRows(known, reservoir)
    made = MemoryFeed(reservoir.features, reservoir.labels)
    both = join(known, made)
    unseen = made if real_unseen is None else join(real_unseen, made)
    return RowsByEpoch(lambda: both, lambda: unseen)


def with_semantics(model: AnyModel, semantics: FloatArray) -> AnyModel:
    """The same model on the CPU, its tensor ``semantics`` replaced by another, ``(classes, a)``."""
    tensors = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    tensors["semantics"] = torch.tensor(semantics)
    told: AnyModel = type(model).from_state(model.describe(), tensors)  # type: ignore[assignment]
    return told


class Model(Protocol):
    """What a run makes, keeps and classifies with: a torch module with these methods.

    Its tensors are parameters and buffers, so that ``state_dict`` has all of them.
    """

    @classmethod
    def for_problem(
        cls, problem: Problem, feed: Feed, config: Any, generator: torch.Generator
    ) -> "Model":
        """A model for a problem, on the CPU.

        It is untrained if it is `Trainable`. Any other model fits itself here, to the same
        numbers in every call with the same arguments.

        Parameters
        ----------
        problem
            Gives the classes and their semantics.
        feed
            The scaled training rows.
        config
            Settings, of the class that the table of models names.
        generator
            A CPU generator for the initial weights.
        """

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "Model":
        """A model from what `describe` and ``state_dict`` gave."""

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""

    @property
    def encoder(self) -> nn.Module | None:
        """The map from scaled features ``(n, d)`` to what the classifiers score, ``(n, r)``.

        None where that are the features themselves.
        """

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """What the classifiers learn from, as `encoder` gives it or as the model makes it.

        The GZSL classifier's rows have labels among all classes of the problem, each with one
        row at least, the ZSL classifier's among the unseen ones. They depend on nothing but the
        model and the request.
        """

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers by name."""

    def to(self, device: torch.device) -> "Model":
        """The model itself, moved to a device."""


@runtime_checkable
class Trainable(Protocol):
    """A model that `train.Trainer` trains."""

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The training loss of one batch, or of a process's share of it.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.
        labels
            Seen classes, ``(n,)``.
        draws
            Source of random numbers.
        """


@runtime_checkable
class WarmedUp(Protocol):
    """A model whose loss changes while it is trained."""

    def warm_up(self, done: float) -> None:
        """Set the loss of the next epoch, by the share of the epochs that is done, in [0, 1)."""


@runtime_checkable
class Classifying(Protocol):
    """A model that tells classes apart by itself: no classifier is trained on its rows."""

    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features.

        Parameters
        ----------
        features
            ``(n, d)``. Columns are in the order of `Problem.classes` and `Problem.unseen_classes`.
        """


@runtime_checkable
class Density(Protocol):
    """A model that knows how likely features are of a class."""

    def log_prob(self, features: Tensor, classes: Tensor) -> Tensor:
        """``log p(x | class)`` in nats, ``(n,)``, of scaled rows ``(n, d)``, classes ``(n,)``."""


@runtime_checkable
class Extensible(Protocol):
    """A trained model that can be told of further unseen classes."""

    def with_classes(self, problem: Problem) -> Model:
        """The same model, which knows all classes of a problem; on the CPU.

        Parameters
        ----------
        problem
            That of the training, with further unseen classes after all others. The scale of the
            semantics stays that of the training.
        """


@runtime_checkable
class Compilable(Protocol):
    """A model with parts that torch.compile may make faster."""

    def compile_for_training(self) -> str | None:
        """Compile them; the reason where that is not possible, and they run as they are."""


class Scorer(Protocol):
    """A trained method: class scores of features ``(n, d)`` as the dataset has them."""

    def gzsl_scores(self, features: FloatArray) -> NDArray[Any]:
        """Scores ``(n, seen + unseen)``, columns in the order of `Problem.classes`."""

    def zsl_scores(self, features: FloatArray) -> NDArray[Any]:
        """Scores ``(n, unseen)``, columns in the order of `Problem.unseen_classes`."""


@runtime_checkable
class CalibratedScorer(Protocol):
    """A scorer with other GZSL scores for calibrated stacking, such as of other settings."""

    def calibrated_scores(self, features: FloatArray) -> NDArray[Any]:
        """Scores ``(n, seen + unseen)`` to subtract the calibration factor from.

        Columns are in the order of `Problem.classes`.
        """
