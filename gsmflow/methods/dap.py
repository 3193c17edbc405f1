"""DAP, direct attribute prediction (Lampert et al., CVPR 2009).

Logistic regression predicts each binary attribute from the features. The class whose attributes are
the most probable, beside their prior, answers.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Feed, Scaled
from gsmflow.learning.method import Method
from gsmflow.methods.binary_attributes import attribute_scores, binary_attributes
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve
from gsmflow.methods.full_batch import minimise, sum_with_gradients

__all__ = ["DAP", "METHOD", "DAPConfig", "fit_logistic"]

_ITERATIONS = 50


@dataclass(frozen=True)
class DAPConfig:
    """The settings of a `DAP`."""

    attribute_penalty: Annotated[float | None, Range(above=0)] = None
    """L2 penalty of the logistic regressions, beside the mean loss of a row; none: the value of
    1e-3, 1e-2 and 1e-1 that is best on the validation classes, for T1, H and calibrated H each."""


def fit_logistic(feed: Feed, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Logistic regressions for several targets at once, by L-BFGS.

    They minimise the mean over the rows of the cross-entropy, summed over the targets, plus
    ``penalty / 2`` times the squared weights.

    Parameters
    ----------
    feed
        The rows.
    targets
        Targets in {0, 1} of every class number, ``(classes, m)``, on the feed's device.
    penalty
        ``> 0``.

    Returns
    -------
    tuple
        Weights ``(m, d)`` and biases ``(m,)``.
    """
    m, d, n = targets.shape[1], feed.feature_dim, len(feed.labels)
    weight = targets.new_zeros(m, d, requires_grad=True)
    bias = targets.new_zeros(m, requires_grad=True)

    def of_rows(features: Tensor, labels: Tensor) -> Tensor:
        logits = functional.linear(features, weight, bias)
        part = functional.binary_cross_entropy_with_logits(logits, targets[labels], reduction="sum")
        return part / n

    def loss() -> Tensor:
        return sum_with_gradients(feed, penalty / 2 * weight.square().sum(), of_rows)

    minimise([weight, bias], loss, _ITERATIONS)
    return weight.detach(), bias.detach()


class DAP(CriterionModel):
    """A fitted DAP: the regressions of all attributes, for each of the three criteria."""

    config_class = DAPConfig
    candidates: ClassVar = {"attribute_penalty": (1e-3, 1e-2, 1e-1)}
    config: DAPConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: DAPConfig, generators: Generators) -> Solve:
        """A function from the penalty to the regressions."""
        semantics = torch.tensor(scaled.problem.semantics, device=scaled.feed.labels.device)
        attributes = binary_attributes(semantics)

        def solve(settings: Settings) -> Solution:
            weight, bias = fit_logistic(scaled.feed, attributes, settings["attribute_penalty"])
            return {"weight": weight, "bias": bias}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Log-probabilities ``(n, k)`` of the attributes of classes ``(k,)``, less the prior's."""
        p = functional.linear(features, solution["weight"], solution["bias"]).sigmoid()
        return attribute_scores(p, binary_attributes(self.semantics), classes, self.seen_classes)


METHOD = Method(
    name="dap",
    label="DAP",
    paper="Lampert et al., CVPR 2009; after a description, with logistic regression for its SVM",
    config=DAPConfig,
    model=DAP,
    published={"": {"feature_scaling": "standardised"}},
)
