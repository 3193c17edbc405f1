"""Gates in whole runs: their figures, resuming, leaks, and bad input."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, hold_out, open_held_out, training_problem
from gsmflow.methods.cada_vae import CADAVAE
from gsmflow.methods.gates.boundary import BoundaryConfig
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.results import collect_runs
from gsmflow.reports.tables import result_table, section_lines
from gsmflow.runs import experiment
from gsmflow.runs import gate as gating
from gsmflow.runs import stages as run_stages
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS
from gsmflow.runs.stages import Fitted
from tests.builders import CADA_SMALL, make_dataset, make_recipe, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

BOUNDARY = {
    "gate_epochs": 4,
    "gate_hidden": 16,
    "gate_latent_dim": 8,
    "gate_batch_size": 15,
    "gate_learning_rate": 1e-2,
}
# Each gate, with models of each kind: trained classifiers, densities, scores of the method.
CASES: dict[str, dict[str, Any]] = {
    "likelihood": {"gate": "likelihood", "calibrate": False},
    "likelihood bayes": {"gate": "likelihood", "classifier": "bayes"},
    "boundary": {"gate": "boundary", **BOUNDARY, "calibrate": False},
    "boundary cada-vae": {**CADA_SMALL, "gate": "boundary", **BOUNDARY, "calibrate": False},
    "boundary discriminant": {"model": "discriminant", "gate": "boundary", **BOUNDARY},
    "gaussian": {"gate": "gaussian", "gate_hidden": 16, "gate_iterations": 20},
    "cosmo": {"gate": "cosmo"},
    "cosmo cada-vae": {**CADA_SMALL, "gate": "cosmo"},
    "cosmo prototypes": {"gate": "cosmo", "classifier": "prototypes", "classifier_hidden": 16},
}


def start(folder: Path, *, dataset: Dataset | None = None, **changes: Any) -> RunResult:
    recipe = tiny_recipe(folder, **{"beside": (), **changes})
    check_recipe(recipe)
    return run_experiment(Job(recipe, dataset=dataset), Console(quiet=True))


@pytest.mark.parametrize("case", CASES)
def test_gate_is_evaluated_and_has_a_table_row_beside_the_model(tmp_path: Path, case: str) -> None:
    result = start(tmp_path, run="first", **CASES[case])
    gate = result.metrics["gate"]
    assert gate["name"] == CASES[case]["gate"]
    for name in ("AUROC", "FPR95", "accepted_seen", "accepted_unseen"):
        assert 0 <= gate[name] <= 1
    measures = gate["measures"]
    assert measures["T1"] == result.metrics["T1"]
    if gate["name"] != "cosmo":
        # Only what is accepted can be right as a seen class, and only the rest as an unseen one.
        rows = result.held_out
        counts = np.unique(rows.unseen.labels, return_counts=True)[1]
        assert len(set(counts)) == 1
        assert measures["U"] <= 1 - gate["accepted_unseen"] + 1e-9
        assert measures["S"] <= gate["accepted_seen"] + 1e-9
    record = Field(result.directory / "metrics.json", "", result.metrics)
    table = result_table(record, REPORTS)
    name = f"{result.metrics['model']} with gate: {gate['name']}"
    assert name in list(table.columns[0].cells)
    start_of_line = f"gate {gate['name']} alone:  AUROC {100 * gate['AUROC']:.1f}"
    assert sum(line.startswith(start_of_line) for line in section_lines(record, REPORTS)) == 1
    methods = [row.method for row in collect_runs(tmp_path / "out", REPORTS).rows]
    assert methods == [result.metrics["model"], name]


@pytest.mark.parametrize("case", ["likelihood", "boundary", "gaussian", "cosmo"])
def test_gate_resumes_to_the_same_numbers(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(tmp_path, run="whole", **CASES[case])

    def crash(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(run_stages, "_SAVE_EVERY_SECONDS", 0)
    run_epoch, epochs = run_stages.Trainer.run_epoch, []

    def crash_midway(trainer: Any, *arguments: Any) -> Any:
        epochs.append(trainer.epoch)
        return crash() if len(epochs) == 7 else run_epoch(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_stages.Trainer, "run_epoch", crash_midway)
        with pytest.raises(RuntimeError):
            start(tmp_path, run="half", **CASES[case])
    stages = (gating, "fit_gate"), (gating, "write_gate"), (gating, "evaluate_gate")
    for module, stage in stages:
        with monkeypatch.context() as patch:
            patch.setattr(module, stage, crash)
            with pytest.raises(RuntimeError):
                start(tmp_path, run="half", **CASES[case], resume=True)
    again = start(tmp_path, run="half", **CASES[case], resume=True)
    assert again.metrics == whole.metrics
    assert not list(again.directory.glob("*.state.safetensors"))


@pytest.mark.parametrize("case", ["likelihood", "boundary", "gaussian", "cosmo"])
def test_gate_does_not_depend_on_test_rows(tmp_path: Path, case: str) -> None:
    clean = check_dataset(make_dataset())
    garbage = clean.features.copy()
    test = np.concatenate([clean.test_seen, clean.test_unseen])
    garbage[test] = 1000 * np.random.default_rng(1).normal(size=(len(test), garbage.shape[1]))

    datasets = {"clean": clean, "corrupt": replace(clean, features=garbage)}
    a, b = (
        start(tmp_path, dataset=data, run=name, **CASES[case]) for name, data in datasets.items()
    )
    assert a.metrics["gate"]["threshold"] == b.metrics["gate"]["threshold"]
    assert a.metrics["gate"]["AUROC"] != b.metrics["gate"]["AUROC"]
    file = "validation.safetensors" if case == "cosmo" else "gate.safetensors"
    ours, theirs = (load_file(one.directory / file) for one in (a, b))
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def as_published(dataset: Dataset) -> Dataset:
    """With index lists that reach into the test-seen rows, as those of most benchmarks do."""
    is_val = np.isin(dataset.labels, np.unique(dataset.labels[dataset.val]))
    every = np.union1d(dataset.trainval, dataset.test_seen)
    return replace(dataset, train=every[~is_val[every]], val=every[is_val[every]])


def test_gate_ignores_test_rows_listed_as_training_rows() -> None:
    leaky = as_published(make_dataset())
    assert len(np.intersect1d(leaky.train, leaky.test_seen))
    dataset = check_dataset(leaky)
    test = np.concatenate([dataset.test_seen, dataset.test_unseen])
    final = training_problem(dataset, "test")
    rest, held = hold_out(final)
    index = [rows.index for rows in (rest.train, held)]
    assert index[0] is not None
    assert index[1] is not None
    assert not np.intersect1d(np.concatenate(index), test).size
    np.testing.assert_array_equal(np.sort(np.concatenate(index)), np.sort(dataset.trainval))
    # The rows that cosmo learns from.
    validation = open_held_out(dataset, "validation")
    for rows in (training_problem(dataset, "validation").train, validation.seen, validation.unseen):
        assert rows.index is not None
        assert not np.intersect1d(rows.index, test).size


def test_gate_is_not_trained_on_the_rows_of_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[int] = []

    def watch(run: Any, model: Any, feed: Any, config: Any) -> Any:
        met.append(len(feed.labels))
        return train(run, model, feed, config)

    train = gating._train
    monkeypatch.setattr(gating, "_train", watch)
    result = start(tmp_path, run="first", **CASES["boundary"])
    rest, held = hold_out(result.problem)
    assert met == [len(rest.train)]
    assert len(rest.train) + len(held) == len(result.problem.train)
    assert len(held) >= len(result.problem.seen_classes)


def test_custom_class_without_a_density_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe(tmp_path, gate="likelihood")
    with pytest.raises(InputError, match=r"--gate: found likelihood .*CADAVAE"):
        run_experiment(Job(recipe, CADAVAE), Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_gate_without_test_rows_of_unseen_classes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = replace(check_dataset(make_dataset()), test_unseen=np.empty(0, dtype=np.int64))
    monkeypatch.setattr(experiment, "read_dataset", lambda recipe: dataset)
    with pytest.raises(InputError, match="--gate: found cosmo with no rows of unseen classes"):
        start(tmp_path, gate="cosmo")
    assert not (tmp_path / "out").exists()


def test_gate_with_one_seen_class_is_refused(tmp_path: Path) -> None:
    result = start(tmp_path, run="first", gate="boundary", **BOUNDARY, calibrate=False)
    problem = replace(result.problem, seen_classes=result.problem.seen_classes[:1])
    fitted = Fitted(result.fitted.model, replace(result.fitted.scaled, problem=problem), [])
    run = run_stages.Run(
        tiny_recipe(tmp_path, gate="boundary"),
        type(result.fitted.model),
        torch.device("cpu"),
        "fp32",
        gating.SINGLE_PROCESS,
        tmp_path,
        run_stages.RunLog(tmp_path / "log.jsonl"),
        Console(quiet=True),
    )
    with pytest.raises(InputError, match="--gate: found boundary with 1 seen class, expected"):
        gating.fit_gate(run, fitted, None)  # type: ignore[arg-type]


def test_flags_of_the_boundary_gate_are_refused_without_it() -> None:
    def parse(words: list[str], gate: str = "none") -> Recipe:
        recipes = {"res101": make_recipe(dataset="TINY", gate=gate)}
        return parse_recipe(recipes, words, prog="p", description="d")

    names = [f.name for f in fields(BoundaryConfig) if f.name != "share"]
    words = [f"--gate-{name.replace('_', '-')}=7" for name in names]
    for word in words:
        with pytest.raises(InputError, match="does not use it, expected --gate boundary"):
            parse(["--gate", "likelihood", word])
    expected = BoundaryConfig(share=0.9, **dict.fromkeys(names, 7))
    assert parse(["--gate", "boundary", "--gate-share", "0.9", *words]).gate == expected
    # A script may have chosen the gate.
    assert parse(["--gate-share", "0.9", *words], gate="boundary").gate == expected
