"""Sections of a run: the type of an optional measurement besides T1, U, S and H, one per file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsmflow.data.dataset import Dataset, HeldOut, Problem
from gsmflow.evaluation.bootstrap import RightAnswers
from gsmflow.evaluation.protocol import Outcome
from gsmflow.learning.contract import Scorer
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.page_data import ClassShifts
from gsmflow.reports.section import SectionReport
from gsmflow.runs.stages import AtInterval, Fitted, Run
from gsmflow.runs.validation import AtEnd, Finding

__all__ = ["Evaluated", "Section", "SectionResult"]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A run whose model has been evaluated on the test split.

    Attributes
    ----------
    run, fitted, scorer
        The run, its trained model, and the scorer of that model.
    held_out
        The test rows.
    outcome
        The model's scores of the test rows.
    gamma
        The calibration factor gamma, chosen on validation classes; None where none was chosen.
    parts
        The result of each section's ``fit``, by the section's key; made before the test split was
        opened.
    """

    run: Run
    fitted: Fitted
    scorer: Scorer
    held_out: HeldOut
    outcome: Outcome
    gamma: float | None
    parts: Mapping[str, Any]

    @property
    def problem(self) -> Problem:
        """The problem that the model was trained on."""
        return self.fitted.scaled.problem


@dataclass(frozen=True, eq=False)
class SectionResult:
    """The result of a section's ``measure``.

    Attributes
    ----------
    metrics
        JSON-ready, for ``metrics.json``.
    curves
        Outcomes of other methods on the test split, by label, each with the calibration factor
        gamma that was chosen for the method.
    class_shifts
        Generation shifts of each class, by method, for the run's page.
    right
        Which test rows other classifiers on the run's model answer right, by their names.
    pictures
        The files of the pictures that were drawn.
    """

    metrics: Any
    curves: Mapping[str, tuple[Outcome, float | None]] = field(default_factory=dict)
    class_shifts: Mapping[str, ClassShifts] = field(default_factory=dict)
    right: Mapping[str, RightAnswers] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One optional measurement besides T1, U, S and H; the object ``SECTION`` of its file.

    Attributes
    ----------
    report
        What tables, console, pictures and page show of it, and its key in ``metrics.json``.
    wanted
        Whether a recipe asks for the section.
    check
        Raises `InputError` if the section cannot work on the dataset; called before any training.
    at_end
        Returns a function that is called with the validation model at the end of its training, and
        returns a `Finding`.
    at_interval
        Called with the final model at intervals of its training.
    fit
        Called before the test split is opened, with the run, the dataset, the fitted model, its
        scorer and the `Finding` of ``at_end``; returns the argument of ``measure``.
    measure
        Measures on the test split; called with the evaluated run and the result of ``fit``.
    finish
        Called after the metrics are written.
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
