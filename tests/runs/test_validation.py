"""Gamma over several draws of validation classes, against draws that are validated alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from gsmflow.core.distributed import SINGLE_PROCESS
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import (
    Dataset,
    HeldOut,
    Problem,
    open_held_out,
    redraw_validation,
    training_problem,
)
from gsmflow.evaluation.balance import balance_curve, choose_gamma, fold_curves
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.scorers import direct_scorer
from gsmflow.runs import validation
from gsmflow.runs.directory import RunLog
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.load import load
from gsmflow.runs.stages import Run, choose, model_scorer, scale, train_model
from gsmflow.runs.validation import Validated, further_draws, validate
from tests.builders import make_dataset, small_recipe, tiny_recipe

CPU = torch.device("cpu")
DATASET = check_dataset(make_dataset(classes=14, unseen=3, val=3, noise=1.0))


def make_run(directory: Path, **changes: Any) -> Run:
    directory.mkdir(exist_ok=True)
    recipe = small_recipe(dataset="TINY", **{"validation_draws": 0, **changes})
    model_class = recipe.method_info.model
    log = RunLog(directory / "log.jsonl")
    console = Console(width=300)
    return Run(recipe, model_class, CPU, "fp32", SINGLE_PROCESS, directory, log, console)


def parts(dataset: Dataset) -> tuple[Problem, HeldOut]:
    return training_problem(dataset, "validation"), open_held_out(dataset, "validation")


def validated(run: Run, dataset: Dataset = DATASET) -> Validated:
    problem, held_out = (
        training_problem(dataset, "validation"),
        open_held_out(dataset, "validation"),
    )
    choice = choose(run, problem, held_out)
    return validate(run, problem, held_out, choice, further=further_draws(run, dataset))


@pytest.mark.parametrize(
    ("model", "changes", "draws"),
    [
        ("eszsl", {}, 5),
        ("eszsl", {"validation_draws": 2}, 2),
        ("eszsl", {"balance": "none"}, 1),
        ("ale", {}, 1),
        ("ale", {"validation_draws": 3}, 3),
        ("discriminant", {}, 1),
    ],
)
def test_quick_methods_are_validated_on_several_draws(
    model: str, changes: dict[str, Any], draws: int, tmp_path: Path
) -> None:
    run = make_run(tmp_path, model=model, **changes)
    further = further_draws(run, DATASET)
    assert len(further) == draws - 1
    for number, dataset in enumerate(further, 1):
        expected = redraw_validation(DATASET, number)
        np.testing.assert_array_equal(dataset.val, expected.val)


def test_a_draw_without_seen_rows_to_evaluate_is_left_out(tmp_path: Path) -> None:
    whole = make_dataset(classes=9, unseen=3, val=2)
    first = {c: np.flatnonzero(whole.labels[whole.trainval] == c)[0] for c in range(6)}
    of_two = whole.labels[whole.train[0]]
    second = np.flatnonzero(whole.labels[whole.trainval] == of_two)[1]
    kept = np.sort(whole.trainval[[*first.values(), second]])
    is_val = np.isin(whole.labels[kept], whole.labels[whole.val])
    dataset = replace(whole, trainval=kept, train=kept[~is_val], val=kept[is_val])
    run = make_run(tmp_path, model="eszsl")
    takes_it = [of_two in drawn.labels[drawn.val] for drawn in further_draws(run, dataset)]
    assert 1 <= len(takes_it) < 4
    assert not any(takes_it)


@pytest.mark.parametrize("balance", ["harmonic", "overall"])
def test_gamma_is_that_of_the_draws_evaluated_one_by_one(balance: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", model="ale", validation_draws=3, balance=balance)
    result = validated(run)
    outcomes = []
    for number in range(3):
        dataset = redraw_validation(DATASET, number)
        alone = make_run(tmp_path / f"alone{number}", model="ale", validation_draws=1)
        outcomes.append(outcome_of(alone, dataset))
    problem = training_problem(DATASET, "validation")
    curves = [balance_curve(outcome, problem, run.recipe.balance) for outcome in outcomes]
    folds = fold_curves(outcomes[0], problem, run.recipe.balance)
    expected = choose_gamma(run.recipe.balance, curves, folds)
    assert result.choice == expected
    assert expected.draws == expected.parts == 3
    assert result.gamma == expected.gamma
    assert json.loads((tmp_path / "run" / "validation.json").read_text()) == result.describe()
    assert not (tmp_path / "run" / "validation-draws").exists()
    assert validated(run).choice == expected  # read


def outcome_of(run: Run, dataset: Dataset) -> Outcome:
    """The outcome of a model that is trained on a validation problem, without `validate`."""
    problem, held_out = (
        training_problem(dataset, "validation"),
        open_held_out(dataset, "validation"),
    )
    scaled = scale(run, problem)
    model, _ = train_model(run, scaled, None, validation.Measuring(lambda model, epoch: None))
    classes = problem.seen_classes, problem.unseen_classes
    scorer = direct_scorer(model, scaled.scaling, classes, CPU, bayes=False)
    assert scorer is not None
    assert model_scorer(run, scaled, model) is not None
    return evaluate(scorer, problem, held_out)


def test_a_killed_validation_goes_on_with_the_draws_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = validated(make_run(tmp_path / "whole", model="ale", validation_draws=4))
    trained: list[int] = []
    inner = validation._curve_of_draw

    def killed(run: Run, number: int, *rest: Any) -> Any:
        file = run.directory / "validation-draws" / str(number) / "curve.safetensors"
        trained.extend([] if file.exists() else [number])
        if trained == [1, 2]:
            raise KeyboardInterrupt
        return inner(run, number, *rest)

    monkeypatch.setattr(validation, "_curve_of_draw", killed)
    run = make_run(tmp_path / "killed", model="ale", validation_draws=4)
    with pytest.raises(KeyboardInterrupt):
        validated(run)
    trained.append(-1)
    assert validated(run).describe() == whole.describe()
    assert trained == [1, 2, -1, 2, 3]


def test_a_draw_that_was_killed_after_its_training_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = validated(make_run(tmp_path / "whole", model="ale", validation_draws=2))

    def killed(run: Run, problem: Problem) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # its state is saved, with the last epoch
        patch.setattr(validation, "forget_state", killed)
        with pytest.raises(KeyboardInterrupt):
            validated(make_run(tmp_path / "killed", model="ale", validation_draws=2))
    folder = tmp_path / "killed" / "validation-draws" / "1"
    assert (folder / "validation.state.safetensors").exists()
    (folder / "curve.safetensors").rename(tmp_path / "curve.safetensors")
    with pytest.raises(InputError, match=r"curve\.safetensors: not readable as this run's measure"):
        validated(make_run(tmp_path / "killed", model="ale", validation_draws=2))
    (tmp_path / "curve.safetensors").rename(folder / "curve.safetensors")
    again = validated(make_run(tmp_path / "killed", model="ale", validation_draws=2))
    assert again.describe() == whole.describe()


CURVE = {
    "edges": torch.tensor([-np.inf, 0.5, np.inf], dtype=torch.float64),
    "values": torch.tensor([0.25, 0.5], dtype=torch.float64),
    "plain": torch.tensor(0.25, dtype=torch.float64),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"values": torch.tensor([0.25], dtype=torch.float64)},
        {"values": torch.empty(0, dtype=torch.float64)},
        {"values": torch.tensor([0.25, np.nan], dtype=torch.float64)},
        {"values": torch.tensor([7.0, -9.0], dtype=torch.float64)},
        {"values": torch.tensor([[0.25, 0.5]], dtype=torch.float64)},
        {"edges": torch.tensor([-np.inf, np.nan, np.inf], dtype=torch.float64)},
        {"edges": torch.tensor([-1.0, 0.5, 1.0], dtype=torch.float64)},
        {"plain": torch.tensor([0.25, 0.25], dtype=torch.float64)},
    ],
)
def test_a_damaged_curve_of_a_draw_is_named(
    changes: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = tmp_path / "validation-draws" / "1"
    folder.mkdir(parents=True)
    save_file({**CURVE, **changes}, folder / "curve.safetensors")
    with pytest.raises(InputError, match=r"curve\.safetensors.*a draw of validation classes"):
        validated(make_run(tmp_path, model="ale", validation_draws=2))


@pytest.mark.parametrize("model", ["sae", "eszsl", "gaussian-prototypes"])
def test_settings_that_are_not_readable_are_named(model: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, model=model)
    (tmp_path / "choice.json").write_text('{"T1": {"lam": "0.1"}, "ridge": "x"}')
    with pytest.raises(InputError, match=r"choice\.json: not readable as the settings"):
        validated(run)


@pytest.mark.parametrize("model", ["eszsl", "ale"])
def test_without_a_factor_answers_are_the_plain_ones(model: str, tmp_path: Path) -> None:
    # ESZSL has other scores for calibration than for H.
    recipe = tiny_recipe(tmp_path, model=model, balance="none", beside=())
    result = run_experiment(Job(recipe), Console(quiet=True))
    metrics = result.metrics
    assert metrics["calibrated"] == {"gamma": 0.0, **{k: metrics[k] for k in ("U", "S", "H")}}
    assert metrics["validation"]["balance"]["draws"] == 1
    assert metrics["validation"]["curve"][-1]["gamma"] != 0
    assert "--balance none" in metrics["protocol"]
    run = load(result.directory, device="cpu")
    held_out = result.held_out
    for rows, share in ((held_out.unseen, metrics["U"]), (held_out.seen, metrics["S"])):
        said = run.predict(rows.features)
        names = np.array(result.problem.class_names)[rows.labels]
        right = [np.mean(said[names == name] == name) for name in np.unique(names)]
        assert np.mean(right) == pytest.approx(share)
    shares = run.predict_proba(held_out.unseen.features)
    assert (run.classes_[shares.argmax(axis=1)] == run.predict(held_out.unseen.features)).all()
