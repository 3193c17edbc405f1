"""Seconds of an epoch under OpenMP's wait policies, quiet and beside a busy program.

``python -m benchmarks.waiting``, on Linux, with nothing else running. Each row is a process of two
threads on two cores that trains GSMFlow on digit pairs; beside it, one program keeps one of these
cores busy. docs/speed.md has the figures.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
import tyro
from rich.console import Console

from gsmflow.core.console import make_console
from gsmflow.core.rng import Generators
from gsmflow.core.tables import Grid, terminal_table
from gsmflow.core.threads import SPIN_COUNT
from gsmflow.data.dataset import training_problem
from gsmflow.data.formats.digits import load_digit_pairs
from gsmflow.learning.feed import scale_problem
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig

__all__ = ["Options", "main", "time_epochs"]

_CPU = torch.device("cpu")
# The settings of train_DIGITS.py.
_CONFIG = GSMFlowConfig(blocks=3, hidden=512, condition_dim=256, semantics_scaling="none", pi=0.1)
_POLICIES: Mapping[str, Mapping[str, str]] = {
    "default": {"GOMP_SPINCOUNT": "300000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{
        f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)}
        for n in (100, 300, 1000, SPIN_COUNT, 10000)
    },
}


@dataclass(frozen=True)
class Options:
    """Time epochs of digit pairs under wait policies, quiet and beside a busy program."""

    epochs: int = 5
    """Epochs that are timed, after one that is not; the median counts."""
    cores: tuple[int, int] = (0, 1)
    """The two cores; the busy program runs on the first."""
    timeout: float = 150.0
    """Seconds after which a row is given up."""


def time_epochs(epochs: int, threads: int) -> list[float]:
    """Seconds of each epoch, after one that is not timed."""
    torch.set_num_threads(threads)
    problem = training_problem(load_digit_pairs(), "test")
    scaled = scale_problem(problem, "none", _CPU, "memory")
    generators = Generators(0, "test", _CPU)
    model = GSMFlow.for_problem(scaled, _CONFIG, generators)
    config = TrainingConfig(epochs=epochs + 1)
    trainer = Trainer(model, scaled.feed, config, generators.on_device("training"))
    trainer.run_epoch()
    seconds = []
    for _ in range(epochs):
        start = time.monotonic()
        trainer.run_epoch()
        seconds.append(time.monotonic() - start)
    return seconds


def main(options: Options, console: Console) -> None:
    """Time every policy in processes of their own, and print a table."""
    rows = [("one thread", *_row({}, options, threads=1))]
    rows += [(name, *_row(policy, options, threads=2)) for name, policy in _POLICIES.items()]
    columns = ("waiting", "quiet, s", "beside a busy program, s")
    notes = (f"the package sets GOMP_SPINCOUNT={SPIN_COUNT}, unless the user sets one of both",)
    title = f"an epoch of digit pairs, median of {options.epochs}"
    console.print(terminal_table(Grid(title, columns, "lrr", (tuple(rows),), notes)))


def _row(policy: Mapping[str, str], options: Options, threads: int) -> tuple[str, str]:
    quiet = _median_seconds(policy, options, threads)
    with _busy_program(options.cores[0]):
        return quiet, _median_seconds(policy, options, threads)


def _median_seconds(policy: Mapping[str, str], options: Options, threads: int) -> str:
    """The median of a fresh process's epochs, as text."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    call = f"time_epochs({options.epochs}, {threads})"
    command = f"from benchmarks.waiting import time_epochs; print(*{call})"
    cores = ",".join(map(str, options.cores))
    try:
        done = subprocess.run(
            ["taskset", "-c", cores, sys.executable, "-c", command],
            env={**plain, **policy},
            capture_output=True,
            text=True,
            check=True,
            timeout=options.timeout,
        )
    except subprocess.TimeoutExpired:
        return f"over {options.timeout:.0f} in all"
    return f"{median(map(float, done.stdout.split())):.2f}"


@contextmanager
def _busy_program(core: int) -> Iterator[None]:
    """A context in which another program keeps a core busy."""
    command = ["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m benchmarks.waiting"), make_console())
