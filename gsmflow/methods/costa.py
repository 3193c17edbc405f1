"""COSTA, classifiers of unseen classes from those of similar seen classes (CVPR 2014).

Mensink et al. combine classifiers by the co-occurrence of classes. Here the similarities come from
the semantics: the weights of a class are ``sum_c s_uc w_c`` over the seen classes, with ``s_uc``
proportional to ``exp(-gamma |s_u - s_c|^2)`` and sum 1. Semantics have length 1 and are divided by
their median distance. Seen classes are combined as unseen ones are, so that the scores of both are
of one scale.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.methods.class_similarities import relative_distances, similarities
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve
from gsmflow.methods.seen_softmax import SeenSoftmaxConfig, fit_seen_softmax

__all__ = ["COSTA", "METHOD", "COSTAConfig"]


@dataclass(frozen=True)
class COSTAConfig(SeenSoftmaxConfig):
    """The settings of a `COSTA`."""

    sharpness: Annotated[float | None, Range(above=0)] = None
    """Factor gamma on the squared distances of semantics; none: the power of two from 1/4 to 64
    that is best on the validation classes, for T1, H and calibrated H each."""


class COSTA(CriterionModel):
    """A fitted COSTA: the linear classifiers of all classes, for each of the three criteria.

    It takes no further classes: they would change the median distance, and with it the classifiers
    of all others.
    """

    config_class = COSTAConfig
    candidates: ClassVar = {"sharpness": tuple(2.0**e for e in range(-2, 7))}
    config: COSTAConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: COSTAConfig, generators: Generators) -> Solve:
        """A function from gamma to the classifiers; those of seen classes are trained once."""
        problem = scaled.problem
        seen = fit_seen_softmax(scaled, config, generators)
        distances = relative_distances(problem.semantics)

        def solve(settings: Settings) -> Solution:
            shares = similarities(distances, problem.seen_classes, settings["sharpness"])
            s = torch.from_numpy(shares).to(seen.weight)
            return {"weight": s @ seen.weight, "bias": s @ seen.bias}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Logits ``(n, k)`` of features ``(n, d)`` and classes ``(k,)``."""
        return functional.linear(features, solution["weight"][classes], solution["bias"][classes])


METHOD = Method(
    name="costa",
    label="COSTA",
    paper="Mensink et al., CVPR 2014; after a description, with similarities of semantics",
    kind="probabilistic",
    config=COSTAConfig,
    model=COSTA,
    published={"": {"feature_scaling": "minmax"}},
)
