"""One run, end to end: data, fit, classify, evaluate, report, run directory."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from gsmflow.core.arrays import IntArray
from gsmflow.core.console import command_line
from gsmflow.core.distributed import SINGLE_PROCESS, Group
from gsmflow.core.environment import describe_environment
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_json
from gsmflow.core.json_fields import Field
from gsmflow.core.precision import pick_precision
from gsmflow.core.progress import heartbeat, progress
from gsmflow.core.run_files import ENVIRONMENT_FILE, LOG_FILE, METRICS_FILE
from gsmflow.data.cache import load_cached
from gsmflow.data.checks import check_dataset
from gsmflow.data.class_splits import draw_class_split
from gsmflow.data.dataset import Dataset, Problem, Split, open_held_out, training_problem
from gsmflow.data.extract.record import copy_record, separate_encoders
from gsmflow.data.formats.files import load_dataset
from gsmflow.data.formats.gbu import read_picture_files
from gsmflow.data.mixed_semantics import with_second_semantics
from gsmflow.evaluation.bootstrap import right_answers
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.per_class import answers_by_class, write_confusion, write_per_class
from gsmflow.evaluation.probabilities import (
    AnswerProbabilities,
    Temperatures,
    calibration_error,
    reliability_bins,
)
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.contract import Classifying, Scorer, Trainable, check_fit
from gsmflow.learning.feed import make_feed
from gsmflow.learning.sampling import Sampler
from gsmflow.recipes.checks import check_model_class
from gsmflow.recipes.files import describe_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.drawing import drawn
from gsmflow.reports.figures import run_figure
from gsmflow.reports.page_data import (
    PAGE_DATA_FILE,
    Answers,
    PageData,
    Probabilities,
    draw_features,
    pick_answers,
    pick_pictured,
    thin_curve,
    write_page_data,
)
from gsmflow.reports.section import draw_reports
from gsmflow.reports.stage_seconds import read_stages, seconds_line
from gsmflow.reports.tables import print_metrics
from gsmflow.runs.acceleration import graphs_of
from gsmflow.runs.clock import StageClock
from gsmflow.runs.directory import RunLog, opened_run
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.novelty import FoundNovelty, find_novelty, measure_novelty
from gsmflow.runs.section import Evaluated, Section, SectionResult
from gsmflow.runs.sections import REPORTS, SECTIONS
from gsmflow.runs.stages import (
    Fitted,
    Run,
    classify,
    fit_final,
    run_worker,
)
from gsmflow.runs.validation import choose_and_validate

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
    class_split
        The seed of the random class split, and the names of its ``seen``, ``validation`` and
        ``unseen`` classes; None with the dataset's own split.
    """

    model: str
    dataset: str
    features: str
    semantics: str
    seed: int
    protocol: str
    validation: dict[str, Any] | None
    choices: dict[str, Any] | None = None
    class_split: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields by name, without choices and class split if there are none."""
        fields = asdict(self)
        for name in ("choices", "class_split"):
            if fields[name] is None:
                del fields[name]
        return fields


def read_dataset(recipe: Recipe) -> Dataset:
    """Read the dataset that a recipe names, with its class split, from the cache if there is one.

    Raises
    ------
    InputError
        If its files or its record are missing or faulty, or if the features must be mapped and are
        not in a cache.
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
    dataset = _with_class_split(dataset, recipe)
    if recipe.second_semantics:
        dataset = with_second_semantics(
            dataset,
            recipe.data,
            recipe.second_semantics,
            seen_percent=recipe.mix_seen,
            unseen_percent=recipe.mix_unseen,
        )
    names = dataset.features_name, dataset.semantics_name
    found = separate_encoders(recipe.data / recipe.dataset, *names)
    return replace(dataset, separate_encoders=found)


def open_dataset(job: Job) -> Dataset:
    """The data of a job: those in memory, checked, or those read from the recipe's files.

    Raises
    ------
    InputError
        If the data are missing or faulty, or cannot be split as the recipe asks.
    """
    if job.dataset is None:
        return read_dataset(job.recipe)
    return _with_class_split(check_dataset(job.dataset), job.recipe)


def _with_class_split(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The dataset with the random class split of a recipe, if it has one."""
    if recipe.class_split is None:
        return dataset
    drawn = draw_class_split(dataset, recipe.class_split, recipe.split_unseen)
    names = _names_of(drawn, drawn.unseen_classes)
    if recipe.unseen_names and set(recipe.unseen_names) != set(names):
        other = next(iter(set(recipe.unseen_names) ^ set(names)))
        raise InputError(
            f"--class-split: found that {other!r} is an unseen class either of split "
            f"{recipe.class_split} of {dataset.name} or of the recipe's unseen_names, expected the "
            "same classes in both"
        )
    return drawn


def _names_of(dataset: Dataset, classes: IntArray) -> tuple[str, ...]:
    return tuple(dataset.class_names[c] for c in classes)


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
    with heartbeat(console), _opened(job, console, group, directory) as opened:
        _announce(opened.run, opened.dataset, opened.resumed)
        opened.run.clock.record("reading the data", opened.seconds)
        return _run(opened.run, opened.dataset)


def _run(run: Run, dataset: Dataset) -> RunResult:
    """Train, evaluate and report, in the run's open directory."""
    sections = [section for section in SECTIONS if section.wanted(run.recipe)]
    if not len(dataset.test_unseen) or not len(dataset.test_seen):
        # All sections need test rows of seen and of unseen classes.
        sections = []

    at_end = {s.key: s.at_end for s in sections if s.at_end is not None}
    choice, validated = choose_and_validate(run, dataset, at_end)
    at_interval = {s.key: s.at_interval for s in sections if s.at_interval is not None}
    fitted = fit_final(run, training_problem(dataset, "test"), choice, at_interval)
    scorer = classify(run, fitted)
    found = {} if validated is None else validated.found
    parts = {}
    for section in sections:
        with _section_stage(run, section):
            parts[section.key] = section.fit(run, dataset, fitted, scorer, found.get(section.key))
    novelty = find_novelty(run, dataset, fitted.scaled) if run.recipe.calibrate else None
    facts = run_facts(run, dataset, None if validated is None else validated.describe(), choice)
    return conclude(run, dataset, fitted, scorer, facts, sections, parts, novelty)


def conclude(
    run: Run,
    dataset: Dataset,
    fitted: Fitted,
    scorer: Scorer,
    facts: RunFacts,
    sections: Sequence[Section],
    parts: Mapping[str, Any],
    novelty: FoundNovelty | None = None,
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
    novelty
        The numbers of rows that are unlike all classes; None where nothing was found on validation.
    """
    validation = facts.validation
    gamma = None if validation is None else float(validation["gamma"])
    problem = fitted.scaled.problem

    # The test split is opened here and nowhere else; nothing is chosen from here on.
    with run.clock.stage("evaluation"), progress(run.console, "evaluating on the test rows"):
        held_out = open_held_out(dataset, "test")
        probabilities = _answer_probabilities(facts, problem)
        on_scores = None if probabilities is None else probabilities.add
        outcome = evaluate(scorer, problem, held_out, on_scores)
        metrics = {
            **facts.as_json(),
            **measure(outcome, gamma).as_json(),
            "baselines": {},
            "shifts": {},
        }
        if probabilities is not None:
            metrics["reliability"] = _reliability(outcome, gamma, probabilities.of_rows())
    if not len(held_out.unseen) or not len(held_out.seen):
        with run.clock.stage("report"):
            _report(run, metrics, fitted, outcome, gamma, {}, ())
        _print_seconds(run)
        return RunResult(run.directory, metrics, problem, held_out, fitted)
    evaluated = Evaluated(run, fitted, scorer, held_out, outcome, gamma, parts)
    results = {}
    for section in sections:
        with _section_stage(run, section):
            results[section.key] = section.measure(evaluated, parts.get(section.key))
    metrics |= {key: result.metrics for key, result in results.items()}
    if novelty is not None:
        with run.clock.stage("evaluation"):
            metrics["novelty"] = measure_novelty(novelty, held_out)
    curves = {run.label: (outcome, gamma)}
    for result in results.values():
        curves |= result.curves
    pictures = [picture for result in results.values() for picture in result.pictures]
    with run.clock.stage("report"):
        _keep_page_data(evaluated, dataset, curves, results.values(), probabilities)
        _report(run, metrics, fitted, outcome, gamma, curves, pictures)
    for section in sections:
        section.finish(run)
    _print_seconds(run)
    return RunResult(run.directory, metrics, problem, held_out, fitted)


@contextmanager
def _section_stage(run: Run, section: Section) -> Iterator[None]:
    """A context in which a section is fitted or measured."""
    with run.clock.stage(section.key), progress(run.console, section.key.replace("_", " ")):
        yield


def _answer_probabilities(facts: RunFacts, problem: Problem) -> AnswerProbabilities | None:
    """What takes the scores of test rows; None for a run without temperatures."""
    stored = (facts.validation or {}).get("temperatures")
    if facts.validation is None or stored is None:
        return None
    is_seen = np.isin(problem.classes, problem.seen_classes)
    temperature = Temperatures(**stored).among_all
    return AnswerProbabilities(temperature, facts.validation["gamma"], is_seen)


def _reliability(
    outcome: Outcome, gamma: float | None, probabilities: NDArray[np.float64]
) -> dict[str, float]:
    """The expected calibration errors of the calibrated answers to test rows, by their kind."""
    right = outcome.predictions(gamma) == outcome.labels
    seen = outcome.row_is_seen
    return {
        f"ECE_{name}": calibration_error(
            reliability_bins(probabilities[rows], right[rows], outcome.labels[rows])
        )
        for name, rows in (("seen", seen), ("unseen", ~seen))
        if rows.any()
    }


def run_worker_experiment(
    job: Job, console: Console, group: Group, directory: Path | None = None
) -> None:
    """Do the work of a group's other processes: the training of `run_experiment`."""
    splits: tuple[Split, ...] = ("validation", "test") if job.recipe.calibrate else ("test",)
    with _opened(job, console, group, directory) as opened:
        for split in splits:
            run_worker(opened.run, training_problem(opened.dataset, split))


@dataclass(frozen=True, eq=False)
class _Opened:
    """A run, its dataset with the seconds of reading it, and whether the run is resumed."""

    run: Run
    dataset: Dataset
    seconds: float
    resumed: bool


@contextmanager
def _opened(job: Job, console: Console, group: Group, path: Path | None) -> Iterator[_Opened]:
    """A context with the data and the run's directory, which the main process has locked."""
    recipe = job.recipe
    model_class = job.model_class or recipe.method_info.model
    check_model_class(recipe, model_class)
    device = group.device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    start = time.monotonic()
    if job.dataset is None:
        console.print(f"reading {recipe.data / recipe.dataset}", soft_wrap=True)
    # The other processes then read it from the cache.
    dataset = group.main_first(lambda: open_dataset(job))
    seconds = time.monotonic() - start
    check_fit(model_class, training_problem(dataset, "test"))
    if recipe.class_split is not None:
        recipe = replace(recipe, unseen_names=_names_of(dataset, dataset.unseen_classes))
    for section in SECTIONS:
        if section.wanted(recipe):
            section.check(recipe, dataset)
    with ExitStack() as stack:
        directory, resumed = group.share_result(
            lambda: stack.enter_context(opened_run(recipe, dataset, path))
        )
        log = RunLog(directory / (LOG_FILE if group.is_main else f"log-{group.index}.jsonl"))
        graphs = graphs_of(recipe, device, console)
        clock = StageClock(log, device) if group.is_main else StageClock()
        place = device, precision, group, directory
        run = Run(recipe, model_class, *place, log, console, clock, graphs)
        yield _Opened(run, dataset, seconds, resumed)


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
        protocol=_protocol(run, dataset, validation) + note,
        validation=validation,
        choices=choice,
        class_split=_describe_split(run.recipe, dataset),
    )


def _describe_split(recipe: Recipe, dataset: Dataset) -> dict[str, Any] | None:
    """The seed and the class names of a random class split; None with the dataset's own."""
    if recipe.class_split is None:
        return None
    groups = {
        "seen": dataset.seen_classes,
        "validation": np.unique(dataset.labels[dataset.val]),
        "unseen": dataset.unseen_classes,
    }
    names = {group: list(_names_of(dataset, classes)) for group, classes in groups.items()}
    return {"seed": recipe.class_split, **names}


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
    """Write ``metrics.json``, the mark of a finished run; print the table, draw the pictures."""
    record = Field(run.directory / METRICS_FILE, "", metrics)
    names = fitted.scaled.problem.class_names
    write_per_class(run.directory / "per_class.csv", outcome, gamma, names)
    write_confusion(run.directory / "confusion.csv", outcome, names)
    run.log.write("metrics", **metrics)
    write_json(run.directory / METRICS_FILE, metrics)
    print_metrics(record, REPORTS, run.console)
    run.console.print(f"run directory: {run.shown(run.directory)}", soft_wrap=True)
    validation = metrics["validation"]
    points = [] if validation is None else validation["curve"]
    picture = run.directory / "run.png"
    draw = partial(
        run_figure,
        picture,
        history=fitted.history,
        curve=points,
        outcomes=curves,
        classes=answers_by_class(outcome, gamma, names),
    )
    shown = [
        *drawn(draw, run.warn),
        *pictures,
        *draw_reports(record, REPORTS, run.directory, run.warn),
    ]
    if shown:
        named = ", ".join(str(run.shown(path)) for path in shown)
        run.console.print(f"pictures: {named}", soft_wrap=True)


def _keep_page_data(
    evaluated: Evaluated,
    dataset: Dataset,
    curves: Mapping[str, tuple[Outcome, float | None]],
    results: Collection[SectionResult],
    probabilities: AnswerProbabilities | None,
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
    answers = pick_answers(evaluated.outcome, evaluated.gamma)
    page_data = PageData(
        answers=answers,
        curves={name: thin_curve(outcome.curve()) for name, (outcome, _) in curves.items()},
        sample=sample,
        shifts=shifts,
        right=right_answers(evaluated.outcome, evaluated.gamma),
        right_beside={name: right for result in results for name, right in result.right.items()},
        pictures=_pick_pictures(evaluated, dataset, answers),
        probabilities=None if probabilities is None else Probabilities(probabilities.of_rows()),
    )
    write_page_data(run.directory / PAGE_DATA_FILE, page_data)


def _pick_pictures(evaluated: Evaluated, dataset: Dataset, answers: Answers) -> dict[int, str]:
    """Names of pictures by test rows, the seen ones first; empty where the dataset names none."""
    if not dataset.source:  # it was never in files
        return {}
    run = evaluated.run
    rows = pick_pictured(answers, len(evaluated.problem.seen_classes), evaluated.gamma)
    in_dataset = np.concatenate([dataset.test_seen, dataset.test_unseen])[rows]
    folder, features = run.recipe.data / run.recipe.dataset, dataset.features_name
    try:
        names = read_picture_files(folder, features, len(dataset.labels), in_dataset)
    except InputError as error:
        run.warn(f"the run's page will have no pictures: {error}")
        return {}
    return {} if names is None else dict(zip(rows.tolist(), names, strict=True))


def _announce(run: Run, dataset: Dataset, resumed: bool) -> None:
    """Write the environment and the start into the run directory; print dataset and device."""
    n, d = dataset.features.shape
    environment = {
        **describe_environment(run.device, run.recipe.seed),
        "precision": run.precision,
        "processes": run.group.size,
        "command": command_line(),
    }
    write_json(run.directory / ENVIRONMENT_FILE, environment)
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


def _calibration(dataset: Dataset, validation: Mapping[str, Any]) -> str:
    """How the calibration factor was chosen, for the description of the protocol."""
    count = len(np.unique(dataset.labels[dataset.val]))
    chosen = validation.get("balance")
    if chosen is None:
        return f"with a calibration factor chosen on {count} validation classes"
    if chosen["balance"] == "none":
        return "without a calibration factor (--balance none)"
    draws = f"{chosen['draws']} draws of " if chosen["draws"] > 1 else ""
    text = f"with a calibration factor chosen on {draws}{count} validation classes"
    if chosen["balance"] == "overall":
        text += " for the mean accuracy of all classes"
    return f"{text}, or none where its gain there is within its noise"


def _protocol(run: Run, dataset: Dataset, validation: Mapping[str, Any] | None) -> str:
    """The description of the protocol for the table: how epochs and gamma were chosen."""
    text = ""
    if issubclass(run.model_class, Trainable):
        alone = issubclass(run.model_class, Classifying)
        text = "last epoch; " if alone else "last epoch of generator and classifier; "
    text += "nothing chosen on test"
    if validation is not None:
        text += f"; cal.: {_calibration(dataset, validation)}"
    if run.recipe.class_split is not None:
        seen, unseen = len(dataset.seen_classes), len(dataset.unseen_classes)
        text += (
            f"; random class split, {unseen} of {seen + unseen} classes unseen: the backbone may "
            "have been trained on some of them"
        )
    return text
