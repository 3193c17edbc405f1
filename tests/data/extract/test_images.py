import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gsmflow.core.errors import InputError
from gsmflow.data.extract.images import (
    PictureError,
    find_images,
    open_picture,
    quiet_readers,
)

FORMATS = ("jpg", "png", "gif", "bmp", "tiff", "webp")


def ramp(high: int = 6, wide: int = 9) -> NDArray[np.uint8]:
    """A picture in which every pixel has another colour."""
    rows, columns = np.mgrid[:high, :wide]
    return np.stack([rows * 20, columns * 20, rows * 0 + 7], axis=2).astype(np.uint8)


def pixels(path: Path) -> NDArray[np.uint8]:
    picture = open_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


# --- finding -------------------------------------------------------------------------------------


def test_files_are_found_by_class_in_order(tmp_path: Path) -> None:
    root = touch(tmp_path, "b/2.jpg", "b/1.jpg", "a/deep/er/x.png", "a/deep/w.png", "ü/æ 🦓.jpg")
    touch(root, ".hidden/a.jpg", "a/.DS_Store", "a/.git/x.jpg", "loose.jpg")
    (root / "empty").mkdir()
    found = find_images(root)
    assert found.classes == ("a", "b", "empty", "ü")
    names = [[str(path) for path in files] for files in found.files]
    assert names == [
        ["a/deep/er/x.png", "a/deep/w.png"],
        ["b/1.jpg", "b/2.jpg"],
        [],
        ["ü/æ 🦓.jpg"],
    ]
    assert [(str(one.path), one.reason) for one in found.skipped] == [
        ("loose.jpg", "in no class's folder")
    ]


def test_links_are_followed_without_loops(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a/1.jpg", "b/2.jpg")
    outside = touch(tmp_path / "outside", "3.jpg")
    (root / "a" / "more").symlink_to(outside)
    (root / "a" / "again").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (outside / "round").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "a" / "gone.jpg").symlink_to(root / "nowhere")
    os.mkfifo(root / "a" / "pipe")
    found = find_images(root)
    assert found.classes == ("a", "b")
    assert [str(path) for path in found.files[0]] == ["a/1.jpg", "a/more/3.jpg"]
    reasons = [(one.path.name, one.reason) for one in found.skipped]
    assert reasons == [("gone.jpg", "no regular file"), ("pipe", "no regular file")]


@pytest.mark.parametrize("other", ["zebra", "ZEBRA", "Zebra_", "Zebra "])
def test_folders_that_differ_only_in_spelling_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "Zebra/1.jpg", f"{other}/1.jpg")
    with pytest.raises(
        InputError, match=r"found a folder whose name equals \S+ ?_? ?up to spelling"
    ):
        find_images(tmp_path)


def test_folders_that_differ_only_in_unicode_form_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "é/1.jpg", "e\N{COMBINING ACUTE ACCENT}/1.jpg")
    with pytest.raises(InputError, match="up to spelling"):
        find_images(tmp_path)


@pytest.mark.parametrize("make", [None, "file", "empty"])
def test_folder_without_classes_is_refused(tmp_path: Path, make: str | None) -> None:
    root = tmp_path / "root"
    if make == "file":
        root.write_bytes(b"")
    if make == "empty":
        touch(root, "loose.jpg")
    with pytest.raises(InputError, match=r"expected one (with a subfolder )?for each class"):
        find_images(root)


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_rgb_is_read_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ramp()).save(path)
    np.testing.assert_array_equal(pixels(path), ramp())


def test_suffix_of_a_picture_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "a", format="png")
    np.testing.assert_array_equal(pixels(tmp_path / "a"), ramp())


# The transformation that turns the stored picture upright, by the EXIF table of orientations.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), UPRIGHT[orientation](ramp()))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_to_8_bit(tmp_path: Path, suffix: str) -> None:
    grey = np.array([[0, 128, 255], [1, 2, 254]])
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), np.stack([grey] * 3, axis=2))


def test_grey_and_binary_pictures_become_rgb(tmp_path: Path) -> None:
    grey = ramp()[:, :, 1]
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.stack([grey] * 3, axis=2))
    Image.fromarray(grey > 90).save(tmp_path / "b.png")
    assert set(np.unique(pixels(tmp_path / "b.png"))) == {0, 255}


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() < 12


def test_transparent_pixels_are_drawn_on_white(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4), dtype=np.uint8)
    layers[:, :, 0] = 200
    layers[:, 1, 3], layers[:, 2, 3] = 255, 51
    Image.fromarray(layers).save(tmp_path / "a.png")
    expected = [[255, 255, 255], [200, 0, 0], [244, 204, 204]]  # 51 / 255 of (200, 0, 0) on white
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[0], expected)
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("P")
    palette.putpalette([9, 9, 9, 1, 2, 3])
    palette.save(tmp_path / "b.png", transparency=0)
    np.testing.assert_array_equal(pixels(tmp_path / "b.png"), [[[255] * 3, [1, 2, 3]]])


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    more = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **more)
    assert (pixels(tmp_path / f"a.{suffix}") == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("mode", "value", "reason"),
    [("I", 70000, "32-bit pixels"), ("I", -1, "32-bit pixels"), ("F", 0.5, "floating-point")],
)
def test_pixels_of_unknown_range_are_refused(
    tmp_path: Path, mode: str, value: float, reason: str
) -> None:
    Image.new(mode, (4, 4), value).save(tmp_path / "a.tiff")
    with pytest.raises(PictureError, match=reason):
        open_picture(tmp_path / "a.tiff")


def test_very_long_picture_is_refused(tmp_path: Path) -> None:
    Image.new("L", (4000, 3)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="4000 x 3 pixels: a strip"):
        open_picture(tmp_path / "a.png")
    Image.new("L", (1, 1)).save(tmp_path / "b.png")
    assert open_picture(tmp_path / "b.png").size == (1, 1)


def test_picture_with_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with quiet_readers():
        assert open_picture(tmp_path / "a.png").size == (40, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(PictureError, match="too many pixels"):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4"])
def test_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PictureError, match=r"not a picture|damaged"):
        open_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for cut in range(0, len(whole) * 9 // 10, max(1, len(whole) // 23)):
        path.write_bytes(whole[:cut])
        with pytest.raises(PictureError):
            open_picture(path)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_picture_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a.{suffix}"
    Image.fromarray(ramp(20, 30)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with suppress(PictureError), quiet_readers():
        assert open_picture(path).mode == "RGB"


def test_only_warnings_of_pillow_are_ignored() -> None:
    with quiet_readers(), pytest.warns(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)
