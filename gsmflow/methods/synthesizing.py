"""Models that synthesize features from the semantics of a class and noise."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from gsmflow.core.precision import at_least_float32
from gsmflow.core.rng import BatchRandom
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import ClassifierRows, RowsRequest, real_and_synthesized
from gsmflow.learning.sampling import FeatureSampler
from gsmflow.methods.positioning import scaled_semantics
from gsmflow.methods.semantic_model import ClassModel

__all__ = ["SynthesizingModel", "any_of"]


class SynthesizingModel(ClassModel):
    """What is common to these models. Parameters as `ClassModel` has them."""

    @property
    @abstractmethod
    def noise_dim(self) -> int:
        """``k``, the length of the noise."""

    @abstractmethod
    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        """Scaled features ``(n, d)`` of standard normal noise ``(n, k)``, semantics ``(n, a)``."""

    @classmethod
    def semantics_of(cls, problem: Problem, config: Any) -> Tensor:
        """The semantics of every class, scaled as the settings ask, ``(classes, a)``."""
        return torch.tensor(scaled_semantics(problem, config))

    def noise_for(self, rows: Tensor, draws: BatchRandom) -> Tensor:
        """Standard normal noise ``(n, k)``, a row for each of ``(n, ...)`` rows."""
        return draws.normal(rows.new_empty(len(rows), self.noise_dim, dtype=self.semantics.dtype))

    @torch.no_grad()
    def sampler(self, classes: Tensor) -> FeatureSampler:
        """Draws scaled features of classes ``(k,)``."""
        semantics = self.semantics[classes]

        @torch.no_grad()
        def draw_features(positions: Tensor, generator: torch.Generator) -> Tensor:
            noise = self.noise_for(positions, BatchRandom(generator))
            return at_least_float32(self.synthesized(noise, semantics[positions]))

        return draw_features

    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        """Real seen rows and synthesized unseen rows, streamed if there are many."""
        return real_and_synthesized(request, self)


def any_of(classes: Tensor, count: int, draws: BatchRandom) -> Tensor:
    """Classes ``(count,)``, each drawn from ``classes (k,)`` with equal probabilities."""
    k = len(classes)
    # A number next to 1 times k may be rounded to k.
    return classes[(draws.uniform(count) * k).long().clamp_max(k - 1)]
