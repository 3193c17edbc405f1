"""CN-ZSL: a network from semantics to class prototypes, with class normalization.

Skorokhodov and Elhoseiny, "Class Normalization for (Continual)? Generalized Zero-Shot Learning",
ICLR 2021. A multilayer perceptron maps the semantics of a class to its prototype in the space of
the features, and a softmax over the cosine similarities classifies. Four parts keep the variance of
the signal: the semantics have a mean square of 1 (attribute normalization), the cosines are
multiplied by a constant (normalize and scale), hidden units are standardised over the classes
(class normalization), and the last layer has a small initial variance.

Differences from the published code:

- The published code multiplies the logits of seen classes by a factor that was picked by hand for
  each dataset. Here calibrated stacking has this role, and its factor is chosen on validation
  classes.
- The layer before a class normalization has no bias, which the normalization would remove.
- The last partial batch of an epoch is left out.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import Losses, check_two_seen
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf, Times, TimesOneOf
from gsmflow.methods.layers import dense
from gsmflow.methods.semantic_model import SemanticModel

__all__ = [
    "CNZSL",
    "METHOD",
    "CNZSLConfig",
    "ClassStandardization",
    "DivisorName",
    "PrototypeNetwork",
    "normalized_attributes",
]

DivisorName: TypeAlias = Literal["variance", "deviation"]

# Share of the running statistics that a step replaces.
_MOMENTUM = 0.1
_EPSILON = 1e-5


@dataclass(frozen=True)
class CNZSLConfig:
    """The settings of a `CNZSL`; defaults are the published ones.

    Without its four parts it is a plain multilayer perceptron, the paper's ablation; without hidden
    layers too, a linear map.
    """

    hidden: Annotated[int, Range(min=1)] = 1024
    """Units of each hidden layer."""
    hidden_layers: Annotated[int, Range(min=0)] = 2
    """Number of hidden layers; with 0, a prototype is linear in the semantics."""
    class_normalization: bool = True
    """Whether hidden units are standardised over the classes."""
    cn_divisor: DivisorName = "variance"
    """What class normalization divides by: the variance over the classes, as the published code
    does, or the standard deviation, as the paper says."""
    small_init: bool = True
    """Whether the initial weights of the last layer have the paper's variance, 1 / (hidden units *
    feature dimensions); off: torch's."""
    attribute_normalization: bool = True
    """Whether the semantics of each class are scaled to a mean square of 1."""
    normalize_and_scale: bool = True
    """Whether a logit is the cosine similarity times the square of --logit-scale; off: the dot
    product."""
    output_relu: bool = True
    """Whether prototypes end with ReLU, as published; off for features that may be negative."""
    logit_scale: Annotated[float, Range(above=0)] = 5.0
    """Length that features and prototypes are scaled to, under --normalize-and-scale."""


def normalized_attributes(semantics: Tensor) -> Tensor:
    """Semantics ``(classes, a)``, each scaled to the length ``sqrt(a)`` (paper, eq. 9)."""
    return functional.normalize(semantics) * math.sqrt(semantics.shape[1])


class ClassStandardization(nn.Module):
    """Standardises hidden units over classes; without learned scale and shift.

    In training, mean and variance are those over the seen classes. Running averages of them, which
    start at 0 and 1, are used at test, so that a class has the same prototype whichever other
    classes are asked for.

    Parameters
    ----------
    units
        Number of hidden units.
    divisor
        What the differences from the mean are divided by.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, units: int, divisor: DivisorName) -> None:
        super().__init__()
        self.divisor = divisor
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("variance", torch.ones(units))

    def forward(self, values: Tensor) -> Tensor:
        """Values ``(classes, units)`` standardised by the running statistics."""
        return self._standardized(values, self.mean, self.variance)

    def over_classes(self, values: Tensor) -> Tensor:
        """Values ``(classes, units)`` standardised by their own statistics, for a training step.

        The running statistics are updated in place.
        """
        variance, mean = torch.var_mean(values, dim=0)
        self.mean.lerp_(mean.detach(), _MOMENTUM)
        self.variance.lerp_(variance.detach(), _MOMENTUM)
        return self._standardized(values, mean, variance)

    def _standardized(self, values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        spread = variance + _EPSILON
        return (values - mean) / (spread if self.divisor == "variance" else spread.sqrt())


class PrototypeNetwork(nn.Module):
    """From semantics to prototypes: ``Linear, ReLU, (Linear, CN, ReLU)*, CN, Linear, ReLU``.

    Without hidden layers it is one ``Linear``.

    Initial weights and biases are uniform within ``1 / sqrt(inputs)``. The weights of the last
    layer are uniform with variance ``1 / (inputs * d)`` under the setting ``small_init``. Features
    and standardised hidden units of variance 1 then give dot products of variance 1.

    Parameters
    ----------
    config
        Settings.
    semantics_dim, feature_dim
        ``a`` and ``d``.
    generator
        Source of the initial weights.
    """

    def __init__(
        self,
        config: CNZSLConfig,
        semantics_dim: int,
        feature_dim: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.output_relu = config.output_relu
        h, layers = config.hidden, config.hidden_layers
        normalized = layers if config.class_normalization else 0
        # Class normalization would remove a bias before it.
        self.hidden = nn.ModuleList(
            dense(h if i else semantics_dim, h, bias=i == 0 or normalized == 0)
            for i in range(layers)
        )
        self.output = dense(h if layers else semantics_dim, feature_dim)
        self.normalizations = nn.ModuleList(
            ClassStandardization(h, config.cn_divisor) for _ in range(normalized)
        )
        for layer in (*self.hidden, self.output):
            assert isinstance(layer, nn.Linear)
            bound = layer.in_features**-0.5
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
            if config.small_init and layer is self.output:
                bound = math.sqrt(3 / (layer.in_features * feature_dim))
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)

    def forward(self, semantics: Tensor, *, of_step: bool = False) -> Tensor:
        """Prototypes ``(classes, d)`` of semantics ``(classes, a)``.

        Parameters
        ----------
        semantics
            Semantics of any classes; in a training step, of all seen classes.
        of_step
            Whether this is a training step, which takes the statistics of the given classes.
        """
        prototypes: Tensor
        if not self.hidden:
            prototypes = self.output(semantics)
            return prototypes
        values = semantics
        for i, layer in enumerate(self.hidden):
            values = layer(values)
            if i > 0:
                values = self._normalized(i - 1, values, of_step)
            values = torch.relu(values)
        values = self._normalized(len(self.hidden) - 1, values, of_step)
        prototypes = self.output(values)
        return torch.relu(prototypes) if self.output_relu else prototypes

    def _normalized(self, index: int, values: Tensor, of_step: bool) -> Tensor:
        """Values ``(classes, hidden)`` after the normalization of this index, if there is one."""
        if not self.normalizations:
            return values
        normalization = self.normalizations[index]
        assert isinstance(normalization, ClassStandardization)
        values = values.to(normalization.mean)  # statistics are not computed in bf16
        return normalization.over_classes(values) if of_step else normalization(values)


class CNZSL(SemanticModel):
    """A prototype network, and the classes that it predicts prototypes of.

    Parameters as `SemanticModel` has them.
    """

    config_class = CNZSLConfig
    config: CNZSLConfig

    def __init__(
        self,
        config: CNZSLConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        self.network = PrototypeNetwork(config, self.semantics.shape[1], feature_dim, generator)

    @classmethod
    def for_problem(cls, scaled: Scaled, config: CNZSLConfig, generators: Generators) -> "CNZSL":
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            If there is one seen class, whose variance over the classes is not defined.
        """
        if config.class_normalization:
            check_two_seen(scaled.problem, "hidden units can be standardised over them")
        return super().for_problem(scaled, config, generators)

    @classmethod
    def semantics_of(cls, problem: Problem, config: CNZSLConfig) -> Tensor:
        """The semantics ``(classes, a)``, normalized if the settings ask for it."""
        semantics = torch.tensor(problem.semantics)
        return normalized_attributes(semantics) if config.attribute_normalization else semantics

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The mean cross-entropy of rows ``(n, d)`` among the seen classes, theirs ``(n,)``."""
        prototypes = self.network(self.semantics[self.seen_classes], of_step=True)
        columns = torch.searchsorted(self.seen_classes, labels)
        loss = functional.cross_entropy(self._logits(features, prototypes), columns)
        return Losses(loss, {"cross_entropy": loss})

    def _logits(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """Logits ``(n, k)`` of features ``(n, d)`` and prototypes ``(k, d)``."""
        if not self.config.normalize_and_scale:
            return features @ prototypes.T
        cosines = functional.normalize(features) @ functional.normalize(prototypes).T
        return self.config.logit_scale**2 * cosines

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """Logits ``(n, k)`` of scaled features ``(n, d)`` and classes ``(k,)``."""
        return self._logits(features, self.network(self.semantics[classes]))


_MLP: dict[str, Any] = {"class_normalization": False, "small_init": False}

METHOD = Method(
    name="cn-zsl",
    label="CN-ZSL",
    paper="Skorokhodov and Elhoseiny, ICLR 2021; after the published code",
    kind="compatibility",
    config=CNZSLConfig,
    model=CNZSL,
    published={
        "": {
            "feature_scaling": "none",
            "epochs": 50,
            "batch_size": 256,
            "learning_rate": 5e-4,
            "lr_decay": 0.1,
            "lr_decay_every": 25,
            "lr_decay_clock": "epochs",
            "weight_decay": 1e-4,
            "precision": "fp32",
        },
        # These features may be negative; better on the validation classes too.
        "AWA1/classic": {"output_relu": False},
        "CUB/resnet_logits": {"output_relu": False},
    },
    variants={
        "no-cn": {"class_normalization": False},
        "by-deviation": {"cn_divisor": "deviation"},
        "no-init": {"small_init": False},
        "mlp": _MLP,
        "mlp-no-an": {**_MLP, "attribute_normalization": False},
        "mlp-no-ns": {**_MLP, "normalize_and_scale": False},
        "mlp-no-an-no-ns": {
            **_MLP,
            "attribute_normalization": False,
            "normalize_and_scale": False,
        },
        "two-layer-mlp": {**_MLP, "hidden_layers": 1},
        "linear": {**_MLP, "hidden_layers": 0},
        "linear-no-an": {**_MLP, "hidden_layers": 0, "attribute_normalization": False},
        "linear-no-ns": {**_MLP, "hidden_layers": 0, "normalize_and_scale": False},
    },
    search={
        "hidden": TimesOneOf((0.5, 1, 2)),
        "logit_scale": Times(0.4, 2),
        "cn_divisor": OneOf(("variance", "deviation")),
    },
)
