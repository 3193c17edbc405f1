"""Few-shot learning: some labelled rows of every unseen class are learned from, the rest judged.

``k`` rows of each unseen class enter the classifiers' training, drawn from the rows that would
otherwise be judged. In one draw, those of a small ``k`` are among those of a larger one, and the
rows that not even the largest takes are judged for all of them, so that figures differ by what was
learned alone. Beside synthesized rows, a class's real ones are repeated until they are a share of
its rows; the share, and the penalty on seen classes, are chosen for each ``k`` on the validation
classes, which lend rows in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsmflow.core.aggregate import summarise
from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.data.dataset import Dataset, HeldOut, Problem, Rows
from gsmflow.data.splits import shuffle_each_class
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import evaluate, evaluate_all
from gsmflow.learning.contract import Model, Scorer
from gsmflow.learning.feed import Scaled
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.few_shot import draw_few_shot, few_shot_figures, few_shot_page, few_shot_table
from gsmflow.reports.section import SectionReport, SectionRow
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.stages import AtEnd, Finding, Run, classify_real, progress_bar

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
# Words of the draws' random numbers, which differ from those of all other uses of a run's seed.
_DRAWS = {"validation": 11, "test": 12}


@dataclass(frozen=True)
class Choice:
    """What was chosen on validation classes for a number of labelled rows.

    Attributes
    ----------
    share
        Of a class's rows that is real; None for a method without a setting of synthesized rows.
    penalty
        On seen classes.
    """

    share: float | None
    penalty: float


@dataclass(frozen=True, eq=False)
class Division:
    """One draw of labelled rows.

    Attributes
    ----------
    labelled
        For each ``k >= 1``: ``k`` rows of each class, one of every class after the other; they
        begin with the rows of each smaller ``k``.
    evaluated
        The rows that are in none of these.
    """

    labelled: Mapping[int, Rows]
    evaluated: Rows


def divide_rows(rows: Rows, shots: Sequence[int], rng: np.random.Generator) -> Division:
    """Draw labelled rows of every class.

    Parameters
    ----------
    rows
        Of the unseen classes, each with more rows than the largest of ``shots``.
    shots
        Numbers ``k >= 0`` of labelled rows per class.
    rng
        Source of the draw. It draws the same rows for a ``k`` whatever the other numbers are.
    """
    places = shuffle_each_class(rows.labels, rng)
    order = np.lexsort((rows.labels, places))
    classes = len(np.unique(rows.labels))
    return Division(
        labelled={k: rows.select(order[: k * classes]) for k in shots if k},
        evaluated=rows.select(np.flatnonzero(places >= max(shots))),
    )


def real_and_synthesized(k: int, share: float, per_class: int) -> tuple[int, int]:
    """How many rows of an unseen class are to be labelled ones, repeated, and how many synthesized.

    Parameters
    ----------
    k
        Labelled rows of each class, ``>= 1``.
    share
        Of a class's rows that is to be real, in (0, 1].
    per_class
        Rows of a class in all, though each real row is taken once at least.
    """
    return max(k, round(share * per_class)), round((1 - share) * per_class)


def check_shots(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `InputError` unless every class that lends labelled rows has more than are asked for.

    The rows are counted; their features are not read.
    """
    if not recipe.shots:
        return
    if not len(dataset.test_unseen):
        raise InputError(
            f"--shots: found with no rows of unseen classes in {dataset.where('test_unseen')}, "
            "expected none: there are no test rows for it"
        )
    lenders = {"test_unseen": dataset.unseen_classes}
    if recipe.calibrate:
        lenders["val"] = np.unique(dataset.labels[dataset.val])
    most = max(recipe.shots)
    for name, classes in lenders.items():
        labels = dataset.labels[getattr(dataset, name)]
        counts = np.bincount(labels, minlength=len(dataset.semantics))[classes]
        fewest = int(counts.argmin())
        if most > 0 and counts[fewest] <= most:
            raise InputError(
                f"--shots: found {most} with class {dataset.class_names[classes[fewest]]}, which "
                f"has {_rows(counts[fewest])} in {dataset.where(name)}, expected fewer: the others "
                "of its rows are judged"
            )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def find_choices(run: Run, problem: Problem, held_out: HeldOut) -> AtEnd:
    """What chooses each k's share of real rows and its penalty.

    To be called at the end of the training on validation classes. Of one draw of validation rows,
    the share is that of the best H under the best penalty, which is the penalty chosen. A method
    without a setting of synthesized rows has no share to choose.
    """

    def find(scaled: Scaled, model: Model, scorer: Scorer) -> Finding:
        division = divide_rows(held_out.unseen, run.recipe.shots, _rng(run, problem, 0))
        rest = HeldOut(held_out.seen, division.evaluated)
        weighed = run.recipe.samples_per_class is not None
        shares: Sequence[float | None] = _SHARES if weighed else (None,)
        chosen: dict[str, Any] = {}
        total = len(division.labelled) * len(shares)
        with _bar(run, "few-shot on validation classes: training classifiers", total) as advance:
            for k, rows in division.labelled.items():
                tried = []
                for share in shares:
                    pair = _classify(run, scaled, model, rows, k, share)
                    curve = evaluate(pair, problem, rest).curve()
                    h, penalty = curve.best_harmonic_mean(), curve.best_gamma()
                    tried.append({"share": share, "penalty": penalty, "H": h})
                    advance()
                chosen[str(k)] = {**max(tried, key=lambda one: one["H"]), "tried": tried}
        return Finding(facts=chosen)

    return find


def measure_few_shot(evaluated: Evaluated, choices: Mapping[int, Choice]) -> SectionResult:
    """Judge the classifiers that have learned from labelled rows too.

    Parameters
    ----------
    evaluated
        The run; its scorer stands for k = 0, and the test rows of unseen classes lend the labelled
        ones.
    choices
        What was chosen on the validation classes for each k, if anything was.

    Returns
    -------
    SectionResult
        For each k, as text: the ``share`` of a class's rows that is real (None where none is
        chosen), and the measures of `Measures`, summarised over the draws.
    """
    run, fitted, held_out = evaluated.run, evaluated.fitted, evaluated.held_out
    problem, recipe = evaluated.problem, run.recipe
    penalties = {0: evaluated.penalty} | {k: one.penalty for k, one in choices.items()}
    shares = {k: one.share for k, one in choices.items()}
    measured: dict[int, list[dict[str, Any]]] = {k: [] for k in recipe.shots}
    total = recipe.shot_draws * len([k for k in recipe.shots if k])
    with _bar(run, "few-shot: training classifiers", total) as advance:
        for draw in range(recipe.shot_draws):
            division = divide_rows(held_out.unseen, recipe.shots, _rng(run, problem, draw))
            scorers = {0: evaluated.scorer} if 0 in recipe.shots else {}
            for k, rows in division.labelled.items():
                model, share = fitted.model, shares.get(k)
                scorers[k] = _classify(run, fitted.scaled, model, rows, k, share)
                advance()
            rest = HeldOut(held_out.seen, division.evaluated)
            outcomes = evaluate_all([*scorers.values()], problem, rest)
            for k, outcome in zip(scorers, outcomes, strict=True):
                measures = measure(outcome, penalties.get(k)).as_json()
                run.log.write("few_shot", draw=draw, k=k, **measures)
                measured[k].append(measures)
    return SectionResult(
        {str(k): {"share": shares.get(k), **summarise(of)} for k, of in measured.items()}
    )


def read_choices(run: Run, found: Finding | None) -> dict[int, Choice]:
    """What `find_choices` found for each k; nothing where there was no training to find it in.

    Raises
    ------
    InputError
        If it is of other numbers of rows.
    """
    if found is None or not any(run.recipe.shots):
        return {}
    try:
        return {
            k: Choice(found.facts[str(k)]["share"], found.facts[str(k)]["penalty"])
            for k in run.recipe.shots
            if k
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.directory}: found other fields of few-shot learning, expected a share and a "
            "penalty for each number of --shots"
        ) from error


def _classify(
    run: Run, scaled: Scaled, model: Model, rows: Rows, k: int, share: float | None
) -> Scorer:
    """The classifiers that learn from k labelled rows of each class too."""
    real, synthesized = None, run.recipe.samples_per_class or 1
    if share is not None:
        real, synthesized = real_and_synthesized(k, share, synthesized)
    return classify_real(run, scaled, model, rows, per_class=real, synthesized=synthesized)


def _rng(run: Run, problem: Problem, draw: int) -> np.random.Generator:
    """Of a draw: the same for all models with a seed."""
    return np.random.default_rng([run.recipe.seed, _DRAWS[problem.split], draw])


def _bar(run: Run, text: str, total: int) -> AbstractContextManager[Callable[..., None]]:
    """A progress bar, below a line that stays."""
    if total:
        run.console.print(f"{text}, {total} in all", soft_wrap=True)
    return progress_bar(run.console, "few-shot", total)


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
