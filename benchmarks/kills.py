"""Whether commands that are killed at random moments and given again end as undisturbed ones.

``OMP_NUM_THREADS=1 python -m benchmarks.kills --kills 20``, on Linux. Pictures are drawn;
``extract`` makes a dataset of them with random weights; the others work on that dataset. A kill is
SIGKILL after a random share of the seconds that the undisturbed command takes, so that nothing is
cleaned up. docs/training.md has the result.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

from gsmflow.cli.main import main as run_command
from gsmflow.core.console import make_console
from gsmflow.core.run_files import ABLATION_FILE, METRICS_FILE, RECIPE_FILE
from gsmflow.core.tables import Grid, terminal_table
from gsmflow.data.digest import DataDigest
from gsmflow.data.formats.files import load_dataset

__all__ = ["Options", "main"]

_CLASSES, _PICTURES, _ATTRIBUTES = 10, 8, 4
_FEW_SHOT = (
    "--model",
    "cada-vae",
    "--epochs",
    "4",
    "--classifier-epochs",
    "2",
    "--shot-draws",
    "2",
)
# Imported once, so that a command begins to work at once.
_PRELOADED = (
    *("gsmflow.cli.extract", "gsmflow.cli.tune", "gsmflow.cli.add_class", "gsmflow.cli.train"),
    "gsmflow.cli.ablate",
    *("transformers.models.resnet.modeling_resnet", "gsmflow.runs.experiment"),
)


@dataclass(frozen=True)
class Options:
    """Kill commands at random moments, give them again, and compare with undisturbed ones."""

    kills: int = 20
    """Kills of each command."""
    commands: tuple[str, ...] = (
        *("extract", "train", "seeds", "tune", "add-class", "ablate", "few-shot"),
    )
    """The commands."""
    seed: int = 0
    """Of the moments."""


@dataclass(frozen=True, eq=False)
class _Case:
    """A command in a folder of its own: its words, its result, and whether it is finished."""

    words: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    is_finished: Callable[[Path], bool]


@dataclass
class _Count:
    """What became of the kills of a command."""

    killed: int = 0
    equal: int = 0
    different: int = 0
    failed: int = 0
    leftovers: int = 0


def _draw_pictures(root: Path) -> None:
    """Noisy pictures of classes in colours, and a file of attributes."""
    rng = np.random.default_rng(0)
    colours = rng.random((_CLASSES, 3))
    lines = []
    for number, colour in enumerate(colours):
        folder = root / "pictures" / f"class {number}"
        folder.mkdir(parents=True)
        for index in range(_PICTURES):
            noise = rng.random((32, 32, 3)) * 80
            pixels = (noise + 170 * colour).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
        attributes = [*colour, number / _CLASSES][:_ATTRIBUTES]
        lines.append(",".join([f"class {number}", *(f"{value:.4f}" for value in attributes)]))
    (root / "attributes.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "added.npy", rng.random(_ATTRIBUTES).astype(np.float32))


def _cases(root: Path) -> dict[str, _Case]:
    """The commands; those but ``extract`` need the dataset and the run that are in ``root``."""
    data, run = root / "MINE", root / "runs" / "MINE" / "first"

    def extract(folder: Path) -> list[str]:
        images, semantics = str(root / "pictures"), str(root / "attributes.csv")
        model = ["--backbone", "random:resnet-18", "--device", "cpu", "--batch-size", "8"]
        return ["extract", images, "--semantics", semantics, "-o", str(folder / "MINE"), *model]

    def train(folder: Path, *flags: str) -> list[str]:
        where = ["--out", str(folder), "--run", "a", "--device", "cpu", "--beside", "--no-cache"]
        resume = ["--resume"] if (folder / "MINE" / "a").exists() else []
        return ["train", str(data), *where, *resume, *flags]

    def tune(folder: Path) -> list[str]:
        size = ["--trials", "3", "--class-draws", "1", "--finalists", "1", "--finalist-seeds", "1"]
        method = ["--model", "ale", "--epochs", "4", "--device", "cpu", "--beside", "--no-cache"]
        return ["tune", str(data), "--study", str(folder / "study"), *size, *method]

    def add_class(folder: Path) -> list[str]:
        added = ["--name", "added", "--semantics", str(root / "added.npy"), "--device", "cpu"]
        return ["add-class", str(run), *added, "--into", str(folder / "grown")]

    def ablate(folder: Path) -> list[str]:
        where = ["--out", str(folder), "--run", "a", "--device", "cpu", "--beside", "--no-cache"]
        return ["ablate", str(data), *where, "--model", "cn-zsl", "--epochs", "4", "--seeds", "2"]

    def digest(folder: Path) -> Any:
        dataset = load_dataset(folder, "MINE", features="random-resnet-18", semantics="att")
        return asdict(DataDigest.of(dataset))

    return {
        "extract": _Case(
            extract,
            digest,
            lambda folder: (folder / "MINE").exists() and not (folder / "MINE/.features").exists(),
        ),
        "train": _reading(
            lambda folder: train(folder, "--model", "ale", "--epochs", "30"),
            f"MINE/a/{METRICS_FILE}",
        ),
        "seeds": _reading(lambda folder: train(folder, "--seeds", "3"), f"MINE/a/{METRICS_FILE}"),
        "tune": _reading(tune, f"study/{RECIPE_FILE}", of=_settings),
        "add-class": _reading(add_class, f"grown/{METRICS_FILE}"),
        "ablate": _reading(ablate, f"MINE/a/{ABLATION_FILE}"),
        "few-shot": _reading(
            lambda folder: train(folder, *_FEW_SHOT, "--shots", "0", "1", "2"),
            f"MINE/a/{METRICS_FILE}",
        ),
    }


def _settings(chosen: Any) -> Any:
    """What a recipe file chose; it also names the folder of its study."""
    return chosen["settings"]


def _reading(
    words: Callable[[Path], list[str]],
    file: str,
    of: Callable[[Any], Any] = lambda content: content,
) -> _Case:
    """A command that is finished with a JSON file, whose content has its result."""
    return _Case(
        words,
        lambda folder: of(json.loads((folder / file).read_text())),
        lambda folder: (folder / file).exists(),
    )


def _start(words: Sequence[str], log: Path) -> int:
    """The id of a copy of this process that runs a command."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        with log.open("ab") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        sys.argv = ["gsmflow", *words]
        run_command(words)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _finish(words: Sequence[str], log: Path) -> bool:
    """Run a command to its end; whether it succeeded."""
    _, status = os.waitpid(_start(words, log), 0)
    return os.waitstatus_to_exitcode(status) == 0


def _kill(words: Sequence[str], log: Path, seconds: float) -> bool:
    """Run a command and kill it after some seconds; whether it was still running."""
    process = _start(words, log)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def _measure(case: _Case, root: Path, kills: int, rng: random.Random) -> _Count:
    """Kill a command so often, each time in a new folder, and go on."""
    whole, log = root / "whole", root / "log.txt"
    whole.mkdir(parents=True)
    start = time.monotonic()
    if not _finish(case.words(whole), log):
        raise SystemExit(f"{log}: the undisturbed command failed")
    seconds, expected, count = time.monotonic() - start, case.result(whole), _Count()
    while count.killed < kills:
        folder = root / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if not _kill(case.words(folder), log, rng.uniform(0.02, 1) * seconds):
            continue
        count.killed += 1
        if not case.is_finished(folder) and not _finish(case.words(folder), log):
            count.failed += 1
            continue
        same = case.result(folder) == expected
        count.equal += same
        count.different += not same
        count.leftovers += bool([*folder.rglob(".*.part")])
    return count


def _table(counts: Mapping[str, _Count]) -> Grid:
    names = ("command", *asdict(_Count()))
    rows = tuple((name, *map(str, asdict(count).values())) for name, count in counts.items())
    return Grid("kills, and what resuming gave", names, "l" + "r" * (len(names) - 1), (rows,))


def main(options: Options) -> None:
    """Measure, and print the table."""
    torch.set_num_threads(1)
    for name in _PRELOADED:
        import_module(name)
    rng = random.Random(options.seed)
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        _draw_pictures(root)
        cases, log = _cases(root), root / "log.txt"
        first = ["--out", str(root / "runs"), "--run", "first", "--device", "cpu", "--beside"]
        extracted = _finish(cases["extract"].words(root), log)
        made = extracted and _finish(["train", str(root / "MINE"), *first], log)
        if not made:
            raise SystemExit(log.read_text())
        counts = {}
        for name in options.commands:
            counts[name] = _measure(cases[name], root / "cases" / name, options.kills, rng)
            make_console().print(f"{name}: {asdict(counts[name])}")
    make_console().print(terminal_table(_table(counts)))


if __name__ == "__main__":
    main(tyro.cli(Options))
