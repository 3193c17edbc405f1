"""Several runs at the same time: what runs one after the other give, and what is refused."""

import errno
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gsmflow.core.errors import InputError, UnavailableError, WriteError
from gsmflow.methods.gsmflow import GSMFlow
from gsmflow.runs.directory import computed_fields
from gsmflow.runs.executors import LocalSettings, Work
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.parallel import do_all
from gsmflow.runs.script import Script, ignore_result, run_job
from gsmflow.runs.seeds import run_seeds
from gsmflow.runs.variants import ablation_recipes, run_variants
from tests.builders import tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)
FEW = {"calibrate": False, "beside": ()}


def leave_a_mark(result: RunResult) -> None:
    (result.directory / "mark.txt").write_text(str(result.metrics["seed"]))


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in ("T1", "U", "S", "H", "AUSUC", "seeds")}


def test_seeds_at_the_same_time_are_those_one_after_the_other(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, run="one", seeds=3, **FEW)
    one = run_seeds(Job(recipe), QUIET)
    together = replace(recipe, run="together", workers=2)
    both = run_seeds(Job(together), QUIET, on_result=leave_a_mark)
    assert both == one
    for seed in range(3):
        folder = tmp_path / "out" / "TINY" / "together" / f"seed{seed}"
        assert (folder / "mark.txt").read_text() == str(seed)
    # Finished runs are not begun again.
    (folder / "mark.txt").unlink()
    assert run_seeds(Job(replace(together, resume=True)), QUIET, on_result=leave_a_mark) == one
    assert not (folder / "mark.txt").exists()


def test_variants_at_the_same_time_are_those_one_after_the_other(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, seeds=2, blocks=1, epochs=1, **FEW)
    script = Script({"": recipe}, None, ignore_result, None, "", Path("train.py"))
    variants = dict(list(ablation_recipes(recipe).items())[:2])
    one = run_variants(script, recipe, variants, tmp_path / "one", QUIET)
    together = replace(recipe, workers=2)
    both = run_variants(script, together, variants, tmp_path / "together", QUIET)
    assert {name: figures(m) for name, m in both.items()} == {
        name: figures(m) for name, m in one.items()
    }
    assert len(list((tmp_path / "together").glob("*/seed*/metrics.json"))) == 4


def test_where_runs_run_is_no_part_of_what_they_compute(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    elsewhere = replace(recipe, executor="slurm", workers=4, partition="gpu", job_gpus=1)
    assert computed_fields(elsewhere) == computed_fields(recipe)


def test_failed_run_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, run="some", seeds=2, workers=2, **FEW)
    folder = tmp_path / "out" / "TINY" / "some"
    run_seeds(Job(replace(recipe, workers=1)), QUIET)
    (folder / "metrics.json").unlink()
    (folder / "seed1" / "metrics.json").unlink()
    (folder / "seed0" / "metrics.json").unlink()
    stored = json.loads((folder / "seed1" / "recipe.json").read_text())
    (folder / "seed1" / "recipe.json").write_text(json.dumps({**stored, "seed": 7}))
    with pytest.raises(InputError, match=r"^seed1: .*field 'seed': found 7"):
        run_seeds(Job(replace(recipe, resume=True)), QUIET)
    assert (folder / "seed0" / "metrics.json").exists()


def find_a_full_disk(path: Path) -> None:
    raise WriteError(path, OSError(errno.ENOSPC, "No space left on device"))


def test_full_disk_is_no_mistake_of_the_user(tmp_path: Path) -> None:
    work = Work("seed0", partial(find_a_full_disk, tmp_path / "metrics.json"))
    settings = LocalSettings(workers=1, gpus=())
    with pytest.raises(UnavailableError, match=r"seed0: .*metrics\.json: cannot be written \(No"):
        do_all([work], settings, tmp_path / "executor", Console(quiet=True))


def test_model_of_no_module_is_refused(tmp_path: Path) -> None:
    class Local(GSMFlow):
        """A class that no other process finds."""

    job = Job(tiny_recipe(tmp_path, seeds=2, workers=2, **FEW), Local)
    with pytest.raises(InputError, match="in a module of their own"):
        run_seeds(job, QUIET)


def test_distributed_runs_are_not_run_together(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, seeds=2, workers=2, devices=2)
    with pytest.raises(InputError, match="--workers: found 2 on local with --devices 2"):
        run_seeds(Job(recipe), QUIET)


def test_one_run_is_no_job_of_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--executor: found slurm with one run"):
        run_job(Job(tiny_recipe(tmp_path, executor="slurm")), ignore_result, QUIET)
