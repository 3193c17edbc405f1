"""A section of a run: other methods for comparison, each with its published settings.

They go through the same stages as the run's model, in the folders ``beside/NAME`` of the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.json_fields import Field
from gsmflow.core.precision import pick_precision
from gsmflow.core.run_files import LOG_FILE
from gsmflow.data.dataset import Dataset, training_problem
from gsmflow.data.scaling import FeatureScaling
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import evaluate
from gsmflow.learning.contract import Scorer, check_fit
from gsmflow.learning.sampling import Rescaled, Sampler
from gsmflow.methods.registry import find_method
from gsmflow.recipes.flags import published_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.section import SectionReport, SectionRow
from gsmflow.runs.directory import RunLog
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import Fitted, Run, classify, fit_final
from gsmflow.runs.validation import choose_and_validate

__all__ = ["SECTION", "Beside", "beside_recipe", "fit_beside"]


@dataclass(frozen=True, eq=False)
class Beside:
    """A fitted method that is compared with the run's model.

    Attributes
    ----------
    label
        The method's name in tables.
    fitted, scorer
        Its model, and the scorer of that model.
    gamma
        The calibration factor gamma, chosen on validation classes; None where none was chosen.
    choice
        The settings that it chose on validation classes, JSON-ready; None if it chooses none.
    """

    label: str
    fitted: Fitted
    scorer: Scorer
    gamma: float | None
    choice: Mapping[str, Any] | None

    def sampler_in(self, scaling: FeatureScaling) -> Sampler | None:
        """A sampler of its features in another scaling; None if the method synthesizes none."""
        model = self.fitted.model
        if not isinstance(model, Sampler):
            return None
        return Rescaled(model, self.fitted.scaled.scaling, scaling)


def beside_recipe(recipe: Recipe, name: str) -> Recipe:
    """The recipe of a method for comparison: its published settings, on the same data."""
    return replace(
        published_recipe(recipe, name), gate=None, beside=(), curve_every=0, compile="auto"
    )


def _names(recipe: Recipe) -> list[str]:
    """The methods that a recipe compares its model with."""
    return [name for name in recipe.beside if name != recipe.model]


def _check(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `InputError` if one of the methods does not fit the dataset."""
    for name in _names(recipe):
        check_fit(find_method(name).model, training_problem(dataset, "test"))


def fit_beside(run: Run, dataset: Dataset) -> list[Beside]:
    """Fit the methods that the recipe compares its model with; reads no test row."""
    return [_fit(run, dataset, name) for name in _names(run.recipe)]


def _fit(run: Run, dataset: Dataset, name: str) -> Beside:
    recipe = beside_recipe(run.recipe, name)
    directory = run.directory / "beside" / name
    directory.mkdir(parents=True, exist_ok=True)
    # Only the main process does this, alone.
    beside_run = replace(
        run,
        recipe=recipe,
        model_class=recipe.method_info.model,
        precision=pick_precision(recipe.precision, run.device),
        group=SINGLE_PROCESS,
        directory=directory,
        log=RunLog(directory / LOG_FILE),
    )
    run.console.print(f"beside the model: {beside_run.label}")
    with run.clock.within(beside_run.label):
        choice, validated = choose_and_validate(beside_run, dataset)
        fitted = fit_final(beside_run, training_problem(dataset, "test"), choice)
        scorer = classify(beside_run, fitted)
    return Beside(
        beside_run.label, fitted, scorer, None if validated is None else validated.gamma, choice
    )


def _measure(evaluated: Evaluated, beside: list[Beside]) -> SectionResult:
    """Evaluate each method on the test split."""
    problem, held_out = evaluated.problem, evaluated.held_out
    metrics, curves = {}, {}
    for method in beside:
        outcome = evaluate(method.scorer, problem, held_out)
        measures = measure(outcome, method.gamma).as_json()
        metrics[method.label] = {**measures, "choices": method.choice}
        curves[method.label] = outcome, method.gamma
    return SectionResult(metrics, curves=curves)


def _rows(metrics: Field) -> list[SectionRow]:
    baselines = metrics["baselines"]
    return [SectionRow(name, baselines[name], "baseline") for name in baselines.object()]


SECTION = Section(
    report=SectionReport(key="baselines", rows=_rows),
    wanted=lambda recipe: bool(_names(recipe)),
    check=_check,
    fit=lambda run, dataset, fitted, scorer, found: fit_beside(run, dataset),
    measure=_measure,
)
