"""CMT, cross-modal transfer: features are mapped to semantics, and the nearest class answers.

Socher et al., "Zero-Shot Learning Through Cross-Modal Transfer", NeurIPS 2013. This is the method
without novelty detection, as benchmarks list it: the nearest of all classes answers, by the squared
Euclidean distance. `gsmflow.methods.cmt_star` and `gsmflow.methods.cmt_loop` detect novelty first.

Features are scaled to length 1. With standardised ones L-BFGS is far from converged after the
published number of iterations, and the validation classes are recognised worse.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsmflow.core.rng import Generators
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import with_tensors
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.semantic_model import SemanticModel
from gsmflow.methods.semantic_regression import (
    SemanticRegression,
    SemanticRegressionConfig,
    fit_semantic_regression,
)

__all__ = ["CMT", "METHOD", "CMTConfig"]


@dataclass(frozen=True)
class CMTConfig(SemanticRegressionConfig):
    """The settings of a `CMT`."""


class CMT(SemanticModel):
    """A fitted CMT: the regression onto semantics. Parameters as `SemanticModel` has them."""

    config_class = CMTConfig
    config: CMTConfig

    def __init__(
        self,
        config: CMTConfig,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        sizes = feature_dim, config.hidden, self.semantics.shape[1]
        for name, weight in SemanticRegression.zeros(*sizes)._asdict().items():
            self.register_buffer(name, weight)

    @classmethod
    def semantics_of(cls, problem: Problem, config: Any) -> Tensor:
        """The semantics ``(classes, a)``, as they are."""
        return torch.tensor(problem.semantics)

    @classmethod
    def for_problem(cls, scaled: Scaled, config: CMTConfig, generators: Generators) -> "CMT":
        """A model that is fitted to a problem, on the CPU; arguments as `Model.for_problem` has."""
        model = super().for_problem(scaled, config, generators)
        fitted = fit_semantic_regression(scaled.feed, model.semantics, config, generators)
        return with_tensors(model, {name: w.cpu() for name, w in fitted._asdict().items()})

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """Minus squared distances ``(n, k)`` of mapped features ``(n, d)`` and classes ``(k,)``."""
        regression = SemanticRegression(*map(self.get_buffer, SemanticRegression._fields))
        return -torch.cdist(regression.map(features), self.semantics[classes]).square()


METHOD = Method(
    name="cmt",
    label="CMT",
    paper="Socher et al., NeurIPS 2013; after the code of its co-authors, no novelty detection",
    kind="compatibility",
    config=CMTConfig,
    model=CMT,
    validation_draws=1,  # its fit takes a minute or more
    published={"": {"feature_scaling": "l2"}},
    search={"hidden": TimesOneOf((0.5, 1, 2)), "penalty": Times(0.1, 10)},
)
