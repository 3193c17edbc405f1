"""Several seeds: the runs that single seeds give, their summary, and resuming after a kill."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gsmflow.core.errors import InputError
from gsmflow.runs import seeds as module
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.seeds import run_seeds
from tests.builders import tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)


def stored(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_run_of_several_seeds_equals_runs_of_single_seeds(tmp_path: Path) -> None:
    results: list[RunResult] = []
    recipe = tiny_recipe(tmp_path, run="both", seed=3, seeds=2, calibrate=False, beside=("eszsl",))
    summary = run_seeds(Job(recipe), QUIET, on_result=results.append)
    group = tmp_path / "out" / "TINY" / "both"
    assert stored(group) == summary
    assert summary["seeds"] == [3, 4]
    assert [result.directory for result in results] == [group / "seed3", group / "seed4"]
    for number, seed in enumerate(summary["seeds"]):
        alone = tiny_recipe(
            tmp_path, run=f"alone{seed}", seed=seed, calibrate=False, beside=("eszsl",)
        )
        metrics = run_experiment(Job(alone), QUIET).metrics
        assert stored(group / f"seed{seed}") == metrics
        for name in ("T1", "U", "S", "H", "AUSUC"):
            assert summary[name]["values"][number] == metrics[name]
    assert summary["H"]["mean"] == pytest.approx(np.mean(summary["H"]["values"]))
    assert summary["baselines"]["ESZSL"]["T1"]["std"] == 0


def test_finished_seeds_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_seeds(
        Job(tiny_recipe(tmp_path, run="whole", seeds=3, calibrate=False, beside=())), QUIET
    )
    ran: list[int] = []

    def run_until_the_last(job: Job, *arguments: Any) -> RunResult:
        ran.append(job.recipe.seed)
        if ran == [0, 1]:
            raise RuntimeError("a stand-in for a crash")
        return run_experiment(job, *arguments)

    monkeypatch.setattr(module, "run_experiment", run_until_the_last)
    recipe = tiny_recipe(tmp_path, seeds=3, calibrate=False, beside=())
    with pytest.raises(RuntimeError):
        run_seeds(Job(recipe), QUIET)
    again = tiny_recipe(tmp_path, seeds=3, calibrate=False, beside=(), resume=True)
    assert run_seeds(Job(again), QUIET) == whole
    assert ran == [0, 1, 1, 2]


def test_seeds_of_another_recipe_are_refused(tmp_path: Path) -> None:
    run_seeds(
        Job(tiny_recipe(tmp_path, run="a", seeds=2, calibrate=False, beside=(), epochs=1)), QUIET
    )
    other = tiny_recipe(
        tmp_path, run="a", seeds=2, calibrate=False, beside=(), epochs=2, resume=True
    )
    with pytest.raises(InputError, match="epochs"):
        run_seeds(Job(other), QUIET)
