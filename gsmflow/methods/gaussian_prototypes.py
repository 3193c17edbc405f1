"""Gaussian prototypes: a baseline that synthesizes features from a Gaussian around each class mean.

Ridge regression from semantics to class means predicts the mean of every class, seen or unseen.
Features of a class are drawn from a Gaussian around its predicted mean. All classes share one
covariance: that of real rows around means that were predicted without their class. It therefore
includes both the spread within a class and the error of a predicted mean. Softmax classifiers are
trained on real seen and synthesized unseen rows. Features are standardised per dimension on the
training rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.linear_algebra import cholesky, double_device, product
from gsmflow.core.progress import counting
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import HeldOut
from gsmflow.evaluation.protocol import evaluate_candidates, scale_held_out
from gsmflow.learning.contract import (
    ClassifierRows,
    RowsByEpoch,
    RowsRequest,
    real_and_synthesized,
    rows_with,
)
from gsmflow.learning.feed import Scaled, class_means
from gsmflow.learning.method import Method
from gsmflow.learning.sampling import FeatureSampler, Reservoir
from gsmflow.learning.softmax import SoftmaxConfig, SoftmaxPair, pair_from_rows
from gsmflow.methods.mean_regression import MeanRegression, within_class_covariances

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
# Candidates of each setting, on one side of its start value, then on the other.
_CANDIDATES: dict[str, tuple[tuple[float, ...], ...]] = {
    "ridge": ((0.3, 1.0, 3.0), (0.03, 0.01, 0.003)),
    "shrinkage": ((0.3,),),
    "classifier_lr": ((1e-2, 3e-2, 1e-1), (1e-3,)),
}
_BATCH_SIZE, _EPOCHS = 500, 7
# The most memory for synthesized features; if they need more, they are streamed.
_RESERVOIR_BYTES = 2**29


@dataclass(frozen=True)
class GaussianPrototypesConfig:
    """The settings of `GaussianPrototypes`; if one is none, it is chosen on validation classes."""

    ridge: Annotated[float | None, Range(above=0)] = None
    """Regularizer of the regression from semantics to class means."""
    shrinkage: Annotated[float | None, Range(above=0, max=1)] = None
    """Shrinkage of the covariance: the share that is taken off all but its diagonal."""
    classifier_lr: Annotated[float | None, Range(above=0)] = None
    """Adam's learning rate for the softmax classifiers."""
    samples_per_class: Annotated[int, Range(min=1)] = 1000
    """Features drawn of each unseen class."""


@dataclass(frozen=True, eq=False)
class ClassGaussians:
    """A Gaussian for every class: a mean of each class, one covariance for all.

    Attributes
    ----------
    means
        Predicted mean of every class of the dataset, ``(classes, d)``.
    factor
        Lower Cholesky factor ``L`` of the covariance ``L L'``, ``(d, d)``, on the same device.
    """

    means: Tensor
    factor: Tensor

    @property
    def feature_dim(self) -> int:
        """``d``, the number of feature dimensions."""
        return self.means.shape[1]

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Draws scaled features of classes ``(k,)``, seen or unseen."""
        means = self.means[classes]

        def draw_features(positions: Tensor, generator: torch.Generator) -> Tensor:
            shape = (len(positions), self.feature_dim)
            noise = torch.randn(shape, generator=generator, device=positions.device)
            # Not in place: autocast may have made the product bf16.
            return means[positions] + noise @ self.factor.T

        return draw_features


class PrototypeSolver:
    """Fits the Gaussians for many settings, reading the rows once for all.

    Parameters
    ----------
    scaled
        A problem with two seen classes or more, and its scaled training rows.
    """

    def __init__(self, scaled: Scaled) -> None:
        problem, feed = scaled.problem, scaled.feed
        self._device = feed.labels.device
        seen = torch.from_numpy(problem.seen_classes).to(self._device)
        means = class_means(feed, seen)
        one_group = torch.zeros_like(seen)
        within = within_class_covariances(feed, seen, means, one_group)[0] / len(seen)
        self._within = self._double(within)
        seen_means = means.cpu().numpy().astype(np.float64)
        self._regression = MeanRegression(seen_means, problem.semantics, problem.seen_classes)

    def means(self, ridge: float) -> NDArray[np.float64]:
        """Predicted mean of every class of the dataset, ``(classes, d)``, for ``ridge > 0``."""
        return self._regression.predict(ridge)

    def cross_fitted(self, ridge: float) -> NDArray[np.float64]:
        """Mean of each seen class as predicted from all others, ``(seen, d)``."""
        return self._regression.cross_fitted(ridge)

    def covariance(self, ridge: float) -> Tensor:
        """Second moments of real seen rows around their cross-fitted means, ``(d, d)``.

        In double precision, and on the rows' device if it has that. ``ridge > 0`` regularizes the
        regression.
        """
        errors = self._double(self._regression.errors(ridge))
        return product(errors.T, errors).div_(len(errors)).add_(self._within)

    def solve(self, ridge: float, shrinkage: float) -> ClassGaussians:
        """The Gaussians, on the rows' device.

        Parameters
        ----------
        ridge
            Regularizer of the regression, ``> 0``.
        shrinkage
            The share that is taken off all of the covariance but its diagonal, in ``(0, 1]``.
        """
        correlation = self.covariance(ridge)
        deviations = correlation.diagonal().sqrt()
        # A shrunk correlation matrix is positive definite for any rows. A constant dimension has
        # correlations of 0 and stays constant.
        scale = deviations.where(deviations > 0, torch.inf)
        correlation.mul_(1 - shrinkage).div_(scale).div_(scale[:, None]).fill_diagonal_(1.0)
        factor = cholesky(correlation).mul_(deviations[:, None])
        means = torch.from_numpy(self.means(ridge))
        return ClassGaussians(*(values.float().to(self._device) for values in (means, factor)))

    def _double(self, values: NDArray[np.float64]) -> Tensor:
        """Values in double precision, on the rows' device if it has that."""
        return torch.from_numpy(values).to(double_device(self._device))


@dataclass(frozen=True)
class GaussianChoice:
    """The settings that were best on the validation classes.

    Attributes
    ----------
    ridge, shrinkage, classifier_lr
        See `GaussianPrototypesConfig`.
    calibration
        The calibration factor gamma of best H on the validation classes.
    value
        The objective, ``(T1 + H) / 2`` with that factor.
    """

    ridge: float
    shrinkage: float
    classifier_lr: float
    calibration: float
    value: float


class GaussianPrototypes(nn.Module):
    """A Gaussian around the predicted mean of each class, and classifiers of samples from them.

    Parameters
    ----------
    config
        Settings.
    gaussians
        Gaussians of scaled features.
    pair
        Classifiers of scaled features.
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
        """Fit with the values of the settings; arguments as in `Model.for_problem`.

        Raises
        ------
        InputError
            If a setting has no value.
        """
        settings = {name: getattr(config, name) for name in _CANDIDATES}
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
        """The result of `choose_gaussian` on a validation problem, as a dictionary."""
        return asdict(choose_gaussian(scaled, held_out, config, generators.on_device(_PURPOSE)))

    @classmethod
    def for_choice(
        cls,
        scaled: Scaled,
        config: GaussianPrototypesConfig,
        choice: dict[str, Any],
        generators: Generators,
    ) -> "GaussianPrototypes":
        """Fit with the settings that `choose` found."""
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
        """Draws scaled features of classes ``(k,)``."""
        return ClassGaussians(self.means, self.factor).sampler(classes)

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Real seen rows and samples of the unseen classes, to train another classifier on."""
        return real_and_synthesized(request, self)


def _pair(tensors: Mapping[str, Tensor]) -> SoftmaxPair:
    """The classifiers of scaled features, from the tensors of a `GaussianPrototypes`."""
    named = {name.replace("_", ".", 1): t for name, t in tensors.items() if "zsl_" in name}
    return SoftmaxPair.from_tensors(lambda features: features, named)


def _softmax(lr: float) -> SoftmaxConfig:
    """The settings of the classifiers, with a learning rate."""
    return SoftmaxConfig(lr=lr, batch_size=_BATCH_SIZE, epochs=_EPOCHS)


def choose_gaussian(
    scaled: Scaled,
    held_out: HeldOut,
    config: GaussianPrototypesConfig,
    generator: torch.Generator,
) -> GaussianChoice:
    """Choose the settings on a validation problem, by the mean of T1 and calibrated H.

    A coordinate search: first the ridge, then the shrinkage, then the classifiers' learning rate.
    Each moves from its start value to one side for as long as the objective rises, and to the
    other side if the first step to the one did not help. Settings with a value in the
    configuration keep it.

    Parameters
    ----------
    scaled
        A validation problem, its features standardised.
    held_out
        The rows to evaluate on.
    config
        Settings.
    generator
        On the rows' device. All candidates are evaluated with the same random numbers.
    """
    candidates = _Candidates(scaled, config.samples_per_class, generator)
    rows = scale_held_out(held_out, scaled.scaling, generator.device)

    def evaluated(setting: GaussianChoice) -> GaussianChoice:
        pair = candidates.classifiers(setting)
        [outcome] = evaluate_candidates(
            lambda features: pair.gzsl.logits(features)[None],
            lambda features: pair.zsl.logits(features)[None],
            scaled.problem,
            rows,
        )
        calibration = outcome.curve().best_gamma()
        value = (outcome.t1 + outcome.calibrated(calibration).H) / 2
        advance()
        return replace(setting, calibration=calibration, value=value)

    with counting("settings tried") as advance:
        return _search(config, evaluated)


def _search(
    config: GaussianPrototypesConfig, evaluated: Callable[[GaussianChoice], GaussianChoice]
) -> GaussianChoice:
    """The coordinate search of `choose_gaussian`."""
    given = {name: getattr(config, name) for name in _CANDIDATES}
    start_values = {name: _START[name] if v is None else v for name, v in given.items()}
    best = evaluated(GaussianChoice(**start_values, calibration=0.0, value=0.0))
    for name, sides in _CANDIDATES.items():
        if given[name] is not None:
            continue
        start = best
        for values in sides:
            if best is not start:
                break  # the first side improved on the start: skip the other
            for value in values:
                choice = evaluated(replace(best, **{name: value}))
                if choice.value <= best.value:
                    break
                best = choice
    return best


class _Candidates:
    """Classifiers of one setting after another, all with the same random numbers.

    Settings that differ in the learning rate alone have the same synthesized rows, which are kept
    for the next one.
    """

    def __init__(self, scaled: Scaled, samples_per_class: int, generator: torch.Generator) -> None:
        self._scaled = scaled
        self._samples_per_class = samples_per_class
        self._generator = generator
        self._solver = PrototypeSolver(scaled)
        self._start = self._after = generator.get_state()
        self._of: tuple[float, float] | None = None
        self._rows: ClassifierRows | None = None

    def classifiers(self, setting: GaussianChoice) -> SoftmaxPair:
        """The classifiers of a setting."""
        rows = self._synthesized(setting.ridge, setting.shrinkage)
        softmax = _softmax(setting.classifier_lr)
        return _classifiers(rows, self._scaled, softmax, self._generator)

    def _synthesized(self, ridge: float, shrinkage: float) -> ClassifierRows:
        """The classifiers' rows; the generator is left as it is after they were drawn."""
        # Streamed rows are replaced while classifiers are trained on them.
        if self._of == (ridge, shrinkage) and isinstance(self._rows, RowsByEpoch):
            self._generator.set_state(self._after)
            return self._rows
        self._rows = None  # before new ones are made: they are large
        self._generator.set_state(self._start)
        gaussians = self._solver.solve(ridge, shrinkage)
        self._rows = _synthesize(self._scaled, gaussians, self._samples_per_class, self._generator)
        self._of, self._after = (ridge, shrinkage), self._generator.get_state()
        return self._rows


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
        The problem that the Gaussians were fitted on, and its scaled training rows.
    gaussians
        The Gaussians.
    config
        Settings of the classifiers.
    samples_per_class
        Features drawn of each unseen class.
    generator
        Source of the samples, the initial weights and the batches, on the rows' device.
    """
    rows = _synthesize(scaled, gaussians, samples_per_class, generator)
    return _classifiers(rows, scaled, config, generator)


def _synthesize(
    scaled: Scaled, gaussians: ClassGaussians, samples_per_class: int, generator: torch.Generator
) -> ClassifierRows:
    """Real seen and synthesized unseen rows; arguments as in `classify_gaussian`."""
    unseen = scaled.on_device(scaled.problem.unseen_classes)
    reservoir = Reservoir(
        gaussians,
        unseen,
        samples_per_class,
        capacity=_RESERVOIR_BYTES // (4 * gaussians.feature_dim),
        generator=generator,
    )
    return rows_with(scaled.feed, reservoir)


def _classifiers(
    rows: ClassifierRows, scaled: Scaled, config: SoftmaxConfig, generator: torch.Generator
) -> SoftmaxPair:
    """Classifiers of given rows; the other arguments as in `classify_gaussian`."""
    generators = generator, generator
    return pair_from_rows(
        rows, scaled.problem, scaled.scaling, config, generators, graphs=scaled.graphs
    )


METHOD = Method(
    name="gaussian-prototypes",
    label="Gaussian prototypes",
    paper="this package's: a Gaussian around ridge regression's class means",
    kind="generative",
    config=GaussianPrototypesConfig,
    model=GaussianPrototypes,
    validation_draws=1,  # its fit takes half a minute
    published={"": {"feature_scaling": "standardised"}},
)
