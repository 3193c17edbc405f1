"""Two processes that train one model, over gloo on the CPU, against a single process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gsmflow.core import distributed
from gsmflow.core.distributed import SINGLE_PROCESS, Group, joined_group
from gsmflow.core.errors import InputError, UnavailableError
from gsmflow.recipes.checks import check_recipe
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.script import run_script
from tests.builders import make_dataset, make_recipe, write_gbu

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--")
# With one thread in each process, sums over rows are the only sums whose order differs.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SETTINGS: dict[str, Any] = {
    "dataset": "TINY",
    "hidden": 8,
    "condition_dim": 6,
    "blocks": 2,
    "epochs": 5,
    "batch_size": 8,
    "pi": 0.3,
    "perturbation_dropout": 0.3,
    "prototype_classes": 1,
    "samples_per_class": 10,
    "classifier_epochs": 3,
    "learning_rate": 1e-2,
    "precision": "fp32",
    "calibrate": False,
}
SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from gsmflow.learning.trainer import Trainer
from gsmflow.runs import stages
from gsmflow.runs.script import run_script
from tests.builders import make_recipe

if "STOP" in os.environ:
    stages._SAVE_EVERY_SECONDS = 0
    run_epoch = Trainer.run_epoch
    def stopping(self, *arguments):
        if self.epoch == int(os.environ["STOP"]):
            os._exit(3)
        return run_epoch(self, *arguments)
    Trainer.run_epoch = stopping

run_script({{"res101": make_recipe(**{SETTINGS!r})}})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    write_gbu(folder / "data" / "TINY", make_dataset())
    (folder / "script.py").write_text(SCRIPT)
    return folder


def start(
    folder: Path, *flags: str, launcher: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    words = ["--data", folder / "data", "--out", folder / "out", "--run", "two", *flags]
    return subprocess.run(
        [sys.executable, *launcher, folder / "script.py", *map(str, words)],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.usefixtures("quick_pictures")
def test_two_processes_give_the_numbers_of_one_even_after_a_crash(folder: Path) -> None:
    """Slow: each start imports the package in two processes.

    torchrun starts the first two processes, which are ended in the fourth epoch; the command
    starts the second two by itself, which resume.
    """
    recipe = make_recipe(
        **SETTINGS, data=folder / "data", out=folder / "out", run="one", device="cpu"
    )
    expected = run_experiment(Job(recipe), Console(quiet=True))

    assert start(folder, "--devices", "2", launcher=TORCHRUN, STOP="3").returncode != 0
    directory = folder / "out" / "TINY" / "two"
    assert not (directory / "model.safetensors").exists()
    process = start(folder, "--devices", "2", "--resume")
    assert process.returncode == 0, process.stderr

    history = json.loads((directory / "history.json").read_text())
    reference = json.loads((expected.directory / "history.json").read_text())
    assert len(history) == 5
    for losses, reference_losses in zip(history, reference, strict=True):
        assert losses == pytest.approx(reference_losses, rel=1e-4)
    metrics = json.loads((directory / "metrics.json").read_text())
    for name in ("T1", "U", "S", "H", "AUSUC"):
        assert metrics[name] == pytest.approx(expected.metrics[name], abs=0.03)
    assert json.loads((directory / "environment.json").read_text())["processes"] == 2
    logs = [
        [record for record in map(json.loads, file.read_text().splitlines()) if "epoch" in record]
        for file in (directory / "log.jsonl", directory / "log-1.jsonl")
    ]
    # The crash may have cut the second process's log, so only epochs after it are compared.
    losses = [[r["likelihood"] for r in log if r["event"] == "epoch"][-2:] for log in logs]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]


class FakeFabric:
    """Fabric's view of one process of two, whose main process sends this message."""

    world_size = 2

    def __init__(self, rank: int, message: str | None) -> None:
        self.global_rank = rank
        self.device = torch.device("cpu")
        self.message = message

    def broadcast(self, value: tuple[Any, str | None]) -> tuple[Any, str | None]:
        return value if self.global_rank == 0 else (None, self.message)


@pytest.mark.parametrize(("rank", "printed"), [(0, 1), (1, 0)])
def test_main_process_alone_prints_an_error(
    rank: int,
    printed: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = folder / "out" / "TINY" / "taken"
    directory.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def joined(*_: object) -> Iterator[Group]:
        yield Group(FakeFabric(rank, f"{directory}: exists already"))  # type: ignore[arg-type]

    monkeypatch.setattr("gsmflow.core.distributed.joined_group", joined)
    words = ["script.py", "--data", folder / "data", "--out", folder / "out", "--run", "taken"]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--devices", "2"])
    with pytest.raises(SystemExit) as ended:
        run_script({"res101": make_recipe(**SETTINGS)})
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == err.count("exists already") == printed


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_calls_main_first_once(rank: int) -> None:
    group = Group(FakeFabric(rank, None))  # type: ignore[arg-type]
    results = iter("ab")
    assert group.main_first(lambda: next(results)) == "a"
    assert next(results) == "b"


def test_batch_size_must_divide_into_equal_shares() -> None:
    with pytest.raises(InputError, match="--batch-size: found 10, expected a multiple of 4"):
        check_recipe(make_recipe(dataset="X", batch_size=10, devices=2, nodes=2))
    check_recipe(make_recipe(dataset="X", batch_size=12, devices=2, nodes=2))


@pytest.mark.parametrize(
    ("device", "devices", "match"),
    [
        ("mps", 2, "--device: found mps with --devices 2 --nodes 1, expected cpu or cuda"),
        ("cuda:1", 2, "--device: found cuda:1 with --devices 2"),
        ("cuda", 3, "--devices: found 3, expected at most 2, the number of GPUs here"),
    ],
)
def test_unusable_devices_are_refused(
    device: str, devices: int, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.distributed.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=match), joined_group(device, devices, 1):
        pass


def test_single_process_is_main_and_has_all_rows() -> None:
    with joined_group("cpu", 1, 1) as group:
        assert group is SINGLE_PROCESS
    assert SINGLE_PROCESS.is_main
    rows = torch.arange(5)
    assert torch.equal(SINGLE_PROCESS.share(rows), rows)
    assert SINGLE_PROCESS.device("cpu") == torch.device("cpu")


class LaunchedFabric(FakeFabric):
    """As Fabric makes it, in the main process."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(0, None)

    def launch(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_lost_process_is_one_sentence_in_those_that_are_left(
    error: RuntimeError, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr("lightning_fabric.Fabric", LaunchedFabric)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: ended.append(True))
    monkeypatch.setattr(distributed, "_FAREWELL_SECONDS", 0)
    with pytest.raises(Exception) as caught, joined_group("cpu", 2, 1):  # noqa: PT011
        raise error
    assert ended == [True]
    if expected:
        assert isinstance(caught.value, UnavailableError)
        assert str(caught.value).startswith("--devices 2 --nodes 1: found that another of the 2 p")
    else:
        assert caught.value is error
