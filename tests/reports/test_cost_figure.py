from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import gsmflow.reports.cost_figure as costs
from gsmflow.reports.cost_figure import CostPoint, cost_figure, worth_their_time
from tests.reports.leaderboard.test_forms import board

COARSE = st.integers(1, 6).map(float)  # so that equal ones occur


@given(st.lists(st.tuples(COARSE, COARSE)))
def test_worth_their_time_are_those_that_no_quicker_one_equals(
    pairs: list[tuple[float, float]],
) -> None:
    points = [CostPoint(str(i), "generative", *pair) for i, pair in enumerate(pairs)]
    found = worth_their_time(points)
    expected = {
        (p.seconds, p.percent)
        for p in points
        if not any(
            (q.seconds <= p.seconds and q.percent > p.percent)
            or (q.seconds < p.seconds and q.percent >= p.percent)
            for q in points
        )
    }
    assert [(p.seconds, p.percent) for p in found] == sorted(expected)


def test_names_stay_within_their_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(costs, "save_figure", lambda figure, *rest, **kw: drawn.append(figure))
    whole = board()
    names = [
        replace(entry, label="A method whose long name says what it does")
        for entry in whole.methods
    ]
    cost_figure(tmp_path / "leaderboard.png", replace(whole, methods=tuple(names)), "H_calibrated")
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    named = [panel for panel in drawn[0].axes if panel.texts]
    assert named
    for panel in named:
        inside = panel.get_window_extent()
        for name in panel.texts:
            around = name.get_window_extent()
            assert inside.x0 <= around.x0
            assert around.x1 <= inside.x1


def test_picture_has_a_panel_for_each_dataset_with_points(tmp_path: Path) -> None:
    whole = board()
    heights = []
    for datasets in (
        whole.datasets[:1],
        whole.datasets,
        (*whole.datasets, replace(whole.datasets[0], dataset="Z")),
    ):
        shown = replace(whole, datasets=datasets)
        with rc_context({"savefig.bbox": None}):
            cost_figure(tmp_path / "leaderboard.png", shown, "H_calibrated")
        heights.append(matplotlib.image.imread(tmp_path / "leaderboard.png").shape)
    one, two, none_on_third = heights
    assert one[1] < 0.7 * two[1]
    assert one[0] == two[0]
    assert none_on_third == two
