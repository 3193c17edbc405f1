"""Softmax classifiers, trained on real rows of seen and synthesized rows of unseen classes.

The usual one is a linear layer (`SoftmaxConfig`). The training is the same for other classifiers
whose trained form is linear, such as `gsmflow.learning.prototypes.PrototypesConfig`.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.graphs import Graphs, Recorded, RecordingError, allow_recording
from gsmflow.core.progress import counted
from gsmflow.core.settings import Range, flag_of
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import ClassifierRows, StreamedRows
from gsmflow.learning.feed import Feed, is_in_memory
from gsmflow.learning.sampling import Reservoir

__all__ = [
    "ADAM_BETAS",
    "FEW_SHOT_COUNTS",
    "ClassifierTask",
    "FeatureMap",
    "Head",
    "OnEpoch",
    "SoftmaxClassifier",
    "SoftmaxConfig",
    "SoftmaxPair",
    "TrainedClassifierConfig",
    "fit_softmax",
    "fit_softmax_by_epoch",
    "fit_softmax_streamed",
    "pair_from_rows",
    "softmax_epochs",
]

ADAM_BETAS = (0.5, 0.999)
"""Adam's decay rates of the moments, for every classifier."""
FEW_SHOT_COUNTS = (1, 2, 5, 10)
"""The numbers of labelled rows that ``few_shot_epochs`` has entries for."""

_Config = TypeVar("_Config", bound="TrainedClassifierConfig")

_SCORING_CHUNK = 16384
_INITIAL_WEIGHTS = {
    "xavier-normal": nn.init.xavier_normal_,
    "xavier-uniform": nn.init.xavier_uniform_,
}
# The names of a classifier's tensors in files, and of one that is there for unit rows alone.
_TENSORS = ("weight", "bias", "classes")
_UNIT_ROWS = "unit_rows"


@dataclass(frozen=True, eq=False)
class ClassifierTask:
    """What a classifier is to be trained on.

    Attributes
    ----------
    classes
        The class of each score column, ``(k,)``.
    counts
        The number of rows of each class in an epoch, ``(k,)``, on the rows' device.
    no_rows
        An empty batch ``(0, d)``, with the width, the type and the device of the rows.
    problem
        The problem with the classes, for a classifier that reads their semantics.
    """

    classes: IntArray
    counts: Tensor
    no_rows: Tensor
    problem: Problem | None


class Head(Protocol):
    """A classifier in training: what differs between kinds of classifiers."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of its parameters."""

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for the steps of an epoch, counted from 0."""

    def logits(self, features: Tensor) -> Tensor:
        """The logits ``(n, k)`` of a batch ``(n, d)`` that the cross-entropy is taken of."""

    def classifier(self) -> "SoftmaxClassifier":
        """The classifier as it is trained so far."""


@dataclass(frozen=True)
class TrainedClassifierConfig(ABC):
    """The settings that all classifiers have that are trained on rows.

    Attributes
    ----------
    usual_samples
        Rows of each unseen class that a method is to synthesize for the classifier, unless another
        number is asked for; None: as many as the method's setting says.
    """

    usual_samples: ClassVar[int | None] = None

    lr: Annotated[float, Range(above=0)] = 5e-3
    """Adam's learning rate (betas 0.5, 0.999)."""
    batch_size: Annotated[int, Range(min=1)] = 1000
    """Rows per step of the classifier."""
    epochs: Annotated[int, Range(min=1)] = 30
    """Passes over the classifier's rows, real and synthesized."""
    weight_decay: Annotated[float, Range(min=0)] = 0.0
    """Adam's L2 penalty on the classifier's weights; 0 as published."""
    last_batch: Literal["wrapped", "dropped"] = "wrapped"
    """The rows that a pass leaves for no whole batch. wrapped: rows of the next pass fill the
    batch; dropped: they are left out. The softmax of T1 always wraps."""
    few_shot_epochs: tuple[int, ...] = ()
    """Passes with 1, 2, 5 and 10 labelled rows of each unseen class (--shots); other numbers take
    those of the next smaller one. Empty: as without labelled rows."""

    def __post_init__(self) -> None:
        """Raise `InputError` unless the epochs of few-shot learning are none or complete."""
        _check_few_shot(self, "few_shot_epochs")

    @abstractmethod
    def head(self, task: ClassifierTask, generator: torch.Generator) -> Head:
        """An untrained classifier; the generator gives its initial weights."""

    @property
    @abstractmethod
    def for_zsl(self: _Config) -> _Config | None:
        """The settings of T1's classifier, with its number of epochs as ``epochs``.

        None: T1's is the classifier of all classes, restricted to the unseen ones.
        """

    def for_shots(self: _Config, count: int) -> _Config:
        """The settings with ``count >= 1`` labelled rows of each unseen class."""
        if not self.few_shot_epochs:
            return self
        return replace(self, epochs=_of_shots(self.few_shot_epochs, count))

    def batch_of(self, n: int) -> int:
        """Rows of each batch of ``n >= 1`` rows; fewer rows than a batch are one batch."""
        return min(self.batch_size, n)

    def steps_per_epoch(self, n: int) -> int:
        """Steps of a pass over ``n >= 1`` rows."""
        batches = n / self.batch_of(n)
        return math.floor(batches) if self.last_batch == "dropped" else math.ceil(batches)


def _check_few_shot(config: TrainedClassifierConfig, name: str) -> None:
    """Raise `InputError` unless a setting has no epochs of few-shot learning, or all of them."""
    epochs = getattr(config, name)
    if epochs and (len(epochs) != len(FEW_SHOT_COUNTS) or min(epochs) < 1):
        raise InputError(
            f"{flag_of(f'classifier_{name}')}: found {' '.join(map(str, epochs))}, "
            f"expected {len(FEW_SHOT_COUNTS)} whole numbers of at least 1, for "
            f"{', '.join(map(str, FEW_SHOT_COUNTS))} labelled rows"
        )


def _of_shots(epochs: tuple[int, ...], count: int) -> int:
    """The entry of few-shot epochs for ``count >= 1`` labelled rows."""
    return epochs[bisect_right(FEW_SHOT_COUNTS, count) - 1]


@dataclass(frozen=True)
class SoftmaxConfig(TrainedClassifierConfig):
    """The settings of the softmax classifier; defaults are the published ones of FLO."""

    zsl_epochs: Annotated[int | None, Range(min=1)] = None
    """Passes of T1's classifier over its rows; None: as many as of the other."""
    few_shot_zsl_epochs: tuple[int, ...] = ()
    """The same as --classifier-few-shot-epochs for T1's classifier."""
    initial_weights: Literal["xavier-normal", "xavier-uniform"] = "xavier-normal"
    """Xavier's distribution that the classifier's weights are drawn from at first."""
    initial_gain: Annotated[float, Range(above=0)] = 1.0
    """Factor on the classifier's weights at first."""

    def __post_init__(self) -> None:
        """Raise `InputError` unless the epochs of few-shot learning are none or complete."""
        super().__post_init__()
        _check_few_shot(self, "few_shot_zsl_epochs")

    def head(self, task: ClassifierTask, generator: torch.Generator) -> Head:
        """An untrained linear layer, with biases of zero."""
        return _LinearHead(self, task, generator)

    @property
    def for_zsl(self) -> "SoftmaxConfig":
        """The settings of T1's classifier, which is trained on rows of unseen classes alone."""
        return replace(self, epochs=self.zsl_epochs or self.epochs, last_batch="wrapped")

    def for_shots(self, count: int) -> "SoftmaxConfig":
        """The settings with ``count >= 1`` labelled rows of each unseen class."""
        config = super().for_shots(count)
        if not self.few_shot_zsl_epochs:
            return config
        return replace(config, zsl_epochs=_of_shots(self.few_shot_zsl_epochs, count))


@dataclass(frozen=True, eq=False)
class SoftmaxClassifier:
    """A trained linear softmax classifier.

    Attributes
    ----------
    weight, bias
        ``(k, d)`` and ``(k,)``.
    classes
        The class of each score column, ``(k,)``.
    unit_rows
        Whether rows are divided by their length before they are scored.
    """

    weight: Tensor
    bias: Tensor
    classes: IntArray
    unit_rows: bool = False

    def scores(self, features: FloatArray) -> FloatArray:
        """Class scores before the softmax (logits), ``(n, k)``, of scaled features ``(n, d)``."""
        logits = self.logits(torch.from_numpy(features))
        return np.asarray(logits.cpu().numpy(), dtype=np.float32)

    def logits(self, features: Tensor) -> Tensor:
        """The `scores` as a tensor ``(n, k)`` on the weights' device."""
        chunks = [
            self._scored(features[start : start + _SCORING_CHUNK].to(self.weight))
            for start in range(0, max(1, len(features)), _SCORING_CHUNK)  # also for no rows
        ]
        return torch.cat(chunks)

    def of_classes(self, classes: IntArray) -> "SoftmaxClassifier":
        """The classifier with the columns of some of its classes alone, ``(m,)``."""
        columns = [int(np.flatnonzero(self.classes == c)[0]) for c in classes]
        return replace(self, weight=self.weight[columns], bias=self.bias[columns], classes=classes)

    def _scored(self, rows: Tensor) -> Tensor:
        if self.unit_rows:
            rows = nn.functional.normalize(rows)
        return rows @ self.weight.T + self.bias

    @classmethod
    def from_tensors(cls, name: str, tensors: Mapping[str, Tensor]) -> "SoftmaxClassifier":
        """The classifier with this name, from what `tensors` gave.

        Raises
        ------
        KeyError
            If a tensor is missing.
        """
        weight, bias, classes = (tensors[f"{name}.{key}"] for key in _TENSORS)
        unit_rows = f"{name}.{_UNIT_ROWS}" in tensors
        return cls(weight, bias, classes.cpu().numpy(), unit_rows)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All that `from_tensors` needs, named ``NAME.weight`` and so on."""
        tensors = self.weight, self.bias, torch.from_numpy(self.classes)
        named = {f"{name}.{key}": tensor for key, tensor in zip(_TENSORS, tensors, strict=True)}
        return named | ({f"{name}.{_UNIT_ROWS}": torch.ones(1)} if self.unit_rows else {})


# From features ``(n, d)`` as the dataset has them to a classifier's inputs, ``(n, r)``.
FeatureMap: TypeAlias = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class SoftmaxPair:
    """The classifiers of both protocols, and the map from features to their inputs.

    Attributes
    ----------
    space
        Applied to features before scoring: the scaling, then the model's encoder if it has one.
    gzsl
        Over seen and unseen classes.
    zsl
        Over the unseen classes alone.
    """

    space: FeatureMap
    gzsl: SoftmaxClassifier
    zsl: SoftmaxClassifier

    def gzsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, seen + unseen)`` of unscaled features ``(n, d)``."""
        return self.gzsl.scores(self.space(features))

    def zsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, unseen)`` of unscaled features ``(n, d)``."""
        return self.zsl.scores(self.space(features))

    @classmethod
    def from_tensors(cls, space: FeatureMap, tensors: Mapping[str, Tensor]) -> "SoftmaxPair":
        """The classifiers from what `tensors` gave, with the feature map of their training.

        Raises
        ------
        KeyError
            If a tensor is missing.
        """
        gzsl, zsl = (SoftmaxClassifier.from_tensors(name, tensors) for name in ("gzsl", "zsl"))
        return cls(space, gzsl, zsl)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of both, by name."""
        return self.gzsl.tensors("gzsl") | self.zsl.tensors("zsl")


# Called with the protocol of the classifier that finished an epoch, and the current classifier.
OnEpoch: TypeAlias = Callable[[Literal["gzsl", "zsl"], SoftmaxClassifier], object]


def softmax_epochs(
    rows_of_epoch: Callable[[], Feed],
    classes: IntArray,
    config: TrainedClassifierConfig,
    generator: torch.Generator,
    graphs: Graphs | None = None,
    problem: Problem | None = None,
) -> Iterator[SoftmaxClassifier]:
    """Train a classifier with Adam and cross-entropy, epoch by epoch.

    Every batch is whole, as in the published code of GSMFlow: where a pass over the rows leaves
    fewer rows than a batch, the next pass, in another order, fills the batch and goes on from
    there. An epoch has as many steps as a pass has batches, the partial one included. With
    ``last_batch`` dropped, each epoch is a pass without these rows.

    Parameters
    ----------
    rows_of_epoch
        Called before each epoch; gives its training rows, at least one.
    classes
        The classes to classify, ``(k,)``; every label must be among them.
    config
        Settings.
    generator
        Source of the initial weights and of the batches, on the rows' device.
    graphs
        The graphs of that device, to record steps and repeat them; None to run each as it is.
    problem
        The problem with the classes, for a classifier that reads their semantics.

    Yields
    ------
    SoftmaxClassifier
        The current classifier after each epoch. Further training changes its tensors.
    """
    feed = rows_of_epoch()
    columns = _Columns(classes, feed.labels.device)
    task = ClassifierTask(classes, columns.count(feed.labels), _no_rows(feed), problem)
    learner = _Learner(columns, config.head(task, generator))
    passes = _Passes(len(feed.labels), feed.labels.device, generator)
    steps = _Steps(learner, feed, config, graphs)
    for epoch in counted(range(config.epochs), "epochs", config.epochs):
        feed = rows_of_epoch() if epoch else feed
        if feed is not steps.feed:
            steps = _Steps(learner, feed, config, graphs)
        if len(feed.labels) != passes.n:
            passes = _Passes(len(feed.labels), feed.labels.device, generator)
        learner.head.begin_epoch(epoch)
        steps.run_epoch(passes)
        yield learner.head.classifier()


def fit_softmax_by_epoch(
    rows_of_epoch: Callable[[], Feed],
    classes: IntArray,
    config: TrainedClassifierConfig,
    generator: torch.Generator,
    on_epoch: Callable[[SoftmaxClassifier], object] = lambda classifier: None,
    graphs: Graphs | None = None,
    problem: Problem | None = None,
) -> SoftmaxClassifier:
    """Train a classifier to the last epoch; arguments as `softmax_epochs` has.

    ``on_epoch`` is called after each epoch with the current classifier.
    """
    for classifier in softmax_epochs(rows_of_epoch, classes, config, generator, graphs, problem):
        on_epoch(classifier)
    return classifier


def fit_softmax(
    feed: Feed,
    classes: IntArray,
    config: SoftmaxConfig,
    generator: torch.Generator,
    graphs: Graphs | None = None,
) -> SoftmaxClassifier:
    """`fit_softmax_by_epoch` on the same training rows in every epoch."""
    return fit_softmax_by_epoch(lambda: feed, classes, config, generator, graphs=graphs)


def fit_softmax_streamed(
    feed: Feed,
    reservoir: Reservoir,
    classes: tuple[IntArray, IntArray],
    config: TrainedClassifierConfig,
    generators: tuple[torch.Generator, torch.Generator],
    on_epoch: OnEpoch = lambda which, classifier: None,
    problem: Problem | None = None,
) -> tuple[SoftmaxClassifier, SoftmaxClassifier]:
    """Train the classifiers of both protocols while the rows of unseen classes are synthesized.

    The number of steps is that of ``epochs`` passes over the real and all synthesized rows. A batch
    has real and synthesized rows in proportion. The real rows are taken in passes, the synthesized
    rows at random from the reservoir, which is renewed at an even pace. The ZSL classifier is
    trained on the rows of unseen classes in the same batches, to its own number of epochs; without
    settings of its own it is the GZSL classifier, restricted to these classes.

    Parameters
    ----------
    feed
        Real rows of seen classes, and of unseen classes if there are any.
    reservoir
        Synthesized rows of unseen classes, on the same device.
    classes
        The classes of the GZSL and of the ZSL classifier, ``(seen + unseen,)`` and ``(unseen,)``.
    config
        Settings.
    generators
        Source of the initial weights of the GZSL and of the ZSL classifier, on the rows' device.
        The first also gives the order of the real rows.
    on_epoch
        Called after each epoch of either classifier. Further training changes its tensors.
    problem
        The problem with the classes, for a classifier that reads their semantics.

    Returns
    -------
    tuple
        The GZSL and the ZSL classifier.
    """
    repetitions = reservoir.total / len(reservoir.labels)

    def learner(classes: IntArray, generator: torch.Generator) -> _Learner:
        columns = _Columns(classes, feed.labels.device)
        counts = columns.count(feed.labels) + repetitions * columns.count(reservoir.labels)
        task = ClassifierTask(classes, counts, _no_rows(feed), problem)
        return _Learner(columns, config.head(task, generator))

    gzsl, unseen = learner(classes[0], generators[0]), _Columns(classes[1], feed.labels.device)
    zsl = None if config.for_zsl is None else learner(classes[1], generators[1])
    n, batch_size = len(feed.labels), config.batch_size
    steps_per_epoch = math.ceil((n + reservoir.total) / batch_size)
    gzsl_steps = steps_per_epoch * config.epochs
    zsl_steps = 0 if config.for_zsl is None else steps_per_epoch * config.for_zsl.epochs
    steps = max(gzsl_steps, zsl_steps)
    share = n / (n + reservoir.total)
    real = _Passes(n, feed.labels.device, generators[0])
    has_real_unseen = bool(unseen.has(feed.labels).any())
    for step in counted(range(steps), "steps", steps):
        if step % steps_per_epoch == 0:
            for trained in filter(None, (gzsl, zsl)):
                trained.head.begin_epoch(step // steps_per_epoch)
        reservoir.advance((step + 1) / steps)
        real_count = int((step + 1) * batch_size * share) - int(step * batch_size * share)
        features, labels = reservoir.draw(batch_size - real_count)
        unseen_features, unseen_labels = features, labels
        if real_count:
            rows = real.take(real_count)
            features = torch.cat([feed.take(rows), features])
            labels = torch.cat([feed.labels[rows], labels])
        if has_real_unseen:
            is_unseen = unseen.has(labels)
            unseen_features, unseen_labels = features[is_unseen], labels[is_unseen]
        ends_epoch = (step + 1) % steps_per_epoch == 0
        if zsl is not None and step < zsl_steps:
            if len(unseen_labels):
                zsl.step(unseen_features, zsl.columns(unseen_labels))
            if ends_epoch:
                on_epoch("zsl", zsl.head.classifier())
        if step < gzsl_steps:
            gzsl.step(features, gzsl.columns(labels))
            if ends_epoch:
                on_epoch("gzsl", gzsl.head.classifier())
    trained_gzsl = gzsl.head.classifier()
    return trained_gzsl, zsl.head.classifier() if zsl else trained_gzsl.of_classes(classes[1])


def pair_from_rows(
    rows: ClassifierRows,
    problem: Problem,
    space: FeatureMap,
    config: TrainedClassifierConfig,
    generators: tuple[torch.Generator, torch.Generator],
    on_epoch: OnEpoch = lambda which, classifier: None,
    graphs: Graphs | None = None,
) -> SoftmaxPair:
    """Train both classifiers on the rows that a model gives.

    Parameters
    ----------
    rows
        The training rows.
    problem
        The problem with the classes.
    space
        The map from features as the dataset has them to the space of the rows.
    config
        Settings.
    generators
        Source of the initial weights and of the batches of the GZSL and of the ZSL classifier, on
        the rows' device.
    on_epoch
        Called after each epoch of either classifier. Further training changes its tensors.
    graphs
        The graphs of the rows' device: with them, steps are recorded and repeated, and both
        classifiers are trained side by side, unless they share a generator. Streamed rows are
        trained on as without them.
    """
    if config.for_zsl is None:
        on_epoch = _also_of_classes(on_epoch, problem.unseen_classes)
    if isinstance(rows, StreamedRows):
        if graphs is not None:
            graphs.refuse(
                "the synthesized rows are streamed to the classifiers; a larger --reservoir-mib "
                "would hold them"
            )
        classes = problem.classes, problem.unseen_classes
        streamed = fit_softmax_streamed(
            rows.real, rows.reservoir, classes, config, generators, on_epoch, problem
        )
        return SoftmaxPair(space, *streamed)
    trained: dict[str, SoftmaxClassifier] = {}

    def train(
        which: Literal["gzsl", "zsl"],
        rows_of_epoch: Callable[[], Feed],
        classes: IntArray,
        settings: TrainedClassifierConfig,
        generator: torch.Generator,
    ) -> Iterator[None]:
        for classifier in softmax_epochs(
            rows_of_epoch, classes, settings, generator, graphs, problem
        ):
            trained[which] = classifier
            on_epoch(which, classifier)
            yield

    gzsl, zsl = generators
    jobs = [train("gzsl", rows.gzsl, problem.classes, config, gzsl)]
    if config.for_zsl is not None:
        jobs.append(train("zsl", rows.zsl, problem.unseen_classes, config.for_zsl, zsl))
    if graphs is None or gzsl is zsl:  # one generator gives its numbers in order
        for _ in chain(*jobs):
            pass
    else:
        graphs.side_by_side(jobs)
    restricted = trained["gzsl"].of_classes(problem.unseen_classes)
    return SoftmaxPair(space, trained["gzsl"], trained.get("zsl", restricted))


def _also_of_classes(on_epoch: OnEpoch, classes: IntArray) -> OnEpoch:
    """A function that also calls another with T1's classifier, the given one restricted."""

    def call(which: Literal["gzsl", "zsl"], classifier: SoftmaxClassifier) -> None:
        on_epoch(which, classifier)
        on_epoch("zsl", classifier.of_classes(classes))

    return call


def _no_rows(feed: Feed) -> Tensor:
    """An empty batch with the width, the type and the device of a feed's batches."""
    return feed.take(feed.labels[:0])


class _Columns:
    """The score columns of classes."""

    def __init__(self, classes: IntArray, device: torch.device) -> None:
        columns = torch.from_numpy(classes).to(device)
        self._order = columns.argsort()
        self._ascending = columns[self._order]

    def __call__(self, labels: Tensor) -> Tensor:
        """The column of each label, ``(n,)``; every label must have one."""
        return self._order[torch.searchsorted(self._ascending, labels)]

    def has(self, labels: Tensor) -> Tensor:
        """Whether there is a column for each label, ``(n,)``."""
        return torch.isin(labels, self._ascending)

    def count(self, labels: Tensor) -> Tensor:
        """The number of labels of each column, ``(k,)``, of those that have one."""
        return torch.bincount(self(labels[self.has(labels)]), minlength=len(self._order))


class _LinearHead:
    """A linear layer."""

    def __init__(
        self, config: SoftmaxConfig, task: ClassifierTask, generator: torch.Generator
    ) -> None:
        self._classes = task.classes
        like = task.no_rows
        self._weight = nn.Parameter(like.new_empty(len(task.classes), like.shape[1]))
        self._bias = nn.Parameter(like.new_zeros(len(task.classes)))
        _INITIAL_WEIGHTS[config.initial_weights](
            self._weight, gain=config.initial_gain, generator=generator
        )
        groups: list[dict[str, Any]] = [
            {"params": [self._weight], "weight_decay": config.weight_decay},
            {"params": [self._bias]},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=config.lr, betas=ADAM_BETAS, fused=True)

    def begin_epoch(self, epoch: int) -> None:
        """All epochs are alike."""

    def logits(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self._weight, self._bias)

    def classifier(self) -> SoftmaxClassifier:
        return SoftmaxClassifier(self._weight.detach(), self._bias.detach(), self._classes)


@dataclass(frozen=True, eq=False)
class _Learner:
    """A classifier in training, with the columns of its classes."""

    columns: _Columns
    head: Head

    def step(self, features: Tensor, columns: Tensor) -> None:
        """Take one step on the mean cross-entropy of a batch."""
        loss = nn.functional.cross_entropy(self.head.logits(features), columns)
        self.head.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.head.optimizer.step()

    def prepare_recording(self) -> None:
        """Let the next steps be recorded."""
        allow_recording(self.head.optimizer)


class _Steps:
    """Steps of a classifier on whole batches of a feed's rows, recorded with ``graphs``."""

    def __init__(
        self,
        learner: _Learner,
        feed: Feed,
        config: TrainedClassifierConfig,
        graphs: Graphs | None,
    ) -> None:
        self.feed = feed
        self._learner = learner
        self._targets = learner.columns(feed.labels)
        n = len(feed.labels)
        self._per_epoch = config.steps_per_epoch(n)
        self._drops = config.last_batch == "dropped"
        self._graphs = graphs if is_in_memory(feed) else None
        # The rows of the current batch, whose memory a recorded step reads.
        self._batch = self._targets.new_zeros(config.batch_of(n))
        self._recorded = None if self._graphs is None else Recorded(self._graphs.make())
        if graphs is not None and self._graphs is None:
            graphs.refuse("some rows of a classifier are not in the memory of the device")

    def run_epoch(self, passes: "_Passes") -> None:
        """Take the steps of an epoch on the next rows of passes over the feed."""
        if self._drops:
            passes.restart()
        for _ in counted(range(self._per_epoch), "steps", self._per_epoch, repeated=True):
            self._batch.copy_(passes.take(len(self._batch)))
            self._step()

    def _step(self) -> None:
        """Take a step on the current batch, recorded if that is possible."""
        if self._recorded is not None:
            try:
                self._recorded.call(self._run, self._learner.prepare_recording)
                return
            except RecordingError as failure:
                assert self._graphs is not None
                self._graphs.refuse(failure.reason)
                self._recorded = None
        # Outside of the handler, which holds the loss of the recording; see `Trainer`.
        self._run()

    def _run(self) -> None:
        self._learner.step(self.feed.take(self._batch), self._targets[self._batch])


class _Passes:
    """Row numbers in a new random order on every pass, any number of them at a time."""

    def __init__(self, n: int, device: torch.device, generator: torch.Generator) -> None:
        self.n = n
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.int64, device=device)

    def take(self, count: int) -> Tensor:
        """The next rows, ``(count,)``."""
        while len(self._order) < count:
            device = self._order.device
            next_pass = torch.randperm(self.n, generator=self._generator, device=device)
            self._order = torch.cat([self._order, next_pass])
        rows, self._order = self._order[:count], self._order[count:]
        return rows

    def restart(self) -> None:
        """Let the next rows be those of a new pass."""
        self._order = self._order[:0]
