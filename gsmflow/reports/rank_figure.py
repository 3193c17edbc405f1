"""The critical difference diagram: average ranks, and bars over methods that do not differ."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gsmflow.evaluation.ranks import Ranking
from gsmflow.reports.figures import save_figure

__all__ = ["rank_figure"]

# Heights in inches: above the axis, from one bar to the next, from one name to the next.
_ABOVE, _BAR, _NAME = 0.75, 0.09, 0.19
# The width of the axis, and what a figure has on both sides of it for names.
_AXIS, _SIDE = 4.8, 1.9
# Up to so many methods, every rank has a number.
_EACH_RANK = 15
_LINE: dict[str, Any] = {"color": "0.2", "lw": 1, "clip_on": False}


def rank_figure(path: Path, ranking: Ranking, title: str = "") -> Path:
    """Draw a critical difference diagram as PNG (Demšar, JMLR 2006).

    Average ranks on an axis, the best on the left, each with a line to its method's name: the
    better half on the left, the others on the right. A bar joins methods that do not differ
    significantly; above the axis is the critical difference.

    Parameters
    ----------
    path
        The file.
    ranking
        What to draw.
    title
        What the ranks are of.
    """
    count, levels = len(ranking.methods), _levels(ranking)
    left = (count + 1) // 2
    below = _BAR * (max(levels, default=-1) + 3) + _NAME * left
    figure = Figure(figsize=(_AXIS + 2 * _SIDE, _ABOVE + below))
    width = figure.get_figwidth()
    panel = figure.add_axes((_SIDE / width, 0, _AXIS / width, 1))
    # Down the panel in inches, from the axis; across it in ranks.
    panel.set(xlim=(1, count), ylim=(below, -_ABOVE))
    panel.axis("off")
    _draw_axis(panel, ranking, title)
    _draw_bars(panel, ranking, levels)
    first = below - _NAME * (left - 0.5)
    for i, (name, rank) in enumerate(zip(ranking.methods, ranking.ranks, strict=True)):
        # The outermost name of each half is the highest, so that no two lines cross.
        on_left = i < left
        y = first + _NAME * (i if on_left else count - 1 - i)
        _draw_name(panel, name, rank, y, on_left=on_left)
    save_figure(figure, path, dpi=200)
    return path


def _levels(ranking: Ranking) -> list[int]:
    """How far down each group's bar lies, from 0: the first level where no other is in its way."""
    last: list[int] = []  # the last method under a bar, level by level
    levels = []
    for group in ranking.groups:
        start, stop = (ranking.methods.index(name) for name in (group[0], group[-1]))
        free = (level for level, end in enumerate(last) if end < start)
        level = next(free, len(last))
        last[level : level + 1] = [stop]
        levels.append(level)
    return levels


def _draw_axis(panel: Axes, ranking: Ranking, title: str) -> None:
    """The axis, the critical difference above it, and the title above that."""
    count = len(ranking.methods)
    step = 1 if count <= _EACH_RANK else 5
    panel.plot([1, count], [0, 0], **_LINE)
    for rank in sorted({1, *range(step, count + 1, step)}):
        panel.plot([rank, rank], [0, -0.06], **_LINE)
        panel.text(rank, -0.09, str(rank), ha="center", va="bottom", fontsize=8)
    end = 1 + ranking.critical_difference
    panel.plot([1, 1, 1, end, end, end], [-0.41, -0.33, -0.37, -0.37, -0.41, -0.33], **_LINE)
    text = (
        f"critical difference {ranking.critical_difference:.2f} "
        f"(Nemenyi, alpha {ranking.alpha:g}, {len(ranking.datasets)} datasets)"
    )
    panel.text(1, -0.44, text, ha="left", va="bottom", fontsize=8)
    middle = (1 + count) / 2
    panel.text(middle, -0.68, title, ha="center", va="bottom", fontsize=10, parse_math=False)


def _draw_bars(panel: Axes, ranking: Ranking, levels: list[int]) -> None:
    ranks = dict(zip(ranking.methods, ranking.ranks, strict=True))
    beyond = 0.003 * (len(ranks) - 1)
    for group, level in zip(ranking.groups, levels, strict=True):
        x = [ranks[group[0]] - beyond, ranks[group[-1]] + beyond]
        y = _BAR * (level + 1.5)
        panel.plot(x, [y, y], color="#0072B2", lw=2.5, solid_capstyle="butt", clip_on=False)


def _draw_name(panel: Axes, name: str, rank: float, y: float, *, on_left: bool) -> None:
    """A line from the axis down and to the side, and there the rank and the name."""
    count = panel.get_xlim()[1]
    gap = 0.02 * (count - 1)
    end, text = (
        (1 - gap, f"{name}  {rank:.2f}") if on_left else (count + gap, f"{rank:.2f}  {name}")
    )
    panel.plot([rank, rank, end], [0, y, y], **(_LINE | {"lw": 0.7, "zorder": 1}))
    side = "right" if on_left else "left"
    x = end - gap / 2 if on_left else end + gap / 2
    panel.text(x, y, text, ha=side, va="center", fontsize=8, parse_math=False)
