import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from gsmflow.reports import figures as report

# A second thread does not speed up small tests and slows down tests that run in parallel.
torch.set_num_threads(1)


# Files whose tests take longest: begun first, they end while others still run.
LONGEST = ("test_digit_pictures.py", "test_walkthrough.py", "test_distributed.py", "test_beside.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose marker says that they need what is not here; begin with the longest."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    gpu = [item for item in items if item.get_closest_marker("gpu") is not None]
    slurm = [item for item in items if item.get_closest_marker("slurm") is not None]
    if gpu and not torch.cuda.is_available():
        skip(gpu, "there is no CUDA GPU here")
    if slurm and not slurm_node_is_up():
        skip(slurm, "there is no SLURM node that is up here, see .ci/slurm")


def skip(items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


def slurm_node_is_up() -> bool:
    if shutil.which("sinfo") is None:
        return False
    command = ["sinfo", "--noheader", "--format=%t"]
    states = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return any(state in ("idle", "mix", "alloc") for state in states)


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are composed but not rendered, which takes most of a small run's time.

    `tests.reports.test_figures` and the scripts' tests render them.
    """

    def write(figure: Figure, path: Path, dpi: int = 120) -> None:
        path.write_bytes(b"a stand-in for a picture")

    monkeypatch.setattr(report, "save_figure", write)
