"""The simple baselines that stand beside the model in every table, chosen by the same protocol."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gsmflow.dataset import HeldOut, Problem
from gsmflow.eszsl import Criterion, ESZSLChoice, ESZSLSolver, choose_regularizers
from gsmflow.evaluate import Measures, Outcome, Scorer, judge_all
from gsmflow.fitting import Run

__all__ = [
    "Baseline",
    "BaselineChoices",
    "BaselineOutcome",
    "choose_baselines",
    "fit_baselines",
    "judge_baseline",
]


@dataclass(frozen=True)
class BaselineChoices:
    """What was chosen on validation classes for each baseline."""

    eszsl: Mapping[Criterion, ESZSLChoice]


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
    """

    name: str
    scorers: Mapping[Criterion, Scorer]
    penalty: float
    choices: Mapping[str, Any]


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
    return BaselineChoices(choose_regularizers(problem, held_out))


def fit_baselines(run: Run, problem: Problem, chosen: BaselineChoices) -> list[Baseline]:
    """Fit the baselines with what was chosen for them."""
    solver, eszsl = ESZSLSolver(problem), chosen.eszsl
    return [
        Baseline(
            name="ESZSL",
            scorers={k: solver.solve(choice.gamma, choice.lam) for k, choice in eszsl.items()},
            penalty=eszsl["calibrated_H"].penalty,
            choices={criterion: asdict(choice) for criterion, choice in eszsl.items()},
        )
    ]


def judge_baseline(baseline: Baseline, problem: Problem, held_out: HeldOut) -> BaselineOutcome:
    """A baseline's row of the table, and the outcome that its curve is drawn from."""
    criteria = list(baseline.scorers)
    judged = judge_all([baseline.scorers[c] for c in criteria], problem, held_out)
    outcomes = dict(zip(criteria, judged, strict=True))
    plain, calibrated = outcomes["H"].calibrated(0.0), outcomes["calibrated_H"]
    measures = Measures(
        T1=outcomes["T1"].t1,
        U=plain.U,
        S=plain.S,
        H=plain.H,
        AUSUC=calibrated.curve().area,
        calibrated=calibrated.calibrated(baseline.penalty),
    )
    return BaselineOutcome(measures, calibrated)
