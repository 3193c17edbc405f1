"""DAP, direct attribute prediction (Lampert et al., CVPR 2009).

Logistic regression predicts each binary attribute from the features. The class whose attributes are
the most probable, beside their prior, answers.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.linear_algebra import cholesky, inverse_of_lower
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Feed, Scaled
from gsmflow.learning.method import Method
from gsmflow.methods.binary_attributes import (
    AttributeConfig,
    AttributeModel,
    learned_attributes,
)
from gsmflow.methods.criterion_model import Settings, Solution, Solve
from gsmflow.methods.full_batch import minimise_in_coordinates, second_moments, sum_with_gradients

__all__ = ["DAP", "METHOD", "DAPConfig", "LogisticRegressions"]

# L-BFGS ends after so many iterations, or where the mean loss of a target falls by less than this.
_ITERATIONS = 100
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class DAPConfig(AttributeConfig):
    """The settings of a `DAP`."""

    attribute_penalty: Annotated[float | None, Range(above=0)] = None
    """L2 penalty of the logistic regressions, beside the mean loss of a row; none: the value of
    1e-3, 1e-2 and 1e-1 that is best on the validation classes, for T1, H and calibrated H each."""


class LogisticRegressions:
    """Logistic regressions for several targets at once, by L-BFGS, for several penalties.

    They minimise the mean over the rows of the cross-entropy, summed over the targets, plus
    ``penalty / 2`` times the squared weights. With rows ``(x, 1)``, no target's curvature is above
    ``X'X / (4 n)``, plus the penalty. L-BFGS works in coordinates in which this bound is the
    identity. It then takes a few dozen passes over the rows to the minimum, in place of hundreds.

    Parameters
    ----------
    feed
        The rows.
    targets
        Targets in {0, 1} of every class number, ``(classes, m)``, on the feed's device.
    """

    def __init__(self, feed: Feed, targets: Tensor) -> None:
        self._feed = feed
        self._targets = targets
        self._bound = second_moments(feed, bias=True) / 4

    def fit(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Weights ``(m, d)`` and biases ``(m,)`` for a penalty ``> 0``."""
        targets, n = self._targets, len(self._feed.labels)
        m = targets.shape[1]
        penalties = torch.full_like(self._bound[0], penalty)
        penalties[-1] = 0  # of the bias
        to_weights = inverse_of_lower(cholesky(self._bound + penalties.diag())).to(targets)

        def loss(weights: Tensor) -> Tensor:
            def of_rows(features: Tensor, labels: Tensor) -> Tensor:
                logits = functional.linear(features, weights[:, :-1], weights[:, -1])
                return functional.binary_cross_entropy_with_logits(
                    logits, targets[labels], reduction="sum"
                ) / (n * m)

            squares = penalty / (2 * m) * weights[:, :-1].square().sum()
            return sum_with_gradients(self._feed, squares, of_rows)

        start = targets.new_zeros(m, len(penalties))
        weights = minimise_in_coordinates(
            start, lambda z: z @ to_weights, loss, _ITERATIONS, tolerance=_TOLERANCE
        )
        return weights[:, :-1].contiguous(), weights[:, -1].contiguous()


class DAP(AttributeModel):
    """A fitted DAP: the regressions of all attributes, for each of the three criteria."""

    config_class = DAPConfig
    candidates: ClassVar = {"attribute_penalty": (1e-3, 1e-2, 1e-1)}
    config: DAPConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: DAPConfig, generators: Generators) -> Solve:
        """A function from the penalty to the regressions."""
        attributes = learned_attributes(scaled, config)
        regressions = LogisticRegressions(scaled.feed, attributes)

        def solve(settings: Settings) -> Solution:
            weight, bias = regressions.fit(settings["attribute_penalty"])
            return {"weight": weight, "bias": bias, "attributes": attributes}

        return solve

    def probabilities(self, solution: Solution, features: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities that rows have each attribute, and that not; see `AttributeModel`."""
        logits = functional.linear(features, solution["weight"], solution["bias"])
        return logits.sigmoid(), (-logits).sigmoid()


METHOD = Method(
    name="dap",
    label="DAP",
    paper="Lampert et al., CVPR 2009; after a description, with logistic regression for its SVM",
    kind="probabilistic",
    config=DAPConfig,
    model=DAP,
    depends_on_seed=False,
    published={"": {"feature_scaling": "standardised"}},
)
