"""The prototype discriminant: LDA with predicted class means, and a gate. This package's method.

Ridge regression predicts the means of unseen classes from their semantics. One covariance, strongly
shrunk, adds the spread within a class and the error of a predicted mean. A linear discriminant with
these is computed in closed form. A gate separates seen from unseen classes. Hyperparameters are
chosen and the gate is trained by cross-validation over seen classes
(`gsmflow.methods.class_folds`); docs/beyond.md reports what each component contributes. Where too
few classes or rows are there for that, the usual settings are taken, without a gate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.progress import counted
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
    lacks_rows_for_folds,
    zsl_scores,
)
from gsmflow.methods.feature_transform import (
    EncodedFeed,
    FeatureTransform,
    FeatureTransformer,
    fit_transformer,
)
from gsmflow.methods.gaussian_prototypes import ClassGaussians
from gsmflow.methods.linear_discriminant import LinearScores, discriminant_by_factor, floored
from gsmflow.methods.mean_regression import within_class_covariances

__all__ = ["METHOD", "DiscriminantConfig", "PrototypeDiscriminant", "TransformName"]

TransformName: TypeAlias = Literal["auto", "none", "sqrt", "unit"]

_LITTLE_SHRINKAGE = 0.05
_NO_WHITENING = 0.0
# Prefix of the encoder's tensors in ``state_dict``.
_ENCODER = "_encoder."
_GATE = "gate_"
_GATE_PARTS = ("weight", "bias", "seen_temperature", "unseen_temperature")
# The fields of `PrototypeDiscriminant.describe`; a saved description may have more.
_DESCRIBED = ("model", "config", "chosen", "notes")


@dataclass(frozen=True)
class DiscriminantConfig:
    """The settings of a `PrototypeDiscriminant`."""

    feature_transform: TransformName = "auto"
    """Transform of each row's features: none, sqrt (signed square root), unit (length 1), or auto
    for the best in cross-validation over seen classes."""
    semantics_whitening: bool = True
    """Whether the semantics are whitened, with the exponent that is best in cross-validation."""
    covariance_shrinkage: bool = True
    """Whether the covariance's shrinkage is the best in cross-validation; off: 0.05."""
    length_exponent: Annotated[float, Range(min=0, max=1)] = 0.25
    """How far scores are normalised by the length of the class mean, 0 (not) to 1 (cosine)."""
    gated: bool = True
    """Whether a gate between seen and unseen classes is trained in cross-validation; off: one
    discriminant for all classes."""


class PrototypeDiscriminant(nn.Module):
    """Linear discriminants around known and predicted class means, and a gate between them.

    Parameters
    ----------
    encoder
        Transform of the scaled features.
    tensors
        Everything else that was fitted, by name. ``own_weight`` and ``own_bias`` are those of the
        seen-class expert.
    description
        Settings and chosen hyperparameters, JSON-ready.
    """

    seen_classes: Tensor
    unseen_classes: Tensor
    means: Tensor
    factor: Tensor
    common_weight: Tensor
    common_bias: Tensor
    own_weight: Tensor
    own_bias: Tensor
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
        """Choose the hyperparameters and fit; on the CPU. Arguments as in `Model.for_problem`.

        Raises
        ------
        InputError
            If there is one seen class.
        """
        problem, feed = scaled.problem, scaled.feed
        if len(problem.seen_classes) < 2:
            raise InputError(
                "seen classes: found 1, expected at least 2, which can be distinguished"
            )
        lack = lacks_rows_for_folds(problem)
        if lack is None:
            generator = generators.on_cpu("initial weights")
            choice = _choose(problem, feed, config, generator)
        else:
            choice = _usual(feed, config)
        setting, exponent = choice.setting, config.length_exponent
        gate = None
        if config.gated and choice.class_folds is not None:
            gate = fit_discriminant_gate(choice.class_folds, setting, exponent)
        encoder = choice.encoder
        fitted = _fit(problem, EncodedFeed(feed, encoder), setting, exponent)
        mean_map = fitted.regression.linear(setting.ridge)
        description = {
            "model": "PrototypeDiscriminant",
            "config": asdict(config),
            "chosen": {
                "feature_transform": choice.transform,
                **asdict(setting),
                "value": choice.objective,
            },
        }
        if lack is not None:
            description["notes"] = [
                f"{problem.split} problem: {lack}, to choose settings by cross-validation: the "
                "usual ones are taken, without a gate"
            ]
        return cls(encoder.cpu(), _tensors(problem, fitted, gate, mean_map), description)

    @classmethod
    def from_state(
        cls, description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> "PrototypeDiscriminant":
        """A model from what `describe` and ``state_dict`` gave."""
        of_encoder = {
            name.removeprefix(_ENCODER): tensor
            for name, tensor in tensors.items()
            if name.startswith(_ENCODER)
        }
        encoder = FeatureTransformer(description["chosen"]["feature_transform"], **of_encoder)
        others = {name: t for name, t in tensors.items() if not name.startswith(_ENCODER)}
        return cls(
            encoder, others, {name: description[name] for name in _DESCRIBED if name in description}
        )

    def describe(self) -> dict[str, Any]:
        """Settings and chosen hyperparameters: with ``state_dict``, all that `from_state` needs."""
        return self._description

    def with_classes(self, problem: Problem) -> "PrototypeDiscriminant":
        """The same discriminants, with another score column for each added class; on the CPU.

        Raises
        ------
        InputError
            If the model is of a version that did not save the regression of the means.
        """
        tensors = {name: tensor.cpu() for name, tensor in self.state_dict().items()}
        if "mean_weight" not in tensors:
            raise InputError(
                "model.safetensors: found no tensor 'mean_weight', expected it for classes to be "
                "added; train again"
            )
        added_classes = problem.unseen_classes[len(self.unseen_classes) :]
        semantics = problem.semantics[added_classes].astype(np.float64)
        means = semantics @ _array(self.mean_weight) + _array(self.mean_bias)
        seen_means = _array(self.means).astype(np.float64)[: len(self.seen_classes)]
        scores = discriminant_by_factor(
            _array(self.factor).astype(np.float64),
            means,
            seen_means.mean(axis=0),
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

        They are log-probabilities if there is a gate, and scores of the discriminant otherwise.
        Columns are in the order of `Problem.classes` and `Problem.unseen_classes`.
        """
        encoded = self._encoder(features).cpu().numpy()
        common = LinearScores(_array(self.common_weight), _array(self.common_bias))(encoded)
        seen, gate, scores = len(self.seen_classes), self._gate(), common
        if gate is not None:
            seen_expert = LinearScores(_array(self.own_weight), _array(self.own_bias))
            scores = gzsl_scores(common, seen_expert(encoded), seen, gate)
        return scores, zsl_scores(common, seen, gate)

    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Draws scaled features of classes ``(k,)`` from a Gaussian around each class mean."""
        draw_encoded = self._gaussians().sampler(classes)

        def draw_features(positions: Tensor, generator: torch.Generator) -> Tensor:
            return self._encoder.decode(draw_encoded(positions, generator))

        return draw_features

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Encoded real rows and rows drawn from the Gaussians, to train another classifier on."""
        seen = EncodedFeed(request.scaled.feed, self._encoder)
        unseen = request.real_unseen
        if unseen is not None:
            unseen = EncodedFeed(unseen, self._encoder)
        if not request.synthesizes and unseen is not None:
            both = join(seen, unseen)
            return RowsByEpoch(lambda: both, lambda: unseen)
        reservoir = request.reservoir_of(self._gaussians(), seen.feature_dim)
        return rows_with(seen, reservoir, unseen)

    def _gaussians(self) -> ClassGaussians:
        """A Gaussian of encoded features for each class; other classes have a mean of 0."""
        classes = torch.cat([self.seen_classes, self.unseen_classes])
        means = self.means.new_zeros(int(classes.max()) + 1, self.means.shape[1])
        means[classes] = self.means
        return ClassGaussians(means, self.factor)

    def _gate(self) -> DiscriminantGate | None:
        """The gate from its tensors; None for a model without one."""
        tensors = self.state_dict()
        if f"{_GATE}weight" not in tensors:
            return None
        values = {name: _array(tensors[f"{_GATE}{name}"]) for name in _GATE_PARTS}
        return DiscriminantGate(
            weight=values["weight"],
            bias=float(values["bias"]),
            seen_temperature=float(values["seen_temperature"]),
            unseen_temperature=float(values["unseen_temperature"]),
        )


class _Choice(NamedTuple):
    """A feature transform, its class folds, the setting chosen on these, and its objective.

    Without class folds, the setting is the usual one, and there is no objective.
    """

    encoder: FeatureTransformer
    class_folds: ClassFolds | None
    transform: FeatureTransform
    setting: Setting
    objective: float | None


def _choose(
    problem: Problem, feed: Feed, config: DiscriminantConfig, generator: torch.Generator
) -> _Choice:
    """The transform and the setting with the best objective on the class folds."""
    transforms: Sequence[FeatureTransform] = get_args(FeatureTransform)
    if config.feature_transform != "auto":
        transforms = [config.feature_transform]
    fixed = _fixed(config)
    start = replace(START, **fixed)
    state = generator.get_state()
    choices: list[tuple[float, _Choice]] = []
    for transform in counted(transforms, "feature transforms", len(transforms)):
        generator.set_state(state)  # the same folds for every transform
        class_folds = fold_classes(feed, problem.semantics, transform, generator)
        setting, value = choose_setting(class_folds, config.length_exponent, start, [*fixed])
        choice = _Choice(class_folds.encoder, class_folds, transform, setting, value)
        choices.append((value, choice))
        # Keep the folds of the best alone: they are large.
        choices = [max(choices, key=itemgetter(0))]
    return choices[0][1]


def _usual(feed: Feed, config: DiscriminantConfig) -> _Choice:
    """The usual setting, where none can be chosen: that from which the choice starts."""
    transform = "none" if config.feature_transform == "auto" else config.feature_transform
    encoder = fit_transformer(feed, transform).to(feed.labels.device)
    return _Choice(encoder, None, transform, replace(START, **_fixed(config)), None)


def _fixed(config: DiscriminantConfig) -> dict[str, float]:
    """The hyperparameters that are not chosen."""
    fixed: dict[str, float] = {}
    if not config.semantics_whitening:
        fixed["whitening"] = _NO_WHITENING
    if not config.covariance_shrinkage:
        fixed["shrinkage"] = _LITTLE_SHRINKAGE
    return fixed


def _fit(problem: Problem, feed: Feed, setting: Setting, length_exponent: float) -> Discriminants:
    """Fit the discriminants on the encoded rows of all seen classes."""
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
    mean_map: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> dict[str, Tensor]:
    """The tensors that are saved, by name.

    ``factor`` is the lower Cholesky factor of the covariance; those of the gate, if there is one,
    begin with ``gate_``; ``mean_weight`` and ``mean_bias`` map semantics to class means.
    """
    seen_expert = fitted.seen_expert()
    factor = np.linalg.cholesky(floored(fitted.covariance))
    gate_tensors = {}
    if gate is not None:
        gate_tensors = {
            f"{_GATE}{name}": torch.tensor(getattr(gate, name), dtype=torch.float64)
            for name in _GATE_PARTS
        }
    arrays: dict[str, FloatArray | IntArray] = {
        "seen_classes": problem.seen_classes,
        "unseen_classes": problem.unseen_classes,
        "means": fitted.means.astype(np.float32),
        "factor": factor.astype(np.float32),
        "common_weight": fitted.common.weight,
        "common_bias": fitted.common.bias,
        "own_weight": seen_expert.weight,
        "own_bias": seen_expert.bias,
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    weight, bias = (torch.from_numpy(values) for values in mean_map)
    return {
        **tensors,
        **gate_tensors,
        "mean_weight": weight,
        "mean_bias": bias,
    }


def _array(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()


METHOD = Method(
    name="discriminant",
    label="Prototype discriminant",
    paper="this package's (docs/beyond.md)",
    kind="generative",
    config=DiscriminantConfig,
    model=PrototypeDiscriminant,
    validation_draws=1,  # its gate balances seen and unseen classes already
    variants={
        "no-gate": {"gated": False},
        "no-shrinkage": {"covariance_shrinkage": False},
        "no-whitening": {"semantics_whitening": False},
        "no-transform": {"feature_transform": "none"},
        "whole-length": {"length_exponent": 0.0},
    },
)
