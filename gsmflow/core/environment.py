"""The environment of a run: versions, hardware and commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe_environment"]


def describe_environment(device: torch.device, seed: int) -> dict[str, Any]:
    """What results depend on besides the recipe: versions, hardware, commit and seed."""
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
    """The commit of the running code, with ``+changes`` if the work tree differs from it."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        outputs = [
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
    commit, changes = outputs
    return f"{commit}+changes" if changes else commit
