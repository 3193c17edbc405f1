"""The work of each process of a study: run trials, then validate the finalists."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean

from optuna.trial import FrozenTrial, Trial, TrialState

from gsmflow.core.errors import DivergedError
from gsmflow.core.folders import BusyError
from gsmflow.recipes.recipe import Recipe
from gsmflow.tuning.study import (
    Study,
    claim,
    finished_trials,
    give_back,
    is_script_recipe,
    lags_behind,
)
from gsmflow.tuning.trial import StudySetup, TrialEndedError, outcome_of, validate_recipe

__all__ = ["Finalist", "StudyPlan", "finalists", "finals", "is_done", "search_is_over", "work"]

# Trials are compared first at this step, half-way through their epochs, then after each class draw.
_HALF_WAY = 1
_PAUSE_SECONDS = 0.2
_SEEDS = 2**31


@dataclass(frozen=True)
class StudyPlan:
    """The size of a study.

    Attributes
    ----------
    trials
        How many trials are to be finished, over all processes and invocations.
    finalists
        How many of the best trials are validated with more seeds.
    finalist_seeds
        How many more seeds.
    until
        No trial is begun after this time, in seconds since the epoch.
    """

    trials: int
    finalists: int
    finalist_seeds: int
    until: float


@dataclass(frozen=True, eq=False)
class Finalist:
    """A complete trial to be validated with more seeds.

    Attributes
    ----------
    trial
        The trial of the search.
    is_script_recipe
        Whether its settings are those of the script's recipe.
    recipes
        Its recipe with each seed, that of the search first.
    """

    trial: FrozenTrial
    is_script_recipe: bool
    recipes: Sequence[Recipe]


def work(
    setup: StudySetup, study: Study, plan: StudyPlan, on_change: Callable[[], object] = lambda: None
) -> list[Finalist]:
    """Run trials, then validate the finalists, sharing the work with the study's other processes.

    Parameters
    ----------
    setup, study, plan
        The study, and its size.
    on_change
        Called when this process or another may have finished something.

    Returns
    -------
    list
        The finalists, all of them validated.
    """
    while not search_is_over(study, plan):
        trial = claim(study, plan.trials)
        if trial is None:  # other processes run the last ones
            time.sleep(_PAUSE_SECONDS)
        else:
            _run_trial(setup, study, trial)
        on_change()
    chosen = finalists(study, plan)
    on_change()
    _validate(finals(setup, chosen), setup, on_change)
    return chosen


def finals(setup: StudySetup, chosen: Sequence[Finalist]) -> list[tuple[Recipe, int]]:
    """The validations of the finalists: each recipe with each class draw, by the draw's index."""
    class_draws = range(len(setup.class_draws))
    return [
        (recipe, class_draw)
        for finalist in chosen
        for recipe in finalist.recipes
        for class_draw in class_draws
    ]


def search_is_over(study: Study, plan: StudyPlan) -> bool:
    """Whether enough trials are finished, or at least one and the time is up."""
    finished = len(finished_trials(study))
    return finished >= plan.trials or (finished > 0 and time.time() > plan.until)


def is_done(setup: StudySetup, study: Study, plan: StudyPlan) -> bool:
    """Whether the search is over and all finalists are validated."""
    if not search_is_over(study, plan):
        return False
    tasks = finals(setup, finalists(study, plan))
    return all(outcome_of(setup, *task) is not None for task in tasks)


def finalists(study: Study, plan: StudyPlan) -> list[Finalist]:
    """The best complete trials, best first, and the trial of the script's recipe in any case.

    That trial comes last if it is not among the best. Of several trials with the same settings,
    only the first counts.
    """
    complete: list[FrozenTrial] = []
    for trial in finished_trials(study):
        is_complete = trial.state == TrialState.COMPLETE
        if is_complete and all(trial.params != other.params for other in complete):
            complete.append(trial)
    # The sort is stable: trials of equal value stay in the order of their claims.
    ranked = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=True)
    best, others = ranked[: plan.finalists], ranked[plan.finalists :]
    chosen = []
    for trial in [*best, *(trial for trial in others if is_script_recipe(study, trial))]:
        recipe = study.space.apply(trial.params)
        seeds = [(recipe.seed + 1 + i) % _SEEDS for i in range(plan.finalist_seeds)]
        recipes = [recipe, *(replace(recipe, seed=seed) for seed in seeds)]
        chosen.append(Finalist(trial, is_script_recipe(study, trial), recipes))
    return chosen


def _run_trial(setup: StudySetup, study: Study, trial: Trial) -> None:
    """Validate a trial on one class draw after the other, until it is done or pruned."""
    recipe = study.space.apply(trial.params)
    prunable = trial.params != study.space.recipe_params
    values: list[float] = []

    def compare(value: float, step: int) -> None:
        trial.report(value, step)
        if prunable and lags_behind(study, value, step):
            raise TrialEndedError

    def compare_half_way(point: Mapping[str, float]) -> None:
        compare(point[study.objective], _HALF_WAY)

    try:
        for class_draw in range(len(setup.class_draws)):
            if values:
                compare(fmean(values), _HALF_WAY + len(values))
            on_half_way = None if values else compare_half_way
            measures = validate_recipe(setup, recipe, class_draw, on_half_way)
            values.append(measures[study.objective])
    except (TrialEndedError, DivergedError) as error:
        trial.set_user_attr("diverged", isinstance(error, DivergedError))
        study.study.tell(trial, state=TrialState.PRUNED)
    except BaseException:
        give_back(study, trial)
        raise
    else:
        study.study.tell(trial, fmean(values))


def _validate(
    tasks: Sequence[tuple[Recipe, int]], setup: StudySetup, on_change: Callable[[], object]
) -> None:
    """Validate recipes on class draws; other processes may do some of these tasks."""
    while pending := [task for task in tasks if outcome_of(setup, *task) is None]:
        for task in pending:
            with suppress(DivergedError):
                try:
                    validate_recipe(setup, *task, patience=0)
                except BusyError:  # another process does it
                    time.sleep(_PAUSE_SECONDS)
            on_change()
