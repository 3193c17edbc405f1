"""One run, end to end: data, fit, synthesize, classify, judge, report, run directory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from gsmflow.cache import load_cached
from gsmflow.dataset import (
    Dataset,
    HeldOut,
    Problem,
    Split,
    draw_from_each_class,
    open_held_out,
    training_problem,
)
from gsmflow.digits import DIGITS_NAME, load_digit_pairs
from gsmflow.errors import InputError
from gsmflow.eszsl import Criterion, ESZSLChoice, ESZSLSolver, choose_regularizers
from gsmflow.evaluate import Measures, Outcome, judge
from gsmflow.feed import MemoryFeed
from gsmflow.fitting import Fitted, Run, assist, classify, fit_final, fit_pair, validate
from gsmflow.mat import load_dataset
from gsmflow.model import GSMFlow
from gsmflow.precision import pick_precision
from gsmflow.recipe import Recipe
from gsmflow.report import result_table, run_figure
from gsmflow.rundir import METRICS_FILE, RunLog, open_run
from gsmflow.team import ALONE, Team
from gsmflow.util import describe_environment, write_json

__all__ = ["RunResult", "assist_experiment", "read_dataset", "run_experiment"]

_ORACLE_SEED = 7


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
        The generator.
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
    return dataset


def run_experiment(
    recipe: Recipe,
    console: Console,
    model_class: type[GSMFlow] = GSMFlow,
    team: Team = ALONE,
) -> RunResult:
    """Run a recipe to its table, its picture and its run directory.

    Parameters
    ----------
    recipe
        A checked recipe.
    console
        Where progress and the table are printed.
    model_class
        `GSMFlow`, or a variant with its interface.
    team
        The processes that train together; this one leads. The others call `assist_experiment`.

    Raises
    ------
    InputError
        If the data, the device or the run directory cannot be used.
    """
    run, dataset, resumed = _open(recipe, console, model_class, team)
    _announce(run, dataset, resumed)

    eszsl_choices, validation = _choose(run, dataset)
    penalty = None if validation is None else float(validation["penalty"])

    problem = training_problem(dataset, "test")
    fitted = fit_final(run, problem)
    classifiers = classify(run, fitted)
    eszsl = ESZSLSolver(problem)

    # The one place where the test split is opened: nothing is chosen from here on.
    held_out = open_held_out(dataset, "test")
    outcome = judge(classifiers, problem, held_out)
    eszsl_outcomes = {
        criterion: judge(eszsl.solve(choice.gamma, choice.lam), problem, held_out)
        for criterion, choice in eszsl_choices.items()
    }
    metrics: dict[str, Any] = {
        "model": model_class.__name__,
        "dataset": dataset.name,
        "features": dataset.features_name,
        "semantics": dataset.semantics_name,
        "seed": recipe.seed,
        "protocol": _protocol(dataset, penalty),
        **asdict(outcome.measures(penalty)),
        "baselines": {"ESZSL": _eszsl_measures(eszsl_outcomes, eszsl_choices)},
        "validation": validation,
    }
    if recipe.oracle:
        metrics["oracle"] = asdict(_oracle(run, fitted, held_out))
    curves = {
        model_class.__name__: (outcome, penalty),
        "ESZSL": (eszsl_outcomes["calibrated_H"], eszsl_choices["calibrated_H"].penalty),
    }
    _report(run, metrics, fitted, curves)
    return RunResult(run.directory, metrics, problem, held_out, fitted)


def assist_experiment(
    recipe: Recipe, console: Console, model_class: type[GSMFlow], team: Team
) -> None:
    """The part of `run_experiment` that a process does which does not lead its team."""
    run, dataset, _ = _open(recipe, console, model_class, team)
    splits: tuple[Split, ...] = ("validation", "test") if recipe.calibrate else ("test",)
    for split in splits:
        assist(run, training_problem(dataset, split))


def _open(
    recipe: Recipe, console: Console, model_class: type[GSMFlow], team: Team
) -> tuple[Run, Dataset, bool]:
    """The run, what it is run on, and whether it is resumed."""
    device = team.device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    # The first process reads it before the others, which then find it in the cache.
    read: list[Dataset] = []
    team.share_result(lambda: read.append(read_dataset(recipe)))
    dataset = read[0] if read else read_dataset(recipe)
    directory, resumed = team.share_result(lambda: open_run(recipe))
    log = RunLog(directory / ("log.jsonl" if team.leads else f"log-{team.index}.jsonl"))
    run = Run(recipe, model_class, device, precision, team, directory, log, console)
    return run, dataset, resumed


def _choose(
    run: Run, dataset: Dataset
) -> tuple[dict[Criterion, ESZSLChoice], dict[str, Any] | None]:
    """All that is chosen, on validation classes: ESZSL's regularizers, and the penalty if asked."""
    problem, held_out = (
        training_problem(dataset, "validation"),
        open_held_out(dataset, "validation"),
    )
    count = len(problem.unseen_classes)
    run.console.print(f"choosing ESZSL's regularizers on {count} validation classes")
    choices = choose_regularizers(problem, held_out)
    return choices, validate(run, problem, held_out) if run.recipe.calibrate else None


def _report(
    run: Run,
    metrics: dict[str, Any],
    fitted: Fitted,
    curves: Mapping[str, tuple[Outcome, float | None]],
) -> None:
    """Draw the picture, write the metrics (which marks the run as finished), print the table."""
    validation, picture = metrics["validation"], run.directory / "run.png"
    points = [] if validation is None else validation["curve"]
    run_figure(picture, history=fitted.history, curve=points, outcomes=curves)
    run.log.write("metrics", **metrics)
    write_json(run.directory / METRICS_FILE, metrics)
    run.console.print(result_table(metrics))
    run.console.print(f"run directory: {run.directory}", soft_wrap=True)
    run.console.print(f"picture: {picture}", soft_wrap=True)


def _announce(run: Run, dataset: Dataset, resumed: bool) -> None:
    n, d = dataset.features.shape
    environment = {
        **describe_environment(run.device, run.recipe.seed),
        "precision": run.precision,
        "processes": run.team.size,
    }
    write_json(run.directory / "environment.json", environment)
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
    processes = "" if run.team.size == 1 else f", {run.team.size} processes"
    run.console.print(
        f"{verb} {run.directory}, device {run.device}, {run.precision} products{processes}",
        soft_wrap=True,
    )


def _protocol(dataset: Dataset, penalty: float | None) -> str:
    text = "last epoch of generator and classifier; nothing chosen on test"
    if penalty is not None:
        count = len(np.unique(dataset.labels[dataset.val]))
        text += f"; pen.: with a penalty on seen classes chosen on {count} validation classes"
    return text


def _eszsl_measures(
    outcomes: Mapping[Criterion, Outcome], choices: Mapping[Criterion, ESZSLChoice]
) -> dict[str, Any]:
    """ESZSL's row: each figure from the regularizers chosen for it."""
    plain, calibrated = outcomes["H"].calibrated(0.0), outcomes["calibrated_H"]
    measures = Measures(
        T1=outcomes["T1"].t1,
        U=plain.U,
        S=plain.S,
        H=plain.H,
        AUSUC=calibrated.curve().area,
        calibrated=calibrated.calibrated(choices["calibrated_H"].penalty),
    )
    chosen = {criterion: asdict(choice) for criterion, choice in choices.items()}
    return {**asdict(measures), "choices": chosen}


def _oracle(run: Run, fitted: Fitted, held_out: HeldOut) -> Measures:
    """The ceiling of these features: the same classifiers, trained on real unseen rows.

    Half of each unseen class's rows, drawn with a fixed seed, trains; the other half, with all
    test-seen rows, is judged.
    """
    rng = np.random.default_rng(_ORACLE_SEED)
    labels = held_out.unseen.labels
    trains = draw_from_each_class(labels, lambda rows: rows // 2, rng)
    learned, rest = (held_out.unseen.select(np.flatnonzero(own)) for own in (trains, ~trains))
    scaled = fitted.scaled
    unseen = MemoryFeed(
        torch.from_numpy(scaled.scaling(learned.features)).to(run.device),
        torch.from_numpy(learned.labels).to(run.device),
    )
    pair = fit_pair(run, scaled, unseen)
    return judge(pair, scaled.problem, HeldOut(held_out.seen, rest)).measures()
