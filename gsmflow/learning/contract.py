"""The interface of models: what a run calls, and the optional abilities of a model.

A run makes a model for a `Problem`, trains it if it is `Trainable`, and saves its tensors. It gets
the rows that the classifiers are trained on from the model, and passes features through the model's
encoder before a classifier scores them. A model that synthesizes features is also a
`gsmflow.learning.sampling.Sampler`; generation shifts are measured for such models alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.precision import Precision, autocast
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, join
from gsmflow.learning.sampling import Reservoir, Sampler

__all__ = [
    "Augmenting",
    "Batch",
    "CalibratedScorer",
    "Capturable",
    "Choosing",
    "ClassifierRows",
    "Classifying",
    "ClassifyingCalibrated",
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
    "Selective",
    "StepTrained",
    "StreamedRows",
    "Trainable",
    "WarmedUp",
    "check_fit",
    "check_two_seen",
    "minimize_together",
    "real_and_synthesized",
    "rows_with",
    "why_unfit",
    "with_tensors",
]


class Losses(NamedTuple):
    """The losses of one step, all scalars: the total to minimise, and its parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class RowsRequest:
    """A request for the rows that the classifiers are trained on.

    Attributes
    ----------
    scaled
        The problem, and the scaled rows of seen classes that the model was trained on.
    generator
        Source of random numbers, on the rows' device.
    samples_per_class
        Rows to synthesize for each unseen class, for a model without such settings.
    capacity_bytes
        Maximum size in memory of the synthesized rows.
    samples_per_seen_class
        Rows to synthesize for each seen class, for a model that replaces their real rows; None: as
        many as for an unseen class.
    precision
        Precision of the matrix products.
    real_unseen
        Real labelled rows of unseen classes to train on too (few-shot learning), scaled as the
        rows of seen classes; None in zero-shot learning. A row with more weight is repeated.
    synthesizes
        Whether to synthesize the unseen classes. If not, ``real_unseen`` has rows of all of them.
    on_samples
        Called with the number of rows after each chunk of the synthesis, for a progress bar.
    """

    scaled: Scaled
    generator: torch.Generator
    samples_per_class: int
    capacity_bytes: int
    samples_per_seen_class: int | None = None
    precision: Precision = "fp32"
    real_unseen: Feed | None = None
    synthesizes: bool = True
    on_samples: Callable[[int], object] = lambda count: None

    def reservoir_of(self, sampler: Sampler, width: int) -> Reservoir:
        """The requested rows of unseen classes, drawn from a sampler of ``width`` dimensions."""
        return Reservoir(
            sampler,
            self.scaled.on_device(self.scaled.problem.unseen_classes),
            self.samples_per_class,
            capacity=self.capacity_bytes // (4 * width),
            generator=self.generator,
            precision=self.precision,
            on_samples=self.on_samples,
        )


@dataclass(frozen=True, eq=False)
class RowsByEpoch:
    """Rows that are complete before an epoch of a classifier begins.

    Attributes
    ----------
    gzsl, zsl
        Called before each epoch of the GZSL classifier (of seen and unseen classes), and of the
        ZSL classifier (of unseen classes). They give the same rows every time, or new ones.
    """

    gzsl: Callable[[], Feed]
    zsl: Callable[[], Feed]


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Real rows, and rows that are synthesized while the classifiers are trained.

    Attributes
    ----------
    real
        Rows of seen classes, and of unseen classes if the request has some.
    reservoir
        Synthesized rows of unseen classes, on the same device.
    """

    real: Feed
    reservoir: Reservoir


ClassifierRows: TypeAlias = RowsByEpoch | StreamedRows
AnyModel = TypeVar("AnyModel", bound="Model")


def rows_with(real: Feed, reservoir: Reservoir, real_unseen: Feed | None = None) -> ClassifierRows:
    """Combine real and synthesized rows for the classifiers.

    Parameters
    ----------
    real
        Real rows of the seen classes.
    reservoir
        Synthesized rows of the unseen classes, on the same device. They are streamed if the
        reservoir cannot hold all of them at once.
    real_unseen
        Real rows of unseen classes, if there are any.
    """
    all_real = real if real_unseen is None else join(real, real_unseen)
    if reservoir.streams:
        return StreamedRows(all_real, reservoir)
    synthesized = MemoryFeed(reservoir.features, reservoir.labels)
    gzsl = join(all_real, synthesized)
    zsl = synthesized if real_unseen is None else join(real_unseen, synthesized)
    return RowsByEpoch(lambda: gzsl, lambda: zsl)


def real_and_synthesized(request: RowsRequest, sampler: Sampler) -> ClassifierRows:
    """The rows of a request as they are, and those that a sampler gives of the unseen classes.

    Parameters
    ----------
    request
        The request. Its rows of seen classes, and of unseen classes if there are some, are in the
        classifiers' space.
    sampler
        Gives rows of that space.
    """
    seen, unseen = request.scaled.feed, request.real_unseen
    if not request.synthesizes:
        assert unseen is not None
        both = join(seen, unseen)
        return RowsByEpoch(lambda: both, lambda: unseen)
    return rows_with(seen, request.reservoir_of(sampler, seen.feature_dim), unseen)


def with_tensors(model: AnyModel, tensors: Mapping[str, Tensor]) -> AnyModel:
    """A copy of a model on the CPU with other tensors by these names, such as ``semantics``."""
    kept = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    replaced = {**kept, **tensors}
    copy: AnyModel = type(model).from_state(model.describe(), replaced)  # type: ignore[assignment]
    return copy


class Model(Protocol):
    """A model of a method: a torch module with these methods.

    All tensors that it was fitted with are parameters or buffers, so that ``state_dict`` is
    complete.
    """

    @classmethod
    def for_problem(cls, scaled: Scaled, config: Any, generators: Generators) -> "Model":
        """A model for a problem, on the CPU.

        A `Trainable` model is untrained. Any other model is fitted here, and the result is the
        same for the same arguments.

        Parameters
        ----------
        scaled
            The problem, the scaling of its features and the scaled training rows.
        config
            Settings, an instance of `gsmflow.learning.method.Method.config`.
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
class Selective(Protocol):
    """A model that some problems do not fit."""

    @classmethod
    def check_problem(cls, problem: Problem) -> None:
        """Raise `InputError` if the model cannot be used on a problem; no feature is read.

        A run calls it before anything is trained, and `Model.for_problem` and `Choosing.choose`
        do. A leaderboard of all methods leaves a method out where it raises.
        """


def check_fit(model_class: type[Model], problem: Problem) -> None:
    """Raise `InputError` if a model is `Selective` and a problem does not fit it."""
    if issubclass(model_class, Selective):
        model_class.check_problem(problem)


def why_unfit(model_class: type[Model], problem: Problem) -> str:
    """The sentence of `check_fit`; empty where a problem fits a model."""
    try:
        check_fit(model_class, problem)
    except InputError as error:
        return str(error)
    return ""


def check_two_seen(problem: Problem, purpose: str) -> None:
    """Raise `InputError` if there is one seen class; the sentence ends with ``so that PURPOSE``."""
    if len(problem.seen_classes) < 2:
        raise InputError(f"seen classes: found 1, expected at least 2, so that {purpose}")


@runtime_checkable
class Encoding(Protocol):
    """A model whose classifiers score encoded features."""

    @property
    def encoder(self) -> nn.Module:
        """From scaled features ``(n, d)`` to the inputs of the classifiers, ``(n, r)``."""


@runtime_checkable
class GivesRows(Protocol):
    """A model that makes the rows that the classifiers are trained on."""

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """The training rows of the classifiers, in the space that `Encoding.encoder` maps to.

        The rows of the GZSL classifier have labels of all classes of the problem, each with at
        least one row. Those of the ZSL classifier have labels of the unseen classes. The rows
        depend on the model and the request alone.
        """


@runtime_checkable
class Choosing(Protocol):
    """A model with settings that are chosen on the validation classes before it is fitted."""

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
        """A model for a problem, with the settings that `choose` found; else as `for_problem`."""


@runtime_checkable
class LossTrained(Protocol):
    """A model that `gsmflow.learning.trainer.Trainer` trains by minimising a loss."""

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The training loss of one batch, or of one process's share of it.

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
    """Parameters that one Adam optimizes, and where it differs from the training settings.

    Attributes
    ----------
    parameters
        The parameters to optimize.
    betas
        Adam's decay rates of the first and of the second moment, each in [0, 1).
    learning_rate_factor
        Factor on the learning rate of the schedule, ``> 0``.
    """

    parameters: Sequence[nn.Parameter]
    betas: tuple[float, float] = (0.9, 0.999)
    learning_rate_factor: float = 1.0


class Optimizer(Protocol):
    """The optimizer of one `ParameterGroup`, for use in a training step."""

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The parameters of the group."""

    def minimize(self, loss: Tensor) -> None:
        """Take one gradient step on a scalar loss, changing the parameters of the group alone.

        The gradients of all other parameters stay unchanged.
        """

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Take one step with given gradients of the parameters; those with None stay unchanged."""


def minimize_together(loss: Tensor, optimizers: Sequence[Optimizer]) -> None:
    """Take a step of each optimizer on one scalar loss, after a single backward pass."""
    parameters = [parameter for optimizer in optimizers for parameter in optimizer.parameters]
    # A backward pass runs in the precision of its forward pass, whatever autocast is set here.
    with autocast("fp32", loss.device):
        gradients = iter(torch.autograd.grad(loss, parameters, allow_unused=True))
    for optimizer in optimizers:
        optimizer.step([next(gradients) for _ in optimizer.parameters])


@runtime_checkable
class StepTrained(Protocol):
    """A model with a training step that needs several optimizers, such as a GAN.

    The trainer makes an Adam for each group, schedules its learning rate, and saves its state.
    Everything else that a step changes must be a parameter or a buffer. Otherwise a resumed
    training would differ.

    A step of a Wasserstein GAN with five critic steps, where `batches_per_step` gives 5::

        for _ in range(5):
            features, labels = next(batches)
            critic_loss = self.critic_loss(features, labels, random)
            optimizers["critic"].minimize(critic_loss)
        generator_loss = self.generator_loss(labels, random)
        optimizers["generator"].minimize(generator_loss)
        return {"critic": critic_loss, "generator": generator_loss}
    """

    def batches_per_step(self) -> int:
        """Number of batches that each step takes, ``>= 1``."""

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """The parameter groups by the name of their optimizer; the same in every call."""

    def training_step(
        self,
        batches: Iterator[Batch],
        random: BatchRandom,
        optimizers: Mapping[str, Optimizer],
    ) -> Mapping[str, Tensor]:
        """Train for one step. Forward passes run in the precision of the training.

        Parameters
        ----------
        batches
            An iterator of `batches_per_step` batches, all of which must be taken, from passes over
            the rows or drawn, as `gsmflow.learning.trainer.TrainingConfig.batches` says. An epoch
            has as many steps as a pass has batches, however many batches a step takes.
        random
            Source of random numbers.
        optimizers
            The optimizer of each group, by the names of `parameter_groups`.

        Returns
        -------
        mapping
            Parts of the loss for the log, scalars. A part may be missing in some steps; its mean
            over an epoch is taken over the steps that have it.
        """


Trainable = (LossTrained, StepTrained)
"""The two kinds of models that `gsmflow.learning.trainer.Trainer` trains, for ``isinstance``."""


@runtime_checkable
class Augmenting(Protocol):
    """A model whose training takes more than the features of a row."""

    def training_feed(self, feed: Feed, generator: torch.Generator) -> Feed:
        """What the trainer takes batches from.

        Parameters
        ----------
        feed
            The training rows.
        generator
            Source of random numbers, on the device of the model and of the rows.

        Returns
        -------
        Feed
            As many rows with the same labels; their features may have any width.
        """


@runtime_checkable
class WarmedUp(Protocol):
    """A model whose loss depends on the progress of the training."""

    def warm_up(self, done: float) -> None:
        """Set the loss of the next epoch; ``done`` is the share of finished epochs, in [0, 1).

        What the loss reads must be tensors that are changed in place, unless the model is not
        `Capturable`: a recorded step goes on to read the same memory.
        """


@runtime_checkable
class Capturable(Protocol):
    """A model that says whether its training steps can be recorded as a graph.

    Steps are recorded of a model without this attribute, so they must be equal: each does the same
    operations on tensors of the same shapes. No value is read from the device, neither to decide
    what to do (``if loss > 0``, ``mask.any()``) nor for a shape (``features[mask]``).
    """

    @property
    def capturable(self) -> bool:
        """Whether it can be recorded."""


@runtime_checkable
class Classifying(Protocol):
    """A model that classifies by itself: no classifier is trained on its rows."""

    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features.

        Parameters
        ----------
        features
            Scaled features, ``(n, d)``.

        Returns
        -------
        tuple
            Columns are in the order of `Problem.classes` and `Problem.unseen_classes`.
        """


@runtime_checkable
class ClassifyingCalibrated(Protocol):
    """A model that has other scores for calibrated stacking, such as those of other settings."""

    def calibrated_class_scores(self, features: Tensor) -> FloatArray:
        """GZSL scores ``(n, classes)`` of scaled features ``(n, d)``, for calibrated stacking."""


@runtime_checkable
class Density(Protocol):
    """A model with a class-conditional density of features."""

    def log_prob(self, features: Tensor, classes: Tensor) -> Tensor:
        """``log p(x | class)`` in nats, ``(n,)``, of scaled rows ``(n, d)``, classes ``(n,)``."""


@runtime_checkable
class Extensible(Protocol):
    """A trained model to which unseen classes can be added."""

    def with_classes(self, problem: Problem) -> Model:
        """A copy of the model, on the CPU, for all classes of a problem.

        Parameters
        ----------
        problem
            The problem of the training, with added unseen classes after all others. Semantics are
            scaled as in the training.
        """


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
