"""Bilinear scores of features and semantics, and the losses that train them.

The score of a row and a class is ``F(x, c) = max_k (x'W_k + b'_k) s_c``, with the class's
semantics ``s_c`` at length 1, and one map ``W_k`` or several. A loss ranks a row's own class ``y``
above the other seen classes, by a margin ``m``. With the hinge
``h_c = max(0, m + F(x, c) - F(x, y))`` of each class ``c`` other than ``y``:

- `summed_hinge`, the sum of all ``h_c``, and `sampled_hinge`, one ``h_c > 0`` at random (DeViSE);
- `largest_hinge` (SJE);
- `rank_weighted_hinge` and `sampled_rank_hinge` (ALE);
- `random_class_hinge`, one ``h_c`` at random (LATEM).

All losses are of whole batches. The published methods take a step of SGD for each row; here Adam
takes one for each batch, with the gradient of the batch's mean loss.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import Losses
from gsmflow.methods.semantic_model import SemanticModel

__all__ = [
    "RANKING_SETTINGS",
    "Bilinear",
    "hinges",
    "largest_hinge",
    "random_class_hinge",
    "rank_weighted_hinge",
    "sampled_hinge",
    "sampled_rank_hinge",
    "summed_hinge",
]

# Settings of the ranking methods, chosen for ALE on the validation classes of FLO and CUB.
RANKING_SETTINGS: Mapping[str, Any] = {
    "feature_scaling": "l2",
    "epochs": 20,
    "batch_size": 256,
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "lr_decay": 1.0,
}

# Uniform numbers are kept this far from 0 and 1, where their logarithms have no quotient.
_EDGE = 1e-7


def hinges(scores: Tensor, columns: Tensor, margin: float) -> Tensor:
    """``max(0, m + F(x, c) - F(x, y))`` of each wrong class; 0 at the own class, ``(n, k)``.

    Parameters
    ----------
    scores
        Scores of the seen classes, ``(n, k)``.
    columns
        The column of each row's own class, ``(n,)``.
    margin
        ``m``.
    """
    own = columns[:, None]
    violations = torch.relu(margin + scores - scores.gather(1, own))
    return violations.scatter(1, own, 0.0)


def summed_hinge(violations: Tensor) -> Tensor:
    """The sum over classes, ``(n,)``, of `hinges` ``(n, k)``."""
    return violations.sum(dim=1)


def sampled_hinge(violations: Tensor, draws: BatchRandom) -> Tensor:
    """The hinge of one class at random among those above 0, ``(n,)``; 0 where there is none.

    It is the first such class in a random order of the classes.
    """
    order = draws.normal(violations).masked_fill(violations <= 0, -torch.inf)
    return _at(violations, order.argmax(dim=1))


def largest_hinge(violations: Tensor) -> Tensor:
    """The largest of `hinges` ``(n, k)``, ``(n,)``."""
    return violations.max(dim=1).values


def rank_weighted_hinge(violations: Tensor) -> Tensor:
    """``beta_r / r sum_c h_c``, ``(n,)``, where ``r`` is the number of `hinges` above 0.

    ``beta_r = 1 + 1/2 + ... + 1/r``; the loss is 0 where ``r`` is. Weights have no gradient.
    """
    ranks = (violations > 0).sum(dim=1)
    weights = _harmonic_numbers(violations)[ranks] / ranks.clamp_min(1)
    return weights * violations.sum(dim=1)


def sampled_rank_hinge(violations: Tensor, draws: BatchRandom) -> Tensor:
    """``beta_q h_c`` of one class at random among those above 0, ``(n,)``, with a sampled rank.

    Wrong classes are drawn with replacement until one has a hinge above 0, at most ``k - 1`` times.
    If that is the i-th draw, the rank is ``q = floor((k - 1) / i)``. The number of draws has a
    geometric distribution, from which it is drawn at once.
    """
    wrong = violations.shape[1] - 1
    share = (violations > 0).sum(dim=1) / max(wrong, 1)
    uniform = torch.special.ndtr(draws.normal(share)).clamp(_EDGE, 1 - _EDGE)
    trials = (uniform.log() / torch.log1p(-share)).floor() + 1
    ranks = (wrong / trials).floor().long()
    return _harmonic_numbers(violations)[ranks] * sampled_hinge(violations, draws)


def random_class_hinge(violations: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
    """The hinge of one wrong class at random, ``(n,)``; ``columns`` are the own classes' ``(n,)``.

    The class is the same for whatever `hinges`: it depends on ``draws`` and ``columns`` alone.
    """
    order = draws.normal(violations).scatter(1, columns[:, None], -torch.inf)
    return _at(violations, order.argmax(dim=1))


def _at(violations: Tensor, columns: Tensor) -> Tensor:
    """The entry of each row ``(n, k)`` in its column ``(n,)``."""
    return violations.gather(1, columns[:, None]).squeeze(1)


def _harmonic_numbers(violations: Tensor) -> Tensor:
    """``beta_0 = 0, beta_1, ...``, ``(k,)``, for rows ``(n, k)``."""
    count = violations.shape[1]
    numbers = torch.arange(1, count, dtype=violations.dtype, device=violations.device)
    return functional.pad(numbers.reciprocal().cumsum(dim=0), (1, 0))


class Bilinear(SemanticModel):
    """A bilinear score that is trained with a ranking loss; each method has a subclass.

    The semantics have length 1. The maps are initialised from a normal distribution with standard
    deviation ``1 / sqrt(d)``, the bias with 0. Parameters as `SemanticModel` has them.

    Attributes
    ----------
    has_bias
        Whether there is a bias ``b_k``.
    """

    has_bias: ClassVar[bool] = False

    def __init__(
        self,
        config: Any,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__(config, feature_dim, generator, **buffers)
        maps, a = self.map_count(config), self.semantics.shape[1]
        self.maps = nn.Parameter(torch.zeros(maps, feature_dim, a))
        self.bias = nn.Parameter(torch.zeros(maps, 1, a)) if self.has_bias else None
        if generator is not None:
            nn.init.normal_(self.maps, std=feature_dim**-0.5, generator=generator)

    @classmethod
    def map_count(cls, config: Any) -> int:
        """The number of maps."""
        return 1

    @classmethod
    def semantics_of(cls, problem: Problem, config: Any) -> Tensor:
        """The semantics of every class, each at length 1, ``(classes, a)``."""
        return functional.normalize(torch.tensor(problem.semantics))

    @abstractmethod
    def row_losses(self, scores: Tensor, columns: Tensor, draws: BatchRandom) -> Tensor:
        """The loss of each row, ``(n,)``.

        Parameters
        ----------
        scores
            Scores of the seen classes, ``(n, seen)``.
        columns
            The column of each row's own class, ``(n,)``.
        draws
            Source of random numbers.
        """

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """``max_k (x'W_k + b'_k) s_c`` of features ``(n, d)`` and classes ``(c,)``, ``(n, c)``."""
        projected = features @ self.maps
        if self.bias is not None:
            projected = projected + self.bias
        of_maps = projected @ self.semantics[classes].T
        return of_maps.float().max(dim=0).values

    def loss(self, features: Tensor, labels: Tensor, draws: BatchRandom) -> Losses:
        """The mean of `row_losses`, for features ``(n, d)`` of seen classes ``(n,)``."""
        columns = torch.searchsorted(self.seen_classes, labels)
        ranking = self.row_losses(self.scores(features, self.seen_classes), columns, draws).mean()
        return Losses(ranking, {"ranking": ranking})
