"""Two processes that train one model, over gloo on the CPU, against one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gsmflow.core.distributed import SINGLE_PROCESS, joined_group
from gsmflow.core.errors import InputError
from gsmflow.recipes.recipe import Recipe, check_recipe
from tests.builders import make_dataset, write_gbu

ROOT = Path(__file__).resolve().parents[2]
# One thread in each, so that sums over rows are the only ones that differ in order.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from gsmflow.learning.trainer import Trainer
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs import stages
from gsmflow.runs.script import run_script

if "STOP" in os.environ:
    stages._SAVE_EVERY_SECONDS = 0
    run_epoch = Trainer.run_epoch
    def stopping(self, *arguments):
        if self.epoch == int(os.environ["STOP"]):
            os._exit(3)
        return run_epoch(self, *arguments)
    Trainer.run_epoch = stopping

run_script({{"res101": Recipe(
    dataset="TINY", hidden=8, condition_dim=6, blocks=2, epochs=5, batch_size=8, pi=0.3,
    perturbation_dropout=0.3, prototype_classes=1, samples_per_class=10, classifier_epochs=3,
    learning_rate=1e-2, precision="fp32",
)}})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    write_gbu(folder / "data" / "TINY", make_dataset())
    (folder / "script.py").write_text(SCRIPT)
    return folder


def start(
    folder: Path, run: str, *flags: str, launcher: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    words = ["--data", folder / "data", "--out", folder / "out", "--run", run, *flags]
    return subprocess.run(
        [sys.executable, *launcher, folder / "script.py", *map(str, words)],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def finished(folder: Path, run: str, *flags: str, **options: Any) -> dict[str, Any]:
    """The run's metrics and the losses of its epochs."""
    process = start(folder, run, *flags, **options)
    assert process.returncode == 0, process.stderr
    directory = folder / "out" / "TINY" / run
    metrics = json.loads((directory / "metrics.json").read_text())
    return {"metrics": metrics, "history": json.loads((directory / "history.json").read_text())}


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    return finished(folder, "alone")


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert len(found["history"]) == 5
    for ours, reference in zip(found["history"], expected["history"], strict=True):
        assert ours == pytest.approx(reference, rel=1e-4)
    for name in ("T1", "U", "S", "H", "AUSUC"):
        assert found["metrics"][name] == pytest.approx(expected["metrics"][name], abs=0.03)


@pytest.mark.parametrize(
    "launcher",
    [(), ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--")],
    ids=["by itself", "torchrun"],
)
def test_two_processes_have_the_loss_curve_of_one(
    launcher: tuple[str, ...], folder: Path, alone: dict[str, Any]
) -> None:
    run = f"two-{len(launcher)}"
    assert_same(finished(folder, run, "--devices", "2", launcher=launcher), alone)
    # The process that does not lead has its part of the log, and nothing else is written twice.
    directory = folder / "out" / "TINY" / run
    epochs = [
        [record for record in map(json.loads, file.read_text().splitlines()) if "epoch" in record]
        for file in (directory / "log.jsonl", directory / "log-1.jsonl")
    ]
    losses = [[r["likelihood"] for r in log if r["event"] == "epoch"] for log in epochs]
    assert losses[0] == losses[1]
    environment = json.loads((directory / "environment.json").read_text())
    assert environment["processes"] == 2


def test_two_processes_that_died_resume_to_the_same_numbers(
    folder: Path, alone: dict[str, Any]
) -> None:
    flags = ("--devices", "2", "--no-calibrate")
    assert start(folder, "died", *flags, STOP="3").returncode != 0
    directory = folder / "out" / "TINY" / "died"
    assert not (directory / "model.safetensors").exists()
    assert_same(finished(folder, "died", *flags, "--resume"), alone)


def test_a_mistake_is_said_once(folder: Path) -> None:
    (folder / "out" / "TINY" / "taken").mkdir(parents=True, exist_ok=True)
    process = start(folder, "taken", "--devices", "2")
    assert process.returncode == 2
    assert process.stderr.count("error: ") == 1
    assert "exists already" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_batch_is_shared_equally() -> None:
    with pytest.raises(InputError, match="--batch-size: found 10, expected a multiple of 4"):
        check_recipe(Recipe(dataset="X", batch_size=10, devices=2, nodes=2))
    check_recipe(Recipe(dataset="X", batch_size=12, devices=2, nodes=2))


@pytest.mark.parametrize(
    ("device", "devices", "match"),
    [
        ("mps", 2, "--device: found mps with --devices 2 --nodes 1, expected cpu or cuda"),
        ("cuda:1", 2, "--device: found cuda:1 with --devices 2"),
        ("cuda", 3, "--devices: found 3, expected at most 2, the number of GPUs here"),
    ],
)
def test_devices_that_are_not_there_are_named(
    device: str, devices: int, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.distributed.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=match), joined_group(device, devices, 1):
        pass


def test_one_process_is_alone() -> None:
    with joined_group("cpu", 1, 1) as group:
        assert group is SINGLE_PROCESS
    assert SINGLE_PROCESS.is_main
    rows = torch.arange(5)
    assert torch.equal(SINGLE_PROCESS.share(rows), rows)
    assert SINGLE_PROCESS.device("cpu") == torch.device("cpu")
