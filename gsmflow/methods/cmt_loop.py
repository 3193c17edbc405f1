"""CMT with the probability of novelty by LoOP, the local outlier probability.

Socher et al., "Zero-Shot Learning Through Cross-Modal Transfer", NeurIPS 2013. Features are mapped
to semantics as in `gsmflow.methods.cmt`. With the LoOP ``p`` of a mapped row among the mapped
training rows, a seen class has the probability ``(1 - p) p(c | x)`` by a softmax classifier of the
seen classes, and an unseen class ``p p(c | x)`` by isometric Gaussians around the unseen classes'
semantics, with equal priors. Their variance, which cannot be known, is the mean of the seen
classes' variances. Scores are logarithms of these probabilities, in which ``p`` and ``1 - p`` are
at least 1e-30, so that a calibration factor gamma is added to the log-odds of novelty.

Differences from the code of the co-authors: the LoOP is that among all mapped training rows, not
the least of those within each seen class, and the classifier has no penalty.
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
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve
from gsmflow.methods.isometric_gaussians import fit_isometric_gaussians
from gsmflow.methods.local_outliers import LocalOutliers, fit_local_outliers
from gsmflow.methods.seen_softmax import SeenSoftmaxConfig, fit_seen_softmax
from gsmflow.methods.semantic_regression import (
    SemanticRegression,
    SemanticRegressionConfig,
    fit_semantic_regression,
    mapped_slabs,
)

__all__ = ["METHOD", "CMTLoOP", "CMTLoOPConfig"]


@dataclass(frozen=True)
class CMTLoOPConfig(SeenSoftmaxConfig, SemanticRegressionConfig):
    """The settings of a `CMTLoOP`."""

    neighbours: Annotated[int, Range(min=1)] = 20
    """Nearest mapped training rows with which the density at a row is compared; at most all
    others."""
    extent: Annotated[float | None, Range(above=0)] = None
    """Standard deviations of LoOP beyond which a row is an outlier; none: that of 1, 2, 3, 5, 8 and
    13 which is best on the validation classes, for T1, H and calibrated H each."""


class CMTLoOP(CriterionModel):
    """A fitted CMT with LoOP: regression, classifier, mapped rows, an extent for each criterion."""

    config_class = CMTLoOPConfig
    candidates: ClassVar = {"extent": (1.0, 2.0, 3.0, 5.0, 8.0, 13.0)}
    config: CMTLoOPConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: CMTLoOPConfig, generators: Generators) -> Solve:
        """A function from the extent to itself and what is fitted, once for all."""
        feed, problem = scaled.feed, scaled.problem
        semantics = scaled.on_device(problem.semantics)
        seen = scaled.on_device(problem.seen_classes)
        regression = fit_semantic_regression(feed, semantics, config, generators)
        slabs = list(mapped_slabs(regression, feed))
        gaussians = fit_isometric_gaussians(slabs, seen, semantics[seen])
        points = torch.cat([rows for rows, _ in slabs])
        outliers = fit_local_outliers(points, config.neighbours)
        softmax = fit_seen_softmax(scaled, config, generators)
        fitted = {
            **regression._asdict(),
            **outliers._asdict(),
            "variance": gaussians.variances.mean(),
            "weight": softmax.weight,
            "bias": softmax.bias,
        }

        def solve(settings: Settings) -> Solution:
            return fitted | {"extent": torch.tensor(settings["extent"])}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Log-probabilities ``(n, k)`` of features ``(n, d)`` and classes ``(k,)``.

        The classes are all classes, seen ones first, or unseen ones alone. Those of unseen classes
        alone have no probability of novelty.
        """
        regression = SemanticRegression(*(solution[n] for n in SemanticRegression._fields))
        outliers = LocalOutliers(*(solution[n] for n in LocalOutliers._fields))
        rows = regression.map(features)
        is_seen = torch.isin(classes, self.seen_classes)
        squares = torch.cdist(rows, self.semantics[classes[~is_seen]]).square()
        of_unseen = (-squares / (2 * solution["variance"])).log_softmax(dim=1)
        if not is_seen.any():
            return of_unseen
        logits = functional.linear(features, solution["weight"], solution["bias"])
        columns = torch.searchsorted(self.seen_classes, classes[is_seen])
        of_seen = logits.log_softmax(dim=1)[:, columns]
        novel, known = outliers.log_probabilities(rows, solution["extent"])
        return torch.cat([known[:, None] + of_seen, novel[:, None] + of_unseen], dim=1)


METHOD = Method(
    name="cmt-loop",
    label="CMT, LoOP",
    paper="Socher et al., NeurIPS 2013, local outlier probabilities; after its description",
    kind="compatibility",
    config=CMTLoOPConfig,
    model=CMTLoOP,
    validation_draws=1,  # its fit takes a minute or more
    # Features of length 1 need a higher learning rate than others.
    published={"": {"feature_scaling": "l2", "seen_lr": 1e-2}},
    search={"hidden": TimesOneOf((0.5, 1, 2)), "penalty": Times(0.1, 10)},
)
