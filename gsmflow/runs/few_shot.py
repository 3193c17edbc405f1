"""A section of a run: few-shot learning, with ``k`` labelled rows of every unseen class.

The ``k`` rows of each unseen class are drawn from its test rows and added to the training rows of
the classifiers. Within one draw, the rows of a small ``k`` are among those of a larger one, and all
``k`` are evaluated on the same rows, which the largest ``k`` leaves, so that figures differ only by
the training rows. If the model synthesizes, real rows are repeated until they are a given share of
the class's training rows. The share and the calibration factor gamma are chosen for each ``k`` on
the validation classes, whose labelled rows are drawn in the same way.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsmflow.core.aggregate import summarise
from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.core.progress import Advance, progress
from gsmflow.data.dataset import Dataset, HeldOut, Problem, Rows
from gsmflow.data.splits import shuffle_each_class
from gsmflow.evaluation.balance import gamma_for
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import evaluate, evaluate_all
from gsmflow.learning.contract import Model, Scorer
from gsmflow.learning.feed import Scaled
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.few_shot import draw_few_shot, few_shot_figures, few_shot_page, few_shot_table
from gsmflow.reports.section import SectionReport, SectionRow
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import Run, classify_real
from gsmflow.runs.validation import AtEnd, Finding

__all__ = [
    "SECTION",
    "Choice",
    "Division",
    "check_shots",
    "divide_rows",
    "find_choices",
    "measure_few_shot",
    "read_choices",
    "real_and_synthesized",
]

# Shares of an unseen class's rows that are real, the others synthesized; 1 synthesizes none.
_SHARES = (0.1, 0.3, 0.6, 1.0)
# Seed words of the random draws, by split; no other use of a run's seed has these.
_DRAWS = {"validation": 11, "test": 12}


@dataclass(frozen=True)
class Choice:
    """The values chosen on validation classes for one number of labelled rows.

    Attributes
    ----------
    share
        The share of a class's rows that is real; None for a method without a setting for the
        number of synthesized rows.
    gamma
        The calibration factor gamma, subtracted from the scores of seen classes.
    """

    share: float | None
    gamma: float


@dataclass(frozen=True, eq=False)
class Division:
    """One random draw of labelled rows.

    Attributes
    ----------
    labelled
        For each ``k >= 1``: ``k`` rows of each class, in rounds of one row of every class. They
        begin with the rows of each smaller ``k``.
    evaluated
        The rows that are not labelled for any ``k``.
    """

    labelled: Mapping[int, Rows]
    evaluated: Rows


def divide_rows(rows: Rows, shots: Sequence[int], rng: np.random.Generator) -> Division:
    """Draw labelled rows of every class.

    Parameters
    ----------
    rows
        Rows of the unseen classes, each with more rows than the largest of ``shots``.
    shots
        Numbers ``k >= 0`` of labelled rows per class.
    rng
        The random generator. The rows of one ``k`` do not depend on the other numbers.
    """
    ranks = shuffle_each_class(rows.labels, rng)
    order = np.lexsort((rows.labels, ranks))
    classes = len(np.unique(rows.labels))
    return Division(
        labelled={k: rows.select(order[: k * classes]) for k in shots if k},
        evaluated=rows.select(np.flatnonzero(ranks >= max(shots))),
    )


def real_and_synthesized(k: int, share: float, per_class: int) -> tuple[int, int]:
    """The numbers of real rows (labelled, repeated) and of synthesized rows of an unseen class.

    Parameters
    ----------
    k
        Labelled rows of each class, ``>= 1``.
    share
        The share of the class's rows that is to be real, in (0, 1].
    per_class
        The total number of rows of a class; exceeded if ``k`` is larger than its real share, as
        each labelled row is used at least once.
    """
    return max(k, round(share * per_class)), round((1 - share) * per_class)


def check_shots(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `InputError` unless every class has more rows than the largest ``k`` takes from it.

    The rows are counted; their features are not read.
    """
    if not recipe.shots:
        return
    if not len(dataset.test_unseen):
        raise InputError(
            f"--shots: found with no rows of unseen classes in {dataset.where('test_unseen')}, "
            "expected none: there are no test rows for it"
        )
    classes_of = {"test_unseen": dataset.unseen_classes}
    if recipe.calibrate:
        classes_of["val"] = np.unique(dataset.labels[dataset.val])
    largest = max(recipe.shots)
    for name, classes in classes_of.items():
        labels = dataset.labels[getattr(dataset, name)]
        counts = np.bincount(labels, minlength=len(dataset.semantics))[classes]
        fewest = int(counts.argmin())
        if largest > 0 and counts[fewest] <= largest:
            raise InputError(
                f"--shots: found {largest} with class {dataset.class_names[classes[fewest]]}, "
                f"which has {_rows(counts[fewest])} in {dataset.where(name)}, expected fewer: the "
                "remaining rows are for the evaluation"
            )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def find_choices(run: Run, problem: Problem, held_out: HeldOut) -> AtEnd:
    """A function that chooses the share of real rows and the calibration factor gamma of each k.

    The function is called at the end of the training on validation classes. On one draw of
    validation rows, it takes the share with the best H, each share under its best gamma, and the
    gamma that is chosen with it. For a method without a setting for the number of synthesized
    rows, there is no share to choose.
    """

    def find(scaled: Scaled, model: Model, scorer: Scorer) -> Finding:
        division = divide_rows(held_out.unseen, run.recipe.shots, _rng(run, problem, 0))
        rest = HeldOut(held_out.seen, division.evaluated)
        synthesizes = run.recipe.samples_per_class is not None
        shares: Sequence[float | None] = _SHARES if synthesizes else (None,)
        chosen: dict[str, Any] = {}
        total = len(division.labelled) * len(shares)
        with _progress_bar(
            run, "few-shot on validation classes: training classifiers", total
        ) as advance:
            for k, rows in division.labelled.items():
                tried = []
                for share in shares:
                    pair = _classify(run, scaled, model, rows, k, share)
                    outcome = evaluate(pair, problem, rest)
                    gamma = gamma_for(outcome, problem, run.recipe.balance).gamma
                    h = outcome.curve().best_harmonic_mean()
                    tried.append({"share": share, "gamma": gamma, "H": h})
                    advance()
                chosen[str(k)] = {**max(tried, key=lambda result: result["H"]), "tried": tried}
        return Finding(facts=chosen)

    return find


def measure_few_shot(evaluated: Evaluated, choices: Mapping[int, Choice]) -> SectionResult:
    """Train classifiers with labelled rows of the unseen classes, and evaluate them.

    Parameters
    ----------
    evaluated
        The run. Its scorer is that of k = 0, and the labelled rows are drawn from its test rows of
        unseen classes.
    choices
        The values chosen on the validation classes for each k; may be empty.

    Returns
    -------
    SectionResult
        For each k, as text: the ``share`` of a class's rows that is real (None where none is
        chosen), and the measures of `Measures`, summarised over the draws.
    """
    run, fitted, held_out = evaluated.run, evaluated.fitted, evaluated.held_out
    problem, recipe = evaluated.problem, run.recipe
    gammas = {0: evaluated.gamma} | {k: choice.gamma for k, choice in choices.items()}
    shares = {k: choice.share for k, choice in choices.items()}
    measured: dict[int, list[dict[str, Any]]] = {k: [] for k in recipe.shots}
    total = recipe.shot_draws * len([k for k in recipe.shots if k])
    with _progress_bar(run, "few-shot: training classifiers", total) as advance:
        for repetition in range(recipe.shot_draws):
            division = divide_rows(held_out.unseen, recipe.shots, _rng(run, problem, repetition))
            scorers = {0: evaluated.scorer} if 0 in recipe.shots else {}
            for k, rows in division.labelled.items():
                model, share = fitted.model, shares.get(k)
                scorers[k] = _classify(run, fitted.scaled, model, rows, k, share)
                advance()
            rest = HeldOut(held_out.seen, division.evaluated)
            outcomes = evaluate_all([*scorers.values()], problem, rest)
            for k, outcome in zip(scorers, outcomes, strict=True):
                measures = measure(outcome, gammas.get(k)).as_json()
                run.log.write("few_shot", draw=repetition, k=k, **measures)
                measured[k].append(measures)
    return SectionResult(
        {str(k): {"share": shares.get(k), **summarise(draws)} for k, draws in measured.items()}
    )


def read_choices(run: Run, found: Finding | None) -> dict[int, Choice]:
    """The choices that `find_choices` made for each k; none without a validation training.

    Raises
    ------
    InputError
        If they were made for other numbers of rows.
    """
    if found is None or not any(run.recipe.shots):
        return {}
    try:
        return {
            k: Choice(found.facts[str(k)]["share"], found.facts[str(k)]["gamma"])
            for k in run.recipe.shots
            if k
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.directory}: found other fields of few-shot learning, expected a share and a "
            "gamma for each number of --shots"
        ) from error


def _classify(
    run: Run, scaled: Scaled, model: Model, rows: Rows, k: int, share: float | None
) -> Scorer:
    """Train the classifiers with k labelled rows of each unseen class."""
    real, synthesized = None, run.recipe.samples_per_class or 1
    if share is not None:
        real, synthesized = real_and_synthesized(k, share, synthesized)
    config = run.recipe.trained_classifier.for_shots(k)
    return classify_real(run, scaled, model, rows, config, per_class=real, synthesized=synthesized)


def _rng(run: Run, problem: Problem, repetition: int) -> np.random.Generator:
    """The random generator of one draw; the same for all models of a seed."""
    return np.random.default_rng([run.recipe.seed, _DRAWS[problem.split], repetition])


def _progress_bar(run: Run, text: str, total: int) -> AbstractContextManager[Advance]:
    """A progress bar, below a permanent line of text."""
    if total:
        run.console.print(f"{text}, {total} in all", soft_wrap=True)
    return progress(run.console, "few-shot", total, unit="classifiers")


def _section_rows(metrics: Field) -> list[SectionRow]:
    model, by_k = metrics["model"].text(), metrics["few_shot"]
    return [
        SectionRow(model, by_k[str(k)], "few-shot", view="few_shot", shots=k, in_table=False)
        for k in few_shot_figures(metrics)
    ]


SECTION = Section(
    report=SectionReport(
        key="few_shot",
        rows=_section_rows,
        table=few_shot_table,
        draw=draw_few_shot,
        page=few_shot_page,
        page_of_seeds=True,
    ),
    wanted=lambda recipe: bool(recipe.shots),
    check=check_shots,
    at_end=find_choices,
    fit=lambda run, dataset, fitted, scorer, found: read_choices(run, found),
    measure=measure_few_shot,
)
