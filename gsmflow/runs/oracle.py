"""A section of a run: the oracle, an upper bound by classifiers trained on real unseen rows."""

import numpy as np

from gsmflow.core.json_fields import Field
from gsmflow.data.dataset import HeldOut
from gsmflow.data.splits import draw_from_each_class
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import evaluate
from gsmflow.reports.section import SectionReport, SectionRow
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import classify_real

__all__ = ["SECTION"]

_SEED = 7


def _measure(evaluated: Evaluated, fitted: None) -> SectionResult:
    """Train the run's classifiers on half of the real unseen rows, and evaluate them on the rest.

    The half of each unseen class is drawn with a fixed seed; all test-seen rows are evaluated.
    If the model synthesizes, the real rows are repeated to the number of synthesized ones, so that
    the steps of training and the weight relative to seen classes are the same.
    """
    run, held_out = evaluated.run, evaluated.held_out
    rng = np.random.default_rng(_SEED)
    labels = held_out.unseen.labels
    is_training = draw_from_each_class(labels, lambda rows: rows // 2, rng)
    training, rest = (
        held_out.unseen.select(np.flatnonzero(rows)) for rows in (is_training, ~is_training)
    )
    per_class = run.recipe.samples_per_class
    scaled, model = evaluated.fitted.scaled, evaluated.fitted.model
    config = run.recipe.trained_classifier
    pair = classify_real(run, scaled, model, training, config, per_class=per_class)
    outcome = evaluate(pair, evaluated.problem, HeldOut(held_out.seen, rest))
    return SectionResult(measure(outcome).as_json())


def _rows(metrics: Field) -> list[SectionRow]:
    return [SectionRow("oracle (real unseen rows)", metrics["oracle"], "oracle")]


SECTION = Section(
    report=SectionReport(key="oracle", rows=_rows),
    wanted=lambda recipe: recipe.oracle,
    measure=_measure,
)
