"""One run, end to end: data, fit, classify, judge, report, run directory."""

from collections.abc import Mapping, Sequence
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
from gsmflow.core.precision import pick_precision
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.data.cache import load_cached
from gsmflow.data.dataset import Dataset, HeldOut, Problem, Split, open_held_out, training_problem
from gsmflow.data.extract.record import copy_record
from gsmflow.data.formats.digits import DIGITS_NAME, load_digit_pairs
from gsmflow.data.formats.files import load_dataset
from gsmflow.data.mixed_semantics import with_second_semantics
from gsmflow.data.splits import draw_from_each_class
from gsmflow.evaluation.generation_shifts import Shifts, measure_real, measure_shifts
from gsmflow.evaluation.measures import Measures, measure
from gsmflow.evaluation.per_class import write_confusion, write_per_class
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.contract import Model, Scorer, Trainable
from gsmflow.learning.feed import Feed, make_feed
from gsmflow.learning.sampling import Sampler
from gsmflow.methods.gates.base import Gated
from gsmflow.methods.registry import MODELS
from gsmflow.recipes.recipe import Recipe, check_model_class
from gsmflow.reports.few_shot import draw_few_shot, few_shot_table
from gsmflow.reports.figures import run_figure, shifts_figure
from gsmflow.reports.page_data import (
    PAGE_DATA_FILE,
    PageData,
    draw_features,
    pick_answers,
    pick_shifts,
    thin_curve,
    write_page_data,
)
from gsmflow.reports.tables import extra_lines, gated_name, result_table
from gsmflow.runs.baselines import (
    Baseline,
    BaselineChoices,
    choose_baselines,
    evaluate_baseline,
    fit_baselines,
)
from gsmflow.runs.directory import RunLog, enter_run, open_run
from gsmflow.runs.few_shot import check_shots, keep_choices, measure_few_shot
from gsmflow.runs.gate import evaluate_gate, fit_gate, keep_scores
from gsmflow.runs.selected_on_test import drop_candidates, keep_candidates, select_on_test
from gsmflow.runs.stages import (
    Fitted,
    Run,
    classify,
    classify_real,
    fit_final,
    run_worker,
    validate,
)

__all__ = ["RunResult", "conclude", "read_dataset", "run_experiment", "run_worker_experiment"]

_ORACLE_SEED = 7
_SHIFTS = "shifts.png"
# Samples per class that the generation shifts are measured on, at most.
_DIAGNOSED = 200


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run.

    Attributes
    ----------
    directory
        The run directory.
    metrics
        What ``metrics.json`` holds.
    problem, held_out
        What the final model was trained and judged on.
    fitted
        The model.
    """

    directory: Path
    metrics: dict[str, Any]
    problem: Problem
    held_out: HeldOut
    fitted: Fitted


def read_dataset(recipe: Recipe) -> Dataset:
    """The dataset that a recipe names, from the cache beside its runs if it has one.

    Raises
    ------
    InputError
        If its files are missing or faulty, or its features are to be taken from a cache and are
        in none.
    """
    load = partial(load_cached, cache=recipe.out / "cache") if recipe.cache else load_dataset
    dataset = (
        load_digit_pairs()
        if recipe.dataset == DIGITS_NAME
        else load(recipe.data, recipe.dataset, features=recipe.features, semantics=recipe.semantics)
    )
    if recipe.features_in == "map" and not isinstance(dataset.features, np.memmap):
        raise InputError(
            f"--features-in: found map with features of {dataset.name} that are not in a cache, "
            "expected memory or auto"
        )
    if not recipe.second_semantics:
        return dataset
    if recipe.dataset == DIGITS_NAME:
        raise InputError(
            f"--second-semantics: found {recipe.second_semantics} with {DIGITS_NAME}, which is "
            "built in, expected none"
        )
    return with_second_semantics(
        dataset,
        recipe.data,
        recipe.second_semantics,
        seen_percent=recipe.mix_seen,
        unseen_percent=recipe.mix_unseen,
    )


def run_experiment(
    recipe: Recipe,
    console: Console,
    model_class: type[Model] | None = None,
    group: Group = SINGLE_PROCESS,
    directory: Path | None = None,
) -> RunResult:
    """Run a recipe to its table, its picture and its run directory.

    Parameters
    ----------
    recipe
        A checked recipe.
    console
        Where progress and the table are printed.
    model_class
        A variant of the model that the recipe names; None for that model itself.
    team
        The processes that train together; this one leads. The others call `run_worker_experiment`.
    directory
        Where to write, or to go on with what was written; None for what the recipe says.

    Raises
    ------
    InputError
        If the data, the device or the run directory cannot be used.
    """
    run, dataset, resumed = _open(recipe, console, model_class, group, directory)
    _announce(run, dataset, resumed)

    chosen, validation = _choose(run, dataset)
    problem = training_problem(dataset, "test")
    fitted = fit_final(run, problem, keep_candidates if recipe.test_selected else None)
    classifiers = classify(run, fitted)
    gated = fit_gate(run, fitted, classifiers)
    baselines = [] if chosen is None else fit_baselines(run, problem, chosen)
    return conclude(run, dataset, fitted, classifiers, validation, gated, baselines)


def conclude(
    run: Run,
    dataset: Dataset,
    fitted: Fitted,
    classifiers: Scorer,
    validation: dict[str, Any] | None,
    gated: Gated | None = None,
    baselines: Sequence[Baseline] = (),
    note: str = "",
) -> RunResult:
    """Judge what was fitted on the test split, and report; opens the test split.

    Parameters
    ----------
    run, dataset
        What is run.
    fitted, classifiers, gated, baselines
        What was fitted.
    validation
        What was found on the validation classes, the penalty among it; None if nothing was.
    note
        What else the table is to say of the protocol.
    """
    penalty = None if validation is None else float(validation["gamma"])
    problem, recipe = fitted.scaled.problem, run.recipe
    told = _told(run, dataset, penalty, validation, note)

    # The one place where the test split is opened: nothing is chosen from here on.
    held_out = open_held_out(dataset, "test")
    outcome = evaluate(classifiers, problem, held_out)
    if not len(held_out.unseen):
        metrics = told | _seen_alone(outcome, penalty)
        run.console.print(
            f"warning: {dataset.where('test_unseen')}: no rows of unseen classes to judge on: S "
            "alone is measured",
            soft_wrap=True,
        )
        _report(run, metrics, fitted, outcome, penalty, {})
        return RunResult(run.directory, metrics, problem, held_out, fitted)
    judged = {b.name: evaluate_baseline(b, problem, held_out) for b in baselines}
    metrics = told | {
        **measure(outcome, penalty).as_json(),
        "baselines": {
            b.name: {**judged[b.name].measures.as_json(), "choices": b.choices} for b in baselines
        },
    }
    metrics |= _asked_for(run, fitted, classifiers, held_out, outcome, penalty)
    unseen = make_feed(held_out.unseen, fitted.scaled.scaling, run.device, recipe.features_in)
    shifts = _diagnose(run, fitted, baselines, unseen)
    metrics["shifts"] = {name: own.summary() for name, own in shifts.items()}
    curves = {run.label: (outcome, penalty)}
    if gated is not None:
        metrics["gate"], with_gate = evaluate_gate(gated, held_out, outcome)
        curves[gated_name(metrics)] = with_gate, None
    curves |= {b.name: (judged[b.name].outcome, b.penalty) for b in baselines}
    _keep_page_data(run, fitted, unseen, curves, shifts)
    _report(run, metrics, fitted, outcome, penalty, curves)
    return RunResult(run.directory, metrics, problem, held_out, fitted)


def _asked_for(
    run: Run,
    fitted: Fitted,
    classifiers: Scorer,
    held_out: HeldOut,
    outcome: Outcome,
    penalty: float | None,
) -> dict[str, Any]:
    """Measures that a recipe asks for beside those of the table."""
    recipe, told = run.recipe, dict[str, Any]()
    if recipe.top_k > 1:
        told["top_k"] = asdict(outcome.top_k(recipe.top_k))
    if recipe.shots:
        told["few_shot"] = measure_few_shot(run, fitted, classifiers, held_out, penalty)
    if recipe.oracle:
        told["oracle"] = _oracle(run, fitted, held_out).as_json()
    if recipe.test_selected:
        told["test_selected"] = select_on_test(run, fitted, held_out)
    return told


def run_worker_experiment(
    recipe: Recipe,
    console: Console,
    model_class: type[Model] | None,
    group: Group,
    directory: Path | None = None,
) -> None:
    """The part of `run_experiment` that a process does which does not lead its team."""
    run, dataset, _ = _open(recipe, console, model_class, group, directory)
    splits: tuple[Split, ...] = ("validation", "test") if recipe.calibrate else ("test",)
    for split in splits:
        run_worker(run, training_problem(dataset, split))


def _open(
    recipe: Recipe,
    console: Console,
    model_class: type[Model] | None,
    group: Group,
    place: Path | None,
) -> tuple[Run, Dataset, bool]:
    """The run, what it is run on, and whether it is resumed."""
    model_class = model_class or MODELS[recipe.model].model_class
    check_model_class(recipe, model_class)
    device = group.device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    # The others find it in the cache then.
    dataset = group.main_first(lambda: read_dataset(recipe))
    if recipe.gate != "none" and not len(dataset.test_unseen):
        raise InputError(
            f"--gate: found {recipe.gate} with no rows of unseen classes in "
            f"{dataset.where('test_unseen')}, expected none: nothing judges a gate there"
        )
    check_shots(recipe, dataset)
    directory, resumed = group.share_result(
        lambda: open_run(recipe) if place is None else (place, enter_run(place, recipe))
    )
    log = RunLog(directory / ("log.jsonl" if group.is_main else f"log-{group.index}.jsonl"))
    run = Run(recipe, model_class, device, precision, group, directory, log, console)
    return run, dataset, resumed


def _choose(run: Run, dataset: Dataset) -> tuple[BaselineChoices | None, dict[str, Any] | None]:
    """All that is chosen, on validation classes: the baselines' settings and the penalty."""
    if not (run.recipe.baselines or run.recipe.calibrate):
        return None, None
    problem = training_problem(dataset, "validation")
    held_out = open_held_out(dataset, "validation")
    # Where nothing judges unseen classes, no baseline stands beside the model.
    judges = run.recipe.baselines and len(dataset.test_unseen)
    chosen = choose_baselines(run, problem, held_out) if judges else None
    if not run.recipe.calibrate:
        return chosen, None
    at_end = None
    if run.recipe.gate == "cosmo":
        at_end = keep_scores(run, problem, held_out)
    elif any(run.recipe.shots):
        at_end = keep_choices(run, problem, held_out)
    return chosen, validate(run, problem, held_out, at_end=at_end)


def _told(
    run: Run,
    dataset: Dataset,
    penalty: float | None,
    validation: dict[str, Any] | None,
    note: str,
) -> dict[str, Any]:
    """What ``metrics.json`` says of a run besides its figures on test."""
    return {
        "model": run.label,
        "dataset": dataset.name,
        "features": dataset.features_name,
        "semantics": dataset.semantics_name,
        "seed": run.recipe.seed,
        "protocol": _protocol(run, dataset, penalty) + note,
        "validation": validation,
    }


def _seen_alone(outcome: Outcome, penalty: float | None) -> dict[str, Any]:
    """The figures where there are no rows of unseen classes: S, and None for what is not known."""
    return {**measure(outcome, penalty).as_json(), "baselines": {}, "shifts": {}}


def _report(
    run: Run,
    metrics: dict[str, Any],
    fitted: Fitted,
    outcome: Outcome,
    penalty: float | None,
    curves: Mapping[str, tuple[Outcome, float | None]],
) -> None:
    """Draw the picture, write the metrics (which marks the run as finished), print the table."""
    validation, picture = metrics["validation"], run.directory / "run.png"
    points = [] if validation is None else validation["curve"]
    few_shot = draw_few_shot(run.directory, metrics)
    run_figure(picture, history=fitted.history, curve=points, outcomes=curves)
    names = fitted.scaled.problem.class_names
    write_per_class(run.directory / "per_class.csv", outcome, penalty, names)
    write_confusion(run.directory / "confusion.csv", outcome, names)
    run.log.write("metrics", **metrics)
    write_json(run.directory / METRICS_FILE, metrics)
    drop_candidates(run)
    run.console.print(result_table(metrics))
    if few_shot is not None:
        run.console.print(few_shot_table(run.directory, metrics))
    for line in extra_lines(metrics):
        run.console.print(line, soft_wrap=True)
    run.console.print(f"run directory: {run.directory}", soft_wrap=True)
    pictures = [picture, *([run.directory / _SHIFTS] if metrics["shifts"] else [])]
    pictures += [] if few_shot is None else [few_shot]
    run.console.print(f"pictures: {', '.join(map(str, pictures))}", soft_wrap=True)


def _announce(run: Run, dataset: Dataset, resumed: bool) -> None:
    n, d = dataset.features.shape
    environment = {
        **describe_environment(run.device, run.recipe.seed),
        "precision": run.precision,
        "processes": run.group.size,
        "command": command_line(),
    }
    write_json(run.directory / "environment.json", environment)
    # With it the run answers pictures, wherever its directory is copied to.
    copy_record(run.recipe.data / run.recipe.dataset, run.directory)
    run.log.write("resume" if resumed else "start", recipe=run.recipe.describe())
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


def _protocol(run: Run, dataset: Dataset, penalty: float | None) -> str:
    trained = issubclass(run.model_class, Trainable)
    text = "last epoch of generator and classifier; " if trained else ""
    text += "nothing chosen on test"
    if penalty is not None:
        count = len(np.unique(dataset.labels[dataset.val]))
        text += f"; cal.: with a calibration factor chosen on {count} validation classes"
    return text


def _diagnose(
    run: Run, fitted: Fitted, baselines: Sequence[Baseline], unseen: Feed
) -> dict[str, Shifts]:
    """Measure the generation shifts of whatever synthesizes, model and baselines; draw them."""
    scaled, recipe = fitted.scaled, run.recipe
    real = measure_real(scaled.feed, unseen)
    samplers: dict[str, Sampler] = {}
    if isinstance(fitted.model, Sampler):
        samplers[run.label] = fitted.model
    for baseline in baselines:
        sampler = baseline.sampler_in(scaled.scaling)
        if sampler is not None:
            samplers[baseline.name] = sampler
    shifts = {
        name: measure_shifts(
            sampler,
            real,
            scaled.problem.semantics,
            min(recipe.samples_per_class, _DIAGNOSED),
            run.generator("test", "shifts"),
            precision=run.precision,
        )
        for name, sampler in samplers.items()
    }
    if shifts:
        shifts_figure(run.directory / _SHIFTS, shifts, scaled.problem.class_names)
    return shifts


def _keep_page_data(
    run: Run,
    fitted: Fitted,
    unseen: Feed,
    curves: Mapping[str, tuple[Outcome, float | None]],
    shifts: Mapping[str, Shifts],
) -> None:
    """Write what the run's page shows of the test split."""
    problem, sample = fitted.scaled.problem, None
    if isinstance(fitted.model, Sampler):
        generator = run.generator("test", "map")
        sample = draw_features(
            fitted.model, unseen, problem.unseen_classes, generator, precision=run.precision
        )
    page_data = PageData(
        answers=pick_answers(curves[run.label][0]),
        curves={name: thin_curve(outcome.curve()) for name, (outcome, _) in curves.items()},
        sample=sample,
        shifts=pick_shifts(shifts, problem),
    )
    write_page_data(run.directory / PAGE_DATA_FILE, page_data)


def _oracle(run: Run, fitted: Fitted, held_out: HeldOut) -> Measures:
    """The ceiling of these features: the same classifiers, trained on real unseen rows.

    Half of each unseen class's rows, drawn with a fixed seed, trains; the other half, with all
    test-seen rows, is judged. Where the model synthesizes, the real rows are repeated to as many,
    so that they are learned from for as many steps and weigh as much beside the seen classes.
    """
    rng = np.random.default_rng(_ORACLE_SEED)
    labels = held_out.unseen.labels
    trains = draw_from_each_class(labels, lambda rows: rows // 2, rng)
    learned, rest = (held_out.unseen.select(np.flatnonzero(own)) for own in (trains, ~trains))
    per_class = run.recipe.synthesized_per_class
    pair = classify_real(run, fitted.scaled, fitted.model, learned, per_class=per_class)
    return measure(evaluate(pair, fitted.scaled.problem, HeldOut(held_out.seen, rest)))
