"""The command ``tune``: its options, its worker processes, and the results that it writes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from rich.console import Console

from gsmflow.cli.verb import Verb
from gsmflow.core.child_processes import end_processes, end_with_parent
from gsmflow.core.console import warner
from gsmflow.core.errors import InputError
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.recipes.files import write_recipe_file
from gsmflow.reports.drawing import drawn
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
from gsmflow.tuning.worker import Finalist, StudyPlan, work

__all__ = ["VERB", "TuneOptions", "run_tuning"]

_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class TuneOptions(ScriptOptions):
    """Search for a script's hyperparameters on the validation classes alone.

    python -m gsmflow tune train_FLO.py --trials 40 --data ../shared/data --features densenet169

    Words after the script that are not listed here are the script's own flags. The same command
    continues a study that was ended, or joins one that is running.
    """

    trials: int = 40
    """Trials to be finished (complete or pruned) in this study, over all invocations."""
    minutes: float | None = None
    """Minutes after which this invocation begins no more trials; None: no limit."""
    objective: Objective = "H_calibrated"
    """What to maximize: H under the best calibration factor gamma, H without one, T1 or AUSUC."""
    class_draws: int = 3
    """Draws of validation classes that a trial is validated on, with one training for each: first
    the dataset's validation classes, then random ones of the seen classes. The mean counts."""
    search: tuple[str, ...] = ()
    """Fields to search, such as pi epochs; none: all that the recipe uses."""
    finalists: int = 4
    """Best trials that are validated with more seeds, beside the script's recipe."""
    finalist_seeds: int = 2
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
    _check(options)
    with quiet_optuna():
        script, setup, study = _open(options, flags)
        recipe, finished = study.space.recipe, len(finished_trials(study))
        count = len(setup.class_draws[0][0].unseen_classes)
        console.print(
            f"{recipe.dataset}, {recipe.features}, {recipe.semantics}: searching "
            f"{', '.join(study.space.dimensions)} by {options.objective} on {count} validation "
            f"classes in {options.class_draws} draws",
            soft_wrap=True,
        )
        console.print(
            f"study {setup.folder}, {finished} of {options.trials} trials finished, device "
            f"{setup.device}, {setup.precision} products",
            soft_wrap=True,
        )
        budget = float("inf") if options.minutes is None else 60 * options.minutes
        plan = StudyPlan(
            options.trials, options.finalists, options.finalist_seeds, time.time() + budget
        )
        with shown_progress(console, setup, study, plan) as update:
            if recipe.workers > 1:
                with _workers(options, flags, plan, recipe.workers) as workers:
                    while any(worker.is_alive() for worker in workers):
                        update()
                        time.sleep(_POLL_SECONDS)
            # This process does what is left: all of it, or the work of a worker that failed.
            validated = work(setup, study, plan, update)
        _report(console, script, setup, study, validated)


def _check(options: TuneOptions) -> None:
    """Raise `InputError` if a number is out of range."""
    for flag, value, least in (
        ("--trials", options.trials, 1),
        ("--class-draws", options.class_draws, 1),
        ("--finalists", options.finalists, 1),
        ("--finalist-seeds", options.finalist_seeds, 0),
    ):
        if value < least:
            raise InputError(f"{flag}: found {value}, expected a number of at least {least}")
    if options.minutes is not None and not options.minutes > 0:
        raise InputError(f"--minutes: found {options.minutes}, expected a number above 0")


def _open(options: TuneOptions, flags: Sequence[str]) -> tuple[Script, StudySetup, Study]:
    """The script, its data and its study, as every process of the study opens them."""
    script, recipe = script_recipe(
        options.script, flags, prog=f"python -m gsmflow tune {options.script}"
    )
    space = space_of(recipe, options.search)
    name = "-".join(["tune", *folder_words(recipe), recipe.features, recipe.semantics])
    folder = options.study or recipe.out / recipe.dataset / name
    setup = open_setup(folder, space, script.job(recipe), options.class_draws)
    return script, setup, open_study(setup, options.objective)


@contextmanager
def _workers(
    options: TuneOptions, flags: Sequence[str], plan: StudyPlan, count: int
) -> Iterator[Sequence[BaseProcess]]:
    """A context in which the worker processes run; they do not outlive it."""
    threads = max(1, torch.get_num_threads() // count)
    processes = [
        get_context("spawn").Process(target=_run_worker, args=(options, list(flags), plan, threads))
        for _ in range(count)
    ]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        end_processes(processes)


def _run_worker(options: TuneOptions, flags: Sequence[str], plan: StudyPlan, threads: int) -> None:
    """The main function of a worker process."""
    end_with_parent()
    torch.set_num_threads(threads)
    with quiet_optuna(), suppress(InputError):  # the parent finds the same mistake and reports it
        _, setup, study = _open(options, flags)
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
