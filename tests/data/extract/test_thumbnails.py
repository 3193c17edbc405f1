"""Small copies of pictures, and the files of a dataset's pictures."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsmflow.core.errors import InputError
from gsmflow.data.extract.images import PictureError
from gsmflow.data.extract.thumbnails import find_pictures, thumbnail


def opened(path: Path) -> Image.Image:
    picture = Image.open(io.BytesIO(thumbnail(path)))
    assert picture.format == "JPEG"
    return picture


def smooth(width: int, height: int) -> Image.Image:
    """A picture whose colours change slowly, so that every way to reduce it gives the same."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8))


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize(("size", "expected"), [((960, 480), (96, 48)), ((40, 60), (40, 60))])
def test_thumbnail_is_the_picture_made_small(
    tmp_path: Path, ending: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    file = tmp_path / f"picture.{ending}"
    smooth(*size).save(file)
    found = opened(file)
    assert found.size == expected
    difference = np.asarray(found, float) - np.asarray(smooth(*expected), float)
    assert np.abs(difference).mean() < 4


def test_thumbnail_is_upright_and_white_where_it_is_transparent(tmp_path: Path) -> None:
    turned, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    smooth(400, 200).save(turned, exif=exif)
    assert opened(turned).size == (48, 96)
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(clear)
    assert np.asarray(opened(clear)).min() > 250


def test_file_that_is_no_picture_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(PictureError):
        thumbnail(tmp_path / "text.png")


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def test_pictures_are_found_by_their_paths_or_by_the_ends_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    touch(folder / "cat" / "deep" / "0.png", folder / "dog" / "0.png", tmp_path / "secret.png")
    names = ["cat/deep/0.png", "dog/0.png", "dog/1.png", "../secret.png"]
    assert find_pictures(names, folder) == {name: folder / name for name in names[:2]}
    elsewhere = ["/far/away/images/dog/0.png", "C:\\images\\deep\\0.png", "/far/away/dog/7.png"]
    assert find_pictures(elsewhere, folder) == {
        elsewhere[0]: folder / "dog" / "0.png",
        elsewhere[1]: folder / "cat" / "deep" / "0.png",
    }
    assert find_pictures(["bird/0.png"], folder) == {}


def test_pictures_with_equal_ends_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "dog" / "0.png", tmp_path / "b" / "dog" / "0.png")
    with pytest.raises(InputError, match=r"found 2 pictures that end in dog/0.png"):
        find_pictures(["/far/dog/0.png"], tmp_path)
