"""SYNC, synthesized classifiers (Changpinyo et al., CVPR 2016; IJCV 2020), in their fast form.

The linear classifier of every class is a combination of those of phantom classes, ``w_c = sum_r
s_cr v_r``. The phantom classes are the seen ones, and ``s_cr`` the normalised similarity of the
semantics of c and r. The classifiers ``W`` of the seen classes are trained first; then ``V = S+ W``
with the pseudo-inverse of the similarities among seen classes, and all classes are combined of it.
Where these similarities have full rank, every ``W`` is of the form ``S V``, so that training ``V``
itself, as in the paper's first form, has the same minimum.

``S+`` amplifies the directions in which the semantics of seen classes hardly differ. A setting adds
a ridge, which is 0 in the published code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gsmflow.core.arrays import IntArray
from gsmflow.core.linear_algebra import symmetric_eigen
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Feed, Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf
from gsmflow.methods.class_similarities import relative_distances, similarities
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve
from gsmflow.methods.full_batch import minimise_in_coordinates, second_moments, sum_with_gradients

__all__ = [
    "METHOD",
    "SYNC",
    "SYNCConfig",
    "SeenClassifiers",
    "SeenLoss",
    "SynthesizedClassifiers",
    "combinations",
    "one_versus_other",
    "worst_margin",
]

SeenLoss: TypeAlias = Literal["ovo", "cs", "struct"]
# From scores ``(m, k)`` and the column of each row's class ``(m,)`` to the sum of the rows' losses.
_RowLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_ITERATIONS = 100
# Width of the smooth part of the maximum over the classes, in `worst_margin`.
_SMOOTHING = 0.1
# The curvature of a row's loss that the coordinates of the search are scaled for. It changes how
# near the last iteration is to the minimum, which small penalties do not reach.
_CURVATURE = 0.1


@dataclass(frozen=True)
class SYNCConfig:
    """The settings of a `SYNC`; if a number is none, it is chosen on the validation classes.

    It is chosen for T1, H and calibrated H each.
    """

    seen_loss: SeenLoss = "ovo"
    """The loss of the classifiers of seen classes: one class versus the other ones (ovo), the
    margin of Crammer and Singer (cs), or a margin as wide as the distance of the classes'
    semantics (struct)."""
    weight_penalty: Annotated[float | None, Range(above=0)] = None
    """L2 penalty lambda on the classifiers of seen classes; none: a power of four from
    2^-30 to 2^-8."""
    sharpness: Annotated[float | None, Range(above=0)] = None
    """Factor tau on the squared distances of semantics; none: a power of two from 1/32 to 32."""
    similarity_ridge: Annotated[float, Range(min=0)] = 0.0
    """Ridge of the inverse of the similarities among seen classes, as a share of their mean squared
    singular value; 0: the pseudo-inverse."""


def one_versus_other(scores: Tensor, columns: Tensor) -> Tensor:
    """Sum over the rows of the squared hinge losses of all classes.

    Parameters
    ----------
    scores
        Scores ``(m, k)``; that of a row's class should be at least 1, all others at most -1.
    columns
        The column of each row's class, ``(m,)``.
    """
    targets = 2 * functional.one_hot(columns, scores.shape[1]).to(scores) - 1
    return (1 - targets * scores).clamp(min=0).square().sum()


def worst_margin(scores: Tensor, columns: Tensor, margins: Tensor) -> Tensor:
    """Sum over the rows of ``max_c (margin_yc + score_c - score_y)``, with the maximum smoothed.

    The maximum is ``max_p p'u - |p|^2 mu / 2 + mu / 2`` over probabilities p, with mu = 0.1. It is
    above the exact one by at most mu / 2, and equals it where one class leads by mu.

    Parameters
    ----------
    scores, columns
        As in `one_versus_other`.
    margins
        By how much the score of a row's class should be above those of others, ``(k, k)``; 0 on
        the diagonal.
    """
    u = scores + margins[columns]
    with torch.no_grad():
        # The best p is the projection of u / mu on the probabilities (Martins and Astudillo 2016).
        descending = (u / _SMOOTHING).sort(dim=1, descending=True).values
        excess = descending.cumsum(dim=1) - 1
        ranks = torch.arange(1, u.shape[1] + 1, device=u.device)
        counts = (descending * ranks > excess).sum(dim=1, keepdim=True)
        p = (u / _SMOOTHING - excess.gather(1, counts - 1) / counts).clamp(min=0)
        offset = _SMOOTHING / 2 * (1 - p.square().sum(dim=1))
    own = u.gather(1, columns[:, None])[:, 0]
    return ((p * u).sum(dim=1) + offset - own).sum()


class SeenClassifiers:
    """Trains the linear classifiers of the seen classes, with any penalty.

    The loss is the mean over the rows, for ``"ovo"`` over the classes too, plus
    ``penalty / 2 |W|^2``. It is convex, and minimised from zero in coordinates that make its
    curvature similar in all directions.

    Parameters
    ----------
    feed
        Rows of seen classes.
    classes
        The seen classes, ascending, ``(k,)``, on the feed's device.
    loss
        The loss.
    margins
        Distances of the seen classes, ``(k, k)``, for ``"struct"``.
    """

    def __init__(self, feed: Feed, classes: Tensor, loss: SeenLoss, margins: Tensor) -> None:
        self._feed, self._classes = feed, classes
        device = feed.labels.device
        values, vectors = symmetric_eigen(second_moments(feed))
        self._values = values.clamp(min=0).float().to(device)
        self._vectors = vectors.float().to(device)
        k = len(classes)
        # The mean over the classes is left out while the loss is minimised.
        self._penalty_factor = k if loss == "ovo" else 1
        wide = margins if loss == "struct" else 1 - torch.eye(k)
        wide = wide.to(device, torch.float32)

        def margin_loss(scores: Tensor, columns: Tensor) -> Tensor:
            return worst_margin(scores, columns, wide)

        self._loss: _RowLoss = one_versus_other if loss == "ovo" else margin_loss

    def train(self, penalty: float) -> Tensor:
        """The classifiers ``W (k, d)`` of least loss, for a penalty ``> 0``."""
        n, factor = len(self._feed.labels), penalty * self._penalty_factor
        scale = (_CURVATURE * self._values + factor).rsqrt()

        def loss(w: Tensor) -> Tensor:
            def of_rows(features: Tensor, labels: Tensor) -> Tensor:
                columns = torch.searchsorted(self._classes, labels)
                return self._loss(functional.linear(features, w), columns) / n

            return sum_with_gradients(self._feed, factor / 2 * w.square().sum(), of_rows)

        start = self._values.new_zeros(len(self._classes), len(scale))
        return minimise_in_coordinates(
            start, lambda z: (z * scale) @ self._vectors.T, loss, _ITERATIONS
        )


def combinations(
    distances: NDArray[np.float64], seen: IntArray, sharpness: float, ridge: float
) -> NDArray[np.float64]:
    """The share ``(classes, k)`` of each seen class's classifier in those of all classes.

    Parameters
    ----------
    distances
        Distances of all classes, ``(classes, classes)``.
    seen
        The seen classes, ``(k,)``.
    sharpness, ridge
        As in `SYNCConfig`.
    """
    of_all = similarities(distances, seen, sharpness)
    among_seen = of_all[seen]
    if ridge == 0:
        shares = of_all @ np.linalg.pinv(among_seen)
        # Exactly so, where the similarities among few dimensions have no inverse.
        shares[seen] = np.eye(len(seen))
        return np.asarray(shares)
    gram = among_seen @ among_seen.T
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(seen)
    return np.asarray(of_all @ among_seen.T @ np.linalg.inv(gram))


class SynthesizedClassifiers(CriterionModel):
    """Linear classifiers of all classes, for each of the three criteria."""

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Scores ``(n, k)`` of features ``(n, d)`` and classes ``(k,)``."""
        return functional.linear(features, solution["weight"][classes])

    @staticmethod
    def solve_for(scaled: Scaled, config: SYNCConfig, distances: NDArray[np.float64]) -> Solve:
        """A function from ``weight_penalty`` and ``sharpness`` to the classifiers.

        What it computes for one value serves for all further calls with this value.

        Parameters
        ----------
        scaled, config
            As `CriterionModel.solver` takes them.
        distances
            Distances of all classes, ``(classes, classes)``.
        """
        seen = scaled.problem.seen_classes
        classifiers = SeenClassifiers(
            scaled.feed,
            scaled.on_device(seen),
            config.seen_loss,
            torch.from_numpy(distances[np.ix_(seen, seen)]),
        )
        train = cache(classifiers.train)

        @cache
        def shares(sharpness: float) -> Tensor:
            return torch.from_numpy(
                combinations(distances, seen, sharpness, config.similarity_ridge)
            )

        def solve(settings: Settings) -> Solution:
            w = train(settings["weight_penalty"])
            return {"weight": shares(settings["sharpness"]).to(w) @ w}

        return solve


class SYNC(SynthesizedClassifiers):
    """A fitted SYNC: the linear classifiers of all classes, for each of the three criteria."""

    config_class = SYNCConfig
    candidates: ClassVar = {
        "weight_penalty": tuple(2.0**e for e in range(-30, -7, 2)),
        "sharpness": tuple(2.0**e for e in range(-5, 6)),
    }
    config: SYNCConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: SYNCConfig, generators: Generators) -> Solve:
        """A function from both numbers to the classifiers; those of seen classes are kept."""
        return cls.solve_for(scaled, config, relative_distances(scaled.problem.semantics))


METHOD = Method(
    name="sync",
    label="SYNC",
    paper="Changpinyo et al., CVPR 2016; after the published code, with a smoothed maximum",
    kind="compatibility",
    config=SYNCConfig,
    model=SYNC,
    depends_on_seed=False,
    published={"": {"feature_scaling": "l2"}},
    variants={
        "crammer-singer": {"seen_loss": "cs"},
        "structured": {"seen_loss": "struct"},
        "ridge": {"similarity_ridge": 1e-4},
    },
    search={"seen_loss": OneOf(("ovo", "cs", "struct"))},
)
