"""A run's rule for rows unlike all classes: from held-out rows alone, in a file that is kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, open_held_out, training_problem
from gsmflow.methods.novelty import fit_novelty
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.novelty import read_rejection
from tests.builders import make_dataset, scaled_of, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

CPU = torch.device("cpu")
DATASET = check_dataset(make_dataset(per_class=30))


def start(folder: Path, dataset: Dataset = DATASET, **settings: object) -> RunResult:
    recipe = tiny_recipe(folder, **{"model": "eszsl", "beside": (), **settings})
    return run_experiment(Job(recipe, dataset=dataset), Console(quiet=True))


def test_threshold_rejects_the_asked_share_of_held_out_rows(tmp_path: Path) -> None:
    result = start(tmp_path)
    run = open_trained(result.directory, CPU)
    held_out = open_held_out(DATASET, "validation")
    features = np.concatenate([held_out.seen.features, held_out.unseen.features])
    scaled = scaled_of(training_problem(DATASET, "validation"), run.recipe.feature_scaling)
    numbers = fit_novelty(scaled).numbers(features)[0]
    kept = load_file(result.directory / "novelty.safetensors")["held_out"]
    np.testing.assert_allclose(kept, np.sort(numbers))
    for share in (0.01, 0.05, 0.3):
        threshold = read_rejection(run, share).threshold
        rejected = (kept > threshold).mean()
        assert share - 1 / len(kept) < rejected <= share


def test_figures_on_test_are_those_of_the_numbers(tmp_path: Path) -> None:
    result = start(tmp_path)
    stored = json.loads((result.directory / "metrics.json").read_text())["novelty"]
    assert stored == result.metrics["novelty"]
    run = open_trained(result.directory, CPU)
    rejection = read_rejection(run, 0.05)
    parts = result.held_out.seen.features, result.held_out.unseen.features
    of_seen = np.concatenate([rejection.novelty.numbers(part)[1] for part in parts])
    is_unseen = np.repeat([False, True], [len(part) for part in parts])
    assert stored["AUROC"] == pytest.approx(roc_auc_score(is_unseen, of_seen), abs=1e-3)
    for side, part in zip(("seen", "unseen"), parts, strict=True):
        assert stored[f"rejected_{side}"] == pytest.approx(rejection(part).mean(), abs=0.02)


def test_no_test_row_and_no_method_changes_the_file(tmp_path: Path) -> None:
    garbage = DATASET.features.copy()
    test = np.concatenate([DATASET.test_seen, DATASET.test_unseen])
    garbage[test] = 1000 * np.random.default_rng(1).normal(size=(len(test), 6))
    results = [
        start(tmp_path, run="clean"),
        start(tmp_path, replace(DATASET, features=garbage), run="garbage"),
        start(tmp_path, run="other", model="ale", feature_scaling="l2"),
    ]
    files = [load_file(one.directory / "novelty.safetensors") for one in results]
    for name, value in files[0].items():
        np.testing.assert_array_equal(value, files[1][name], err_msg=name)
    assert results[0].metrics["novelty"] != results[1].metrics["novelty"]
    assert results[2].metrics["novelty"]["AUROC"] > 0.5


def test_run_without_test_rows_of_unseen_classes_or_validation(tmp_path: Path) -> None:
    described = replace(DATASET, test_unseen=np.empty(0, dtype=np.int64))
    result = start(tmp_path, described, run="described")
    assert "novelty" not in result.metrics
    rejection = read_rejection(open_trained(result.directory, CPU), 0.05)
    assert rejection(np.full((1, 6), 1e3, dtype=np.float32)).all()
    plain = start(tmp_path, run="plain", calibrate=False)
    assert not (plain.directory / "novelty.safetensors").exists()
    assert "novelty" not in plain.metrics
