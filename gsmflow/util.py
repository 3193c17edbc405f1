"""Seeds, devices, the console and atomic files."""

import json
import os
import platform
import shlex
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from gsmflow.errors import InputError

__all__ = [
    "Draws",
    "command_line",
    "describe_environment",
    "digest_file",
    "make_console",
    "make_generator",
    "pick_device",
    "read_json",
    "replacing",
    "write_bytes",
    "write_json",
    "write_tensors",
]

# What is read of a file at a time.
_BLOCK_BYTES = 2**22


def make_generator(device: torch.device, seed: int, *purpose: str) -> torch.Generator:
    """A random generator of its own for every purpose, so that no use shifts another.

    Parameters
    ----------
    device
        Where the numbers are drawn.
    seed
        The run's seed, ``>= 0``.
    purpose
        Words that name the use, such as ``"test", "synthesis"``.
    """
    entropy = [seed, *(zlib.crc32(word.encode()) for word in purpose)]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class Draws(NamedTuple):
    """Random numbers for the rows of a batch, or for one process's share of them.

    Processes that share a batch have generators in the same state; each draws the numbers of the
    whole batch and takes those of its own rows, so that a batch meets the same numbers however
    many processes share it.

    Attributes
    ----------
    generator
        Where the numbers come from, on the device of the rows.
    share, shares
        Which of how many equal parts of the batch these rows are.
    """

    generator: torch.Generator
    share: int = 0
    shares: int = 1

    def normal(self, rows: Tensor) -> Tensor:
        """Standard normal numbers ``(n, d)`` for rows ``(n, d)``."""
        n = len(rows)
        shape = (self.shares * n, *rows.shape[1:])
        numbers = torch.randn(shape, generator=self.generator, device=rows.device, dtype=rows.dtype)
        return numbers[self.share * n : (self.share + 1) * n]

    def shared_normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers in the shape of a tensor, the same for every share."""
        return torch.randn(
            like.shape, generator=self.generator, device=like.device, dtype=like.dtype
        )

    def uniform(self, count: int) -> Tensor:
        """Numbers ``(count,)`` in [0, 1), the same for every share."""
        return torch.rand(count, generator=self.generator, device=self.generator.device)

    def subset(self, size: int, total: int) -> Tensor:
        """Distinct numbers ``(size,)`` below ``total``, the same for every share."""
        device = self.generator.device
        return torch.randperm(total, generator=self.generator, device=device)[:size]


def pick_device(name: str) -> torch.device:
    """The device of this name; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    InputError
        If the device is not available here.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available[:0] = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise InputError(
            f"--device: found {name}, expected auto or one available here: {', '.join(available)}"
        )
    return torch.device(name)


def make_console(*, stderr: bool = False) -> Console:
    """A console that folds long lines on a terminal and leaves them whole in a log file."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    # Paths and class names are printed as they are, whatever brackets and colons they have.
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A context that writes a file whole or not at all.

    Yields a temporary neighbour to write to, which is renamed over ``path`` at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary neighbour, then renamed over ``path``."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; paths become strings."""
    write_bytes(path, (json.dumps(value, indent=2, default=str) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file that a run wrote.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable ({error}), expected the JSON file that this run wrote"
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and text metadata as one safetensors file, atomically."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(on_cpu, dict(metadata)))


def command_line() -> str:
    """The command line that started the program, as one types it."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        started = ["python", "-m", program.parent.name]
    else:
        started = ["python", sys.argv[0]] if program.suffix == ".py" else [program.name]
    return shlex.join([*started, *sys.argv[1:]])


def digest_file(path: Path, make: Callable[[], Any]) -> str:
    """The digest of what a file holds, in hexadecimal; ``make`` is such as `hashlib.sha256`."""
    digest = make()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    text: str = digest.hexdigest()
    return text


def describe_environment(device: torch.device, seed: int) -> dict[str, Any]:
    """What a figure depends on besides the recipe: versions, hardware, commit and seed."""
    packages = ("torch", "FrEIA", "numpy", "scipy", "scikit-learn", "h5py", "safetensors")
    return {
        "gsmflow": _package_version("gsmflow"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _package_version(name) for name in packages},
        "device": str(device),
        "device_name": _device_name(device),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the code that runs, with ``+changes`` if the work tree differs from it."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    commit, changes = answers
    return f"{commit}+changes" if changes else commit
