"""What a study shows: a line for each trial, the finalists, the choice, a picture."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gsmflow.core.aggregate import mean_std, summarise
from gsmflow.evaluation.measures import metrics_in
from gsmflow.recipes.files import RecipeFile
from gsmflow.recipes.flags import recipe_flags, recipe_for
from gsmflow.recipes.recipe import Recipe, learning_settings, setting_value
from gsmflow.reports.figures import save_figure
from gsmflow.runs.script import Script
from gsmflow.tuning.space import Dimension
from gsmflow.tuning.study import Study, finished_trials, is_own
from gsmflow.tuning.trial import Objective, Place, outcome_of
from gsmflow.tuning.worker import Finalist, StudyPlan, finalists, finals, search_is_over

__all__ = [
    "RankedFinalist",
    "choice_table",
    "chosen_file",
    "command_with",
    "finalist_table",
    "rank_finalists",
    "shown_progress",
    "study_figure",
]

# With fewer, importances would be made up of chance.
_TRIALS_FOR_IMPORTANCES = 10
_PANELS_IN_A_ROW = 4


@dataclass(frozen=True, eq=False)
class RankedFinalist:
    """A finalist that was validated with all seeds.

    Attributes
    ----------
    finalist
        Which trial it is.
    measures
        What `summarise` makes of the measures with each seed: means over the draws of classes,
        in which a training that diverged counts 0.
    """

    finalist: Finalist
    measures: Mapping[str, Any]


def rank_finalists(
    place: Place, study: Study, validated: Sequence[Finalist]
) -> list[RankedFinalist]:
    """Finalists with what their validations came to, best mean of the objective first."""
    judged = []
    for finalist in validated:
        runs = [_mean_over_draws(place, recipe) for recipe in finalist.recipes]
        judged.append(RankedFinalist(finalist, summarise(runs)))
    return sorted(
        judged, key=lambda one: float(one.measures[study.objective]["mean"]), reverse=True
    )


def _mean_over_draws(place: Place, recipe: Recipe) -> dict[str, float]:
    outcomes = [outcome_of(place, recipe, draw) for draw in range(len(place.class_draws))]
    measures = [{} if one is None else one.measures or {} for one in outcomes]
    keys = [metric.key for metric in metrics_in("objective")]
    return {key: fmean(one.get(key, 0.0) for one in measures) for key in keys}


@contextmanager
def shown_progress(
    console: Console, place: Place, study: Study, plan: StudyPlan
) -> Iterator[Callable[[], None]]:
    """A context with a bar on a terminal; yields what prints the trials that were finished since.

    It may be called at any time and sees what all processes of the study have finished.
    """
    told = {trial.number for trial in finished_trials(study)}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        shown = progress.add_task("trials", total=plan.trials, completed=len(told))
        tasks: list[tuple[Recipe, int]] = []

        def update() -> None:
            trials = finished_trials(study)
            for trial in trials:
                if trial.number not in told:
                    told.add(trial.number)
                    console.print(_trial_line(study.objective, trials, trial, len(told), plan))
            progress.update(shown, completed=len(trials))
            if not tasks and search_is_over(study, plan):
                chosen = finalists(study, plan)
                tasks.extend(finals(place, chosen))
                if any(outcome_of(place, *task) is None for task in tasks):
                    seeds = plan.finalist_seeds
                    console.print(f"validating {len(chosen)} finalists with {seeds} more seeds")
            if tasks:
                done = sum(outcome_of(place, *task) is not None for task in tasks)
                progress.update(shown, description="finalists", total=len(tasks), completed=done)

        yield update


def _trial_line(
    objective: Objective,
    trials: Sequence[FrozenTrial],
    trial: FrozenTrial,
    number: int,
    plan: StudyPlan,
) -> str:
    value = "" if trial.value is None else f" {100 * trial.value:.1f}"
    if trial.state == TrialState.COMPLETE:
        result = f"{objective}{value}"
    elif trial.user_attrs.get("diverged"):
        result = "diverged"
    else:
        result = f"pruned at{value}"
    best = max(
        (t for t in trials if t.state == TrialState.COMPLETE),
        key=lambda t: t.value or 0.0,
        default=None,
    )
    so_far = (
        "none yet" if best is None else f"{100 * (best.value or 0.0):.1f} (trial {best.number})"
    )
    seconds = "" if trial.duration is None else f", {trial.duration.total_seconds():.0f} s"
    return (
        f"trial {trial.number}, {number} of {plan.trials}: {result}, best so far {so_far}{seconds}"
    )


def finalist_table(study: Study, judged: Sequence[RankedFinalist]) -> Table:
    """The finalists in percent, best first, mean and standard deviation over the seeds."""
    seeds = len(judged[0].finalist.recipes)
    table = Table(
        title="finalists on the validation classes · percent"
        + (f" · mean ± standard deviation of {seeds} seeds" if seeds > 1 else ""),
        caption=f"chosen by the mean of {study.objective}; H cal.: with the gamma that is best on "
        "these rows",
        caption_justify="left",
    )
    table.add_column("trial")
    for metric in metrics_in("objective"):
        table.add_column(metric.label, justify="right", no_wrap=True)
    for one in judged:
        trial = one.finalist.trial
        label = f"{trial.number}{', the recipe as it is' if one.finalist.own else ''}"
        figures = [mean_std(one.measures[metric.key]) for metric in metrics_in("objective")]
        cells = ["" if told is None else told.text(" ± ") for told in figures]
        table.add_row(label, *cells, style="bold" if one is judged[0] else None)
    return table


def choice_table(study: Study, winner: RankedFinalist) -> Table:
    """What was chosen, beside the recipe's own settings and how much each of them mattered."""
    importances = _importances(study)
    table = Table(
        title="settings",
        caption="importance: share of the trials' variance (fANOVA)" if importances else None,
        caption_justify="left",
    )
    for name in ("setting", "own", "chosen", *(["importance"] if importances else [])):
        table.add_column(name, justify="left" if name == "setting" else "right")
    chosen = study.space.values(winner.finalist.trial.params)
    for name, value in chosen.items():
        own = setting_value(study.space.recipe, name)
        share = [f"{100 * importances.get(name, 0.0):.0f} %"] if importances else []
        style = "bold" if value != own else None
        table.add_row(name, _short(own), _short(value), *share, style=style)
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _importances(study: Study) -> dict[str, float]:
    """Each setting's share of the variance of the objective; empty where that means nothing."""
    complete = [t for t in finished_trials(study) if t.state == TrialState.COMPLETE]
    if len(complete) < _TRIALS_FOR_IMPORTANCES or len({trial.value for trial in complete}) == 1:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=study.space.recipe.seed)
    return optuna.importance.get_param_importances(study.study, evaluator=evaluator)


def chosen_file(place: Place, study: Study, script: Script, winner: RankedFinalist) -> RecipeFile:
    """The recipe file of the winner.

    It holds all that was searched, and what the command line had set in place of the script's
    own.
    """
    recipe = study.space.recipe
    picked = recipe_for(script.recipes, recipe.features, recipe.model)
    given = {
        name: value
        for name in learning_settings(recipe)
        if (value := setting_value(recipe, name)) != setting_value(picked, name)
    }
    finalist = winner.finalist
    values = study.space.values(finalist.trial.params)
    trials = finished_trials(study)
    return RecipeFile(
        settings=given | values,
        dataset=recipe.dataset,
        features=recipe.features,
        semantics=recipe.semantics,
        method=recipe.model,
        chosen={
            "how": "python -m gsmflow tune, on validation classes alone",
            "script": str(script.path),
            "study": str(place.folder),
            "objective": study.objective,
            "trials": len(trials),
            "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
            "trial": finalist.trial.number,
            "class_draws": len(place.class_draws),
            "seeds": [validated.seed for validated in finalist.recipes],
            "measures": {
                metric.key: winner.measures[metric.key]["values"]
                for metric in metrics_in("objective")
            },
            "values": values,
        },
    )


def command_with(script: Script, recipe: Recipe, file: Path) -> str:
    """The command that runs a script with a recipe file, at the places of another recipe."""
    picked = recipe_for(script.recipes, recipe.features, recipe.model)
    first = next(iter(script.recipes.values()))
    # Without --features a script takes its first recipe's.
    default = replace(picked, features=first.features)
    settled = {name: setting_value(default, name) for name in learning_settings(default)}
    settled |= {"run": default.run, "resume": default.resume}
    words = [] if recipe.model == first.model else ["--model", recipe.model]
    words += recipe_flags(recipe.replace(recipe=str(file), **settled), default)
    return shlex.join([*script.command, *words])


def study_figure(path: Path, study: Study) -> None:
    """Draw a study as PNG: the objective trial by trial, and against each searched setting."""
    trials = finished_trials(study)
    count = 1 + len(study.space.dimensions)
    columns = min(_PANELS_IN_A_ROW, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _draw_trials(panels[0], study, trials)
    for panel, (name, dimension) in zip(panels[1:], study.space.dimensions.items(), strict=False):
        _draw_setting(panel, name, dimension, study, trials)
    for panel in panels[count:]:
        panel.axis("off")
    save_figure(figure, path)


def _draw_trials(panel: Axes, study: Study, trials: Sequence[FrozenTrial]) -> None:
    points = [
        (trial.number, 100 * trial.value, trial.state, is_own(study, trial))
        for trial in trials
        if trial.value is not None
    ]
    complete = np.array([p[:2] for p in points if p[2] == TrialState.COMPLETE]).reshape(-1, 2)
    pruned = np.array([p[:2] for p in points if p[2] == TrialState.PRUNED]).reshape(-1, 2)
    panel.plot(*complete.T, "o", ms=4)
    panel.plot(*pruned.T, "v", color="0.7", ms=4, label="pruned")
    highest = np.maximum.accumulate(complete[:, 1])
    own = np.array([p[:2] for p in points if p[3]]).reshape(-1, 2)
    panel.plot(*own.T, "*", color="C2", ms=10, label="the recipe as it is")
    panel.step(complete[:, 0], highest, where="post", color="C1", label="best so far")
    panel.set(title="trials", xlabel="trial", ylabel=f"{study.objective}, percent")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(fontsize="small")


def _draw_setting(
    panel: Axes, name: str, dimension: Dimension, study: Study, trials: Sequence[FrozenTrial]
) -> None:
    distribution = dimension.distribution
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    drawn = [trial.params[name] for trial in complete]
    values = [100 * (trial.value or 0.0) for trial in complete]
    if isinstance(distribution, CategoricalDistribution):
        options = [str(option) for option in distribution.choices]
        panel.set_xticks(range(len(options)), options, fontsize="small")
        drawn = [options.index(str(option)) for option in drawn]
    panel.plot(drawn, values, "o", ms=4)
    own = [i for i, trial in enumerate(complete) if is_own(study, trial)]
    panel.plot([drawn[i] for i in own], [values[i] for i in own], "*", color="C2", ms=10)
    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log:
        panel.set_xscale("log")
        decades = np.log10(distribution.high / distribution.low)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 3 else (1,), numticks=8))
        panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(axis="x", labelsize="small")
    note = "" if dimension.smallest is None else f" (0 below {dimension.smallest:g})"
    panel.set(xlabel=f"{name}{note}")
