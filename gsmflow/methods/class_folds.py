"""Rehearsing zero-shot recognition on the seen classes, a fold of them at a time.

The classes of a fold play unseen: their means are predicted from the other classes', and their
rows, with held-out rows of the other classes, are judged. Everything that a prototype
discriminant has to choose is chosen there, and its gate learns there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.evaluation.metrics import mean_class_accuracy, seen_unseen_curve
from gsmflow.learning.feed import Feed, class_means
from gsmflow.methods.feature_transform import (
    EncodedFeed,
    FeatureTransform,
    FeatureTransformer,
    fit_transformer,
)
from gsmflow.methods.gates.cosmo import score_temperature
from gsmflow.methods.linear_discriminant import LinearScores, discriminant
from gsmflow.methods.mean_regression import MeanRegression, shrink, within_class_covariances

__all__ = [
    "START",
    "ClassFolds",
    "DiscriminantGate",
    "Discriminants",
    "Setting",
    "choose_setting",
    "fit_discriminant_gate",
    "fit_discriminants",
    "fold_classes",
    "gzsl_scores",
    "zsl_scores",
]

_FOLDS = 5
_FEWEST_CLASSES = 4
_HELD_SHARE = 0.2
# Rows that are judged, of each class and in all, at most.
_JUDGED_PER_CLASS = 200
_JUDGED = 40_000
# Of the covariance of the seen classes' own discriminant, whose means are known.
_OWN_SHRINKAGE = 0.1
_GATE_PENALTY = 1.0


@dataclass(frozen=True)
class Setting:
    """What a prototype discriminant has to choose.

    Attributes
    ----------
    whitening
        Of the semantics, as `MeanRegression` takes it.
    ridge
        Of the regression.
    shrinkage
        Of the covariance, as `shrink` takes it.
    """

    whitening: float
    ridge: float
    shrinkage: float


@dataclass(frozen=True, eq=False)
class Discriminants:
    """The two discriminants of one fit.

    Attributes
    ----------
    common
        Of seen and unseen classes, around known and predicted means, with the covariance of rows
        around predicted ones.
    seen
        How many of the columns of ``common`` are of seen classes; they come first.
    means, covariance
        What ``common`` was made of, ``(k, d)`` and ``(d, d)``.
    within
        Mean of the seen classes' own covariances, ``(d, d)``.
    regression
        What the means of unseen classes were predicted with.
    """

    common: LinearScores
    seen: int
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]
    within: NDArray[np.float64]
    regression: MeanRegression

    def own(self) -> LinearScores:
        """The discriminant of the seen classes alone, whose means are known."""
        means = self.means[: self.seen]
        return discriminant(shrink(self.within, _OWN_SHRINKAGE), means, means.mean(axis=0))


def fit_discriminants(
    means: NDArray[np.float64],
    within: NDArray[np.float64],
    semantics: FloatArray,
    seen: IntArray,
    unseen: IntArray,
    setting: Setting,
    length_exponent: float,
) -> Discriminants:
    """The discriminants of seen classes with their means, and of unseen ones without.

    Parameters
    ----------
    means
        Of the seen classes' encoded rows, ``(k, d)``.
    within
        Mean of the seen classes' own covariances, ``(d, d)``.
    semantics
        Of every class of the dataset, ``(classes, a)``.
    seen, unseen
        Classes, ``(k,)`` and ``(u,)``.
    setting
        What was chosen.
    length_exponent
        As `discriminant` takes it.
    """
    regression = MeanRegression(means, semantics, seen, setting.whitening)
    every = np.concatenate([means, regression.predict(setting.ridge)[unseen]])
    centre = means.mean(axis=0)
    covariance = shrink(within + regression.error_covariance(setting.ridge), setting.shrinkage)
    return Discriminants(
        common=discriminant(covariance, every, centre, length_exponent),
        seen=len(seen),
        means=every,
        covariance=covariance,
        within=within,
        regression=regression,
    )


@dataclass(frozen=True, eq=False)
class ClassFolds:
    """The seen classes' rows, encoded and summed up so that every fold is quick to fit.

    Attributes
    ----------
    encoder
        Of the features.
    classes, semantics
        The seen classes, ascending, ``(k,)``, and the semantics of all classes.
    folds
        The fold of each seen class, ``(k,)``.
    means, within, total
        Of the rows that are fitted: ``(k, d)``; ``(folds, d, d)``, the sum of the covariances of
        the classes of each fold; ``(d, d)``, their sum over the folds.
    judged, columns, held
        Encoded rows to judge, ``(n, d)``; which of the seen classes they are of, ``(n,)``; which of
        them are not fitted, so that they can be judged while their class plays seen.
    """

    encoder: FeatureTransformer
    classes: IntArray
    semantics: FloatArray
    folds: IntArray
    means: NDArray[np.float64]
    within: NDArray[np.float64]
    total: NDArray[np.float64]
    judged: FloatArray
    columns: IntArray
    held: NDArray[np.bool_]

    def fit(self, fold: int, setting: Setting, length_exponent: float) -> Discriminants:
        """The discriminants of the other folds' classes as seen ones, and this one's as unseen."""
        is_seen = self.folds != fold
        return fit_discriminants(
            self.means[is_seen],
            (self.total - self.within[fold]) / is_seen.sum(),
            self.semantics,
            self.classes[is_seen],
            self.classes[~is_seen],
            setting,
            length_exponent,
        )

    def trials(
        self, setting: Setting, length_exponent: float
    ) -> Iterator[tuple[Discriminants, FloatArray, IntArray]]:
        """For each fold: discriminants, rows to judge, and each row's column of ``common``."""
        for fold in range(len(self.within)):
            is_unseen = self.folds == fold
            rows = is_unseen[self.columns] | self.held
            # Seen classes first, as the columns of the discriminants.
            place = np.argsort(np.argsort(is_unseen, kind="stable"), kind="stable")
            fitted = self.fit(fold, setting, length_exponent)
            yield fitted, self.judged[rows], place[self.columns[rows]]


def fold_classes(
    feed: Feed, semantics: FloatArray, transform: FeatureTransform, generator: torch.Generator
) -> ClassFolds:
    """Encode and sum up the rows of seen classes.

    Parameters
    ----------
    feed
        Rows of seen classes.
    semantics
        Of every class of the dataset, ``(classes, a)``.
    transform
        Of the features.
    generator
        A CPU generator; draws the folds and the rows that are held out or judged.

    Raises
    ------
    InputError
        If there are fewer than four seen classes.
    """
    labels = feed.labels.cpu()
    classes, columns, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    k = len(classes)
    if k < _FEWEST_CLASSES:
        raise InputError(
            f"seen classes: found {k}, expected at least {_FEWEST_CLASSES}, of which some play "
            "unseen in turn"
        )
    folds = torch.arange(k)[torch.randperm(k, generator=generator).argsort()] % min(_FOLDS, k // 2)
    order = torch.randperm(len(labels), generator=generator)
    held = _first_of_each(columns, order, torch.floor(_HELD_SHARE * counts).clamp(min=1, max=100))
    held &= (counts > 1)[columns]
    most = min(_JUDGED_PER_CLASS, max(1, _JUDGED // k))
    # Those that are held out come first, as they can be judged in every fold.
    order = torch.cat([order[held[order]], order[~held[order]]])
    judged = _first_of_each(columns, order, torch.full((k,), most)).nonzero()[:, 0]
    fitted = (~held).nonzero()[:, 0]

    device = feed.labels.device
    encoder = fit_transformer(feed, transform).to(device)
    rows = EncodedFeed(feed, encoder, fitted.to(device))
    on_device = classes.to(device)
    means = class_means(rows, on_device)
    within = within_class_covariances(rows, on_device, means, folds.to(device))
    return ClassFolds(
        encoder=encoder,
        classes=classes.numpy(),
        semantics=semantics,
        folds=folds.numpy(),
        means=means.cpu().numpy().astype(np.float64),
        within=within,
        total=within.sum(axis=0),
        judged=EncodedFeed(feed, encoder).take(judged.to(device)).cpu().numpy(),
        columns=columns[judged].numpy(),
        held=held[judged].numpy(),
    )


def _first_of_each(columns: Tensor, order: Tensor, counts: Tensor) -> Tensor:
    """Which rows are among the first ``counts`` of their class in an order, ``(n,)``."""
    by_class = order[torch.argsort(columns[order], stable=True)]
    own = columns[by_class]
    starts = torch.searchsorted(own, torch.arange(len(counts)))
    rank = torch.arange(len(own)) - starts[own]
    chosen = torch.zeros(len(columns), dtype=torch.bool)
    chosen[by_class] = rank < counts[own]
    return chosen


START = Setting(whitening=0.25, ridge=0.2, shrinkage=0.7)
# The steps in which a part of a setting is changed, and the order in which they are.
_SCALES: Mapping[str, Sequence[float]] = {
    "shrinkage": (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95),
    "ridge": (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
    "whitening": (0.0, 0.25, 0.5),
}
_ROUNDS = 2


def choose_setting(
    folds_of_classes: ClassFolds, length_exponent: float, start: Setting, fixed: Sequence[str] = ()
) -> tuple[Setting, float]:
    """The setting of best recognition in the rehearsal, and how good it is.

    Each part of it is changed to either side for as long as that gets better, in two rounds. The
    value is the mean over the folds of half the sum of T1 and of H under its best penalty, both of
    the common discriminant.

    Parameters
    ----------
    rehearsal
        Where to try.
    length_exponent
        As `discriminant` takes it.
    start
        Where to begin.
    fixed
        Parts of it that stay.
    """
    known: dict[Setting, float] = {}

    def value(setting: Setting) -> float:
        if setting not in known:
            known[setting] = _value(folds_of_classes, setting, length_exponent)
        return known[setting]

    best = start
    for name in [*_SCALES] * _ROUNDS:
        if name not in fixed:
            best = _climb(best, name, value)
    return best, value(best)


def _climb(best: Setting, name: str, value: Callable[[Setting], float]) -> Setting:
    """Go along one part's scale to either side for as long as the value rises."""
    scale = _SCALES[name]
    for step in (1, -1):
        while 0 <= (at := scale.index(getattr(best, name)) + step) < len(scale):
            other = replace(best, **{name: scale[at]})
            if value(other) <= value(best):
                break
            best = other
    return best


def _value(folds_of_classes: ClassFolds, setting: Setting, length_exponent: float) -> float:
    values = []
    for fitted, features, columns in folds_of_classes.trials(setting, length_exponent):
        scores, every = fitted.common(features), np.arange(len(fitted.means))
        seen, is_unseen = every[: fitted.seen], columns >= fitted.seen
        answers = fitted.seen + scores[is_unseen, fitted.seen :].argmax(axis=1)
        t1 = mean_class_accuracy(columns[is_unseen], answers)
        curve = seen_unseen_curve(scores, columns, every, seen)
        values.append((t1 + curve.best_harmonic_mean()) / 2)
    return float(np.mean(values))


@dataclass(frozen=True, eq=False)
class DiscriminantGate:
    """Tells rows of unseen classes from rows of seen ones, and scales the scores of both.

    Attributes
    ----------
    weight, bias
        Of the log-odds of a row being of an unseen class, over the best score of the seen and of
        the unseen classes in the common discriminant, and the best one in the seen classes' own:
        ``(3,)`` and a number.
    seen_temperature, unseen_temperature
        What the scores within either group are multiplied by to become log-probabilities.
    """

    weight: NDArray[np.float64]
    bias: float
    seen_temperature: float
    unseen_temperature: float


def fit_discriminant_gate(
    folds_of_classes: ClassFolds, setting: Setting, length_exponent: float
) -> DiscriminantGate:
    """Learn the gate from all folds: a logistic regression in which both groups count the same.

    Its bias is then moved so that H is best without a penalty, in the mean over the folds.
    """
    trials = []
    for fitted, features, columns in folds_of_classes.trials(setting, length_exponent):
        trials.append((fitted.common(features), fitted.own()(features), fitted.seen, columns))
    told = np.concatenate([_gate_features(common, own, seen) for common, own, seen, _ in trials])
    is_unseen = np.concatenate([columns >= seen for _, _, seen, columns in trials])
    scaler = StandardScaler().fit(told)
    logistic = LogisticRegression(C=_GATE_PENALTY, class_weight="balanced", max_iter=1000)
    logistic.fit(scaler.transform(told), is_unseen)
    weight = logistic.coef_[0] / scaler.scale_
    bias = float(logistic.intercept_[0] - weight @ scaler.mean_)
    seen_rows = [(own[columns < seen], columns[columns < seen]) for _, own, seen, columns in trials]
    unseen_rows = [
        (common[columns >= seen, seen:], columns[columns >= seen] - seen)
        for common, _, seen, columns in trials
    ]
    gate = DiscriminantGate(
        weight, bias, score_temperature(seen_rows), score_temperature(unseen_rows)
    )
    penalties = []
    for common, own, seen, columns in trials:
        every = np.arange(common.shape[1])
        scores = gzsl_scores(common, own, seen, gate)
        penalties.append(seen_unseen_curve(scores, columns, every, every[:seen]).best_gamma())
    return replace(gate, bias=bias + float(np.mean(penalties)))


def gzsl_scores(
    common: FloatArray, own: FloatArray, seen: int, gate: DiscriminantGate
) -> FloatArray:
    """Log-probabilities of seen and unseen classes, ``(n, k)``.

    Parameters
    ----------
    common, own
        Scores of the two discriminants, ``(n, k)`` and ``(n, seen)``.
    seen
        How many columns of ``common`` are of seen classes; they come first.
    gate
        The gate.
    """
    odds = (_gate_features(common, own, seen) @ gate.weight + gate.bias)[:, None]
    of_seen = log_softmax(own.astype(np.float64) * gate.seen_temperature, axis=1)
    of_unseen = log_softmax(common[:, seen:].astype(np.float64) * gate.unseen_temperature, axis=1)
    scores = [of_seen - np.logaddexp(0, odds), of_unseen - np.logaddexp(0, -odds)]
    return np.concatenate(scores, axis=1).astype(np.float32)


def zsl_scores(common: FloatArray, seen: int, gate: DiscriminantGate | None) -> FloatArray:
    """Scores of the unseen classes, ``(n, u)``; log-probabilities where there is a gate."""
    scores = common[:, seen:]
    if gate is None:
        return scores
    scaled = scores.astype(np.float64) * gate.unseen_temperature
    return np.asarray(log_softmax(scaled, axis=1), dtype=np.float32)


def _gate_features(common: FloatArray, own: FloatArray, seen: int) -> NDArray[np.float64]:
    best = [common[:, :seen].max(axis=1), common[:, seen:].max(axis=1), own.max(axis=1)]
    return np.stack(best, axis=1).astype(np.float64)
