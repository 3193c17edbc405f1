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

from gsmflow.data.dataset import HeldOut
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import rows_with
from gsmflow.learning.feed import Scaled, class_means
from gsmflow.learning.sampling import FeatureSampler, Reservoir
from gsmflow.learning.softmax import ClassifierConfig, SoftmaxPair, pair_from_rows
from gsmflow.methods.mean_regression import MeanRegression, shrink, within_class_covariances

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

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """What draws scaled features of classes ``(k,)``, seen or unseen."""
        means = self.means[classes]

        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            shape = (len(positions), self.feature_dim)
            noise = torch.randn(shape, generator=generator, device=positions.device)
            return means[positions] + noise @ self.factor.T

        return draw


class PrototypeSolver:
    """Fits the Gaussians for many settings, the rows read once for all.

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
        together = torch.zeros_like(seen)
        self._within = within_class_covariances(feed, seen, means, together)[0] / len(seen)
        own = means.cpu().numpy().astype(np.float64)
        self._regression = MeanRegression(own, problem.semantics, problem.seen_classes)

    def means(self, ridge: float) -> NDArray[np.float64]:
        """Predicted mean of every class of the dataset, ``(classes, d)``, for ``ridge > 0``."""
        return self._regression.predict(ridge)

    def cross_fitted(self, ridge: float) -> NDArray[np.float64]:
        """Mean of each seen class as predicted from all others, ``(seen, d)``."""
        return self._regression.cross_fitted(ridge)

    def covariance(self, ridge: float, shrinkage: float) -> NDArray[np.float64]:
        """Second moments of real seen rows around their cross-fitted means, ``(d, d)``.

        Parameters
        ----------
        ridge
            Of the regression, ``> 0``.
        shrinkage
            Factor ``1 - shrinkage`` on all but the diagonal, in ``[0, 1]``.
        """
        return shrink(self._within + self._regression.error_covariance(ridge), shrinkage)

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
        outcome = evaluate(pair, scaled.problem, held_out)
        penalty = outcome.curve().best_gamma()
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
