"""A section of a run: other classifiers on the same trained model, each as a run with it has it.

The model, which takes most of the time, is trained once. Each classifier has its usual number of
synthesized rows and a calibration factor gamma that is chosen for it, on one draw of validation
classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gsmflow.core.json_fields import Field
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.evaluation.balance import gamma_for
from gsmflow.evaluation.bootstrap import right_answers
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import Model, Scorer
from gsmflow.learning.feed import Scaled
from gsmflow.recipes.flags import with_choices
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.metrics_file import CLASSIFIERS_BESIDE
from gsmflow.reports.section import SectionReport, SectionRow
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import Fitted, Run, fit_scorer
from gsmflow.runs.validation import AtEnd, Finding

__all__ = ["SECTION", "label_with", "names_beside"]


@dataclass(frozen=True, eq=False)
class _Classified:
    """A classifier's scorer for the test split, and its gamma; None where none was chosen."""

    scorer: Scorer
    gamma: float | None


def names_beside(recipe: Recipe) -> list[str]:
    """The classifiers that a recipe compares its own with."""
    return [name for name in recipe.classifiers_beside if name != recipe.classifier_name]


def _scorers(run: Run, scaled: Scaled, model: Model) -> Iterator[tuple[str, Scorer]]:
    """Each classifier by its name, trained on rows of the model if it needs any."""
    for name in names_beside(run.recipe):
        other = replace(run, recipe=with_choices(run.recipe, name, None))
        yield name, fit_scorer(other, scaled, model)


def _choose_gammas(run: Run, problem: Problem, held_out: HeldOut) -> AtEnd:
    """A function that chooses gamma for each classifier with the validation model."""

    def choose(scaled: Scaled, model: Model, scorer: Scorer) -> Finding:
        gammas = {}
        for name, other in _scorers(run, scaled, model):
            outcome = evaluate(other, problem, held_out)
            gammas[name] = gamma_for(outcome, problem, run.recipe.balance).gamma
        return Finding(gammas)

    return choose


def _fit(run: Run, fitted: Fitted, found: Finding | None) -> dict[str, _Classified]:
    """Train each classifier on the final model; reads no test row."""
    names = names_beside(run.recipe)
    run.console.print(f"training other classifiers on the same model: {', '.join(names)}")
    gammas = {} if found is None else found.facts
    return {
        name: _Classified(scorer, gammas.get(name))
        for name, scorer in _scorers(run, fitted.scaled, fitted.model)
    }


def _measure(evaluated: Evaluated, classified: Mapping[str, _Classified]) -> SectionResult:
    """Evaluate each classifier on the test split."""
    metrics, curves, right = {}, {}, {}
    for name, classifier in classified.items():
        outcome = evaluate(classifier.scorer, evaluated.problem, evaluated.held_out)
        metrics[name] = measure(outcome, classifier.gamma).as_json()
        curves[label_with(evaluated.run.label, name)] = outcome, classifier.gamma
        right[name] = right_answers(outcome, classifier.gamma)
    return SectionResult(metrics, curves=curves, right=right)


def label_with(model: str, classifier: str) -> str:
    """The label of a model with another classifier than its usual one."""
    return f"{model}, {classifier}"


def _rows(metrics: Field) -> list[SectionRow]:
    model, found = metrics["model"].text(), metrics[CLASSIFIERS_BESIDE]
    return [SectionRow(label_with(model, name), found[name]) for name in found.object()]


SECTION = Section(
    report=SectionReport(key=CLASSIFIERS_BESIDE, rows=_rows),
    wanted=lambda recipe: bool(names_beside(recipe)),
    at_end=_choose_gammas,
    fit=lambda run, dataset, fitted, scorer, found: _fit(run, fitted, found),
    measure=_measure,
)
