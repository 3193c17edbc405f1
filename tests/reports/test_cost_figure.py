from dataclasses import replace
from pathlib import Path

import matplotlib.image
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context

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
