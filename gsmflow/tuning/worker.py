"""What each process of a study does: trials, then the finalists, until nothing is left to do."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean

from optuna.trial import FrozenTrial, Trial, TrialState

from gsmflow.core.errors import DivergedError
from gsmflow.recipes.recipe import Recipe
from gsmflow.tuning.study import Study, claim, finished_trials, give_back, is_own, lags_behind
from gsmflow.tuning.trial import Place, TrialEndedError, outcome_of, validate_recipe

__all__ = ["Finalist", "StudyPlan", "finalists", "finals", "search_is_over", "work"]

# The step at which trials are compared first, whatever their epochs; then after each draw.
_HALF_WAY = 1
_PAUSE_SECONDS = 0.2
_SEEDS = 2**31


@dataclass(frozen=True)
class StudyPlan:
    """How far a study goes.

    Attributes
    ----------
    trials
        How many are to be finished, over all processes and invocations.
    finalists
        How many of the best trials are validated with more seeds.
    finalist_seeds
        How many more seeds.
    until
        When no more trials are begun, in seconds since the epoch.
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
        As the search left it.
    own
        Whether it is the script's own recipe.
    recipes
        Its recipe with each seed, that of the search first.
    """

    trial: FrozenTrial
    own: bool
    recipes: Sequence[Recipe]


def work(
    place: Place, study: Study, plan: StudyPlan, on_change: Callable[[], object] = lambda: None
) -> list[Finalist]:
    """Run trials, then the finalists, together with whatever other processes do the same.

    Parameters
    ----------
    place, study, plan
        What to work on, and how far.
    on_change
        Called when something may have been finished, here or elsewhere.

    Returns
    -------
    list
        The finalists, all of them validated.
    """
    while not search_is_over(study, plan):
        trial = claim(study, plan.trials)
        if trial is None:  # the last ones are run elsewhere
            time.sleep(_PAUSE_SECONDS)
        else:
            _run_trial(place, study, trial)
        on_change()
    chosen = finalists(study, plan)
    on_change()
    _validate(finals(place, chosen), place, on_change)
    return chosen


def finals(place: Place, chosen: Sequence[Finalist]) -> list[tuple[Recipe, int]]:
    """What the finalists are to be validated as: each recipe on each draw of the classes."""
    draws = range(len(place.class_draws))
    return [(recipe, draw) for one in chosen for recipe in one.recipes for draw in draws]


def search_is_over(study: Study, plan: StudyPlan) -> bool:
    """Whether there are trials enough, or the time is up; one trial there must be."""
    finished = len(finished_trials(study))
    return finished >= plan.trials or (finished > 0 and time.time() > plan.until)


def finalists(study: Study, plan: StudyPlan) -> list[Finalist]:
    """The best complete trials, best first, and the script's own recipe if it is not among them.

    Of trials with the same settings the first counts.
    """
    complete: list[FrozenTrial] = []
    for trial in finished_trials(study):
        told = trial.state == TrialState.COMPLETE
        if told and all(trial.params != other.params for other in complete):
            complete.append(trial)
    # Equal ones stay in their order.
    ranked = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=True)
    best, others = ranked[: plan.finalists], ranked[plan.finalists :]
    chosen = []
    for trial in [*best, *(trial for trial in others if is_own(study, trial))]:
        recipe = _trial_recipe(study, trial.params)
        seeds = [(recipe.seed + 1 + i) % _SEEDS for i in range(plan.finalist_seeds)]
        recipes = [recipe, *(replace(recipe, seed=seed) for seed in seeds)]
        chosen.append(Finalist(trial, is_own(study, trial), recipes))
    return chosen


def _trial_recipe(study: Study, drawn: Mapping[str, object]) -> Recipe:
    """The recipe of a trial, measured at the end."""
    return replace(study.space.apply(drawn), curve_every=0)


def _first_recipe(recipe: Recipe) -> Recipe:
    """A trial's recipe on its first draw of classes, measured half-way too."""
    return replace(recipe, curve_every=(recipe.training.total_epochs + 1) // 2)


def _run_trial(place: Place, study: Study, trial: Trial) -> None:
    """Validate a trial on one draw of classes after the other, as long as it keeps up."""
    recipe = _trial_recipe(study, trial.params)
    own = trial.params == study.space.own
    values: list[float] = []

    def compare(value: float, step: int) -> None:
        trial.report(value, step)
        if not own and lags_behind(study, value, step):
            raise TrialEndedError

    def look(point: Mapping[str, float]) -> None:
        if point["epoch"] < recipe.training.total_epochs:
            compare(point[study.objective], _HALF_WAY)

    try:
        for draw in range(len(place.class_draws)):
            if values:
                compare(fmean(values), _HALF_WAY + len(values))
            validated = recipe if values else _first_recipe(recipe)
            values.append(validate_recipe(place, validated, draw, look)[study.objective])
    except (TrialEndedError, DivergedError) as end:
        trial.set_user_attr("diverged", isinstance(end, DivergedError))
        study.study.tell(trial, state=TrialState.PRUNED)
    except BaseException:
        give_back(study, trial)
        raise
    else:
        study.study.tell(trial, fmean(values))


def _validate(
    tasks: Sequence[tuple[Recipe, int]], place: Place, on_change: Callable[[], object]
) -> None:
    """Validate recipes on draws of classes, of which other processes may take some."""
    while pending := [task for task in tasks if outcome_of(place, *task) is None]:
        for task in pending:
            with suppress(DivergedError):
                try:
                    validate_recipe(place, *task, patience=0)
                except TimeoutError:  # it is run elsewhere
                    time.sleep(_PAUSE_SECONDS)
            on_change()
