"""The softmax classifier: one linear layer, trained on real seen and synthesized unseen rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gsmflow.dataset import FloatArray, IntArray
from gsmflow.feed import Feed, MemoryFeed, Scaled, join
from gsmflow.scaling import FeatureScaling
from gsmflow.synthesis import Reservoir

__all__ = [
    "ClassifierConfig",
    "SoftmaxClassifier",
    "SoftmaxPair",
    "fit_softmax",
    "fit_softmax_streamed",
    "pair_from_reservoir",
    "pair_from_rows",
]

_SCORING_CHUNK = 16384


@dataclass(frozen=True)
class ClassifierConfig:
    """The settings of the softmax classifier; defaults are FLO's published ones."""

    classifier_lr: float = 5e-3
    """Adam's learning rate (betas 0.5, 0.999)."""
    classifier_batch_size: int = 1000
    """Rows per step of the classifier."""
    classifier_epochs: int = 30
    """Passes over the classifier's rows, real and synthesized."""


@dataclass(frozen=True, eq=False)
class SoftmaxClassifier:
    """A trained linear softmax classifier.

    Attributes
    ----------
    weight, bias
        ``(k, d)`` and ``(k,)``.
    classes
        The class of each score column, ``(k,)``.
    """

    weight: Tensor
    bias: Tensor
    classes: IntArray

    def scores(self, features: FloatArray) -> FloatArray:
        """Class scores before the softmax (logits), ``(n, k)``, of scaled features ``(n, d)``."""
        chunks = [
            torch.from_numpy(features[start : start + _SCORING_CHUNK]).to(self.weight)
            @ self.weight.T
            + self.bias
            for start in range(0, len(features), _SCORING_CHUNK)
        ]
        return np.asarray(torch.cat(chunks).cpu().numpy(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class SoftmaxPair:
    """The two classifiers of the protocols, behind the feature scaling that they were trained on.

    Attributes
    ----------
    scaling
        Applied to features before scoring.
    gzsl
        Over seen and unseen classes.
    zsl
        Over the unseen classes alone.
    """

    scaling: FeatureScaling
    gzsl: SoftmaxClassifier
    zsl: SoftmaxClassifier

    def gzsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, seen + unseen)`` of unscaled features ``(n, d)``."""
        return self.gzsl.scores(self.scaling(features))

    def zsl_scores(self, features: FloatArray) -> FloatArray:
        """Scores ``(n, unseen)`` of unscaled features ``(n, d)``."""
        return self.zsl.scores(self.scaling(features))


def fit_softmax(
    feed: Feed,
    classes: IntArray,
    config: ClassifierConfig,
    generator: torch.Generator,
    on_epoch: Callable[[], object] = lambda: None,
) -> SoftmaxClassifier:
    """Train a linear softmax classifier with Adam and cross-entropy; the last epoch's is kept.

    Parameters
    ----------
    feed
        Training rows.
    classes
        The classes to tell apart, ``(k,)``; every label must be among them.
    config
        Settings.
    generator
        Source of the initial weights (Xavier normal; biases are zero) and of the batches, on the
        rows' device.
    on_epoch
        Called after each epoch, for a progress bar.
    """
    layer = _Layer(classes, _no_rows(feed), config, generator)
    targets = layer.columns(feed.labels)
    for _ in range(config.classifier_epochs):
        order = torch.randperm(len(targets), generator=generator, device=targets.device)
        for rows in torch.split(order, config.classifier_batch_size):
            layer.step(feed.take(rows), targets[rows])
        on_epoch()
    return layer.classifier()


def fit_softmax_streamed(
    feed: Feed,
    reservoir: Reservoir,
    classes: tuple[IntArray, IntArray],
    config: ClassifierConfig,
    generators: tuple[torch.Generator, torch.Generator],
    on_epoch: Callable[[], object] = lambda: None,
) -> tuple[SoftmaxClassifier, SoftmaxClassifier]:
    """Train the classifiers of both protocols while their synthesized rows are being made.

    There are as many steps as in ``classifier_epochs`` passes over the real and all synthesized
    rows. A batch has them in proportion: the real ones pass by pass, the synthesized ones drawn
    from the reservoir, which is renewed at an even pace. The second classifier learns from the
    synthesized rows of the same batches.

    Parameters
    ----------
    feed
        Real rows of seen classes.
    reservoir
        Synthesized rows of unseen classes, on the same device.
    classes
        The classes that the first and the second classifier tell apart, ``(seen + unseen,)`` and
        ``(unseen,)``.
    config
        Settings.
    generators
        Source of the initial weights of each, on the rows' device; of the first, also of the
        order of the real rows.
    on_epoch
        Called after each pass, for a progress bar.
    """
    gzsl, zsl = (
        _Layer(c, _no_rows(feed), config, generator)
        for c, generator in zip(classes, generators, strict=True)
    )
    n, batch_size = len(feed.labels), config.classifier_batch_size
    steps_per_epoch = math.ceil((n + reservoir.total) / batch_size)
    steps = steps_per_epoch * config.classifier_epochs
    share = n / (n + reservoir.total)
    real = _Passes(n, feed.labels.device, generators[0])
    for step in range(steps):
        reservoir.advance((step + 1) / steps)
        count = int((step + 1) * batch_size * share) - int(step * batch_size * share)
        features, labels = reservoir.draw(batch_size - count)
        if len(labels):
            zsl.step(features, zsl.columns(labels))
        if count:
            rows = real.take(count)
            features = torch.cat([feed.take(rows), features])
            labels = torch.cat([feed.labels[rows], labels])
        gzsl.step(features, gzsl.columns(labels))
        if (step + 1) % steps_per_epoch == 0:
            on_epoch()
    return gzsl.classifier(), zsl.classifier()


def pair_from_rows(
    scaled: Scaled,
    unseen: MemoryFeed,
    config: ClassifierConfig,
    generators: tuple[torch.Generator, torch.Generator],
    on_epoch: Callable[[], object] = lambda: None,
) -> SoftmaxPair:
    """Train both classifiers on real seen rows and the given rows of unseen classes.

    Parameters
    ----------
    scaled
        Gives the real seen rows.
    unseen
        Scaled rows of the unseen classes, on the same device.
    config
        Settings.
    generators
        Source of the initial weights and of the batches of each classifier, GZSL and ZSL, on the
        rows' device.
    on_epoch
        Called after each epoch of either classifier, for a progress bar.
    """
    problem, (gzsl, zsl) = scaled.problem, generators
    return SoftmaxPair(
        scaled.scaling,
        gzsl=fit_softmax(join(scaled.feed, unseen), problem.classes, config, gzsl, on_epoch),
        zsl=fit_softmax(unseen, problem.unseen_classes, config, zsl, on_epoch),
    )


def pair_from_reservoir(
    scaled: Scaled,
    reservoir: Reservoir,
    config: ClassifierConfig,
    generators: tuple[torch.Generator, torch.Generator],
    on_epoch: Callable[[], object] = lambda: None,
) -> SoftmaxPair:
    """Train both classifiers on real seen rows and synthesized ones, streamed if those are many.

    Parameters
    ----------
    scaled
        Gives the real seen rows.
    reservoir
        Synthesized rows of the unseen classes, on the same device; they are streamed if it does
        not hold all of them at once.
    config, generators, on_epoch
        As `pair_from_rows` takes them.
    """
    problem = scaled.problem
    if reservoir.streams:
        classes = problem.classes, problem.unseen_classes
        pair = fit_softmax_streamed(scaled.feed, reservoir, classes, config, generators, on_epoch)
        return SoftmaxPair(scaled.scaling, *pair)
    unseen = MemoryFeed(reservoir.features, reservoir.labels)
    return pair_from_rows(scaled, unseen, config, generators, on_epoch)


def _no_rows(feed: Feed) -> Tensor:
    """An empty batch, which has the width, the type and the device of all."""
    return feed.take(feed.labels[:0])


class _Layer:
    """A linear layer in training on rows like the given ones, with an Adam of its own."""

    def __init__(
        self, classes: IntArray, like: Tensor, config: ClassifierConfig, generator: torch.Generator
    ) -> None:
        self._classes = classes
        columns = torch.from_numpy(classes).to(like.device)
        self._order = columns.argsort()
        self._ascending = columns[self._order]
        self._weight = nn.Parameter(like.new_empty(len(classes), like.shape[1]))
        self._bias = nn.Parameter(like.new_zeros(len(classes)))
        nn.init.xavier_normal_(self._weight, generator=generator)
        self._optimizer = torch.optim.Adam(
            (self._weight, self._bias), lr=config.classifier_lr, betas=(0.5, 0.999), fused=True
        )

    def columns(self, labels: Tensor) -> Tensor:
        """The column of each label, ``(n,)``."""
        return self._order[torch.searchsorted(self._ascending, labels)]

    def step(self, features: Tensor, columns: Tensor) -> None:
        logits = nn.functional.linear(features, self._weight, self._bias)
        loss = nn.functional.cross_entropy(logits, columns)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def classifier(self) -> SoftmaxClassifier:
        return SoftmaxClassifier(self._weight.detach(), self._bias.detach(), self._classes)


class _Passes:
    """Rows in a new order on every pass, any number of them at a time."""

    def __init__(self, n: int, device: torch.device, generator: torch.Generator) -> None:
        self._n = n
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.int64, device=device)

    def take(self, count: int) -> Tensor:
        """The next rows, ``(count,)``."""
        while len(self._order) < count:
            again = torch.randperm(self._n, generator=self._generator, device=self._order.device)
            self._order = torch.cat([self._order, again])
        rows, self._order = self._order[:count], self._order[count:]
        return rows
