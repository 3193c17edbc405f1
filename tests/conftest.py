from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from gsmflow.reports import figures as report

# A second thread does not speed up small tests and slows down tests that run in parallel.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that are marked ``gpu`` where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA GPU here"))


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are composed but not rendered, which takes most of a small run's time.

    `tests.reports.test_figures` and the scripts' tests render them.
    """

    def write(figure: Figure, path: Path, dpi: int = 120) -> None:
        path.write_bytes(b"a stand-in for a picture")

    monkeypatch.setattr(report, "save_figure", write)
