"""Gaussians around ridge prototypes, the baseline that a generator must beat.

Ridge regression from the semantics to the class means predicts the mean of every class, seen or
not. Features of a class are drawn from one Gaussian around it, with the covariance that real rows
show around means that were predicted without their class, so that it has the spread within a
class and the error of a prediction both. The classifiers are those of the flow. Features are
standardised per dimension on the training rows.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.classifier import ClassifierConfig, SoftmaxPair, pair_from_rows
from gsmflow.dataset import HeldOut
from gsmflow.evaluate import judge
from gsmflow.feed import Scaled, class_means, feed_slabs
from gsmflow.interface import rows_with
from gsmflow.synthesis import Draw, Reservoir

__all__ = [
    "GaussianChoice",
    "GaussianPrototypes",
    "PrototypeSolver",
    "choose_gaussian",
    "classify_gaussian",
    "fit_gaussian",
]

# What is tried in place of what the choice starts from: one side of it, then the other.
_TRIED: dict[str, tuple[tuple[float, ...], ...]] = {
    "ridge": ((0.3, 1.0, 3.0), (0.03, 0.01, 0.003)),
    "shrinkage": ((0.3,),),
    "classifier_lr": ((1e-2, 3e-2, 1e-1), (1e-3,)),
}
_SAMPLES_PER_CLASS = 1000
_CLASSIFIER = ClassifierConfig(classifier_batch_size=500, classifier_epochs=7)
# Synthesized features that are held in memory at once; more are streamed through as many.
_RESERVOIR_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class GaussianPrototypes:
    """A Gaussian for every class: means of their own, one covariance for all.

    Attributes
    ----------
    means
        Predicted mean of every class of the dataset, ``(classes, d)``.
    factor
        ``L`` of the covariance ``L L'``, lower triangular, ``(d, d)``, on the same device.
    """

    means: Tensor
    factor: Tensor

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.means.shape[1]

    def sampler(self, classes: Tensor) -> Draw:
        """What draws scaled features of classes ``(k,)``, seen or unseen."""
        means = self.means[classes]

        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            shape = (len(positions), self.feature_dim)
            noise = torch.randn(shape, generator=generator, device=positions.device)
            return means[positions] + noise @ self.factor.T

        return draw


class PrototypeSolver:
    """Fits the Gaussians for many settings, the rows read once for all.

    The semantics are centred on the mean of the seen classes, so that the intercept of the
    regression is not penalised, and divided by one number, after which the mean squared length
    of the seen classes' is 1: a ridge means the same for attributes and for sentence vectors.
    Every seen class counts the same, however many rows it has.

    Parameters
    ----------
    scaled
        Its training rows and the semantics of its seen classes, two or more, are fitted.
    """

    def __init__(self, scaled: Scaled) -> None:
        problem, feed = scaled.problem, scaled.feed
        self._device = feed.labels.device
        seen = torch.from_numpy(problem.seen_classes).to(self._device)
        means = class_means(feed, seen)
        self._class_means = means.cpu().numpy().astype(np.float64)
        self._within = _within_class_covariance(scaled, seen, means)
        semantics = problem.semantics.astype(np.float64)
        fit = semantics[problem.seen_classes]
        centre = fit.mean(axis=0)
        length = np.sqrt(np.square(fit - centre).sum(axis=1).mean())
        # One decomposition gives the regression and its leave-one-out residuals for any ridge.
        self._left, self._values, right = np.linalg.svd(
            (fit - centre) / (length or 1.0), full_matrices=False
        )
        self._projected = (semantics - centre) / (length or 1.0) @ right.T

    def means(self, ridge: float) -> NDArray[np.float64]:
        """Predicted mean of every class of the dataset, ``(classes, d)``, for ``ridge > 0``."""
        overall = self._class_means.mean(axis=0)
        core = self._left.T @ (self._class_means - overall)
        gains = self._values / (self._values**2 + ridge)
        return np.asarray(overall + self._projected @ (gains[:, None] * core))

    def cross_fitted(self, ridge: float) -> NDArray[np.float64]:
        """Mean of each seen class as predicted from all others, ``(seen, d)``.

        Leaving a class out divides its residual by one less its leverage; the scale of the
        semantics stays as it is.
        """
        values, left = self._values**2, self._left
        overall = self._class_means.mean(axis=0)
        fitted = left * (values / (values + ridge)) @ left.T @ (self._class_means - overall)
        leverage = 1 / len(left) + left**2 @ (values / (values + ridge))
        residuals = self._class_means - overall - fitted
        return np.asarray(self._class_means - residuals / (1 - leverage)[:, None])

    def covariance(self, ridge: float, shrinkage: float) -> NDArray[np.float64]:
        """Second moments of real seen rows around their cross-fitted means, ``(d, d)``.

        Parameters
        ----------
        ridge
            Of the regression, ``> 0``.
        shrinkage
            Factor ``1 - shrinkage`` on all but the diagonal, in ``[0, 1]``.
        """
        errors = self._class_means - self.cross_fitted(ridge)
        covariance = self._within + errors.T @ errors / len(errors)
        variances = np.diagonal(covariance).copy()
        covariance *= 1 - shrinkage
        np.fill_diagonal(covariance, variances)
        return covariance

    def solve(self, ridge: float, shrinkage: float) -> GaussianPrototypes:
        """The Gaussians for ``ridge > 0`` and ``0 < shrinkage <= 1``, on the rows' device."""
        covariance = self.covariance(ridge, shrinkage)
        deviations = np.sqrt(np.diagonal(covariance))
        # A correlation matrix that is shrunk has a factor whatever the rows are; a dimension
        # that is constant has correlations of 0, and stays constant.
        scale = np.where(deviations > 0, deviations, np.inf)
        correlation = covariance / scale / scale[:, None]
        np.fill_diagonal(correlation, 1.0)
        factor = deviations[:, None] * np.linalg.cholesky(correlation)
        means, factor = (
            torch.from_numpy(values.astype(np.float32)).to(self._device)
            for values in (self.means(ridge), factor)
        )
        return GaussianPrototypes(means, factor)


@dataclass(frozen=True)
class GaussianChoice:
    """A setting that was best on validation classes.

    ``classifier_lr`` is the learning rate of the classifiers, ``penalty`` the seen-class penalty
    of best H there; ``value`` the mean of T1 and of H under that penalty, which the setting was
    chosen by.
    """

    ridge: float
    shrinkage: float
    classifier_lr: float
    penalty: float
    value: float


def choose_gaussian(
    scaled: Scaled, held_out: HeldOut, generator: torch.Generator
) -> GaussianChoice:
    """Choose one setting on a validation problem, by the mean of T1 and of H with a penalty.

    The ridge is chosen first, then the shrinkage, then the classifiers' learning rate; each from
    a start to either side for as long as it gets better.

    Parameters
    ----------
    scaled
        A validation problem, its features standardised.
    held_out
        The rows that it is judged on.
    generator
        On the rows' device; all settings meet the same random numbers.
    """
    solver = PrototypeSolver(scaled)
    state = generator.get_state()

    def judged(setting: GaussianChoice) -> GaussianChoice:
        generator.set_state(state)
        gaussian = solver.solve(setting.ridge, setting.shrinkage)
        pair = classify_gaussian(scaled, gaussian, setting.classifier_lr, generator)
        outcome = judge(pair, scaled.problem, held_out)
        penalty = outcome.curve().best_penalty()
        value = (outcome.t1 + outcome.calibrated(penalty).H) / 2
        return replace(setting, penalty=penalty, value=value)

    best = judged(GaussianChoice(0.1, 0.05, 3e-3, penalty=0.0, value=0.0))
    for name, sides in _TRIED.items():
        start = best
        for values in sides:
            if best is not start:
                break  # one side was better than the start: the other is not tried
            for value in values:
                choice = judged(replace(best, **{name: value}))
                if choice.value <= best.value:
                    break
                best = choice
    return best


def fit_gaussian(scaled: Scaled, choice: GaussianChoice) -> GaussianPrototypes:
    """The Gaussians of a chosen setting, on the device of the rows."""
    return PrototypeSolver(scaled).solve(choice.ridge, choice.shrinkage)


def classify_gaussian(
    scaled: Scaled,
    gaussian: GaussianPrototypes,
    classifier_lr: float,
    generator: torch.Generator,
) -> SoftmaxPair:
    """Synthesize the unseen classes and train the classifiers.

    Parameters
    ----------
    scaled
        What the Gaussians were fitted on.
    gaussian
        The Gaussians.
    classifier_lr
        Learning rate of the classifiers.
    generator
        Source of the samples, the initial weights and the batches, on the rows' device.
    """
    unseen = torch.from_numpy(scaled.problem.unseen_classes).to(scaled.feed.labels.device)
    reservoir = Reservoir(
        gaussian,
        unseen,
        _SAMPLES_PER_CLASS,
        capacity=_RESERVOIR_BYTES // (4 * gaussian.feature_dim),
        generator=generator,
    )
    config = replace(_CLASSIFIER, classifier_lr=classifier_lr)
    rows = rows_with(scaled.feed, reservoir)
    return pair_from_rows(rows, scaled.problem, scaled.scaling, config, (generator, generator))


def _within_class_covariance(scaled: Scaled, seen: Tensor, means: Tensor) -> NDArray[np.float64]:
    """Mean over the classes of each class's own covariance, ``(d, d)``, reading the rows once."""
    counts = torch.bincount(torch.searchsorted(seen, scaled.feed.labels), minlength=len(seen))
    weights = (1.0 / len(seen) / counts).sqrt()
    d = scaled.feed.feature_dim
    total = np.zeros((d, d))
    for features, labels in feed_slabs(scaled.feed):
        columns = torch.searchsorted(seen, labels)
        residuals = (features - means[columns]) * weights[columns, None]
        total += (residuals.T @ residuals).cpu().numpy()
    return total
