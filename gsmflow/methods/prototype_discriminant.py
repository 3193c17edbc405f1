"""The prototype discriminant: what recognises unseen classes best on the sets at hand.

Class means that ridge regression predicts from the semantics, one covariance that holds the spread
within a class and the error of a prediction, strongly shrunk, a linear discriminant with it in
closed form, and a gate between seen and unseen classes. All that is chosen or learned beyond the
closed form is so on the seen classes in the role of unseen ones (`crossfit`); docs/beyond.md says
what each part is worth.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import ClassifierRows, RowsByEpoch, RowsRequest, rows_with
from gsmflow.learning.feed import Feed, Scaled, class_means, join
from gsmflow.learning.method import Method
from gsmflow.learning.sampling import FeatureSampler
from gsmflow.methods.class_folds import (
    START,
    ClassFolds,
    DiscriminantGate,
    Discriminants,
    Setting,
    choose_setting,
    fit_discriminant_gate,
    fit_discriminants,
    fold_classes,
    gzsl_scores,
    zsl_scores,
)
from gsmflow.methods.feature_transform import EncodedFeed, FeatureTransform, FeatureTransformer
from gsmflow.methods.gaussian_prototypes import ClassGaussians
from gsmflow.methods.linear_discriminant import LinearScores, discriminant_by_factor, floored
from gsmflow.methods.mean_regression import within_class_covariances

__all__ = ["METHOD", "DiscriminantConfig", "PrototypeDiscriminant", "TransformName"]

TransformName: TypeAlias = Literal["auto", "none", "sqrt", "unit"]

_LITTLE_SHRINKAGE = 0.05
_NO_WHITENING = 0.0


@dataclass(frozen=True)
class DiscriminantConfig:
    """The settings of a `PrototypeDiscriminant`."""

    feature_transform: TransformName = "auto"
    """Of each row's features: none, sqrt (square roots with their signs), unit (length 1), or auto
    for what is best on seen classes in the role of unseen ones."""
    semantics_whitening: bool = True
    """Whether the semantics' main directions may be weighed down, by as much as is best there."""
    covariance_shrinkage: bool = True
    """Whether the covariance is shrunk by as much as is best there; off: by 0.05."""
    length_exponent: Annotated[float, Range(min=0, max=1)] = 0.25
    """How much of a class mean's length is left out of account, 0 (none) to 1 (cosine)."""
    gated: bool = True
    """Whether a gate between seen and unseen classes is learned there; off: one discriminant
    for all classes."""


class PrototypeDiscriminant(nn.Module):
    """Linear discriminants around known and predicted class means, and a gate between them.

    Parameters
    ----------
    encoder
        Of the scaled features.
    tensors
        Everything else that was fitted, by name.
    description
        Settings and what was chosen, JSON-ready.
    """

    seen_classes: Tensor
    unseen_classes: Tensor
    means: Tensor
    factor: Tensor
    common_weight: Tensor
    common_bias: Tensor
    own_weight: Tensor
    own_bias: Tensor
    gate: Tensor
    mean_weight: Tensor
    mean_bias: Tensor

    def __init__(
        self, encoder: FeatureTransformer, tensors: dict[str, Tensor], description: dict[str, Any]
    ) -> None:
        super().__init__()
        self._encoder = encoder
        for name, value in tensors.items():
            self.register_buffer(name, value)
        self._description = description

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: DiscriminantConfig, generators: Generators
    ) -> "PrototypeDiscriminant":
        """The discriminant of a problem, on the CPU; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            If there are fewer than four seen classes.
        """
        problem, feed = scaled.problem, scaled.feed
        generator = generators.on_cpu("initial weights")
        folds_of_classes, transform, setting, value = _choose(problem, feed, config, generator)
        gate = (
            fit_discriminant_gate(folds_of_classes, setting, config.length_exponent)
            if config.gated
            else None
        )
        encoder = folds_of_classes.encoder
        fitted = _fit(problem, EncodedFeed(feed, encoder), setting, config.length_exponent)
        predicting = fitted.regression.linear(setting.ridge)
        description = {
            "model": "PrototypeDiscriminant",
            "config": asdict(config),
            "chosen": {"feature_transform": transform, **asdict(setting), "value": value},
        }
        return cls(encoder.cpu(), _tensors(problem, fitted, gate, predicting), description)

    @classmethod
    def from_state(
        cls, description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> "PrototypeDiscriminant":
        """A model from what `describe` and ``state_dict`` gave."""
        parts = {n.removeprefix(_ENCODER): t for n, t in tensors.items() if n.startswith(_ENCODER)}
        encoder = FeatureTransformer(description["chosen"]["feature_transform"], **parts)
        own = {name: t for name, t in tensors.items() if not name.startswith(_ENCODER)}
        return cls(encoder, own, {name: description[name] for name in _DESCRIBED})

    def describe(self) -> dict[str, Any]:
        """Settings and what was chosen: with ``state_dict``, all that `from_state` needs."""
        return self._description

    def with_classes(self, problem: Problem) -> "PrototypeDiscriminant":
        """The same discriminants, with one column more for each further class; on the CPU.

        Raises
        ------
        InputError
            If the model was written before it kept what predicts the means.
        """
        tensors = {name: tensor.cpu() for name, tensor in self.state_dict().items()}
        if "mean_weight" not in tensors:
            raise InputError(
                "model.safetensors: found no tensor 'mean_weight', expected it for classes to be "
                "added; train again"
            )
        further = problem.unseen_classes[len(self.unseen_classes) :]
        semantics = problem.semantics[further].astype(np.float64)
        means = semantics @ _array(self.mean_weight) + _array(self.mean_bias)
        known = _array(self.means).astype(np.float64)
        scores = discriminant_by_factor(
            _array(self.factor).astype(np.float64),
            means,
            known[: len(self.seen_classes)].mean(axis=0),
            self._description["config"]["length_exponent"],
        )
        tensors["unseen_classes"] = torch.from_numpy(problem.unseen_classes)
        tensors["means"] = torch.cat([tensors["means"], torch.from_numpy(means).float()])
        for name, added in (("common_weight", scores.weight), ("common_bias", scores.bias)):
            tensors[name] = torch.cat([tensors[name], torch.from_numpy(added)], dim=-1)
        return type(self).from_state(self._description, tensors)

    @property
    def encoder(self) -> nn.Module:
        """The transform of the features, after which classes are more nearly Gaussian."""
        return self._encoder

    @torch.no_grad()
    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features.

        Log-probabilities where there is a gate, scores of the discriminant without one. Columns
        are in the order of `Problem.classes` and `Problem.unseen_classes`.
        """
        encoded = self._encoder(features).cpu().numpy()
        common = LinearScores(_array(self.common_weight), _array(self.common_bias))(encoded)
        seen, gate, scores = len(self.seen_classes), self._gate(), common
        if gate is not None:
            own = LinearScores(_array(self.own_weight), _array(self.own_bias))(encoded)
            scores = gzsl_scores(common, own, seen, gate)
        return scores, zsl_scores(common, seen, gate)

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """What draws scaled features of classes ``(k,)``, from a Gaussian around each mean."""
        draw = self._gaussians().sampler(classes)

        def decoded(positions: Tensor, generator: torch.Generator) -> Tensor:
            return self._encoder.decode(draw(positions, generator))

        return decoded

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Encoded real rows, and rows drawn from the Gaussians, for a classifier beside its own."""
        real = EncodedFeed(request.scaled.feed, self._encoder)
        given = request.real_unseen
        if given is not None:
            given = EncodedFeed(given, self._encoder)
        if not request.synthesizes and given is not None:
            both = join(real, given)
            return RowsByEpoch(lambda: both, lambda: given)
        reservoir = request.reservoir_of(self._gaussians(), real.feature_dim)
        return rows_with(real, reservoir, given)

    def _gaussians(self) -> ClassGaussians:
        """Of encoded features."""
        classes = torch.cat([self.seen_classes, self.unseen_classes])
        means = self.means.new_zeros(int(classes.max()) + 1, self.means.shape[1])
        means[classes] = self.means
        return ClassGaussians(means, self.factor)

    def _gate(self) -> DiscriminantGate | None:
        if len(self.gate) == 0:
            return None
        values = _array(self.gate)
        return DiscriminantGate(values[:3], float(values[3]), float(values[4]), float(values[5]))


_ENCODER = "_encoder."
_DESCRIBED = ("model", "config", "chosen")


def _choose(
    problem: Problem, feed: Feed, config: DiscriminantConfig, generator: torch.Generator
) -> tuple[ClassFolds, FeatureTransform, Setting, float]:
    """The transform and the setting of best recognition on seen classes playing unseen."""
    transforms: Sequence[FeatureTransform] = get_args(FeatureTransform)
    if config.feature_transform != "auto":
        transforms = [config.feature_transform]
    given: dict[str, float] = {}
    if not config.semantics_whitening:
        given["whitening"] = _NO_WHITENING
    if not config.covariance_shrinkage:
        given["shrinkage"] = _LITTLE_SHRINKAGE
    start = replace(START, **given)
    state = generator.get_state()
    found: list[tuple[ClassFolds, FeatureTransform, Setting, float]] = []
    for transform in transforms:
        generator.set_state(state)  # all meet the same folds
        folds_of_classes = fold_classes(feed, problem.semantics, transform, generator)
        setting, value = choose_setting(folds_of_classes, config.length_exponent, start, [*given])
        found.append((folds_of_classes, transform, setting, value))
        # One at a time in memory.
        found = [max(found, key=lambda one: one[3])]
    return found[0]


def _fit(problem: Problem, feed: Feed, setting: Setting, length_exponent: float) -> Discriminants:
    seen = torch.from_numpy(problem.seen_classes).to(feed.labels.device)
    means = class_means(feed, seen)
    within = within_class_covariances(feed, seen, means, torch.zeros_like(seen))[0] / len(seen)
    return fit_discriminants(
        means.cpu().numpy().astype(np.float64),
        within,
        problem.semantics,
        problem.seen_classes,
        problem.unseen_classes,
        setting,
        length_exponent,
    )


def _tensors(
    problem: Problem,
    fitted: Discriminants,
    gate: DiscriminantGate | None,
    predicting: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> dict[str, Tensor]:
    own = fitted.own()
    factor = np.linalg.cholesky(floored(fitted.covariance))
    told = (
        []
        if gate is None
        else [*gate.weight, gate.bias, gate.seen_temperature, gate.unseen_temperature]
    )
    arrays: dict[str, FloatArray | IntArray] = {
        "seen_classes": problem.seen_classes,
        "unseen_classes": problem.unseen_classes,
        "means": fitted.means.astype(np.float32),
        "factor": factor.astype(np.float32),
        "common_weight": fitted.common.weight,
        "common_bias": fitted.common.bias,
        "own_weight": own.weight,
        "own_bias": own.bias,
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    weight, bias = (torch.from_numpy(values) for values in predicting)
    return {
        **tensors,
        "gate": torch.tensor(told, dtype=torch.float64),
        "mean_weight": weight,
        "mean_bias": bias,
    }


def _array(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()


METHOD = Method(
    name="discriminant",
    label="Prototype discriminant",
    paper="this package's (docs/beyond.md)",
    config=DiscriminantConfig,
    model=PrototypeDiscriminant,
    variants={
        "no-gate": {"gated": False},
        "no-shrinkage": {"covariance_shrinkage": False},
        "no-whitening": {"semantics_whitening": False},
        "no-transform": {"feature_transform": "none"},
        "whole-length": {"length_exponent": 0.0},
    },
)
