"""Gaussians around ridge prototypes, the baseline that a generator must beat.

Ridge regression from the semantics to the class means predicts the mean of every class, seen or
not. Features of a class are drawn from one Gaussian around it, with the covariance that real rows
show around means that were predicted without their class, so that it has the spread within a
class and the error of a prediction both. The classifiers are those of the flow. Features are
standardised per dimension on the training rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import HeldOut
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import ClassifierRows, RowsByEpoch, RowsRequest, rows_with
from gsmflow.learning.feed import Scaled, class_means, join
from gsmflow.learning.method import Method
from gsmflow.learning.sampling import FeatureSampler, Reservoir
from gsmflow.learning.softmax import SoftmaxConfig, SoftmaxPair, pair_from_rows
from gsmflow.methods.mean_regression import MeanRegression, shrink, within_class_covariances

__all__ = [
    "METHOD",
    "ClassGaussians",
    "GaussianChoice",
    "GaussianPrototypes",
    "GaussianPrototypesConfig",
    "PrototypeSolver",
    "choose_gaussian",
    "classify_gaussian",
]

_PURPOSE = "gaussian"
_START = {"ridge": 0.1, "shrinkage": 0.05, "classifier_lr": 3e-3}
# What is tried in place of what the choice starts from: one side of it, then the other.
_TRIED: dict[str, tuple[tuple[float, ...], ...]] = {
    "ridge": ((0.3, 1.0, 3.0), (0.03, 0.01, 0.003)),
    "shrinkage": ((0.3,),),
    "classifier_lr": ((1e-2, 3e-2, 1e-1), (1e-3,)),
}
_BATCH_SIZE, _EPOCHS = 500, 7
# Synthesized features that are held in memory at once; more are streamed through as many.
_RESERVOIR_BYTES = 2**29


@dataclass(frozen=True)
class GaussianPrototypesConfig:
    """The settings of `GaussianPrototypes`; each that is none is chosen on validation classes."""

    ridge: Annotated[float | None, Range(above=0)] = None
    """Of the regression from semantics to class means."""
    shrinkage: Annotated[float | None, Range(above=0, max=1)] = None
    """Of the covariance: the share that is taken off all but its diagonal."""
    classifier_lr: Annotated[float | None, Range(above=0)] = None
    """Adam's learning rate, of the softmax classifiers."""
    samples_per_class: Annotated[int, Range(min=1)] = 1000
    """Features drawn of each unseen class."""


@dataclass(frozen=True, eq=False)
class ClassGaussians:
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

    def solve(self, ridge: float, shrinkage: float) -> ClassGaussians:
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
        return ClassGaussians(means, factor)


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


class GaussianPrototypes(nn.Module):
    """A Gaussian around the predicted mean of each class, and classifiers of samples from them.

    Parameters
    ----------
    config
        Settings.
    gaussians
        Of scaled features.
    pair
        The classifiers, which score scaled features.
    """

    means: Tensor
    factor: Tensor

    def __init__(
        self, config: GaussianPrototypesConfig, gaussians: ClassGaussians, pair: SoftmaxPair
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("means", gaussians.means)
        self.register_buffer("factor", gaussians.factor)
        for name, tensor in pair.tensors().items():
            self.register_buffer(name.replace(".", "_"), tensor)

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: GaussianPrototypesConfig, generators: Generators
    ) -> "GaussianPrototypes":
        """Fit settings that are set; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            If one of the settings is to be chosen.
        """
        settings = {name: getattr(config, name) for name in _TRIED}
        missing = [name for name, value in settings.items() if value is None]
        if missing:
            raise InputError(
                f"{', '.join(missing)}: found no value, expected one where there are no validation "
                "classes to choose it on"
            )
        return cls.for_choice(scaled, config, settings, generators)

    @classmethod
    def choose(
        cls,
        scaled: Scaled,
        held_out: HeldOut,
        config: GaussianPrototypesConfig,
        generators: Generators,
    ) -> dict[str, Any]:
        """What `choose_gaussian` finds on a validation problem."""
        return asdict(choose_gaussian(scaled, held_out, config, generators.on_device(_PURPOSE)))

    @classmethod
    def for_choice(
        cls,
        scaled: Scaled,
        config: GaussianPrototypesConfig,
        choice: dict[str, Any],
        generators: Generators,
    ) -> "GaussianPrototypes":
        """Fit the Gaussians that `choose` found, and train the classifiers on samples of them."""
        gaussians = PrototypeSolver(scaled).solve(choice["ridge"], choice["shrinkage"])
        softmax = _softmax(choice["classifier_lr"])
        random = generators.on_device(_PURPOSE)
        pair = classify_gaussian(scaled, gaussians, softmax, config.samples_per_class, random)
        return cls(config, gaussians, pair)

    @classmethod
    def from_state(
        cls, description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> "GaussianPrototypes":
        """A model from what `describe` and ``state_dict`` gave."""
        return cls(
            GaussianPrototypesConfig(**description["config"]),
            ClassGaussians(tensors["means"], tensors["factor"]),
            _pair(tensors),
        )

    def describe(self) -> dict[str, Any]:
        """Settings, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {"model": "GaussianPrototypes", "config": asdict(self.config)}

    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features."""
        pair, rows = _pair(self.state_dict()), features.cpu().numpy()
        return pair.gzsl_scores(rows), pair.zsl_scores(rows)

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """What draws scaled features of classes ``(k,)``."""
        return ClassGaussians(self.means, self.factor).sampler(classes)

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Real seen rows, and samples of the unseen classes, for a classifier beside its own."""
        feed, real = request.scaled.feed, request.real_unseen
        if not request.synthesizes and real is not None:
            both = join(feed, real)
            return RowsByEpoch(lambda: both, lambda: real)
        return rows_with(feed, request.reservoir_of(self, feed.feature_dim), real)


def _pair(tensors: Mapping[str, Tensor]) -> SoftmaxPair:
    """The classifiers of scaled features, from the tensors of a model."""
    named = {name.replace("_", ".", 1): t for name, t in tensors.items() if "zsl_" in name}
    return SoftmaxPair.from_tensors(lambda features: features, named)


def _softmax(lr: float) -> SoftmaxConfig:
    return SoftmaxConfig(lr=lr, batch_size=_BATCH_SIZE, epochs=_EPOCHS)


def choose_gaussian(
    scaled: Scaled,
    held_out: HeldOut,
    config: GaussianPrototypesConfig,
    generator: torch.Generator,
) -> GaussianChoice:
    """Choose one setting on a validation problem, by the mean of T1 and of H with a penalty.

    The ridge is chosen first, then the shrinkage, then the classifiers' learning rate; each from
    a start to either side for as long as it gets better. What the configuration sets stays.

    Parameters
    ----------
    scaled
        A validation problem, its features standardised.
    held_out
        The rows that it is evaluated on.
    config
        Settings.
    generator
        On the rows' device; all settings meet the same random numbers.
    """
    solver = PrototypeSolver(scaled)
    state = generator.get_state()

    def evaluated(setting: GaussianChoice) -> GaussianChoice:
        generator.set_state(state)
        gaussians = solver.solve(setting.ridge, setting.shrinkage)
        softmax = _softmax(setting.classifier_lr)
        pair = classify_gaussian(scaled, gaussians, softmax, config.samples_per_class, generator)
        outcome = evaluate(pair, scaled.problem, held_out)
        penalty = outcome.curve().best_gamma()
        value = (outcome.t1 + outcome.calibrated(penalty).H) / 2
        return replace(setting, penalty=penalty, value=value)

    given = {name: getattr(config, name) for name in _TRIED}
    start_values = {name: _START[name] if v is None else v for name, v in given.items()}
    best = evaluated(GaussianChoice(**start_values, penalty=0.0, value=0.0))
    for name, sides in _TRIED.items():
        if given[name] is not None:
            continue
        start = best
        for values in sides:
            if best is not start:
                break  # one side was better than the start: the other is not tried
            for value in values:
                choice = evaluated(replace(best, **{name: value}))
                if choice.value <= best.value:
                    break
                best = choice
    return best


def classify_gaussian(
    scaled: Scaled,
    gaussians: ClassGaussians,
    config: SoftmaxConfig,
    samples_per_class: int,
    generator: torch.Generator,
) -> SoftmaxPair:
    """Synthesize the unseen classes and train the classifiers.

    Parameters
    ----------
    scaled
        What the Gaussians were fitted on.
    gaussians
        The Gaussians.
    config
        Settings of the classifiers.
    samples_per_class
        Features drawn of each unseen class.
    generator
        Source of the samples, the initial weights and the batches, on the rows' device.
    """
    unseen = torch.from_numpy(scaled.problem.unseen_classes).to(scaled.feed.labels.device)
    reservoir = Reservoir(
        gaussians,
        unseen,
        samples_per_class,
        capacity=_RESERVOIR_BYTES // (4 * gaussians.feature_dim),
        generator=generator,
    )
    rows = rows_with(scaled.feed, reservoir)
    return pair_from_rows(rows, scaled.problem, scaled.scaling, config, (generator, generator))


METHOD = Method(
    name="gaussian-prototypes",
    label="Gaussian prototypes",
    paper="this package's: a Gaussian around ridge regression's class means",
    config=GaussianPrototypesConfig,
    model=GaussianPrototypes,
    published={"": {"feature_scaling": "standardised"}},
)
