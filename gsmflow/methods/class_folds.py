"""Cross-validation over seen classes for the prototype discriminant: its settings and its gate.

The seen classes are divided into folds. In each fold's turn its classes are treated as unseen:
their means are predicted from the other classes, and the discriminant is evaluated on their rows
and on held-out rows of the other classes. The settings of a prototype discriminant are chosen on
these folds, and its gate is trained on them.
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
from gsmflow.core.progress import counted, counting
from gsmflow.data.dataset import Problem
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
    "lacks_rows_for_folds",
    "zsl_scores",
]

_FOLDS = 5
_FEWEST_CLASSES = 4
# A final problem has more classes and rows than its validation problem: one class and one row of
# each class at least.
_FEWEST_IN_FINAL, _FEWEST_ROWS = _FEWEST_CLASSES + 1, {"validation": 2, "test": 3}
# Share of each class's rows that are not fitted, and the most rows of a class that this may be.
_HELD_OUT_SHARE = 0.2
_MOST_HELD_OUT = 100
# The most rows that are evaluated, per class and in total.
_MOST_EVALUATED_PER_CLASS = 200
_MOST_EVALUATED = 40_000
# Above so many classes, rows are evaluated of some classes alone, with so many scores in all.
_MANY_CLASSES = 1000
_MOST_SCORES = 10_000_000
# Shrinkage of the seen-class expert's covariance. Its means are known, so it needs little.
_SEEN_EXPERT_SHRINKAGE = 0.1
# Inverse strength of the L2 regularization of the gate's logistic regression (scikit-learn's C).
_GATE_C = 1.0


@dataclass(frozen=True)
class Setting:
    """The hyperparameters of a prototype discriminant that cross-validation chooses.

    Attributes
    ----------
    whitening
        Whitening exponent of the semantics, in [0, 1]; see `MeanRegression`.
    ridge
        Regularizer of the regression from semantics to class means, ``> 0``.
    shrinkage
        Shrinkage of the covariance, in [0, 1]; see `shrink`.
    """

    whitening: float
    ridge: float
    shrinkage: float


@dataclass(frozen=True, eq=False)
class Discriminants:
    """A fitted prototype discriminant: one for all classes, and a seen-class expert.

    Attributes
    ----------
    common
        The discriminant of seen and unseen classes. Means of seen classes are known, those of
        unseen classes predicted; the covariance is that of rows around predicted means.
    seen
        Number of seen classes. They are the first columns of ``common``.
    means, covariance
        The class means and the covariance of ``common``, ``(k, d)`` and ``(d, d)``.
    within
        Mean over the seen classes of the within-class covariance, ``(d, d)``.
    regression
        The regression that predicts the means of unseen classes.
    """

    common: LinearScores
    seen: int
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]
    within: NDArray[np.float64]
    regression: MeanRegression

    def seen_expert(self) -> LinearScores:
        """The discriminant of the seen classes alone, with the covariance around known means."""
        means = self.means[: self.seen]
        covariance = shrink(self.within, _SEEN_EXPERT_SHRINKAGE)
        return discriminant(covariance, means, means.mean(axis=0))


def fit_discriminants(
    means: NDArray[np.float64],
    within: NDArray[np.float64],
    semantics: FloatArray,
    seen: IntArray,
    unseen: IntArray,
    setting: Setting,
    length_exponent: float,
) -> Discriminants:
    """Predict the means of unseen classes and fit the discriminants.

    Parameters
    ----------
    means
        Mean encoded row of each seen class, ``(k, d)``.
    within
        Mean over the seen classes of the within-class covariance, ``(d, d)``.
    semantics
        Semantics of every class of the dataset, ``(classes, a)``.
    seen, unseen
        Class numbers, ``(k,)`` and ``(u,)``.
    setting
        Hyperparameters.
    length_exponent
        See `discriminant`.
    """
    regression = MeanRegression(means, semantics, seen, setting.whitening)
    all_means = np.concatenate([means, regression.predict(setting.ridge)[unseen]])
    centre = means.mean(axis=0)
    covariance = shrink(within + regression.error_covariance(setting.ridge), setting.shrinkage)
    return Discriminants(
        common=discriminant(covariance, all_means, centre, length_exponent),
        seen=len(seen),
        means=all_means,
        covariance=covariance,
        within=within,
        regression=regression,
    )


@dataclass(frozen=True, eq=False)
class ClassFolds:
    """Class folds: the seen classes' encoded rows, reduced to what fitting a fold needs.

    Attributes
    ----------
    encoder
        Transform of the features.
    classes
        The seen classes, ascending, ``(k,)``.
    semantics
        Semantics of every class of the dataset, ``(classes, a)``.
    folds
        The fold of each seen class, ``(k,)``.
    means
        Mean fitted row of each seen class, ``(k, d)``.
    within
        For each fold, the sum of the within-class covariances of its classes' fitted rows,
        ``(folds, d, d)``.
    total
        The sum of ``within`` over the folds, ``(d, d)``.
    evaluated
        The encoded rows that may be evaluated, ``(n, d)``.
    columns
        The class of each of them, as a position in ``classes``, ``(n,)``.
    held
        Whether each of them is held out, that is, not fitted, ``(n,)``. A held-out row is also
        evaluated in the folds that treat its class as seen.
    """

    encoder: FeatureTransformer
    classes: IntArray
    semantics: FloatArray
    folds: IntArray
    means: NDArray[np.float64]
    within: NDArray[np.float64]
    total: NDArray[np.float64]
    evaluated: FloatArray
    columns: IntArray
    held: NDArray[np.bool_]

    def fit(self, fold: int, setting: Setting, length_exponent: float) -> Discriminants:
        """Fit the discriminants with this fold's classes as unseen and all others as seen."""
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
        """Fit and give what to evaluate, one fold after the other.

        Yields
        ------
        tuple
            The discriminants of a fold, the rows to evaluate ``(m, d)``, and the column of
            ``common`` that each row's class has, ``(m,)``.
        """
        count = len(self.within)
        for fold in counted(range(count), "class folds", count, repeated=True):
            is_unseen = self.folds == fold
            rows = is_unseen[self.columns] | self.held
            # The discriminants have their seen classes first.
            column_of_class = np.argsort(np.argsort(is_unseen, kind="stable"), kind="stable")
            fitted = self.fit(fold, setting, length_exponent)
            yield fitted, self.evaluated[rows], column_of_class[self.columns[rows]]


def lacks_rows_for_folds(problem: Problem) -> str | None:
    """Why a problem's settings cannot be chosen on folds of its classes; None if they can.

    Every fold needs held-out rows of classes of other folds. A final problem whose validation
    problem would lack them counts as lacking them too: the calibration factor gamma, chosen with
    the validation model, must fit the scores of the final one.
    """
    counts = np.unique(problem.train.labels, return_counts=True)[1]
    classes, rows = len(counts), _FEWEST_ROWS[problem.split]
    fewest = _FEWEST_IN_FINAL if problem.split == "test" else _FEWEST_CLASSES
    if classes < fewest:
        return f"found {classes} seen classes, expected at least {fewest}"
    rich, fold = int((counts >= rows).sum()), -(-classes // _fold_count(classes))
    if rich <= fold:
        return (
            f"found {rich} of {classes} seen classes with {rows} or more training rows, expected "
            f"at least {fold + 1}"
        )
    return None


def _fold_count(classes: int) -> int:
    return min(_FOLDS, classes // 2)


def fold_classes(
    feed: Feed, semantics: FloatArray, transform: FeatureTransform, generator: torch.Generator
) -> ClassFolds:
    """Divide the seen classes into folds and compute what fitting each fold needs.

    Parameters
    ----------
    feed
        Scaled training rows, all of seen classes.
    semantics
        Semantics of every class of the dataset, ``(classes, a)``.
    transform
        Transform of the features.
    generator
        A CPU generator. It draws the folds and the rows that are held out or evaluated.

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
            f"seen classes: found {k}, expected at least {_FEWEST_CLASSES}, so that some can be "
            "treated as unseen in turn"
        )
    folds = torch.arange(k)[torch.randperm(k, generator=generator).argsort()] % _fold_count(k)
    order = torch.randperm(len(labels), generator=generator)
    held, evaluated = _held_out_and_evaluated(columns, counts, order)
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
        evaluated=EncodedFeed(feed, encoder).take(evaluated.to(device)).cpu().numpy(),
        columns=columns[evaluated].numpy(),
        held=held[evaluated].numpy(),
    )


def _held_out_and_evaluated(
    columns: Tensor, counts: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Pick the rows to hold out and those to evaluate, the first of each class in an order.

    Parameters
    ----------
    columns
        The class of each row, as a position among the seen classes, ``(n,)``.
    counts
        Rows of each class, ``(k,)``.
    order
        A random permutation of the rows, ``(n,)``.

    Returns
    -------
    tuple of Tensor
        Whether each row is held out, ``(n,)``; the ascending numbers of the rows to evaluate.
    """
    k = len(counts)
    wanted = torch.floor(_HELD_OUT_SHARE * counts).clamp(min=1, max=_MOST_HELD_OUT)
    held = _first_of_each_class(columns, order, wanted)
    held &= (counts > 1)[columns]  # the only row of a class is fitted
    most = min(_MOST_EVALUATED_PER_CLASS, max(1, _MOST_EVALUATED // k))
    # Held-out rows come first, because every fold can evaluate them.
    order = torch.cat([order[held[order]], order[~held[order]]])
    evaluated = _first_of_each_class(columns, order, torch.full((k,), most))
    in_order = order[evaluated[order]]
    if k > _MANY_CLASSES:
        in_order = in_order[: max(1, _MOST_SCORES // k)]
    return held, in_order.sort().values


def _first_of_each_class(columns: Tensor, order: Tensor, counts: Tensor) -> Tensor:
    """Whether each row is among the first ``counts`` of its class in an order, ``(n,)``."""
    rows_by_class = order[torch.argsort(columns[order], stable=True)]
    sorted_columns = columns[rows_by_class]
    starts = torch.searchsorted(sorted_columns, torch.arange(len(counts)))
    rank = torch.arange(len(sorted_columns)) - starts[sorted_columns]
    is_first = torch.zeros(len(columns), dtype=torch.bool)
    is_first[rows_by_class] = rank < counts[sorted_columns]
    return is_first


START = Setting(whitening=0.25, ridge=0.2, shrinkage=0.7)
# The values that are tried of each hyperparameter; the first is searched first.
_GRIDS: Mapping[str, Sequence[float]] = {
    "shrinkage": (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95),
    "ridge": (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
    "whitening": (0.0, 0.25, 0.5),
}
_ROUNDS = 2


def choose_setting(
    class_folds: ClassFolds, length_exponent: float, start: Setting, fixed: Sequence[str] = ()
) -> tuple[Setting, float]:
    """Choose the hyperparameters with the best objective on the class folds.

    A coordinate search: in two rounds, each hyperparameter is moved along its grid, up and then
    down, for as long as the objective rises.

    Parameters
    ----------
    class_folds
        The folds to evaluate on.
    length_exponent
        See `discriminant`.
    start
        Where the search starts; every value is on its grid.
    fixed
        Names of hyperparameters that keep their value of ``start``.

    Returns
    -------
    tuple
        The chosen setting and its objective: the mean over the folds of ``(T1 + H) / 2``, where H
        is that of the fold's best calibration factor gamma. Both are those of the common
        discriminant, without the gate.
    """
    known: dict[Setting, float] = {}
    with counting("settings tried") as advance:

        def objective(setting: Setting) -> float:
            if setting not in known:
                known[setting] = _objective(class_folds, setting, length_exponent)
                advance()
            return known[setting]

        best = start
        for name in [*_GRIDS] * _ROUNDS:
            if name not in fixed:
                best = _search_along(name, best, objective)
        return best, objective(best)


def _search_along(name: str, best: Setting, objective: Callable[[Setting], float]) -> Setting:
    """Move one hyperparameter along its grid for as long as the objective rises."""
    grid = _GRIDS[name]
    for step in (1, -1):
        while 0 <= (position := grid.index(getattr(best, name)) + step) < len(grid):
            candidate = replace(best, **{name: grid[position]})
            if objective(candidate) <= objective(best):
                break
            best = candidate
    return best


def _objective(class_folds: ClassFolds, setting: Setting, length_exponent: float) -> float:
    """The mean over the folds of ``(T1 + H) / 2`` with the best calibration factor gamma."""
    values = []
    for fitted, features, columns in class_folds.trials(setting, length_exponent):
        scores, all_columns = fitted.common(features), np.arange(len(fitted.means))
        is_unseen = columns >= fitted.seen
        answers = fitted.seen + scores[is_unseen, fitted.seen :].argmax(axis=1)
        t1 = mean_class_accuracy(columns[is_unseen], answers)
        curve = seen_unseen_curve(scores, columns, all_columns, all_columns[: fitted.seen])
        values.append((t1 + curve.best_harmonic_mean()) / 2)
    return float(np.mean(values))


@dataclass(frozen=True, eq=False)
class DiscriminantGate:
    """A logistic regression of seen against unseen, and the temperatures of both groups' scores.

    Attributes
    ----------
    weight, bias
        Coefficients ``(3,)`` and intercept of the log-odds that a row is of an unseen class. The
        inputs are three best scores of the row: over the seen classes and over the unseen classes
        in the common discriminant, and over all classes of the seen-class expert.
    seen_temperature, unseen_temperature
        Factors on the scores within either group, after which a softmax gives probabilities.
    """

    weight: NDArray[np.float64]
    bias: float
    seen_temperature: float
    unseen_temperature: float


def fit_discriminant_gate(
    class_folds: ClassFolds, setting: Setting, length_exponent: float
) -> DiscriminantGate:
    """Train the gate on the rows of all folds.

    The logistic regression weighs seen and unseen rows equally. Its bias is then moved by the
    mean over the folds of the calibration factor gamma of best H, so that H is best without one.
    """
    folds = [
        _FoldScores(fitted.common(features), fitted.seen_expert()(features), fitted.seen, columns)
        for fitted, features, columns in class_folds.trials(setting, length_exponent)
    ]
    weight, bias = _fit_log_odds(folds)
    gate = DiscriminantGate(
        weight,
        bias,
        seen_temperature=score_temperature([fold.scores_among_seen() for fold in folds]),
        unseen_temperature=score_temperature([fold.scores_among_unseen() for fold in folds]),
    )
    gammas = []
    for fold in folds:
        every = np.arange(fold.common.shape[1])
        scores = gzsl_scores(fold.common, fold.seen_expert, fold.seen, gate)
        curve = seen_unseen_curve(scores, fold.columns, every, every[: fold.seen])
        gammas.append(curve.best_gamma())
    return replace(gate, bias=bias + float(np.mean(gammas)))


@dataclass(frozen=True, eq=False)
class _FoldScores:
    """The scores of a fold's rows.

    Attributes
    ----------
    common, seen_expert
        Scores of the two discriminants, ``(m, k)`` and ``(m, seen)``.
    seen
        Number of seen classes of the fold.
    columns
        The column of ``common`` that each row's class has, ``(m,)``.
    """

    common: FloatArray
    seen_expert: FloatArray
    seen: int
    columns: IntArray

    @property
    def is_unseen(self) -> NDArray[np.bool_]:
        """Whether each row is of an unseen class, ``(m,)``."""
        return np.asarray(self.columns >= self.seen)

    def scores_among_seen(self) -> tuple[FloatArray, IntArray]:
        """The seen-class expert's scores of rows of seen classes, and their columns."""
        rows = ~self.is_unseen
        return self.seen_expert[rows], self.columns[rows]

    def scores_among_unseen(self) -> tuple[FloatArray, IntArray]:
        """The scores of unseen classes, of rows of unseen classes, and their columns there."""
        rows = self.is_unseen
        return self.common[rows, self.seen :], self.columns[rows] - self.seen


def _fit_log_odds(folds: Sequence[_FoldScores]) -> tuple[NDArray[np.float64], float]:
    """Coefficients ``(3,)`` and intercept of the gate's logistic regression."""
    inputs = np.concatenate([_best_scores(f.common, f.seen_expert, f.seen) for f in folds])
    is_unseen = np.concatenate([fold.is_unseen for fold in folds])
    scaler = StandardScaler().fit(inputs)
    logistic = LogisticRegression(C=_GATE_C, class_weight="balanced", max_iter=1000)
    logistic.fit(scaler.transform(inputs), is_unseen)
    weight = logistic.coef_[0] / scaler.scale_
    return weight, float(logistic.intercept_[0] - weight @ scaler.mean_)


def gzsl_scores(
    common: FloatArray, seen_expert_scores: FloatArray, seen: int, gate: DiscriminantGate
) -> FloatArray:
    """Log-probabilities of seen and unseen classes, ``(n, k)``.

    Parameters
    ----------
    common
        Scores of the common discriminant, ``(n, k)``, seen classes first.
    seen_expert_scores
        Scores of the seen-class expert, ``(n, seen)``.
    seen
        Number of seen classes.
    gate
        The gate.
    """
    inputs = _best_scores(common, seen_expert_scores, seen)
    log_odds = (inputs @ gate.weight + gate.bias)[:, None]
    among_seen = log_softmax(seen_expert_scores.astype(np.float64) * gate.seen_temperature, axis=1)
    among_unseen = log_softmax(
        common[:, seen:].astype(np.float64) * gate.unseen_temperature, axis=1
    )
    scores = [among_seen - np.logaddexp(0, log_odds), among_unseen - np.logaddexp(0, -log_odds)]
    return np.concatenate(scores, axis=1).astype(np.float32)


def zsl_scores(common: FloatArray, seen: int, gate: DiscriminantGate | None) -> FloatArray:
    """Scores of the unseen classes, ``(n, u)``: log-probabilities if there is a gate.

    Parameters
    ----------
    common
        Scores of the common discriminant, ``(n, seen + u)``, seen classes first.
    seen
        Number of seen classes.
    gate
        The gate, or None.
    """
    scores = common[:, seen:]
    if gate is None:
        return scores
    scaled = scores.astype(np.float64) * gate.unseen_temperature
    return np.asarray(log_softmax(scaled, axis=1), dtype=np.float32)


def _best_scores(
    common: FloatArray, seen_expert_scores: FloatArray, seen: int
) -> NDArray[np.float64]:
    """The inputs of the gate's logistic regression, ``(n, 3)``; see `DiscriminantGate`."""
    groups = common[:, :seen], common[:, seen:], seen_expert_scores
    return np.stack([scores.max(axis=1) for scores in groups], axis=1).astype(np.float64)
