"""The simple baselines that stand beside the model in every table, chosen by the same protocol."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.data.scaling import FeatureScaling
from gsmflow.evaluation.measures import Measures, measure
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.contract import Scorer
from gsmflow.learning.feed import Scaled, scale_problem
from gsmflow.learning.sampling import Rescaled, Sampler
from gsmflow.methods.eszsl import Criterion, ESZSLChoice, ESZSLSolver, choose_regularizers
from gsmflow.methods.gaussian_prototypes import (
    GaussianChoice,
    choose_gaussian,
    classify_gaussian,
    fit_gaussian,
)
from gsmflow.runs.stages import Run

__all__ = [
    "Baseline",
    "BaselineChoices",
    "BaselineOutcome",
    "choose_baselines",
    "evaluate_baseline",
    "fit_baselines",
]


@dataclass(frozen=True)
class BaselineChoices:
    """What was chosen on validation classes for each baseline."""

    eszsl: Mapping[Criterion, ESZSLChoice]
    gaussian: GaussianChoice


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline, each figure of the table from what was chosen for it.

    Attributes
    ----------
    name
        As printed in tables.
    scorers
        What is judged for ZSL accuracy, for H, and for H under the penalty.
    penalty
        On seen classes, chosen on validation classes.
    choices
        What was chosen, JSON-ready.
    sampler
        Of its features, and their scaling, where it synthesizes any.
    """

    name: str
    scorers: Mapping[Criterion, Scorer]
    penalty: float
    choices: Mapping[str, Any]
    sampler: tuple[Sampler, FeatureScaling] | None = None

    def sampler_in(self, scaling: FeatureScaling) -> Sampler | None:
        """Its sampler, of features in another scaling."""
        if self.sampler is None:
            return None
        model, own = self.sampler
        return Rescaled(model, own, scaling)


@dataclass(frozen=True, eq=False)
class BaselineOutcome:
    """A baseline on held-out rows.

    Attributes
    ----------
    measures
        Its row of the table.
    outcome
        The scores that the penalty is for.
    """

    measures: Measures
    outcome: Outcome


def choose_baselines(run: Run, problem: Problem, held_out: HeldOut) -> BaselineChoices:
    """Choose the baselines' settings on the validation classes."""
    count = len(problem.unseen_classes)
    run.console.print(f"choosing the baselines' settings on {count} validation classes")
    random = run.generator(problem.split, "gaussian")
    return BaselineChoices(
        eszsl=choose_regularizers(problem, held_out),
        gaussian=choose_gaussian(_standardised(run, problem), held_out, random),
    )


def fit_baselines(run: Run, problem: Problem, chosen: BaselineChoices) -> list[Baseline]:
    """Fit the baselines with what was chosen for them."""
    return [_fit_eszsl(problem, chosen.eszsl), _fit_gaussian(run, problem, chosen.gaussian)]


def _fit_eszsl(problem: Problem, chosen: Mapping[Criterion, ESZSLChoice]) -> Baseline:
    solver = ESZSLSolver(problem)
    return Baseline(
        name="ESZSL",
        scorers={k: solver.solve(choice.gamma, choice.lam) for k, choice in chosen.items()},
        penalty=chosen["calibrated_H"].penalty,
        choices={criterion: asdict(choice) for criterion, choice in chosen.items()},
    )


def _fit_gaussian(run: Run, problem: Problem, chosen: GaussianChoice) -> Baseline:
    scaled = _standardised(run, problem)
    gaussian = fit_gaussian(scaled, chosen)
    random = run.generator(problem.split, "gaussian")
    pair = classify_gaussian(scaled, gaussian, chosen.classifier_lr, random)
    return Baseline(
        name="Gaussian prototypes",
        scorers={"T1": pair, "H": pair, "calibrated_H": pair},
        penalty=chosen.penalty,
        choices=asdict(chosen),
        sampler=(gaussian, scaled.scaling),
    )


def _standardised(run: Run, problem: Problem) -> Scaled:
    return scale_problem(problem, "standardised", run.device, run.recipe.features_in)


@dataclass(frozen=True)
class _ScorerPerFigure:
    """Scores from the scorer that was chosen for each figure; a `CalibratedScorer`."""

    scorers: Mapping[Criterion, Scorer]

    def gzsl_scores(self, features: FloatArray) -> NDArray[Any]:
        return self.scorers["H"].gzsl_scores(features)

    def zsl_scores(self, features: FloatArray) -> NDArray[Any]:
        return self.scorers["T1"].zsl_scores(features)

    def calibrated_scores(self, features: FloatArray) -> NDArray[Any]:
        return self.scorers["calibrated_H"].gzsl_scores(features)


def evaluate_baseline(baseline: Baseline, problem: Problem, held_out: HeldOut) -> BaselineOutcome:
    """A baseline's row of the table, and the outcome that its curve is drawn from."""
    different = len(set(baseline.scorers.values())) > 1
    scorer = _ScorerPerFigure(baseline.scorers) if different else baseline.scorers["H"]
    outcome = evaluate(scorer, problem, held_out)
    return BaselineOutcome(measure(outcome, baseline.penalty), outcome)
