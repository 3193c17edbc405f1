"""Which answers the page of ``predict --html`` has, and their bars."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gsmflow.cli.answers_page import ShownRows, bar_length
from gsmflow.reports.answers.render import ShownRow
from gsmflow.runs.predict import NONE_OF_THESE, Answer

ANSWERS = [
    Answer("red_disc", "seen", -0.12345678912, 3, None),
    Answer("blue box", "unseen", -2.5, 0, None),
    Answer("plain", "seen", -3.0, 1, None),
    Answer("fourth", "seen", -4.0, 2, None),
]


@given(st.integers(1, 3))
def test_bars_without_probabilities_shrink_with_the_rank_from_full_length(count: int) -> None:
    lengths = [bar_length(ANSWERS[0], rank, count) for rank in range(count)]
    assert lengths[0] == 1
    assert lengths == sorted(set(lengths), reverse=True)
    assert min(lengths) > 0


def test_bars_are_probabilities_where_these_are_known() -> None:
    shown = ShownRows(None)
    shown.add(1, [Answer(NONE_OF_THESE, None, None, -1, None)])
    assert "order" in shown.bars
    shown.add(2, [a._replace(probability=p) for a, p in zip(ANSWERS, (0.7, 0.2), strict=False)])
    assert "probability" in shown.bars
    rejected, known = shown.rows
    assert [(a.kind, a.score, a.bar) for a in rejected.answers] == [(None, None, 0)]
    assert [(a.probability, a.bar) for a in known.answers] == [(0.7, 0.7), (0.2, 0.2)]


def test_row_has_three_answers_and_no_picture() -> None:
    shown = ShownRows(None)
    shown.add(7, ANSWERS)
    (row,) = shown.rows
    assert (row.name, row.picture) == ("7", None)
    assert [(a.name, a.kind, a.score) for a in row.answers] == [
        ("red disc", "seen", -0.123456789),
        ("blue box", "unseen", -2.5),
        ("plain", "seen", -3.0),
    ]


def test_page_has_the_first_thousand_rows() -> None:
    shown = ShownRows(None)
    for number in range(1, 1201):
        shown.add(number, ANSWERS)
    assert [row.name for row in shown.rows] == [str(number) for number in range(1, 1001)]


def test_page_has_the_first_pictures_up_to_its_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(9)]
    for name in names:
        noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / names[1]).write_bytes(b"no picture any more")

    def rows_within(limit: int) -> list[ShownRow]:
        shown = ShownRows(tmp_path, limit)
        for name in names:
            shown.add(name, ANSWERS)
        return shown.rows

    rows = rows_within(10**6)
    assert [row.name for row in rows if row.picture is None] == ["1.png"]
    sizes = [len(row.picture or "") for row in rows]
    for limit in (0, sizes[0], sum(sizes[:4]), sum(sizes) - 1):
        kept = rows_within(limit)
        assert kept == rows[: len(kept)]
        assert sum(sizes[: len(kept)]) <= limit < sum(sizes[: len(kept) + 1])


def test_single_picture_is_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    Image.new("RGB", (4, 4), "red").save(file)
    shown = ShownRows(file)
    shown.add(str(file), ANSWERS)
    assert shown.rows[0].picture
