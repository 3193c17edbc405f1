"""Finding pictures in a folder of classes, and reading them whatever kind they are of."""

import os
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gsmflow.core.errors import InputError, one_line

__all__ = [
    "ImageFolder",
    "PictureError",
    "Skipped",
    "class_key",
    "find_images",
    "open_picture",
    "quiet_readers",
    "said_path",
    "walk_files",
]

# A picture much longer than wide would be scaled to one that fills the memory.
_LONGEST_TO_SHORTEST = 100
_SIXTEEN_BIT = 65535


class PictureError(ValueError):
    """A file that is no readable picture; the message says why, without naming the file."""


@dataclass(frozen=True)
class Skipped:
    """A file that is left out.

    Attributes
    ----------
    path
        Below the folder of images.
    reason
        Why, in a few words.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFolder:
    """Files below a folder that has one subfolder per class.

    Attributes
    ----------
    root
        The folder.
    classes
        Names of the subfolders, ascending.
    files
        Of each class, the files at any depth below ``root``, ascending; whether they are pictures
        is known when they are read.
    skipped
        What lies there and is no file of a class.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    skipped: tuple[Skipped, ...]


def class_key(name: str) -> str:
    """What two spellings of a class name have in common.

    Case, the Unicode form (which file systems change) and the choice between spaces and
    underscores do not tell two classes apart.
    """
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def said_path(path: Path) -> str:
    """A path as text that can be written anywhere, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def find_images(root: Path) -> ImageFolder:
    """Find the files of each class; names that begin with a dot are passed over.

    Links are followed, and each folder is entered once, so that a link to a folder above ends
    there.

    Parameters
    ----------
    root
        Folder with one subfolder per class.

    Raises
    ------
    InputError
        If it is no folder, has no subfolder, or has two whose names differ by case, by Unicode
        form, or by spaces and underscores alone.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected one with a subfolder for each class")
    try:
        entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        folders = [path for path in entries if path.is_dir() and not _leads_up(path, root)]
        skipped = [
            Skipped(path.relative_to(root), "in no class's folder")
            for path in entries
            if not path.is_dir()
        ]
        files: list[tuple[Path, ...]] = []
        for folder in folders:
            own, left_out = _files_below(folder, root)
            files.append(tuple(own))
            skipped += left_out
    except OSError as error:
        raise _unreadable(error) from error
    names = tuple(folder.name for folder in folders)
    _check_names(root, names)
    return ImageFolder(root, names, tuple(files), tuple(skipped))


def _leads_up(path: Path, root: Path) -> bool:
    """Whether a folder is a link to the root or to a folder above it."""
    return root.resolve().is_relative_to(path.resolve())


def _check_names(root: Path, names: tuple[str, ...]) -> None:
    if not names:
        raise InputError(f"{root}: found no subfolder, expected one for each class")
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(class_key(name), name)
        if other != name:
            raise InputError(
                f"{said_path(root / name)}: found a folder whose name is that of "
                f"{said_path(Path(other))} but for its spelling, expected one folder for each class"
            )


def _files_below(folder: Path, root: Path) -> tuple[list[Path], list[Skipped]]:
    """The regular files below a folder, and what is none, by paths below the root."""
    files: list[Path] = []
    skipped: list[Skipped] = []
    for path in _walk(folder, {_identity(root)}):
        relative = path.relative_to(root)
        if path.is_file():
            files.append(relative)
        else:
            skipped.append(Skipped(relative, "no regular file"))
    return sorted(files), sorted(skipped, key=lambda one: one.path)


def walk_files(root: Path) -> Iterator[Path]:
    """The regular files at any depth below a folder, one folder's at a time, each by name.

    What is passed over and followed is as in `find_images`; no more is held than the names in one
    folder, and which folders were entered.

    Raises
    ------
    InputError
        If a folder cannot be read.
    """
    try:
        for path in _walk(root, set()):
            if path.is_file():
                yield path
    except OSError as error:
        raise _unreadable(error) from error


def _walk(folder: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
    """What lies below a folder and is no folder; those that were entered are not entered again."""

    def refuse(error: OSError) -> None:
        raise error

    for place, below, names in os.walk(folder, followlinks=True, onerror=refuse):
        entered.add(_identity(Path(place)))
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and _identity(Path(place, name)) not in entered
        )
        entered |= {_identity(Path(place, name)) for name in below}
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)


def _unreadable(error: OSError) -> InputError:
    return InputError(
        f"{error.filename}: not readable ({error.strerror}), expected a folder of images"
    )


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def open_picture(path: Path) -> Image.Image:
    """Read a picture as 8-bit RGB, upright.

    The first frame stands for an animated one, the side that EXIF calls up is turned up,
    16-bit grey is scaled to 8 bit, and white shines through what is transparent.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    PictureError
        If it is no picture, is damaged, is cut short, or has pixels that no scale is known of.
    """
    try:
        with Image.open(path) as file:
            wide, high = file.size
            if max(wide, high) > _LONGEST_TO_SHORTEST * min(wide, high):
                raise PictureError(f"{wide} x {high} pixels: a strip, not a picture")
            file.load()
            return _as_rgb(ImageOps.exif_transpose(file))
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("not a picture") from error
    except Image.DecompressionBombError as error:
        raise PictureError("too many pixels") from error
    except Exception as error:
        # Pillow's readers raise a dozen types on damaged files, depending on which byte is wrong.
        raise PictureError(f"damaged ({one_line(error) or type(error).__name__})") from error


def _as_rgb(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > _SIXTEEN_BIT:
            raise PictureError("32-bit pixels, of unknown range")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise PictureError("floating-point pixels, of unknown range")
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        ground = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


@contextmanager
def quiet_readers() -> Iterator[None]:
    """A context in which Pillow does not warn of what it copes with.

    Faulty metadata and many pixels are no reason to leave a picture out. To be entered outside
    the threads that read.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
