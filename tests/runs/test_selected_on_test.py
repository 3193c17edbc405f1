"""Figures selected on test: the best of the candidates, and no effect on other figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from gsmflow.data.dataset import HeldOut
from gsmflow.runs import experiment, selected_on_test
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.stages import Fitted, Run, fit_classifiers
from tests.builders import tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

# Intervals of two of four epochs, five epochs of the classifier.
SETTINGS: dict[str, Any] = {"curve_every": 2, "test_selected": True}


def run(folder: Path, **changes: Any) -> RunResult:
    recipe = tiny_recipe(folder, calibrate=False, beside=(), **changes)
    return run_experiment(Job(recipe), Console(quiet=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def selected(folder: Path) -> RunResult:
    return run(folder, run="selected", **SETTINGS)


@pytest.mark.parametrize("zsl_epochs", [2, 7])
def test_classifier_with_fewer_epochs_stays_at_its_last(tmp_path: Path, zsl_epochs: int) -> None:
    best = run(tmp_path, **SETTINGS, classifier_zsl_epochs=zsl_epochs).metrics["test_selected"]
    assert best["candidates"] == 2 * max(5, zsl_epochs)
    assert best["T1_at"]["classifier_epoch"] <= zsl_epochs
    assert best["H_at"]["classifier_epoch"] <= 5


@pytest.mark.parametrize("streamed", [False, True])
def test_best_of_all_candidates_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    accuracies: list[float] = []
    select = selected_on_test.select_on_test

    def evaluate_again(run: Run, fitted: Fitted, held_out: HeldOut) -> dict[str, Any]:
        # The candidates of the last interval in another way: fewer epochs of the classifier are
        # not the same training, so each is evaluated while it is being trained.
        answers: dict[str, list[NDArray[Any]]] = {}

        def keep(which: Any, classifier: Any) -> None:
            answers.setdefault(which, []).append(
                classifier.scores(fitted.scaled.scaling(held_out.unseen.features)).argmax(axis=1)
            )

        fit_classifiers(run, fitted.scaled, fitted.model, on_epoch=keep)
        classes = fitted.scaled.problem.unseen_classes
        for zsl in answers["zsl"]:
            right = classes[zsl] == held_out.unseen.labels
            accuracies.append(np.mean([right[held_out.unseen.labels == c].mean() for c in classes]))
        return select(run, fitted, held_out)

    monkeypatch.setattr(selected_on_test, "select_on_test", evaluate_again)
    changes = {"samples_per_class": 40_000, "reservoir_mib": 1} if streamed else {}
    if streamed:
        changes |= {"classifier_epochs": 2, "classifier_batch_size": 5000}
    metrics = run(tmp_path, **SETTINGS, **changes).metrics
    best = metrics["test_selected"]
    epochs = changes.get("classifier_epochs", 5)
    assert len(accuracies) == epochs
    assert best["candidates"] == 2 * epochs
    assert best["T1"] >= max(accuracies)
    if best["T1_at"]["epoch"] == 4:
        assert best["T1"] == pytest.approx(accuracies[best["T1_at"]["classifier_epoch"] - 1])
    for at in (best["T1_at"], best["H_at"]):
        assert at["epoch"] in (2, 4)
        assert 1 <= at["classifier_epoch"] <= epochs
    assert best["T1"] >= metrics["T1"]
    assert best["H"] >= metrics["H"]
    assert best["H"] == pytest.approx(2 * best["U"] * best["S"] / max(best["U"] + best["S"], 1e-9))


def test_single_candidate_has_the_figures_of_the_run(folder: Path) -> None:
    settings = SETTINGS | {"curve_every": 4, "classifier_epochs": 1}
    metrics = run(folder, run="single", **settings).metrics
    best = metrics["test_selected"]
    assert best["candidates"] == 1
    assert {name: best[name] for name in ("T1", "U", "S", "H")} == {
        name: metrics[name] for name in ("T1", "U", "S", "H")
    }


def test_selection_on_test_does_not_change_other_figures(folder: Path, selected: RunResult) -> None:
    plain = run(folder, run="plain", curve_every=2)
    others = dict(selected.metrics)
    del others["test_selected"]
    assert others == plain.metrics
    assert {f.name for f in plain.directory.iterdir()} == {
        f.name for f in selected.directory.iterdir()
    }


def test_candidates_are_resumed_after_a_crash(
    folder: Path, selected: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate", _fail)
        with pytest.raises(RuntimeError):
            run(folder, run="broken", **SETTINGS)
    resumed = run(folder, run="broken", resume=True, **SETTINGS)
    assert resumed.metrics == selected.metrics


def _fail(*arguments: Any) -> None:
    raise RuntimeError("a stand-in for a crash")
