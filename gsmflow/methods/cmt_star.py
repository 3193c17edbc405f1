"""CMT*, cross-modal transfer with novelty detection by Gaussians of the seen classes.

Socher et al., "Zero-Shot Learning Through Cross-Modal Transfer", NeurIPS 2013. Features are mapped
to semantics as in `gsmflow.methods.cmt`. A row is taken for one of a seen class if its log-density
under some seen class's isometric Gaussian, around the class's semantics, reaches a threshold. Then
a softmax classifier of the seen classes answers, else the unseen class of nearest semantics.

A fifth of each class's rows is held out from the regression and the Gaussians, and the threshold
accepts a share of these rows: rows that were fitted lie closer to their classes than any others.

The best score of either expert is 0, and the scores of the unseen classes are raised by the
threshold less the highest log-density. The class of highest score is thus the paper's answer, a
calibration factor gamma raises the log-density that a row of a seen class needs, and AUSUC is the
area over all thresholds.

Differences from the code of the co-authors: a class's variance is the mean over its own rows, the
classifier has no penalty, and the threshold is chosen on validation classes, not on test rows.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.data.splits import draw_fifth
from gsmflow.learning.feed import Scaled, SelectedFeed
from gsmflow.learning.method import Method
from gsmflow.learning.search import Times, TimesOneOf
from gsmflow.methods.criterion_model import CriterionModel, Settings, Solution, Solve
from gsmflow.methods.gates.base import accepting_threshold, route_experts
from gsmflow.methods.isometric_gaussians import IsometricGaussians, fit_isometric_gaussians
from gsmflow.methods.seen_softmax import SeenSoftmaxConfig, fit_seen_softmax
from gsmflow.methods.semantic_regression import (
    SemanticRegression,
    SemanticRegressionConfig,
    fit_semantic_regression,
    mapped_slabs,
)

__all__ = ["METHOD", "CMTStar", "CMTStarConfig"]


@dataclass(frozen=True)
class CMTStarConfig(SeenSoftmaxConfig, SemanticRegressionConfig):
    """The settings of a `CMTStar`."""

    accepted: Annotated[float | None, Range(above=0, max=1)] = None
    """Share of held-out seen rows that the threshold takes for rows of seen classes; none: the
    value from 0.1 to 1 that is best on the validation classes, for T1, H and calibrated H each."""


class CMTStar(CriterionModel):
    """A fitted CMT*: regression, Gaussians, classifier, and a threshold for each criterion."""

    config_class = CMTStarConfig
    # With every share, some gamma gives the best calibrated H. The first share wins such a tie, and
    # a threshold in the middle of the rows differs the least between problems.
    candidates: ClassVar = {
        "accepted": (0.5, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
    }
    config: CMTStarConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: CMTStarConfig, generators: Generators) -> Solve:
        """A function from the accepted share to the threshold; all else is fitted once."""
        feed, problem = scaled.feed, scaled.problem
        semantics = scaled.on_device(problem.semantics)
        seen = scaled.on_device(problem.seen_classes)
        is_held = draw_fifth(feed.labels.cpu().numpy())
        kept, held = (
            SelectedFeed(feed, scaled.on_device(np.flatnonzero(rows)))
            for rows in (~is_held, is_held)
        )
        regression = fit_semantic_regression(kept, semantics, config, generators)
        gaussians = fit_isometric_gaussians(mapped_slabs(regression, kept), seen, semantics[seen])
        # Where every class has a single row, none is held out.
        slabs = mapped_slabs(regression, held if is_held.any() else kept)
        numbers = torch.cat([gaussians.novelty(rows) for rows, _ in slabs]).cpu().numpy()
        softmax = fit_seen_softmax(scaled, config, generators)
        fitted = {
            **regression._asdict(),
            "variances": gaussians.variances,
            "weight": softmax.weight,
            "bias": softmax.bias,
        }

        def solve(settings: Settings) -> Solution:
            threshold = accepting_threshold(numbers, settings["accepted"])
            return fitted | {"threshold": torch.tensor(threshold)}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Scores ``(n, k)`` of features ``(n, d)`` and classes ``(k,)``; see the file's text.

        The classes are all classes, seen ones first, or unseen ones alone. The distances of unseen
        classes are in nats, as under Gaussians with the mean variance of the seen classes: beside
        the log-density of a row, squared distances would be lost in rounding.
        """
        regression = SemanticRegression(*(solution[n] for n in SemanticRegression._fields))
        rows = regression.map(features)
        is_seen = torch.isin(classes, self.seen_classes)
        squares = torch.cdist(rows, self.semantics[classes[~is_seen]]).square()
        of_unseen = -squares / (2 * solution["variances"].mean())
        if not is_seen.any():
            return of_unseen
        gaussians = IsometricGaussians(self.semantics[self.seen_classes], solution["variances"])
        of_seen = functional.linear(features, solution["weight"], solution["bias"])
        margins = gaussians.novelty(rows) - solution["threshold"]
        columns = torch.searchsorted(self.seen_classes, classes[is_seen])
        return route_experts(of_seen[:, columns], of_unseen, margins)


METHOD = Method(
    name="cmt-star",
    label="CMT*",
    paper="Socher et al., NeurIPS 2013, Gaussian novelty detection; after its description",
    kind="compatibility",
    config=CMTStarConfig,
    model=CMTStar,
    validation_draws=1,  # its fit takes a minute or more
    # Features of length 1 need a higher learning rate than others.
    published={"": {"feature_scaling": "l2", "seen_lr": 1e-2}},
    search={"hidden": TimesOneOf((0.5, 1, 2)), "penalty": Times(0.1, 10)},
)
