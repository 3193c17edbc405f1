"""Figures selected on test: the best there is among what was kept, and never among the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gsmflow.data.dataset import HeldOut
from gsmflow.runs import experiment
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.stages import Fitted, Run, fit_classifiers
from tests.builders import tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

# Intervals of two of four epochs, five epochs of the classifier.
SETTINGS: dict[str, Any] = {"curve_every": 2, "test_selected": True, "calibrate": False}


def run(tmp_path: Path, **changes: Any) -> RunResult:
    return run_experiment(Job(tiny_recipe(tmp_path, **changes)), Console(quiet=True))


@pytest.mark.parametrize("streamed", [False, True])
def test_the_best_of_all_candidates_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    seen: list[tuple[float, float]] = []
    select = experiment.select_on_test

    def judge_again(run: Run, fitted: Fitted, held_out: HeldOut) -> dict[str, Any]:
        # The candidates of the last interval by another way: fewer epochs of the classifier are
        # not the same training, so each is judged while it is being trained.
        pairs: dict[str, Any] = {}

        def keep(which: Any, classifier: Any) -> None:
            pairs.setdefault(which, []).append(
                classifier.scores(fitted.scaled.scaling(held_out.unseen.features)).argmax(axis=1)
            )

        fit_classifiers(run, fitted.scaled, fitted.model, on_epoch=keep)
        classes = fitted.scaled.problem.unseen_classes
        for answers in pairs["zsl"]:
            right = classes[answers] == held_out.unseen.labels
            seen.append(np.mean([right[held_out.unseen.labels == c].mean() for c in classes]))
        return select(run, fitted, held_out)

    monkeypatch.setattr(experiment, "select_on_test", judge_again)
    changes = {"samples_per_class": 40_000, "reservoir_mib": 1} if streamed else {}
    if streamed:
        changes |= {"classifier_epochs": 2, "classifier_batch_size": 5000}
    metrics = run(tmp_path, **SETTINGS, **changes).metrics
    told = metrics["test_selected"]
    epochs = changes.get("classifier_epochs", 5)
    assert told["candidates"] == 2 * epochs
    assert told["T1"] >= max(seen)
    if told["T1_at"]["epoch"] == 4:
        assert told["T1"] == pytest.approx(seen[told["T1_at"]["classifier_epoch"] - 1])
    for at in (told["T1_at"], told["H_at"]):
        assert at["epoch"] in (2, 4)
        assert 1 <= at["classifier_epoch"] <= epochs
    assert told["T1"] >= metrics["T1"]
    assert told["H"] >= metrics["H"]
    assert told["H"] == pytest.approx(2 * told["U"] * told["S"] / max(told["U"] + told["S"], 1e-9))


def test_the_last_candidate_is_the_honest_one(tmp_path: Path) -> None:
    settings = SETTINGS | {"curve_every": 4, "classifier_epochs": 1}
    metrics = run(tmp_path, **settings).metrics
    told = metrics["test_selected"]
    assert told["candidates"] == 1
    assert {name: told[name] for name in ("T1", "U", "S", "H")} == {
        name: metrics[name] for name in ("T1", "U", "S", "H")
    }


def test_the_honest_figures_are_those_without_it(tmp_path: Path) -> None:
    plain = run(tmp_path, run="plain", curve_every=2, calibrate=False)
    selected = run(tmp_path, run="selected", **SETTINGS)
    told = dict(selected.metrics)
    del told["test_selected"]
    assert told == plain.metrics
    assert {f.name for f in plain.directory.iterdir()} == {
        f.name for f in selected.directory.iterdir()
    }


def test_candidates_survive_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path, run="whole", **SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate", _fail)
        with pytest.raises(RuntimeError):
            run(tmp_path, run="broken", **SETTINGS)
    resumed = run(tmp_path, run="broken", resume=True, **SETTINGS)
    assert resumed.metrics == whole.metrics


def _fail(*arguments: Any) -> None:
    raise RuntimeError("a stand-in for a crash")
