"""One run, end to end: data, fit, classify, evaluate, report, run directory."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.environment import command_line, describe_environment
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.precision import pick_precision
from gsmflow.core.run_files import LOG_FILE, METRICS_FILE
from gsmflow.data.cache import load_cached
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, Split, open_held_out, training_problem
from gsmflow.data.extract.record import copy_record
from gsmflow.data.formats.files import load_dataset
from gsmflow.data.mixed_semantics import with_second_semantics
from gsmflow.evaluation.bootstrap import right_answers
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.per_class import write_confusion, write_per_class
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.contract import Classifying, Scorer, Trainable
from gsmflow.learning.feed import make_feed
from gsmflow.learning.sampling import Sampler
from gsmflow.recipes.checks import check_model_class
from gsmflow.recipes.files import describe_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.figures import run_figure
from gsmflow.reports.page_data import (
    PAGE_DATA_FILE,
    PageData,
    draw_features,
    pick_answers,
    thin_curve,
    write_page_data,
)
from gsmflow.reports.section import measured
from gsmflow.reports.stage_seconds import read_stages, seconds_line
from gsmflow.reports.tables import print_metrics
from gsmflow.runs.acceleration import graphs_of
from gsmflow.runs.clock import StageClock
from gsmflow.runs.directory import RunLog, enter_run, open_run
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.sections import REPORTS, SECTIONS
from gsmflow.runs.stages import (
    Fitted,
    Run,
    Validated,
    choose,
    classify,
    fit_final,
    run_worker,
    validate,
)

__all__ = [
    "RunFacts",
    "conclude",
    "open_dataset",
    "read_dataset",
    "run_experiment",
    "run_facts",
    "run_worker_experiment",
]


@dataclass(frozen=True)
class RunFacts:
    """The fields of ``metrics.json`` besides the figures on test.

    Attributes
    ----------
    model, dataset, features, semantics
        Names.
    seed
        The run's seed.
    protocol
        The protocol in one sentence.
    validation
        The calibration factor gamma and the curve on validation classes; None without a
        validation.
    choices
        The settings that the model chose on validation classes; None if it chooses none.
    """

    model: str
    dataset: str
    features: str
    semantics: str
    seed: int
    protocol: str
    validation: dict[str, Any] | None
    choices: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields by name, without choices if there are none."""
        fields = asdict(self)
        if self.choices is None:
            del fields["choices"]
        return fields


def read_dataset(recipe: Recipe) -> Dataset:
    """Read the dataset that a recipe names, from the cache if the recipe uses one.

    Raises
    ------
    InputError
        If its files are missing or faulty, or if the features must be mapped and are not in a
        cache.
    """
    load = partial(load_cached, cache=recipe.out / "cache") if recipe.cache else load_dataset
    dataset = load(
        recipe.data, recipe.dataset, features=recipe.features, semantics=recipe.semantics
    )
    if recipe.features_in == "map" and not isinstance(dataset.features, np.memmap):
        raise InputError(
            f"--features-in: found map with features of {dataset.name} that are not in a cache, "
            "expected memory or auto"
        )
    if not recipe.second_semantics:
        return dataset
    return with_second_semantics(
        dataset,
        recipe.data,
        recipe.second_semantics,
        seen_percent=recipe.mix_seen,
        unseen_percent=recipe.mix_unseen,
    )


def open_dataset(job: Job) -> Dataset:
    """The data of a job: those in memory, checked, or those read from the recipe's files.

    Raises
    ------
    InputError
        If the data are missing or faulty.
    """
    return read_dataset(job.recipe) if job.dataset is None else check_dataset(job.dataset)


def run_experiment(
    job: Job, console: Console, group: Group = SINGLE_PROCESS, directory: Path | None = None
) -> RunResult:
    """Run a job: train, evaluate, print the table, and write the run directory.

    Parameters
    ----------
    job
        The recipe, model class and data.
    console
        Where progress and the table are printed.
    group
        The distributed group, of which this is the main process. The other processes call
        `run_worker_experiment`.
    directory
        The directory to make or resume; None for the one that the recipe names.

    Raises
    ------
    InputError
        If the data, the device or the run directory cannot be used.
    """
    opened = _open(job, console, group, directory)
    run, dataset = opened.run, opened.dataset
    _announce(run, dataset, opened.resumed)
    run.clock.record("reading the data", opened.seconds)
    sections = [section for section in SECTIONS if section.wanted(run.recipe)]
    if not len(dataset.test_unseen) or not len(dataset.test_seen):
        # All sections need test rows of seen and of unseen classes.
        sections = []

    choice, validated = _validate(run, dataset, sections)
    at_interval = {s.key: s.at_interval for s in sections if s.at_interval is not None}
    fitted = fit_final(run, training_problem(dataset, "test"), choice, at_interval)
    scorer = classify(run, fitted)
    found = {} if validated is None else validated.found
    parts = {}
    for section in sections:
        with run.clock.stage(section.key):
            parts[section.key] = section.fit(run, dataset, fitted, scorer, found.get(section.key))
    facts = run_facts(run, dataset, None if validated is None else validated.describe(), choice)
    return conclude(run, dataset, fitted, scorer, facts, sections, parts)


def conclude(
    run: Run,
    dataset: Dataset,
    fitted: Fitted,
    scorer: Scorer,
    facts: RunFacts,
    sections: Sequence[Section],
    parts: Mapping[str, Any],
) -> RunResult:
    """Open the test split, evaluate the fitted model on it, and report.

    Parameters
    ----------
    run, dataset
        The run and its dataset.
    fitted, scorer
        The trained model and its scorer.
    facts
        The run's fields of ``metrics.json`` besides the figures on test.
    sections
        The measurements besides T1, U, S and H.
    parts
        The result of each section's ``fit``, by the section's key.
    """
    validation = facts.validation
    gamma = None if validation is None else float(validation["gamma"])
    problem = fitted.scaled.problem

    # The test split is opened here and nowhere else; nothing is chosen from here on.
    with run.clock.stage("evaluation"):
        held_out = open_held_out(dataset, "test")
        outcome = evaluate(scorer, problem, held_out)
        metrics = {
            **facts.as_json(),
            **measure(outcome, gamma).as_json(),
            "baselines": {},
            "shifts": {},
        }
    if not len(held_out.unseen) or not len(held_out.seen):
        with run.clock.stage("report"):
            _report(run, metrics, fitted, outcome, gamma, {}, ())
        _print_seconds(run)
        return RunResult(run.directory, metrics, problem, held_out, fitted)
    evaluated = Evaluated(run, fitted, scorer, held_out, outcome, gamma, parts)
    results = {}
    for section in sections:
        with run.clock.stage(section.key):
            results[section.key] = section.measure(evaluated, parts.get(section.key))
    metrics |= {key: result.metrics for key, result in results.items()}
    curves = {run.label: (outcome, gamma)}
    for result in results.values():
        curves |= result.curves
    pictures = [picture for result in results.values() for picture in result.pictures]
    with run.clock.stage("report"):
        _keep_page_data(evaluated, curves, results.values())
        _report(run, metrics, fitted, outcome, gamma, curves, pictures)
    for section in sections:
        section.finish(run)
    _print_seconds(run)
    return RunResult(run.directory, metrics, problem, held_out, fitted)


def run_worker_experiment(
    job: Job, console: Console, group: Group, directory: Path | None = None
) -> None:
    """Do the work of a group's other processes: the training of `run_experiment`."""
    opened = _open(job, console, group, directory)
    splits: tuple[Split, ...] = ("validation", "test") if job.recipe.calibrate else ("test",)
    for split in splits:
        run_worker(opened.run, training_problem(opened.dataset, split))


@dataclass(frozen=True, eq=False)
class _Opened:
    """A run, its dataset with the seconds of reading it, and whether the run is resumed."""

    run: Run
    dataset: Dataset
    seconds: float
    resumed: bool


def _open(job: Job, console: Console, group: Group, path: Path | None) -> _Opened:
    """Read the data, then make or find the run's directory."""
    recipe = job.recipe
    model_class = job.model_class or recipe.method_info.model
    check_model_class(recipe, model_class)
    device = group.device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    start = time.monotonic()
    # The other processes then read it from the cache.
    dataset = group.main_first(lambda: open_dataset(job))
    seconds = time.monotonic() - start
    for section in SECTIONS:
        if section.wanted(recipe):
            section.check(recipe, dataset)
    directory, resumed = group.share_result(
        lambda: open_run(recipe) if path is None else (path, enter_run(path, recipe))
    )
    log = RunLog(directory / (LOG_FILE if group.is_main else f"log-{group.index}.jsonl"))
    graphs = graphs_of(recipe, device, console)
    clock = StageClock(log, device) if group.is_main else StageClock()
    run = Run(recipe, model_class, device, precision, group, directory, log, console, clock, graphs)
    return _Opened(run, dataset, seconds, resumed)


def _validate(
    run: Run, dataset: Dataset, sections: Sequence[Section]
) -> tuple[dict[str, Any] | None, Validated | None]:
    """Choose the model's settings and the calibration factor gamma on the validation classes."""
    problem = training_problem(dataset, "validation")
    held_out = open_held_out(dataset, "validation")
    choice = choose(run, problem, held_out)
    if not run.recipe.calibrate:
        return choice, None
    at_end = {s.key: s.at_end(run, problem, held_out) for s in sections if s.at_end is not None}
    return choice, validate(run, problem, held_out, choice, at_end=at_end)


def run_facts(
    run: Run,
    dataset: Dataset,
    validation: dict[str, Any] | None,
    choice: dict[str, Any] | None = None,
    note: str = "",
) -> RunFacts:
    """The facts of a run; a ``note`` is added to the description of its protocol."""
    return RunFacts(
        model=run.label,
        dataset=dataset.name,
        features=dataset.features_name,
        semantics=dataset.semantics_name,
        seed=run.recipe.seed,
        protocol=_protocol(run, dataset, validation is not None) + note,
        validation=validation,
        choices=choice,
    )


def _print_seconds(run: Run) -> None:
    """Print the seconds of the run's stages in one line."""
    run.clock.save()  # what no stage has taken
    stages = read_stages(run.directory / LOG_FILE)
    run.console.print(seconds_line(stages), soft_wrap=True)


def _report(
    run: Run,
    metrics: dict[str, Any],
    fitted: Fitted,
    outcome: Outcome,
    gamma: float | None,
    curves: Mapping[str, tuple[Outcome, float | None]],
    pictures: Sequence[Path],
) -> None:
    """Draw the picture, print the table, and write ``metrics.json``, the mark of a finished run."""
    validation, picture = metrics["validation"], run.directory / "run.png"
    points = [] if validation is None else validation["curve"]
    record = Field(run.directory / METRICS_FILE, "", metrics)
    shown = measured(record, REPORTS)
    drawn = [report.draw(record, run.directory) for report in shown if report.draw is not None]
    run_figure(picture, history=fitted.history, curve=points, outcomes=curves)
    names = fitted.scaled.problem.class_names
    write_per_class(run.directory / "per_class.csv", outcome, gamma, names)
    write_confusion(run.directory / "confusion.csv", outcome, names)
    run.log.write("metrics", **metrics)
    write_json(run.directory / METRICS_FILE, metrics)
    print_metrics(record, REPORTS, run.console)
    run.console.print(f"run directory: {run.directory}", soft_wrap=True)
    names_of_pictures = ", ".join(map(str, (picture, *pictures, *drawn)))
    run.console.print(f"pictures: {names_of_pictures}", soft_wrap=True)


def _keep_page_data(
    evaluated: Evaluated,
    curves: Mapping[str, tuple[Outcome, float | None]],
    results: Iterable[SectionResult],
) -> None:
    """Write the page data: what the run's page shows of the test split."""
    run, fitted, sample = evaluated.run, evaluated.fitted, None
    if isinstance(fitted.model, Sampler):
        unseen = make_feed(
            evaluated.held_out.unseen, fitted.scaled.scaling, run.device, run.recipe.features_in
        )
        sample = draw_features(
            fitted.model,
            unseen,
            evaluated.problem.unseen_classes,
            run.generators("test").on_device("map"),
            precision=run.precision,
        )
        if sample.is_of_some:
            run.console.print(
                f"map of features: of a sample of {sample.classes} unseen classes, the same in "
                "every run",
                soft_wrap=True,
            )
    shifts = {name: s for result in results for name, s in result.class_shifts.items()}
    page_data = PageData(
        answers=pick_answers(evaluated.outcome),
        curves={name: thin_curve(outcome.curve()) for name, (outcome, _) in curves.items()},
        sample=sample,
        shifts=shifts,
        right=right_answers(evaluated.outcome, evaluated.gamma),
    )
    write_page_data(run.directory / PAGE_DATA_FILE, page_data)


def _announce(run: Run, dataset: Dataset, resumed: bool) -> None:
    """Write the environment and the start into the run directory; print dataset and device."""
    n, d = dataset.features.shape
    environment = {
        **describe_environment(run.device, run.recipe.seed),
        "precision": run.precision,
        "processes": run.group.size,
        "command": command_line(),
    }
    write_json(run.directory / "environment.json", environment)
    # With the copy, the run can predict pictures, wherever its directory is moved to.
    copy_record(run.recipe.data / run.recipe.dataset, run.directory)
    run.log.write("resume" if resumed else "start", recipe=describe_recipe(run.recipe))
    run.console.print(
        f"{dataset.name}: {n} rows of {d} features, {dataset.semantics.shape[1]}-d semantics, "
        f"{len(dataset.seen_classes)} seen and {len(dataset.unseen_classes)} unseen classes, "
        f"rows trainval/test-seen/test-unseen {len(dataset.trainval)}/{len(dataset.test_seen)}/"
        f"{len(dataset.test_unseen)}{', from the cache' if dataset.from_cache else ''}",
        soft_wrap=True,
    )
    for note in dataset.notes:
        run.console.print(f"warning: {note}", soft_wrap=True)
    verb = "resuming" if resumed else "writing"
    processes = "" if run.group.size == 1 else f", {run.group.size} processes"
    run.console.print(
        f"{verb} {run.directory}, device {run.device}, {run.precision} products{processes}",
        soft_wrap=True,
    )


def _protocol(run: Run, dataset: Dataset, calibrated: bool) -> str:
    """The description of the protocol for the table: how epochs and gamma were chosen."""
    text = ""
    if issubclass(run.model_class, Trainable):
        alone = issubclass(run.model_class, Classifying)
        text = "last epoch; " if alone else "last epoch of generator and classifier; "
    text += "nothing chosen on test"
    if calibrated:
        count = len(np.unique(dataset.labels[dataset.val]))
        text += f"; cal.: with a calibration factor chosen on {count} validation classes"
    return text
