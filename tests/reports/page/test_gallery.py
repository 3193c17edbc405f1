"""Which pictures a page has, and how much room they take."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsmflow.core.errors import InputError
from gsmflow.reports.page.gallery import PictureSource, make_gallery
from gsmflow.reports.web.thumbnails import Thumbnails


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")


def test_thumbnails_stay_below_the_limit_and_runs_share_it(tmp_path: Path) -> None:
    draw(tmp_path, 12)
    first = {row: f"{row}.png" for row in (3, 0, 5, 2, 1, 4)}
    second = {row: f"{6 + row}.png" for row in range(6)}
    one = Thumbnails(10**6)
    assert one.add("0.png", tmp_path / "0.png")
    limit = int(4.9 * len(one.texts["0.png"]))
    source = PictureSource(tmp_path)
    gallery = make_gallery([tmp_path] * 2, [first, second], source, limit)
    assert gallery is not None
    assert sum(map(len, gallery.texts.values())) <= limit
    assert gallery.rows == [[3, 0], [0, 1]]
    everything = make_gallery([tmp_path] * 2, [first, second], source)
    assert everything is not None
    assert everything.rows == [list(first), list(second)]
    shared = make_gallery([tmp_path] * 2, [first, first], source, limit)
    assert shared is not None
    assert shared.rows == [[3, 0, 5, 2]] * 2


def test_pictures_that_are_missing_or_unreadable_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path, 4)
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "2.png").unlink()
    notes: list[str] = []
    names = {row: f"{row}.png" for row in range(4)}
    gallery = make_gallery([tmp_path], [names], PictureSource(tmp_path, notes.append))
    assert gallery is not None
    assert gallery.rows == [[0, 3]]
    assert notes == ["1 of the pictures cannot be read and are left out"]


def test_page_of_runs_without_names_has_no_pictures(tmp_path: Path) -> None:
    notes: list[str] = []
    assert make_gallery([tmp_path], [{}], PictureSource(note=notes.append)) is None
    assert notes == []
    with pytest.raises(InputError, match=r"^--pictures: found .* with a run that does not know"):
        make_gallery([tmp_path], [{}], PictureSource(tmp_path))
