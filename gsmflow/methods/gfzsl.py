"""GFZSL, a generative framework (Verma and Rai, ECML 2017): a closed form.

Each class is a Gaussian with a diagonal covariance. Kernel ridge regression from the semantics
predicts the means and the log-variances of unseen classes from those of seen classes, with the
kernel ``(1 + s's)^2``. The class of highest density answers.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Scaled, class_means, class_variances
from gsmflow.learning.method import Method
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve

__all__ = ["GFZSL", "METHOD", "GFZSLConfig", "KernelRidge"]

# Added to a variance before its logarithm: a dimension may be constant within a class.
_SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class GFZSLConfig:
    """The settings of a `GFZSL`; if a ridge is none, it is chosen on the validation classes.

    It is chosen for T1, H and calibrated H each.
    """

    mean_ridge: Annotated[float | None, Range(above=0)] = None
    """Regularizer of the regression of the means; none: 0.01, 0.1 or 1."""
    variance_ridge: Annotated[float | None, Range(above=0)] = None
    """Regularizer of the regression of the log-variances; none: 1e7 or 1e8, with
    which they are almost constant over the unseen classes."""
    added_variance: Annotated[float, Range(above=0)] = 0.05
    """Added to all variances; more makes the dimensions' weights in the density more equal."""


class KernelRidge:
    """Kernel ridge regression on the semantics of some classes, for many ridges at the cost of one.

    The prediction is ``K(all, given) (K(given, given) + ridge I)^-1 T`` of targets ``T``, with
    ``K(s, t) = (1 + s't)^2``.

    Parameters
    ----------
    semantics
        Semantics of every class of the dataset, ``(classes, a)``.
    given
        The classes with targets, ``(k,)``.
    """

    def __init__(self, semantics: FloatArray, given: IntArray) -> None:
        s = semantics.astype(np.float64)
        kernel = (1 + s @ s[given].T) ** 2
        self._values, self._vectors = np.linalg.eigh(kernel[given])
        self._projected = kernel @ self._vectors

    def predict(self, targets: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
        """Targets of every class, ``(classes, d)``, from those given, ``(k, d)``; ``ridge > 0``."""
        # The kernel has no negative eigenvalues but for rounding errors.
        gains = 1 / (self._values.clip(min=0) + ridge)
        return np.asarray(self._projected * gains @ (self._vectors.T @ targets))


class GFZSL(CriterionModel):
    """A fitted GFZSL: the Gaussians of every class, for each of the three criteria.

    It takes no further classes: the regressions that would predict their Gaussians are not kept.
    """

    config_class = GFZSLConfig
    candidates: ClassVar = {
        "mean_ridge": (0.01, 0.1, 1.0),
        "variance_ridge": (1e7, 1e8),
    }
    config: GFZSLConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: GFZSLConfig, generators: Generators) -> Solve:
        """A function from both ridges to the Gaussians; seen classes keep their own."""
        problem = scaled.problem
        seen = scaled.on_device(problem.seen_classes)
        mean_rows = class_means(scaled.feed, seen)
        means, variances = (
            moments.cpu().numpy().astype(np.float64)
            for moments in (mean_rows, class_variances(scaled.feed, seen, mean_rows))
        )
        regression = KernelRidge(problem.semantics, problem.seen_classes)
        log_variances = np.log(variances + _SMALLEST_VARIANCE)

        def solve(settings: Settings) -> Solution:
            all_means = regression.predict(means, settings["mean_ridge"])
            predicted = regression.predict(log_variances, settings["variance_ridge"])
            all_variances = np.exp(predicted)
            all_means[problem.seen_classes] = means
            all_variances[problem.seen_classes] = variances
            solution = {"means": all_means, "variances": all_variances + config.added_variance}
            return {name: torch.from_numpy(v.astype(np.float32)) for name, v in solution.items()}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Log-densities ``(n, k)`` in nats, up to a constant."""
        means, variances = solution["means"][classes].double(), solution["variances"][classes]
        precisions, x = 1 / variances.double(), features.double()
        constants = (means.square() * precisions - precisions.log()).sum(dim=1)
        squares = x.square() @ precisions.T - 2 * x @ (means * precisions).T + constants
        return -squares.float() / 2


METHOD = Method(
    name="gfzsl",
    label="GFZSL",
    paper="Verma and Rai, ECML 2017; after the published code",
    kind="generative",
    config=GFZSLConfig,
    model=GFZSL,
    depends_on_seed=False,
    published={"": {"feature_scaling": "standardised"}},
)
