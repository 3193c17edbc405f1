"""ConSE, the convex combination of semantic embeddings (Norouzi et al., ICLR 2014).

A softmax classifier of the seen classes gives posteriors ``p(c | x)``. The semantics of ``x`` are
``f(x) = sum_c p(c | x) s_c / sum_c p(c | x)`` over its T most probable seen classes. The class
whose semantics have the highest cosine with ``f(x)`` answers.
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
from gsmflow.methods.criterion_model import ExtensibleCriterionModel, Settings, Solution, Solve
from gsmflow.methods.seen_softmax import SeenSoftmaxConfig, fit_seen_softmax

__all__ = ["METHOD", "ConSE", "ConSEConfig"]


@dataclass(frozen=True)
class ConSEConfig(SeenSoftmaxConfig):
    """The settings of a `ConSE`."""

    top: Annotated[int | None, Range(min=1)] = None
    """The number T of seen classes that are combined, at most all; none: that of 1, 10 and 1000
    which is best on the validation classes, for T1, H and calibrated H each."""
    centred: bool = False
    """Whether to subtract the mean over all classes from the semantics; not in the paper."""


class ConSE(ExtensibleCriterionModel):
    """A fitted ConSE: the classifier of seen classes, and T for each of the three criteria."""

    config_class = ConSEConfig
    candidates: ClassVar = {"top": (1, 10, 1000)}
    config: ConSEConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: ConSEConfig, generators: Generators) -> Solve:
        """A function from T to the classifier and T; the classifier is trained once."""
        softmax = fit_seen_softmax(scaled, config, generators)

        def solve(settings: Settings) -> Solution:
            top = torch.tensor(int(settings["top"]), device=softmax.bias.device)
            return {"weight": softmax.weight, "bias": softmax.bias, "top": top}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Cosines ``(n, k)`` of the combined semantics of rows with those of classes ``(k,)``."""
        semantics = functional.normalize(self.semantics)
        if self.config.centred:
            semantics = semantics - semantics.mean(dim=0)
        logits = functional.linear(features, solution["weight"], solution["bias"])
        top, columns = logits.topk(min(int(solution["top"]), logits.shape[1]), dim=1)
        shares = torch.zeros_like(logits).scatter(1, columns, top.softmax(dim=1))
        combined = shares @ semantics[self.seen_classes]
        return functional.normalize(combined) @ functional.normalize(semantics[classes]).T


METHOD = Method(
    name="conse",
    label="ConSE",
    paper="Norouzi et al., ICLR 2014; after the paper's description",
    kind="probabilistic",
    config=ConSEConfig,
    model=ConSE,
    published={"": {"feature_scaling": "minmax"}},
)
