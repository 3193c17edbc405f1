from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from gsmflow.evaluation.ranks import Ranking, rank_methods
from gsmflow.reports import rank_figure as module
from gsmflow.reports.rank_figure import rank_figure


def ranking(methods: int) -> Ranking:
    generator = np.random.default_rng(0)
    found = rank_methods(
        {
            f"m$_{i}": {f"d{j}": float(i / methods + generator.normal() / 5) for j in range(9)}
            for i in range(methods)
        }
    )
    assert found is not None
    return found


@pytest.mark.parametrize("methods", [2, 5, 30])
def test_picture_is_drawn(methods: int, tmp_path: Path) -> None:
    rank_figure(tmp_path / "ranks.png", ranking(methods), "H of $both")
    height, width, _ = matplotlib.image.imread(tmp_path / "ranks.png").shape
    assert width > 900
    assert height > 150 + 15 * methods


@pytest.mark.parametrize("methods", [5, 12, 30])
def test_bars_on_a_level_do_not_touch(methods: int) -> None:
    found = ranking(methods)
    levels = module._levels(found)
    assert len(levels) == len(found.groups)
    for i, a in enumerate(found.groups):
        for j, b in enumerate(found.groups[:i]):
            assert levels[i] != levels[j] or not set(a) & set(b)
