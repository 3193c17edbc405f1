"""The command ``tune``: its options, its worker processes, and the results that it writes."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.console import Console

from gsmflow.cli.verb import Verb
from gsmflow.core.console import warner
from gsmflow.core.errors import InputError, UnavailableError, is_of_writing
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.core.settings import Range, check_settings
from gsmflow.recipes.files import write_recipe_file
from gsmflow.reports.drawing import drawn
from gsmflow.runs.executors import Ended, LocalSettings, Work, execute
from gsmflow.runs.parallel import recipe_executor
from gsmflow.runs.script import Script, ScriptOptions, script_recipe
from gsmflow.runs.variants import folder_words
from gsmflow.tuning.space import space_of
from gsmflow.tuning.study import Study, finished_trials, open_study, quiet_optuna
from gsmflow.tuning.summary import (
    choice_table,
    chosen_file,
    command_with,
    finalist_table,
    rank_finalists,
    shown_progress,
    study_figure,
)
from gsmflow.tuning.trial import Objective, StudySetup, open_setup
from gsmflow.tuning.worker import Finalist, StudyPlan, is_done, work

__all__ = ["VERB", "TuneOptions", "run_tuning"]


@dataclass(frozen=True, kw_only=True)
class TuneOptions(ScriptOptions):
    """Search for a script's hyperparameters on the validation classes alone.

    python -m gsmflow tune train_FLO.py --trials 40 --data ../shared/data --features densenet169

    Words after the script that are not listed here are the script's own flags. The same command
    continues a study that was ended, or joins one that is running.
    """

    trials: Annotated[int, Range(min=1)] = 40
    """Trials to be finished (complete or pruned) in this study, over all invocations."""
    minutes: Annotated[float | None, Range(above=0)] = None
    """Minutes after which this invocation begins no more trials; None: no limit."""
    objective: Objective = "H_calibrated"
    """What to maximize: H under the best calibration factor gamma, H without one, T1 or AUSUC."""
    class_draws: Annotated[int, Range(min=1)] = 3
    """Draws of validation classes that a trial is validated on, with one training for each: first
    the dataset's validation classes, then random ones of the seen classes. The mean counts."""
    search: tuple[str, ...] = ()
    """Fields to search, such as pi epochs; none: all that the recipe uses."""
    finalists: Annotated[int, Range(min=1)] = 4
    """Best trials that are validated with more seeds, beside the script's recipe."""
    finalist_seeds: Annotated[int, Range(min=0)] = 2
    """More seeds for each of them; the best mean wins."""
    study: Path | None = None
    """The study's folder; None: OUT/DATASET/tune-FEATURES-SEMANTICS, for a model other than gsmflow
    OUT/DATASET/tune-MODEL-FEATURES-SEMANTICS."""


def run_tuning(options: TuneOptions, console: Console, flags: Sequence[str]) -> None:
    """Search for the settings of a script's recipe; write the best as a recipe file.

    Parameters
    ----------
    options
        What to search, and the size of the study.
    console
        Where progress and tables are printed.
    flags
        Flags of the script.

    Raises
    ------
    InputError
        If an option is out of range, the script or its data cannot be used, or the study's folder
        holds another study.
    """
    check_settings(options)
    with quiet_optuna():
        script, setup, study = _open(options, flags, is_worker=False)
        recipe, finished = study.space.recipe, len(finished_trials(study))
        count = len(setup.class_draws[0][0].unseen_classes)
        console.print(
            f"{recipe.dataset}, {recipe.features}, {recipe.semantics}: searching "
            f"{', '.join(study.space.dimensions)} by {options.objective} on {count} validation "
            f"classes in {options.class_draws} draws",
            soft_wrap=True,
        )
        console.print(
            f"study {setup.folder}, {finished} of {options.trials} trials finished, "
            f"{_where(setup)}",
            soft_wrap=True,
        )
        budget = float("inf") if options.minutes is None else 60 * options.minutes
        plan = StudyPlan(
            options.trials, options.finalists, options.finalist_seeds, time.time() + budget
        )
        with shown_progress(console, setup, study, plan) as update:
            if recipe.workers > 1 or not setup.trains:
                _run_workers(options, flags, plan, setup, study, update)
            # This process does what is left: all of it, or the work of a worker that failed.
            validated = work(setup, study, plan, update)
        _report(console, script, setup, study, validated)


def _where(setup: StudySetup) -> str:
    """Where the trials of a study are trained."""
    if setup.trains:
        return f"device {setup.device}, {setup.precision} products"
    return f"workers on SLURM: {setup.space.recipe.workers}"


def _open(
    options: TuneOptions, flags: Sequence[str], *, is_worker: bool
) -> tuple[Script, StudySetup, Study]:
    """The script, its data and its study, as every process of the study opens them."""
    script, recipe = script_recipe(
        options.script, flags, prog=f"python -m gsmflow tune {options.script}"
    )
    space = space_of(recipe, options.search)
    name = "-".join(["tune", *folder_words(recipe), recipe.features, recipe.semantics_label])
    folder = options.study or recipe.out / recipe.dataset / name
    trains = is_worker or recipe.executor == "local"
    setup = open_setup(folder, space, script.job(recipe), options.class_draws, trains=trains)
    return script, setup, open_study(setup, options.objective)


def _run_workers(
    options: TuneOptions,
    flags: Sequence[str],
    plan: StudyPlan,
    setup: StudySetup,
    study: Study,
    update: Callable[[], object],
) -> None:
    """Run the worker processes of a study, on this machine or as jobs of a cluster.

    Raises
    ------
    InputError
        If jobs of a cluster have ended and left something to do, which this process does not.
    UnavailableError
        If that is because a file could not be written.
    """
    settings = recipe_executor(setup.space.recipe)
    if isinstance(settings, LocalSettings):
        settings = replace(settings, gpus=())  # the workers share a GPU
    call = partial(_run_worker, options, tuple(flags), plan)
    works = [Work(f"worker{number}", call) for number in range(setup.space.recipe.workers)]
    failures = []
    with closing(execute(works, settings, setup.folder / "executor")) as events:
        for event in events:
            if isinstance(event, Ended) and event.sentence is not None:
                failures.append(f"{event.name}: {event.sentence}")
            update()
    if not setup.trains and not is_done(setup, study, plan):
        kind = UnavailableError if failures and is_of_writing(failures[0]) else InputError
        raise kind(
            f"{setup.folder}: found that all jobs ended before the study did "
            f"({failures[0] if failures else 'no job failed'}), expected it to be done; the same "
            "command goes on with it"
        )


def _run_worker(options: TuneOptions, flags: Sequence[str], plan: StudyPlan) -> None:
    """Work on a study; called in a process of its own."""
    with quiet_optuna():
        _, setup, study = _open(options, flags, is_worker=True)
        work(setup, study, plan)


def _report(
    console: Console, script: Script, setup: StudySetup, study: Study, validated: Sequence[Finalist]
) -> None:
    """Write the winner's recipe file and the picture; print the tables."""
    ranked = rank_finalists(setup, study, validated)
    if not ranked:
        raise InputError(
            f"{setup.folder}: found no trial whose training stays finite, expected at least "
            "that of the script's recipe; lower --learning-rate or bring the features to another "
            "scale with --feature-scaling"
        )
    file = setup.folder / RECIPE_FILE
    write_recipe_file(file, chosen_file(setup, study, script, ranked[0]))
    console.print(finalist_table(study, ranked))
    console.print(choice_table(study, ranked[0]))
    for picture in drawn(partial(study_figure, setup.folder / "study.png", study), warner(console)):
        console.print(f"picture: {picture}", soft_wrap=True)
    console.print(f"recipe file: {file}, to be run with", soft_wrap=True)
    console.print(command_with(script, study.space.recipe, file), soft_wrap=True)


VERB = Verb(TuneOptions, run_tuning, takes_flags=True)
