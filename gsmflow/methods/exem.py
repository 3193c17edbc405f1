"""EXEM, exemplars of classes that are predicted from semantics (Changpinyo et al., ICCV 2017).

The exemplar of a class is the mean of its rows in the space of their first principal components.
Support vector regression predicts each of its dimensions from the semantics. The class of the
nearest predicted exemplar answers, for seen classes too.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import NuSVR
from torch import Tensor
from torch.nn import functional

from gsmflow.core.arrays import IntArray
from gsmflow.core.linear_algebra import symmetric_eigen
from gsmflow.core.progress import counted
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import MemoryFeed, Scaled, class_means, class_variances, feed_slabs
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf
from gsmflow.methods.class_similarities import relative_distances
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve
from gsmflow.methods.full_batch import second_moments

__all__ = ["EXEM", "METHOD", "EXEMConfig", "ExemplarDistance", "predict_exemplars"]

ExemplarDistance: TypeAlias = Literal["euclidean", "standardised"]

# Principal components with less than this share of the first one's variance are rounding errors.
_RANK_TOLERANCE = 1e-7


@dataclass(frozen=True)
class EXEMConfig:
    """The settings of an `EXEM`; if one of the regression is none, it is chosen.

    It is chosen on the validation classes, for T1, H and calibrated H each.
    """

    exemplar_dim: Annotated[int, Range(min=1)] = 500
    """Number of principal components, at most the number of dimensions in which rows vary."""
    exemplar_distance: ExemplarDistance = "euclidean"
    """The distance from exemplars: Euclidean, or with each dimension divided by its mean standard
    deviation within the seen classes (standardised)."""
    svr_c: Annotated[float | None, Range(above=0)] = None
    """The bound C of the regression's coefficients; none: 1/32, 1 or 32."""
    svr_nu: Annotated[float | None, Range(above=0, max=1)] = None
    """The least share nu of classes that are support vectors; none: 1/16, 1/4, 1/2 or 1."""
    svr_gamma: Annotated[float | None, Range(above=0)] = None
    """Factor gamma on squared distances of semantics in the regression's kernel; none:
    1/16, 1/4, 1 or 4."""


def predict_exemplars(
    exemplars: NDArray[np.float64],
    distances: NDArray[np.float64],
    given: IntArray,
    settings: Settings,
) -> NDArray[np.float64]:
    """Exemplars of all classes ``(classes, p)``, by nu-SVR of each dimension.

    Parameters
    ----------
    exemplars
        Those of the given classes, ``(k, p)``.
    distances
        Distances of the semantics of all classes, ``(classes, classes)``.
    given
        The given classes, ``(k,)``.
    settings
        ``svr_c``, ``svr_nu`` and ``svr_gamma``. The kernel is ``exp(-gamma distance^2)``.
    """
    kernel = np.exp(-settings["svr_gamma"] * distances[:, given] ** 2)
    among_given = kernel[given]
    svr = NuSVR(C=settings["svr_c"], nu=settings["svr_nu"], kernel="precomputed")
    dimensions = counted(exemplars.T, "dimensions", exemplars.shape[1], repeated=True)
    predicted = [svr.fit(among_given, of_dim).predict(kernel) for of_dim in dimensions]
    return np.stack(predicted, axis=1)


class EXEM(CriterionModel):
    """A fitted EXEM: the exemplars of all classes, for each of the three criteria."""

    config_class = EXEMConfig
    candidates: ClassVar = {
        "svr_c": (2.0**-5, 1.0, 2.0**5),
        "svr_nu": (2.0**-4, 2.0**-2, 2.0**-1, 1.0),
        "svr_gamma": (2.0**-4, 2.0**-2, 1.0, 4.0),
    }
    config: EXEMConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: EXEMConfig, generators: Generators) -> Solve:
        """A function from the settings of the regression to the exemplars."""
        problem, feed = scaled.problem, scaled.feed
        centre, axes = _principal_axes(scaled, config.exemplar_dim)
        projected = MemoryFeed(
            torch.cat([(features - centre) @ axes for features, _ in feed_slabs(feed)]), feed.labels
        )
        seen = scaled.on_device(problem.seen_classes)
        means = class_means(projected, seen)
        deviations = class_variances(projected, seen, means).sqrt().mean(dim=0)
        spread = (
            # A component that varies between the classes alone is not divided by 0.
            deviations.clamp(min=_RANK_TOLERANCE**0.5 * float(deviations.max()))
            if config.exemplar_distance == "standardised"
            else torch.ones_like(deviations)
        )
        exemplars = means.cpu().numpy().astype(np.float64)
        distances = relative_distances(problem.semantics)
        weight, bias = axes.T / spread[:, None], -(centre @ axes) / spread

        def solve(settings: Settings) -> Solution:
            predicted = predict_exemplars(exemplars, distances, problem.seen_classes, settings)
            scaled_exemplars = torch.from_numpy(predicted).to(spread) / spread
            return {"weight": weight, "bias": bias, "exemplars": scaled_exemplars}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Negative distances ``(n, k)`` of features ``(n, d)`` from those of classes ``(k,)``."""
        projected = functional.linear(features, solution["weight"], solution["bias"])
        # Products of matrices would lose the differences between the distances of a row.
        mode = "donot_use_mm_for_euclid_dist"
        return -torch.cdist(projected, solution["exemplars"][classes], compute_mode=mode)


def _principal_axes(scaled: Scaled, dimensions: int) -> tuple[Tensor, Tensor]:
    """Mean of the training rows ``(d,)`` and their first principal axes ``(d, p)``."""
    feed = scaled.feed
    moments = second_moments(feed, bias=True)
    mean = moments[-1, :-1]
    values, vectors = symmetric_eigen(moments[:-1, :-1] - torch.outer(mean, mean))
    kept = max(1, min(dimensions, int((values > _RANK_TOLERANCE * values[-1]).sum())))
    axes = vectors.flip(dims=(1,))[:, :kept]
    device = feed.labels.device
    return mean.float().to(device), axes.float().to(device)


METHOD = Method(
    name="exem",
    label="EXEM",
    paper="Changpinyo et al., ICCV 2017; after the published code",
    kind="compatibility",
    config=EXEMConfig,
    model=EXEM,
    depends_on_seed=False,
    published={"": {"feature_scaling": "l2"}},
    variants={"standardised-distance": {"exemplar_distance": "standardised"}},
    search={"exemplar_distance": OneOf(("euclidean", "standardised"))},
)
