"""The command ``python -m benchmarks.speed``."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
import tyro
from rich.console import Console

from benchmarks.speed.page import check_page, print_record, write_page
from benchmarks.speed.parts import Bench, measure_parts
from benchmarks.speed.record import (
    PARTS,
    PARTS_ON_A_GPU,
    describe_machine,
    merge_part,
    read_record,
)
from benchmarks.speed.sizes import FULL, QUICK
from gsmflow.core.console import ending, make_console
from gsmflow.core.devices import pick_device
from gsmflow.core.environment import describe_environment
from gsmflow.core.errors import InputError

__all__ = ["BenchOptions", "main", "run_bench"]

_PROGRAM = "python -m benchmarks.speed"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Compare this package with a plain baseline and with the machine's peak.

    Run it in the root of the repository, with nothing else running.
    """

    parts: str | None = None
    """Parts to measure, separated by commas; they are added to those in the file --out. None: all
    on a CPU, and on a GPU step, peak, gan, run, ceilings and profile."""
    quick: bool = False
    """Tiny sizes, to check in seconds that everything works; the results mean nothing."""
    samples_per_class: int | None = None
    """Synthesized features per unseen class in the part synthesis; None: 50000, as published."""
    repetitions: int = 7
    """Timings of each function in the parts step, peak, gan and growth."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest available device."""
    out: Path = Path("out/bench.json")
    """File of all results."""
    into: Path | None = None
    """Markdown page whose marked section for a CPU, or for a GPU, is replaced by the tables."""


def run_bench(options: BenchOptions, console: Console, command: str) -> None:
    """Measure parts of the benchmark; write and print all measured parts.

    Parameters
    ----------
    options
        The options of the command.
    console
        For progress and tables.
    command
        The command line, for the record.

    Raises
    ------
    InputError
        If an option is out of range, or a required file is missing.
    """
    device = pick_device(options.device)
    names = _check(options, device)
    machine, commit = describe_machine(device), describe_environment(device, 0)["git_commit"]
    bench = Bench(
        scale=QUICK if options.quick else FULL,
        device=device,
        repetitions=options.repetitions,
        samples_per_class=options.samples_per_class,
        console=console,
    )
    start = time.monotonic()
    for parts in measure_parts(bench, names):
        seconds = time.monotonic() - start
        facts = {
            "command": command,
            "date": date.today().isoformat(),
            "commit": commit,
            "seconds": seconds,
        }
        for name, part in parts.items():
            entry = asdict(part) | facts
            merge_part(options.out, name, entry, machine=machine, quick=options.quick)
        start = time.monotonic()
    record = read_record(options.out)
    print_record(record, console)
    console.print(f"figures: {options.out}")
    if options.into is not None:
        write_page(options.into, record)
        console.print(f"tables: {options.into}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark with a command line; None for that of the program."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = tyro.cli(BenchOptions, args=words, prog=_PROGRAM)
    console = make_console()
    with ending(console):
        run_bench(options, console, shlex.join([*shlex.split(_PROGRAM), *words]))


def _check(options: BenchOptions, device: torch.device) -> list[str]:
    """The requested parts; raise `InputError` for options that would fail later."""
    names = [*(PARTS if device.type == "cpu" else PARTS_ON_A_GPU)]
    if options.parts is not None:
        names = [name.strip() for name in options.parts.split(",")]
    for name in names:
        if name not in PARTS:
            raise InputError(f"--parts: found {name!r}, expected one or more of {','.join(PARTS)}")
    for flag, value in (
        ("--repetitions", options.repetitions),
        ("--samples-per-class", options.samples_per_class),
    ):
        if value is not None and value < 1:
            raise InputError(f"{flag}: found {value}, expected a number of at least 1")
    read_record(options.out)
    if options.into is not None:
        check_page(options.into, str(device))
    return names
