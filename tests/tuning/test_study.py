"""Studies on small data: their trials, kills, sharing, the finalists and the recipe file."""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console

from gsmflow.cli import tune as command
from gsmflow.cli.main import main
from gsmflow.cli.tune import TuneOptions, run_tuning
from gsmflow.core.errors import DivergedError, InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import HeldOut, Problem, training_problem
from gsmflow.methods.gsmflow import GSMFlowConfig
from gsmflow.recipes.files import read_recipe_file
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe, setting_value
from gsmflow.runs.executors import Ended, Events, SlurmSettings, Started, Work
from gsmflow.runs.experiment import read_dataset, run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.script import script_recipe
from gsmflow.runs.stages import Run
from gsmflow.runs.validation import Validated
from gsmflow.runs.work import do_work
from gsmflow.tuning import study as study_module
from gsmflow.tuning import summary, worker
from gsmflow.tuning import trial as trial_module
from gsmflow.tuning.space import space_of
from gsmflow.tuning.study import Study, claim, finished_trials, open_study, quiet_optuna
from gsmflow.tuning.trial import StudySetup, open_setup
from gsmflow.tuning.worker import StudyPlan, finalists
from tests.builders import changed, make_dataset, make_recipe, write_gbu

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = f'''"""A small script."""
import sys
sys.path.insert(0, {str(ROOT)!r})
from classifier import SoftmaxConfig
from model import GSMFlow, GSMFlowConfig
from util import Recipe, TrainingConfig, run

class Mine(GSMFlow):
    """A custom model class."""

TINY = Recipe(
    dataset="TINY",
    method=GSMFlowConfig(blocks=1, hidden=8, condition_dim=8, samples_per_class=6),
    training=TrainingConfig(epochs=4, batch_size=16),
    classifier=SoftmaxConfig(epochs=3, batch_size=50),
)
OTHER = Recipe(dataset="TINY", features="vit", method=GSMFlowConfig())

if __name__ == "__main__":
    run({{"res101": TINY, "vit": OTHER}}, Mine)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script and its data."""
    write_gbu(tmp_path / "data" / "TINY", make_dataset())
    (tmp_path / "tiny.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The journal waits for the disk after each line, which matters when the machine's power fails.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with quiet_optuna():
        yield


def flags_of(folder: Path) -> list[str]:
    paths = ["--data", str(folder / "data"), "--out", str(folder / "out")]
    return [*paths, "--device", "cpu", "--precision", "fp32"]


def options_of(folder: Path, **changes: Any) -> TuneOptions:
    settings = {
        "script": folder / "tiny.py",
        "study": folder / "study",
        "class_draws": 1,
        "finalist_seeds": 0,
    }
    return TuneOptions(**settings | changes)


def tune(folder: Path, *flags: str, **changes: Any) -> str:
    """What a study prints; it is in this process."""
    printed = StringIO()
    console = Console(file=printed, width=160)
    run_tuning(options_of(folder, **changes), console, [*flags_of(folder), *flags])
    return printed.getvalue()


def open_tiny(
    folder: Path,
    *flags: str,
    study: str = "study",
    search: tuple[str, ...] = (),
    class_draws: int = 1,
) -> tuple[StudySetup, Study]:
    script, recipe = script_recipe(
        folder / "tiny.py", [*flags_of(folder), *flags], prog="python tiny.py"
    )
    space = space_of(recipe, search)
    setup = open_setup(folder / study, space, script.job(recipe), class_draws)
    return setup, open_study(setup, "H_calibrated")


def trial_facts(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.params, trial.state, trial.value, trial.intermediate_values


def trials_of(folder: Path, study: str = "study", *flags: str) -> list[tuple[Any, ...]]:
    return [
        trial_facts(trial) for trial in finished_trials(open_tiny(folder, *flags, study=study)[1])
    ]


def stand_in(
    monkeypatch: pytest.MonkeyPatch,
    measure: Callable[[Recipe, bool], float],
    seen: list[Recipe] | None = None,
) -> None:
    """Replace trainings by the value that ``measure(recipe, half_way)`` gives."""

    def validate(
        run: Run,
        problem: Problem,
        held_out: HeldOut,
        choice: dict[str, Any] | None,
        on_point: Callable[[Mapping[str, float]], object],
    ) -> Validated:
        curve = []
        if seen is not None:
            seen.append(run.recipe)
        epochs, every = run.recipe.training.total_epochs, run.recipe.curve_every
        for epoch in [e for e in range(1, epochs + 1) if e == epochs or (every and not e % every)]:
            value = measure(run.recipe, epoch < epochs)
            point = dict.fromkeys(("T1", "H", "H_calibrated", "AUSUC"), value) | {"epoch": epoch}
            curve.append(point)
            on_point(point)
        return Validated(gamma=0.0, curve=curve, found={})

    monkeypatch.setattr(trial_module, "validate", validate)
    # Pictures take most of the time.
    monkeypatch.setattr(command, "study_figure", lambda path, study: None)
    monkeypatch.setattr(summary, "_importances", lambda study: {})


def by_chance(recipe: Recipe, half_way: bool) -> float:
    """A figure in [0, 1) that differs between recipes, and between half-way and the end."""
    settings = (recipe.method.pi, recipe.training.learning_rate, recipe.seed, half_way)
    state = abs(hash(settings)) % 2**32
    return float(np.random.default_rng(state).random())


def test_first_trial_is_the_script_recipe_as_a_run_with_its_steps_validates_it(
    folder: Path,
) -> None:
    tune(folder, trials=3)
    _, recipe = script_recipe(folder / "tiny.py", flags_of(folder), prog="")
    setup, study = open_tiny(folder)
    trained = replace(recipe, training=setup.training_of(recipe, 0))
    metrics = run_experiment(Job(trained), Console(quiet=True)).metrics
    first = finished_trials(study)[0]
    point = metrics["validation"]["curve"][-1]
    assert first.value == point["H_calibrated"]
    values = space_of(recipe).values(first.params)
    assert values == {name: setting_value(recipe, name) for name in values}


@pytest.mark.parametrize("class_draw", [0, 1, 2])
def test_trial_has_the_steps_per_seen_class_of_the_final_training(
    folder: Path, class_draw: int
) -> None:
    setup, study = open_tiny(folder, class_draws=3)
    drawn = setup.class_draws[class_draw][0]
    of_draw = statistics.mean(np.bincount(drawn.train.labels)[drawn.seen_classes])
    final = training_problem(read_dataset(study.space.recipe), "test")
    of_final = statistics.mean(np.bincount(final.train.labels)[final.seen_classes])
    assert of_final > of_draw
    for schedule, epochs in (("published", 200), ("fast", 40)):
        recipe = study.space.recipe.replace(schedule=schedule, epochs=200, fast_epochs=40)
        trained = setup.training_of(recipe, class_draw).total_epochs
        # Within half an epoch, to which it is rounded.
        assert abs(trained * of_draw - epochs * of_final) <= of_draw / 2


@pytest.mark.parametrize("objective", ["H", "T1", "AUSUC"])
def test_every_objective_is_read_from_the_validation_curve(folder: Path, objective: Any) -> None:
    tune(folder, trials=1, objective=objective)
    (directory,) = (folder / "study" / "trials").iterdir()
    curve = json.loads((directory / "validation.json").read_text())["curve"]
    assert [point["epoch"] for point in curve] == [3, 5]
    assert (
        f'"values":[{json.dumps(curve[-1][objective])}]'
        in (folder / "study" / "study.log").read_text()
    )


def test_study_leaves_its_files_and_no_training_states(folder: Path) -> None:
    text = tune(folder, trials=8, finalists=2, finalist_seeds=1)
    study = folder / "study"
    written = {path.name for path in study.iterdir()}
    assert written >= {"study.log", "study.png", "recipe.json", "trials"}
    assert (study / "study.png").read_bytes().startswith(b"\x89PNG")
    assert not list(study.rglob("*.safetensors"))
    assert not list(study.rglob("*.part"))
    for number in range(1, 9):
        assert f", {number} of 8: " in text
    assert "validating " in text
    assert "the recipe as it is" in text
    for name in space_of(make_recipe(dataset="TINY")).dimensions:
        assert name in text


def test_trial_value_is_the_mean_over_the_class_draws(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen: list[tuple[int, ...]] = []

    def by_classes(problem: Problem) -> float:
        return float(np.mean(problem.unseen_classes)) / len(problem.semantics)

    def validate(
        run: Run, problem: Problem, held_out: HeldOut, choice: object, on_point: object
    ) -> Validated:
        assert set(held_out.unseen.labels) == set(problem.unseen_classes)
        assert not np.isin(problem.unseen_classes, problem.train.labels).any()
        unseen.append(tuple(problem.unseen_classes))
        value = by_classes(problem)
        point = dict.fromkeys(("T1", "H", "H_calibrated", "AUSUC"), value) | {"epoch": 4}
        return Validated(gamma=0.0, curve=[point], found={})

    monkeypatch.setattr(trial_module, "validate", validate)
    tune(folder, trials=2, class_draws=3, finalists=2, finalist_seeds=1)
    setup, study = open_tiny(folder, class_draws=3)
    problems = [problem for problem, _ in setup.class_draws]
    mean = statistics.fmean(map(by_classes, problems))
    assert [trial.value for trial in finished_trials(study)] == [mean, mean]
    assert unseen[:3] == [tuple(problem.unseen_classes) for problem in problems]
    assert len(set(unseen)) == 3
    assert len(unseen) == 2 * 3 * 2  # trials and finalists, draws, seeds
    stored = read_recipe_file(folder / "study" / "recipe.json")
    assert stored.chosen["class_draws"] == 3
    assert stored.chosen["measures"]["H"] == [mean, mean]


def test_trial_below_the_median_stops_before_the_next_class_draw(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, lambda recipe, half_way: 0.5 if half_way else by_chance(recipe, False))
    tune(folder, trials=30, class_draws=3)
    complete: list[float] = []
    pruned = 0
    for trial in finished_trials(open_tiny(folder, class_draws=3)[1]):
        assert trial.value is not None
        # What does not depend on the classes has the same figure on all draws.
        below = len(complete) >= 5 and trial.value < statistics.median(complete)
        assert (trial.state == TrialState.PRUNED) == below
        assert max(trial.intermediate_values) == (2 if below else 3)
        pruned += below
        if not below:
            complete.append(trial.value)
    assert pruned


def test_terminal_shows_a_progress_bar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, by_chance)
    printed = StringIO()
    console = Console(file=printed, width=160, force_terminal=True, color_system=None)
    run_tuning(options_of(folder, trials=3), console, flags_of(folder))
    text = printed.getvalue()
    assert "search: 3 of 3 trials" in text
    assert "finalists" in text


def test_printed_command_reproduces_the_winning_recipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    flags = ["--pi", "0.2", "--blocks", "2", "--no-cache", "--seed", "3", "--anchors", "all"]
    text = tune(folder, *flags, trials=12, search=("pi", "learning_rate"))
    _, study = open_tiny(folder, *flags, search=("pi", "learning_rate"))
    best = max(finished_trials(study), key=lambda t: (t.state == TrialState.COMPLETE, t.value))
    words = shlex.split(text.splitlines()[-1])
    assert words[:2] == ["python", str(folder / "tiny.py")]
    for given in ("--pi", "--blocks", "--anchors", "--run", "--resume"):
        assert given not in words
    script, base = script_recipe(folder / "tiny.py", [*flags_of(folder), *flags], prog="")
    recipe = parse_recipe(script.recipes, words[2:], prog="", description="")
    file = str(folder / "study" / "recipe.json")
    assert recipe == base.replace(recipe=file, **study.space.values(best.params))
    stored = read_recipe_file(Path(file))
    assert stored.settings.keys() == {"pi", "learning_rate", "blocks", "anchors"}
    assert (stored.dataset, stored.features, stored.semantics) == ("TINY", "res101", "att")
    assert stored.chosen["trials"] == 12
    assert stored.chosen["values"] == study.space.values(best.params)


def test_printed_command_names_other_features_than_the_scripts_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    (folder / "data" / "TINY" / "res101.mat").rename(folder / "data" / "TINY" / "vit.mat")
    text = tune(folder, "--features", "vit", trials=2)
    script, base = script_recipe(
        folder / "tiny.py", [*flags_of(folder), "--features", "vit"], prog=""
    )
    words = shlex.split(text.splitlines()[-1])[2:]
    recipe = parse_recipe(script.recipes, words, prog="", description="")
    assert recipe.features == "vit"
    assert recipe.method == base.method == GSMFlowConfig()


def test_trials_below_the_median_half_way_are_pruned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=40)
    complete = pruned = 0
    halves: list[float] = []
    for _, state, value, points in trials_of(folder):
        half = list(points.values())  # none where there is one epoch
        below = complete >= 5 and half != [] and half[0] < statistics.median(halves)
        assert (state == TrialState.PRUNED) == below
        assert ([value] == half) == below
        pruned += below
        if state == TrialState.COMPLETE:
            complete += 1
            halves += half
    assert 0 < pruned < 35


def test_every_categorical_choice_is_tried_alone_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=14)
    _, study = open_tiny(folder)
    recipe_params, trials = study.space.recipe_params, finished_trials(study)
    alone = {
        (name, choice)
        for name, distribution in study.space.distributions.items()
        if isinstance(distribution, CategoricalDistribution)
        for choice in distribution.choices
        if choice != recipe_params[name]
    }
    assert ("relative_positioning", False) in alone
    assert trials[0].params == recipe_params
    changes = [
        [(name, value) for name, value in trial.params.items() if value != recipe_params[name]]
        for trial in trials[1 : len(alone) + 1]
    ]
    assert all(len(one) == 1 for one in changes)
    assert {one[0] for one in changes} == alone
    further = trials[len(alone) + 1 :]
    assert any(len([n for n in t.params if t.params[n] != recipe_params[n]]) > 1 for t in further)


def test_trial_changes_some_settings_of_the_best_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, lambda recipe, half_way: recipe.method.pi)
    tune(folder, trials=40)
    trials = finished_trials(open_tiny(folder)[1])
    changed = []
    for number, trial in enumerate(trials[10:], start=10):  # each switch was tried before
        done = [t for t in trials[:number] if t.state == TrialState.COMPLETE]
        best = max(done, key=lambda t: t.value or 0.0)
        changed.append([n for n, value in trial.params.items() if value != best.params[n]])
    settings = len(trials[0].params)
    assert max(map(len, changed)) < settings
    assert 0.15 * settings < statistics.mean(map(len, changed)) < 0.5 * settings
    assert len({name for names in changed for name in names}) >= settings - 2


def test_script_recipe_is_never_pruned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_rate = 3e-4  # the learning rate of the script

    def script_rate_is_worst(recipe: Recipe, half_way: bool) -> float:
        return 0.0 if recipe.training.learning_rate == script_rate else by_chance(recipe, half_way)

    stand_in(monkeypatch, script_rate_is_worst)
    setup, study = open_tiny(folder)
    claimed = [claim(study, 9) for _ in range(9)]
    for trial in reversed(claimed):  # its process is the slowest
        assert trial is not None
        worker._run_trial(setup, study, trial)
    first = study.study.trials[0]
    assert (first.params, first.state) == (study.space.recipe_params, TrialState.COMPLETE)


def test_pruned_trial_stops_half_way_and_leaves_no_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.runs.stages._SAVE_EVERY_SECONDS", 0)
    tune(folder, trials=25, search=("learning_rate", "classifier_lr"))
    _, study = open_tiny(folder, search=("learning_rate", "classifier_lr"))
    pruned = [t for t in finished_trials(study) if t.state == TrialState.PRUNED]
    assert pruned
    setup, _ = open_tiny(folder, search=("learning_rate", "classifier_lr"))
    for trial in pruned:
        directory = setup.directory(study.space.apply(trial.params), 0)
        events = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
        assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2, 3]
        assert not list(directory.glob("*.safetensors"))
        assert not (directory / "validation.json").exists()


def test_trial_that_diverges_does_not_end_the_study(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def often(recipe: Recipe, half_way: bool) -> float:
        value = by_chance(recipe, half_way)
        if recipe.training.learning_rate != 3e-4 and value < 0.3:
            raise DivergedError("training diverged")
        return value

    stand_in(monkeypatch, often)
    text = tune(folder, trials=20)
    found = finished_trials(open_tiny(folder)[1])
    diverged = [trial for trial in found if trial.user_attrs.get("diverged")]
    assert len(found) == 20
    assert diverged
    assert all(trial.state == TrialState.PRUNED for trial in diverged)
    assert len({json.dumps(trial.params) for trial in found}) == 20
    assert text.count(": diverged, ") == len(diverged)


def test_study_in_which_every_training_diverges_is_an_input_error(folder: Path) -> None:
    with pytest.raises(InputError, match=r"study: found no trial whose training stays finite"):
        tune(folder, "--learning-rate", "1e30", trials=2)


def test_best_finalist_over_the_seeds_is_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[Recipe] = []
    stand_in(monkeypatch, by_chance, recipes)
    tune(folder, trials=15, finalists=3, finalist_seeds=2)
    _, study = open_tiny(folder)
    complete = [t for t in finished_trials(study) if t.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda t: -t.value)[:3]  # type: ignore[operator]
    chosen = {t.number: t for t in [*best, complete[0]]}
    means = {
        number: statistics.fmean(
            by_chance(replace(study.space.apply(t.params), seed=seed), False) for seed in range(3)
        )
        for number, t in chosen.items()
    }
    stored = read_recipe_file(folder / "study" / "recipe.json")
    assert stored.chosen["trial"] == max(means, key=lambda number: means[number])
    assert stored.chosen["seeds"] == [0, 1, 2]
    assert statistics.fmean(stored.chosen["measures"]["H_calibrated"]) == max(means.values())
    assert sorted(recipe.seed for recipe in recipes[15:]) == sorted([1, 2] * len(chosen))
    again = len(recipes)
    tune(folder, trials=15, finalists=3, finalist_seeds=2)
    assert len(recipes) == again


def test_script_recipe_is_a_finalist_beside_the_best(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=12, finalists=2)
    _, study = open_tiny(folder)
    for count in (1, 2, 12):
        found = finalists(study, StudyPlan(12, count, 0, 0.0))
        assert sum(finalist.is_script_recipe for finalist in found) == 1
        assert len({json.dumps(finalist.trial.params) for finalist in found}) == len(found)
        assert len(found) <= count + 1


def test_diverging_finalist_counts_as_zero(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_other_seeds(recipe: Recipe, half_way: bool) -> float:
        if recipe.seed == 1 and recipe.training.learning_rate != 3e-4:
            raise DivergedError("training diverged")
        return 0.5 if recipe.training.learning_rate == 3e-4 else 0.6

    stand_in(monkeypatch, with_other_seeds)
    tune(folder, trials=3, finalist_seeds=1)
    chosen = read_recipe_file(folder / "study" / "recipe.json").chosen
    assert chosen["trial"] == 0
    assert chosen["measures"]["H"] == [0.5, 0.5]


def test_study_does_not_depend_on_test_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[str] = []
    for name in ("open_held_out", "training_problem"):
        inner = getattr(trial_module, name)

        def watch(dataset: Any, split: Any, inner: Any = inner) -> Any:
            splits.append(split)
            return inner(dataset, split)

        monkeypatch.setattr(trial_module, name, watch)
    tune(folder, trials=12, finalist_seeds=1)
    assert set(splits) == {"validation"}

    clean = check_dataset(make_dataset())
    garbage = clean.features.copy()
    test = np.concatenate([clean.test_seen, clean.test_unseen])
    garbage[test] = 1000 * np.random.default_rng(1).normal(size=(len(test), garbage.shape[1]))
    corrupt = folder / "corrupt"
    write_gbu(corrupt / "data" / "TINY", replace(make_dataset(), features=garbage))
    (corrupt / "tiny.py").write_text(SCRIPT)
    tune(corrupt, trials=12, finalist_seeds=1)
    assert trials_of(corrupt) == trials_of(folder)
    files = [read_recipe_file(where / "study" / "recipe.json") for where in (folder, corrupt)]
    assert files[0].settings == files[1].settings
    assert files[0].chosen["measures"] == files[1].chosen["measures"]


def test_continued_study_equals_an_uninterrupted_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=25, study=folder / "whole")
    for trials in (1, 2, 3, 9, 14, 25):
        text = tune(folder, trials=trials)
        assert f"trial {trials - 1}, {trials} of {trials}: " in text
    assert "14 of 25 trials finished" in text
    assert trials_of(folder) == trials_of(folder, "whole")


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, RuntimeError])
def test_interrupted_trial_is_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=15, study=folder / "whole")
    for calls in (1, 3, 6):
        left = [calls]

        def fails(recipe: Recipe, half_way: bool, left: list[int] = left) -> float:
            left[0] -= not half_way
            if left[0] == 0:
                raise error
            return by_chance(recipe, half_way)

        with monkeypatch.context() as patch:
            stand_in(patch, fails)
            with pytest.raises(error):
                tune(folder, trials=15)
    tune(folder, trials=15)
    assert trials_of(folder) == trials_of(folder, "whole")


def test_interrupted_training_continues_from_its_saved_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.runs.stages._SAVE_EVERY_SECONDS", 0)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "report", interrupt)  # at epoch 3, before that is saved
        with pytest.raises(KeyboardInterrupt):
            tune(folder, trials=1)
    tune(folder, trials=1)
    (log,) = (folder / "study").glob("trials/*/log.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2, 3, 3, 4, 5]


def test_only_trials_of_dead_processes_are_claimed_again(
    folder: Path,
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    start = psutil.Process(process.pid).create_time()
    process.wait()
    _, study = open_tiny(folder)
    mine, dead, reused, unknown = (claim(study, 9) for _ in range(4))
    assert mine is not None
    assert dead is not None
    assert reused is not None
    assert unknown is not None
    node = mine.user_attrs["process"][0]
    dead.set_user_attr("process", [node, process.pid, start])
    reused.set_user_attr("process", [node, os.getpid(), start - 1000])
    unknown.set_user_attr("process", None)
    found = [claim(study, 9) for _ in range(3)]
    assert [trial.params for trial in found if trial] == [
        trial.params for trial in (dead, reused, unknown)
    ]
    states = [trial.state for trial in study.study.trials[:4]]
    assert states == [TrialState.RUNNING, *[TrialState.FAIL] * 3]


def test_trial_of_another_machine_is_not_claimed(folder: Path) -> None:
    _, study = open_tiny(folder)
    other = claim(study, 2)
    assert other is not None
    other.set_user_attr("process", ["another machine", 1, 0.0])
    assert claim(study, 2) is not None
    assert claim(study, 2) is None


def test_no_more_trials_are_claimed_than_asked_for(folder: Path) -> None:
    _, study = open_tiny(folder)
    assert claim(study, 2) is not None
    assert claim(study, 2) is not None
    assert claim(study, 2) is None
    assert claim(open_tiny(folder)[1], 2) is None
    assert claim(study, 3) is not None


def test_unfinished_line_of_a_killed_process_is_dropped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=4)
    journal = folder / "study" / "study.log"
    for torn in (b'{"op_code":', b"{", b"x" * 9999):
        before = trials_of(folder)
        journal.write_bytes(journal.read_bytes() + torn)
        tune(folder, trials=len(before) + 1)
        assert trials_of(folder)[: len(before)] == before
    tune(folder, trials=7, study=folder / "whole")
    assert trials_of(folder) == trials_of(folder, "whole")


@pytest.mark.parametrize(
    ("flags", "changes", "message"),
    [
        (
            ["--pi", "0.2"],
            {},
            "field 'recipe.method.pi': found 0.05, expected 0.2 as asked",
        ),
        (["--blocks", "2"], {}, "field 'recipe.method.blocks': found 1, expected 2"),
        (["--seed", "2"], {}, "field 'recipe.seed': found 0, expected 2"),
        (["--precision", "bf16"], {}, "field 'precision': found 'fp32', expected 'bf16'"),
        ([], {"objective": "T1"}, "field 'objective': found 'H_calibrated', expected 'T1'"),
        ([], {"search": ("pi",)}, "field 'search': found 'epochs, .*', expected 'pi'"),
        (["--features", "vit"], {}, "field 'features': found 'res101', expected 'vit'"),
    ],
)
def test_study_with_other_settings_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    stand_in(monkeypatch, by_chance)
    write_gbu(folder / "data" / "TINY", make_dataset())
    (folder / "data" / "TINY" / "vit.mat").write_bytes(
        (folder / "data" / "TINY" / "res101.mat").read_bytes()
    )
    tune(folder, trials=2)
    before = (folder / "study" / "study.log").read_bytes()
    with pytest.raises(InputError, match=rf"study\.log, {message}"):
        tune(folder, *flags, trials=3, **changes)
    assert (folder / "study" / "study.log").read_bytes() == before


def test_study_of_other_data_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=2)
    write_gbu(folder / "data" / "TINY", make_dataset(seed=1))
    with pytest.raises(InputError, match=r"study\.log, field 'data_digest': found '.*', expected"):
        tune(folder, trials=3)


def test_study_continues_with_data_in_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=2)
    (folder / "data").rename(folder / "elsewhere")
    tune(
        folder,
        "--data",
        str(folder / "elsewhere"),
        "--no-cache",
        "--oracle",
        "--seeds",
        "2",
        trials=3,
    )
    assert len(trials_of(folder, "study", "--data", str(folder / "elsewhere"))) == 3


@pytest.mark.parametrize("content", [b"hello\nworld\n", b"[]\n[]\n", b'{"op_code": 99}\n'])
def test_damaged_study_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "study").mkdir()
    (folder / "study" / "study.log").write_bytes(content)
    with pytest.raises(InputError, match=r"study\.log: not readable as a study"):
        tune(folder, trials=1)


def test_foreign_file_without_a_line_is_refused_and_kept(folder: Path) -> None:
    (folder / "study").mkdir()
    (folder / "study" / "study.log").write_bytes(b"my notes of today")
    with pytest.raises(InputError, match=r"study\.log: found something else"):
        tune(folder, trials=1)
    assert (folder / "study" / "study.log").read_bytes() == b"my notes of today"


def test_study_folder_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "study").touch()
    with pytest.raises(
        InputError, match=r"--study: found .*study, which cannot be written .*, expected a folder"
    ):
        tune(folder, trials=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "--trials: found 0, expected a number of at least 1"),
        ({"class_draws": 0}, "--class-draws: found 0, expected a number of at least 1"),
        ({"finalists": 0}, "--finalists: found 0, expected a number of at least 1"),
        ({"finalist_seeds": -1}, "--finalist-seeds: found -1, expected a number of at least 0"),
        ({"minutes": 0.0}, "--minutes: found 0.0, expected a number above 0"),
        ({"minutes": float("nan")}, "--minutes: found nan"),
        ({"search": ("pie",)}, "--search: found 'pie', expected one or more of epochs,"),
        ({"script": Path("nowhere.py")}, "nowhere.py: no such file"),
    ],
)
def test_bad_options_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        tune(folder, **changes)
    assert str(caught.value).startswith(message)
    assert not (folder / "study").exists()


def test_several_devices_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="--devices: found 2 with --nodes 1, expected 1 and 1"):
        tune(folder, "--devices", "2")


def test_time_limit_ends_the_search_and_not_the_finalists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    for finished in (1, 1):  # there must be one; a second call finds it
        tune(folder, trials=50, minutes=1e-9, finalist_seeds=2)
        assert len(trials_of(folder)) == finished
    assert read_recipe_file(folder / "study" / "recipe.json").chosen["seeds"] == [0, 1, 2]


def test_no_flag_of_the_command_is_a_flag_of_a_recipe() -> None:
    ours = {field.name for field in fields(TuneOptions)}
    assert not ours & {field.name for field in fields(Recipe)}


def test_default_study_folder_is_beside_the_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    tune(folder, trials=1, study=None)
    assert (folder / "out" / "TINY" / "tune-res101-att" / "recipe.json").exists()
    # It is no run to be resumed.
    _, recipe = script_recipe(folder / "tiny.py", [*flags_of(folder), "--resume"], prog="")
    result = run_experiment(Job(changed(recipe, calibrate=False)), Console(quiet=True))
    assert result.directory.name != "tune-res101-att"


def test_exit_codes_of_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, by_chance)
    words = ["tune", str(folder / "tiny.py"), "--study", str(folder / "study"), *flags_of(folder)]
    main([*words, "--trials", "2", "--finalist-seeds", "0", "--pi", "0.125", "--search", "pi"])
    assert "searching pi by H_calibrated on 2 validation classes" in capsys.readouterr().out
    for wrong, code in (
        (["--trials", "0"], 2),
        (["--trials", "two"], 2),
        (["--pi", "much"], 2),
        (["--nope"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*words, *wrong])
        assert ended.value.code == code
        assert wrong[0] in capsys.readouterr().err

    def interrupted(recipe: Recipe, half_way: bool) -> float:
        raise KeyboardInterrupt

    stand_in(monkeypatch, interrupted)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--trials", "3", "--pi", "0.125", "--search", "pi"])
    assert ended.value.code == 130
    assert "interrupted; this continues it: " in capsys.readouterr().err


def test_help_mentions_the_flags_of_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "the script's own flags" in text
    assert "python -m gsmflow train SCRIPT|DATASET --help" in text


# What follows are real processes, all forked by one that has imported everything. Each has one
# thread: another count rounds otherwise.
DRIVER = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from rich.console import Console
from gsmflow.cli import tune as command
from gsmflow.cli.tune import TuneOptions, run_tuning
from gsmflow.runs import stages
stages._SAVE_EVERY_SECONDS = 0
command.study_figure = lambda path, study: None
for line in sys.stdin:
    folder, study, trials, *flags = line.split()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        options = TuneOptions(
            script=Path("tiny.py"), study=Path(study), trials=int(trials), finalists=1,
            finalist_seeds=1, class_draws=1,
        )
        run_tuning(options, Console(file=open(os.devnull, "w")), flags)
        os._exit(0)
    print(child, flush=True)
"""


@pytest.fixture(scope="module")
def forking_process() -> Iterator[subprocess.Popen[str]]:
    """The process that forks those of the studies."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin
    assert process.stdout
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture
def driver(
    folder: Path, forking_process: subprocess.Popen[str]
) -> Iterator[Callable[..., psutil.Process]]:
    """What starts a process of a study of so many trials; the test ends all of them."""
    started: list[psutil.Process] = []

    def start(study: str, trials: int, workers: int = 1) -> psutil.Process:
        assert forking_process.stdin
        assert forking_process.stdout
        flags = " ".join([*flags_of(folder), "--epochs", "12", "--workers", str(workers)])
        forking_process.stdin.write(f"{folder} {study} {trials} {flags}\n")
        forking_process.stdin.flush()
        started.append(psutil.Process(int(forking_process.stdout.readline())))
        return started[-1]

    yield start
    for process in started:
        if is_running(process):
            process.kill()


def is_running(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def lines_below(folder: Path) -> int:
    files = [*folder.glob("study.log"), *folder.glob("trials/*/log.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files)


def test_killed_study_has_the_trials_of_an_undisturbed_one(
    folder: Path, driver: Callable[..., psutil.Process]
) -> None:
    trials = 12  # some of them are proposed from earlier trials
    whole = driver("whole", trials)
    while is_running(whole):
        time.sleep(0.02)
    kills = lines = 0
    for _ in range(40):
        process = driver("study", trials)
        while is_running(process):
            time.sleep(0.004)
            count = lines_below(folder / "study")
            if count > lines + 97:  # some work was done since the last kill
                process.kill()
                kills, lines = kills + 1, count
                break
        else:
            break
        while is_running(process):
            time.sleep(0.004)
    assert kills >= 3
    flags = ("--epochs", "12")
    found = trials_of(folder, "study", *flags)
    assert len(found) == trials
    assert found == trials_of(folder, "whole", *flags)
    first, second = (
        json.loads((folder / name / "recipe.json").read_text()) for name in ("whole", "study")
    )
    for stored in (first, second):  # a killed trial's number is not taken again
        del stored["chosen"]["study"], stored["chosen"]["trial"]
    assert first == second


def test_two_processes_at_once_share_a_study(
    folder: Path, driver: Callable[..., psutil.Process]
) -> None:
    processes = [driver("study", 16), driver("study", 16)]
    while any(is_running(process) for process in processes):
        time.sleep(0.02)
    _, study = open_tiny(folder, "--epochs", "12")
    found = study.study.trials
    assert len(found) == 16
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in found)
    assert len({json.dumps(trial.params, sort_keys=True) for trial in found}) == 16
    assert found[0].params == study.space.recipe_params
    owners = {trial.user_attrs["process"][1] for trial in found}
    assert owners == {process.pid for process in processes}
    assert (folder / "study" / "recipe.json").exists()


def test_after_a_kill_the_other_process_finishes_all_trials(
    folder: Path, driver: Callable[..., psutil.Process]
) -> None:
    first, second = driver("study", 14), driver("study", 14)
    while lines_below(folder / "study") < 150:
        time.sleep(0.004)
    first.kill()
    while is_running(second):
        time.sleep(0.02)
    _, study = open_tiny(folder, "--epochs", "12")
    assert len(finished_trials(study)) == 14
    assert not [t for t in study.study.trials if t.state == TrialState.RUNNING]


def test_workers_of_one_command_share_a_study(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Slow for the workers' imports, as the next one.
    text = tune(folder, "--workers", "2", trials=6, finalist_seeds=1)
    assert ", 6 of 6: " in text
    assert len(trials_of(folder)) == 6
    owners = {t.user_attrs["process"][1] for t in finished_trials(open_tiny(folder)[1])}
    assert os.getpid() not in owners
    assert not capfd.readouterr().err


def test_workers_end_when_their_command_is_killed(
    folder: Path, driver: Callable[..., psutil.Process]
) -> None:
    process = driver("study", 100_000, workers=2)
    while lines_below(folder / "study") < 60:
        time.sleep(0.05)
    workers = process.children(recursive=True)
    assert workers
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def in_this_process(works: Sequence[Work], settings: Any, into: Path) -> Events:
    """As jobs of a cluster, one after the other."""
    assert settings == SlurmSettings(minutes=30, parallel=2)
    for work in works:
        yield Started(work.name)
        yield Ended(work.name, do_work(work, into))


def test_jobs_of_a_cluster_run_the_trials_of_one_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("--epochs", "1", "--no-calibrate")
    tune(folder, *small, trials=2, finalists=1, study=folder / "alone")
    monkeypatch.setattr(command, "execute", in_this_process)
    flags = ("--executor", "slurm", "--workers", "2", "--job-minutes", "30")
    text = tune(folder, *small, *flags, trials=2, finalists=1)
    assert "workers on SLURM: 2" in text
    alone, jobs = (read_recipe_file(folder / name / "recipe.json") for name in ("alone", "study"))
    assert jobs.settings == alone.settings
    lists = [(folder / name / "trials").iterdir() for name in ("alone", "study")]
    assert len({frozenset(trial.name for trial in trials) for trials in lists}) == 1


def test_device_of_the_jobs_need_not_be_here(folder: Path) -> None:
    """The waiting process has no GPU; whoever trains must have the study's device."""
    open_tiny(folder)
    flags = [*flags_of(folder), "--device", "cuda:7"]
    script, recipe = script_recipe(folder / "tiny.py", flags, prog="python tiny.py")
    setup = open_setup(folder / "study", space_of(recipe, ()), script.job(recipe), 1, trains=False)
    elsewhere = replace(setup, precision="bf16")
    assert not finished_trials(open_study(elsewhere, "H_calibrated"))
    with pytest.raises(InputError, match="field 'precision'"):
        open_study(replace(elsewhere, trains=True), "H_calibrated")


def test_jobs_that_all_fail_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(works: Sequence[Work], settings: Any, into: Path) -> Events:
        yield Ended("worker0", "its job ended without a result")

    monkeypatch.setattr(command, "execute", failing)
    with pytest.raises(InputError, match=r"worker0: its job ended.*same command goes on"):
        tune(folder, "--executor", "slurm", trials=1)


@pytest.mark.parametrize(
    ("ours", "lost", "released"),
    [
        (None, set(), False),
        (None, {"7_0"}, True),
        (("7_0", 1), set(), True),  # the same job, begun again on another machine
        (("7_0", 0), set(), False),
        (("7_1", 1), set(), False),
    ],
)
def test_trial_of_a_job_that_ended_elsewhere_is_claimed_again(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ours: tuple[str, int] | None,
    lost: set[str],
    released: bool,
) -> None:
    _, study = open_tiny(folder)
    monkeypatch.setattr(study_module, "this_job", lambda: ("7_0", 0))
    first = claim(study, 5)
    assert first is not None
    first.set_user_attr("process", ["another machine", 1, 0.0])
    monkeypatch.setattr(study_module, "this_job", lambda: ours)
    monkeypatch.setattr(study.queue, "ask", lambda jobs: None)
    study.queue.lost |= lost
    second = claim(study, 5)
    assert second is not None
    assert (second.params == first.params) is released
    states = [trial.state for trial in study.study.trials[:1]]
    assert states == [TrialState.FAIL if released else TrialState.RUNNING]


@pytest.mark.slurm
def test_jobs_of_a_real_cluster_share_a_study(folder: Path) -> None:
    flags = ("--executor", "slurm", "--workers", "2", "--job-minutes", "20")
    tune(folder, *flags, trials=4, finalists=1)
    assert len(trials_of(folder)) == 4
    trials = finished_trials(open_tiny(folder)[1])
    assert {trial.user_attrs["slurm_job"][1] for trial in trials} == {0}
    assert (folder / "study" / "recipe.json").exists()
