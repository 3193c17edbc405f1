"""IAP, indirect attribute prediction (Lampert et al., CVPR 2009).

A softmax classifier of the seen classes gives posteriors ``p(k | x)``, and these the probability of
each binary attribute, ``p_m(x) = sum_k p(k | x) b_km``. The class whose attributes are the most
probable, beside their prior, answers.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import Generators
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.methods.binary_attributes import (
    AttributeConfig,
    AttributeModel,
    learned_attributes,
)
from gsmflow.methods.criterion_model import Settings, Solution, Solve
from gsmflow.methods.seen_softmax import SeenSoftmaxConfig, fit_seen_softmax

__all__ = ["IAP", "METHOD", "IAPConfig"]


@dataclass(frozen=True)
class IAPConfig(AttributeConfig, SeenSoftmaxConfig):
    """The settings of an `IAP`."""


class IAP(AttributeModel):
    """A fitted IAP: the classifier of seen classes. It has no setting to choose."""

    config_class = IAPConfig
    candidates: ClassVar = {}
    config: IAPConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: IAPConfig, generators: Generators) -> Solve:
        """A function that gives the classifier."""
        attributes = learned_attributes(scaled, config)
        softmax = fit_seen_softmax(scaled, config, generators)

        def solve(settings: Settings) -> Solution:
            return {"weight": softmax.weight, "bias": softmax.bias, "attributes": attributes}

        return solve

    def probabilities(self, solution: Solution, features: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities that rows have each attribute, and that not; see `AttributeModel`."""
        posteriors = functional.linear(features, solution["weight"], solution["bias"]).softmax(1)
        of_seen = solution["attributes"][self.seen_classes]
        return posteriors @ of_seen, posteriors @ (1 - of_seen)


METHOD = Method(
    name="iap",
    label="IAP",
    paper="Lampert et al., CVPR 2009; after a description, with a softmax classifier",
    kind="probabilistic",
    config=IAPConfig,
    model=IAP,
    published={"": {"feature_scaling": "minmax"}},
)
