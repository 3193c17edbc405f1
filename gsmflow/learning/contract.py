"""What a model is to a run: the interface that all of them share.

A run makes a model for a `Problem`, trains it if it is to be trained, keeps its tensors, asks it
for the rows that the classifiers learn from, and passes features through its encoder before a
classifier scores them. A model that synthesizes features is a `synthesis.Sampler` besides; the
generation shifts are measured of such a model alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.precision import Precision
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, join
from gsmflow.learning.sampling import Reservoir, Sampler

__all__ = [
    "Batch",
    "CalibratedScorer",
    "Choosing",
    "ClassifierRows",
    "Classifying",
    "ClassifyingCalibrated",
    "Compilable",
    "Density",
    "Encoding",
    "Extensible",
    "GivesRows",
    "LossTrained",
    "Losses",
    "Model",
    "Optimizer",
    "ParameterGroup",
    "RowsByEpoch",
    "RowsRequest",
    "Scorer",
    "StepTrained",
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

    def reservoir_of(self, sampler: Sampler, width: int) -> Reservoir:
        """Rows of width ``width`` that a sampler draws of the unseen classes, as asked for."""
        device = self.scaled.feed.labels.device
        return Reservoir(
            sampler,
            torch.from_numpy(self.scaled.problem.unseen_classes).to(device),
            self.samples_per_class,
            capacity=self.capacity_bytes // (4 * width),
            generator=self.generator,
            precision=self.precision,
            on_samples=self.on_samples,
        )


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
    def for_problem(cls, scaled: Scaled, config: Any, generators: Generators) -> "Model":
        """A model for a problem, on the CPU.

        It is untrained if it is `Trainable`. Any other model fits itself here, to the same
        numbers in every call with the same arguments.

        Parameters
        ----------
        scaled
            The problem, the scaling of its features and the scaled training rows.
        config
            Settings, of the class that the method names.
        generators
            Sources of random numbers, one for each purpose.
        """

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "Model":
        """A model from what `describe` and ``state_dict`` gave."""

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers by name."""

    def to(self, device: torch.device) -> "Model":
        """The model itself, moved to a device."""


@runtime_checkable
class Encoding(Protocol):
    """A model whose classifiers score encoded features."""

    @property
    def encoder(self) -> nn.Module:
        """The map from scaled features ``(n, d)`` to what the classifiers score, ``(n, r)``."""


@runtime_checkable
class GivesRows(Protocol):
    """A model that gives rows for classifiers to learn from."""

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """What the classifiers learn from, encoded as test features are or as the model makes it.

        The GZSL classifier's rows have labels among all classes of the problem, each with one
        row at least, the ZSL classifier's among the unseen ones. They depend on nothing but the
        model and the request.
        """


@runtime_checkable
class Choosing(Protocol):
    """A model some of whose settings are chosen on the validation classes before it is fitted."""

    @classmethod
    def choose(
        cls, scaled: Scaled, held_out: HeldOut, config: Any, generators: Generators
    ) -> dict[str, Any]:
        """The best settings on a validation problem, JSON-ready.

        Parameters
        ----------
        scaled, config, generators
            As `Model.for_problem` takes them.
        held_out
            The validation rows.
        """

    @classmethod
    def for_choice(
        cls, scaled: Scaled, config: Any, choice: dict[str, Any], generators: Generators
    ) -> Model:
        """The model of a problem with the settings that `choose` found; else as `for_problem`."""


@runtime_checkable
class LossTrained(Protocol):
    """A model that `trainer.Trainer` trains by minimising its loss, one batch a step."""

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


class Batch(NamedTuple):
    """Training rows: scaled features ``(n, d)`` and their seen classes ``(n,)``."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters with an Adam of their own, and where it differs from the training settings.

    Attributes
    ----------
    parameters
        What it changes.
    betas
        Its decay rates of the first and of the second moment, each in [0, 1).
    learning_rate_factor
        Factor on the learning rate of the schedule, ``> 0``.
    """

    parameters: Sequence[nn.Parameter]
    betas: tuple[float, float] = (0.9, 0.999)
    learning_rate_factor: float = 1.0


class Optimizer(Protocol):
    """The optimizer of one `ParameterGroup`, as a training step is given it."""

    def minimize(self, loss: Tensor) -> None:
        """Take one step down the gradient of a scalar loss, with these parameters alone.

        The gradients of all other parameters stay as they are.
        """


@runtime_checkable
class StepTrained(Protocol):
    """A model with a training step that needs several optimizers, such as a GAN.

    The trainer makes an Adam of each group, schedules its learning rate, and saves its state. All
    else that a step changes must be a parameter or a buffer, or a resumed training would differ.

    A step of a Wasserstein GAN with five critic steps::

        for _ in range(5):
            features, labels = next(batches)
            critic_loss = self.critic_loss(features, labels, random)
            optimizers["critic"].minimize(critic_loss)
        generator_loss = self.generator_loss(labels, random)
        optimizers["generator"].minimize(generator_loss)
        return {"critic": critic_loss, "generator": generator_loss}
    """

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """What is optimized, by the name of the optimizer; the same in every call."""

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """Train for one step; forward passes are in the precision of the training.

        Parameters
        ----------
        batches
            Batches without end. A pass over the rows takes each at most once, in a random order;
            after it comes another pass. An epoch has as many steps as a pass has batches, however
            many batches a step takes.
        random
            Source of random numbers.
        optimizers
            One for each of `parameter_groups`.

        Returns
        -------
        mapping
            Parts of the loss for the log, scalars. A part may be missing in some steps: its mean
            over an epoch is that of the steps which have it.
        """


Trainable = (LossTrained, StepTrained)
"""What a model that `trainer.Trainer` trains is an instance of, one or the other."""


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
class ClassifyingCalibrated(Protocol):
    """A model that scores classes apart for figures under a calibration factor."""

    def calibrated_class_scores(self, features: Tensor) -> FloatArray:
        """GZSL scores ``(n, classes)`` of scaled features ``(n, d)``, for calibrated figures."""


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
