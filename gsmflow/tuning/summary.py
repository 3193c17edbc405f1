"""The output of a study: a line for each trial, tables of finalists and settings, a picture."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from rich.table import Table

from gsmflow.core.aggregate import mean_std, summarise
from gsmflow.core.progress import Advance, counting, progress
from gsmflow.core.rounding import fixed
from gsmflow.evaluation.measures import metrics_in
from gsmflow.recipes.files import RecipeFile
from gsmflow.recipes.flags import recipe_flags, recipe_for
from gsmflow.recipes.recipe import Recipe, learning_settings, setting_value
from gsmflow.reports.figures import save_figure
from gsmflow.runs.script import Script
from gsmflow.tuning.space import Dimension
from gsmflow.tuning.study import Study, finished_trials, is_script_recipe
from gsmflow.tuning.trial import Objective, StudySetup, outcome_of
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

# With fewer complete trials, importances would be noise.
_TRIALS_FOR_IMPORTANCES = 10
_PANELS_IN_A_ROW = 4


@dataclass(frozen=True, eq=False)
class RankedFinalist:
    """A finalist that was validated with all seeds.

    Attributes
    ----------
    finalist
        The finalist.
    measures
        Each measure summarised over the seeds (`summarise`). The value of a seed is a mean over
        the class draws; a training that diverged counts as 0.
    """

    finalist: Finalist
    measures: Mapping[str, Any]


def rank_finalists(
    setup: StudySetup, study: Study, validated: Sequence[Finalist]
) -> list[RankedFinalist]:
    """The finalists with the measures of their validations, best mean of the objective first."""
    ranked = []
    for finalist in validated:
        runs = [_mean_over_draws(setup, recipe) for recipe in finalist.recipes]
        ranked.append(RankedFinalist(finalist, summarise(runs)))
    return sorted(
        ranked, key=lambda entry: float(entry.measures[study.objective]["mean"]), reverse=True
    )


def _mean_over_draws(setup: StudySetup, recipe: Recipe) -> dict[str, float]:
    outcomes = [outcome_of(setup, recipe, index) for index in range(len(setup.class_draws))]
    measures = [{} if outcome is None else outcome.measures or {} for outcome in outcomes]
    keys = [metric.key for metric in metrics_in("objective")]
    return {key: fmean(values.get(key, 0.0) for values in measures) for key in keys}


@contextmanager
def shown_progress(
    console: Console, setup: StudySetup, study: Study, plan: StudyPlan
) -> Iterator[Callable[[], None]]:
    """A context that shows the progress of a study; yields a function that updates the display.

    The function prints each trial that any process of the study has finished since its last call.
    It may be called at any time.
    """
    printed = {trial.number for trial in finished_trials(study)}
    tasks: list[tuple[Recipe, int]] = []
    with ExitStack() as levels:
        begun = progress(console, "search", plan.trials, len(printed), unit="trials")
        count_trials = _Counter(len(printed), levels.enter_context(begun))
        count_tasks: _Counter | None = None

        def update() -> None:
            nonlocal count_tasks
            trials = finished_trials(study)
            for trial in trials:
                if trial.number not in printed:
                    printed.add(trial.number)
                    console.print(_trial_line(study.objective, trials, trial, len(printed), plan))
            count_trials.set(len(trials))
            if not tasks and search_is_over(study, plan):
                chosen = finalists(study, plan)
                tasks.extend(finals(setup, chosen))
                if any(outcome_of(setup, *task) is None for task in tasks):
                    seeds = plan.finalist_seeds
                    console.print(f"validating {len(chosen)} finalists with {seeds} more seeds")
                validations = counting("validations of finalists", len(tasks))
                count_tasks = _Counter(0, levels.enter_context(validations))
            if count_tasks is not None:
                count_tasks.set(sum(outcome_of(setup, *task) is not None for task in tasks))

        yield update


@dataclass
class _Counter:
    """Counts up to numbers that are found, in the place of differences."""

    count: int
    advance: Advance

    def set(self, count: int) -> None:
        """Count up to a number."""
        self.advance(count - self.count)
        self.count = count


def _trial_line(
    objective: Objective,
    trials: Sequence[FrozenTrial],
    trial: FrozenTrial,
    number: int,
    plan: StudyPlan,
) -> str:
    value = "" if trial.value is None else f" {fixed(100 * trial.value)}"
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
        "none yet" if best is None else f"{fixed(100 * (best.value or 0.0))} (trial {best.number})"
    )
    seconds = "" if trial.duration is None else f", {trial.duration.total_seconds():.0f} s"
    return (
        f"trial {trial.number}, {number} of {plan.trials}: {result}, best so far {so_far}{seconds}"
    )


def finalist_table(study: Study, ranked: Sequence[RankedFinalist]) -> Table:
    """The finalists in percent, best first, mean and standard deviation over the seeds."""
    seeds = len(ranked[0].finalist.recipes)
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
    for entry in ranked:
        finalist = entry.finalist
        note = ", the recipe as it is" if finalist.is_script_recipe else ""
        figures = [mean_std(entry.measures[metric.key]) for metric in metrics_in("objective")]
        cells = ["" if figure is None else figure.text(" ± ") for figure in figures]
        style = "bold" if entry is ranked[0] else None
        table.add_row(f"{finalist.trial.number}{note}", *cells, style=style)
    return table


def choice_table(study: Study, winner: RankedFinalist) -> Table:
    """The chosen settings beside those of the script's recipe, with the importance of each."""
    importances = _importances(study)
    table = Table(
        title="settings",
        caption="importance: share of the trials' variance (fANOVA)" if importances else None,
        caption_justify="left",
    )
    for name in ("setting", "script", "chosen", *(["importance"] if importances else [])):
        table.add_column(name, justify="left" if name == "setting" else "right")
    chosen = study.space.values(winner.finalist.trial.params)
    for name, value in chosen.items():
        script_value = setting_value(study.space.recipe, name)
        share = [f"{100 * importances.get(name, 0.0):.0f} %"] if importances else []
        style = "bold" if value != script_value else None
        table.add_row(name, _short(script_value), _short(value), *share, style=style)
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _importances(study: Study) -> dict[str, float]:
    """Each setting's share of the variance of the objective; empty with too few complete trials."""
    complete = [t for t in finished_trials(study) if t.state == TrialState.COMPLETE]
    if len(complete) < _TRIALS_FOR_IMPORTANCES or len({trial.value for trial in complete}) == 1:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=study.space.recipe.seed)
    return optuna.importance.get_param_importances(study.study, evaluator=evaluator)


def chosen_file(
    setup: StudySetup, study: Study, script: Script, winner: RankedFinalist
) -> RecipeFile:
    """The recipe file of the winner.

    It holds all settings that were searched, and those that the command line had set to other
    values than the script's.
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
            "study": str(setup.folder),
            "objective": study.objective,
            "trials": len(trials),
            "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
            "trial": finalist.trial.number,
            "class_draws": len(setup.class_draws),
            "seeds": [validated.seed for validated in finalist.recipes],
            "measures": {
                metric.key: winner.measures[metric.key]["values"]
                for metric in metrics_in("objective")
            },
            "values": values,
        },
    )


def command_with(script: Script, recipe: Recipe, file: Path) -> str:
    """The command that runs a script with a recipe file, on the data and folders of ``recipe``."""
    picked = recipe_for(script.recipes, recipe.features, recipe.model)
    first = next(iter(script.recipes.values()))
    # Without --features a script takes the features of its first recipe.
    default = replace(picked, features=first.features)
    settled = {name: setting_value(default, name) for name in learning_settings(default)}
    settled |= {name: getattr(default, name) for name in ("preset", "run", "resume")}
    words = [] if recipe.model == first.model else ["--model", recipe.model]
    words += recipe_flags(recipe.replace(recipe=str(file), **settled), default)
    return shlex.join([*script.command, *words])


def study_figure(path: Path, study: Study) -> Path:
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
    return path


def _draw_trials(panel: Axes, study: Study, trials: Sequence[FrozenTrial]) -> None:
    points = [
        (trial.number, 100 * trial.value, trial.state, is_script_recipe(study, trial))
        for trial in trials
        if trial.value is not None
    ]
    complete = np.array([p[:2] for p in points if p[2] == TrialState.COMPLETE]).reshape(-1, 2)
    pruned = np.array([p[:2] for p in points if p[2] == TrialState.PRUNED]).reshape(-1, 2)
    panel.plot(*complete.T, "o", ms=4)
    panel.plot(*pruned.T, "v", color="0.7", ms=4, label="pruned")
    highest = np.maximum.accumulate(complete[:, 1])
    script_recipe = np.array([p[:2] for p in points if p[3]]).reshape(-1, 2)
    panel.plot(*script_recipe.T, "*", color="C2", ms=10, label="the recipe as it is")
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
    marked = [i for i, trial in enumerate(complete) if is_script_recipe(study, trial)]
    panel.plot([drawn[i] for i in marked], [values[i] for i in marked], "*", color="C2", ms=10)
    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log:
        panel.set_xscale("log")
        decades = np.log10(distribution.high / distribution.low)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 3 else (1,), numticks=8))
        panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(axis="x", labelsize="small")
    note = "" if dimension.smallest is None else f" (0 below {dimension.smallest:g})"
    panel.set(xlabel=f"{name}{note}")
