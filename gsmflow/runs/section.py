"""A section of a run: one thing that is measured beside T1, U, S and H, whole in its file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsmflow.data.dataset import Dataset, HeldOut, Problem
from gsmflow.evaluation.protocol import Outcome
from gsmflow.learning.contract import Scorer
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.page_data import ClassShifts
from gsmflow.reports.section import SectionReport
from gsmflow.runs.stages import AtEnd, AtInterval, Finding, Fitted, Run

__all__ = ["Evaluated", "Section", "SectionResult"]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A run whose model has been evaluated on the test split.

    Attributes
    ----------
    run, fitted, scorer
        What is run, its model, and what scores with it.
    held_out
        The test rows.
    outcome
        The model's scores of them.
    penalty
        On seen classes, chosen on validation classes; None where none was chosen.
    parts
        What each section fitted before the test split was opened, by the section's key.
    """

    run: Run
    fitted: Fitted
    scorer: Scorer
    held_out: HeldOut
    outcome: Outcome
    penalty: float | None
    parts: Mapping[str, Any]

    @property
    def problem(self) -> Problem:
        """What the model was trained on."""
        return self.fitted.scaled.problem


@dataclass(frozen=True, eq=False)
class SectionResult:
    """What a section measured.

    Attributes
    ----------
    metrics
        JSON-ready, for ``metrics.json``.
    curves
        Further methods on the test split, each with the penalty chosen for it, by label.
    class_shifts
        Generation shifts class by class, by method, for the run's page.
    pictures
        Files that were drawn.
    """

    metrics: Any
    curves: Mapping[str, tuple[Outcome, float | None]] = field(default_factory=dict)
    class_shifts: Mapping[str, ClassShifts] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One thing that is measured beside T1, U, S and H, at the end of its file as ``SECTION``.

    Attributes
    ----------
    report
        What tables, console, pictures and page show of it, and its key in ``metrics.json``.
    wanted
        Whether a recipe asks for it.
    check
        Raises `InputError` where the dataset cannot serve it; called before anything is trained.
    at_end
        Makes what finds something with the validation model at the end of its training.
    at_interval
        What to do with the final model at intervals of its training.
    fit
        What is fitted before the test split is opened; given the run, the dataset, the model, what
        scores, and what ``at_end`` found.
    measure
        Measures on the test split, given what ``fit`` gave.
    finish
        Called once the metrics are written.
    """

    report: SectionReport
    wanted: Callable[[Recipe], bool]
    measure: Callable[[Evaluated, Any], SectionResult]
    check: Callable[[Recipe, Dataset], None] = lambda recipe, dataset: None
    at_end: Callable[[Run, Problem, HeldOut], AtEnd] | None = None
    at_interval: AtInterval | None = None
    fit: Callable[[Run, Dataset, Fitted, Scorer, Finding | None], Any] = (
        lambda run, dataset, fitted, scorer, found: None
    )
    finish: Callable[[Run], None] = lambda run: None

    @property
    def key(self) -> str:
        """Of its metrics in ``metrics.json``."""
        return self.report.key
