"""Find pictures in a folder of classes, and read pictures of any kind as RGB."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import path_text
from gsmflow.data.class_names import class_key

__all__ = [
    "ImageFolder",
    "PictureError",
    "Skipped",
    "find_images",
    "open_picture",
    "quiet_readers",
    "walk_files",
]

# Preprocessing would scale a very long and thin picture to one that fills the memory.
_LONGEST_TO_SHORTEST = 100
_SIXTEEN_BIT = 65535


class PictureError(ValueError):
    """A file is no readable picture; the message says why and does not name the file."""


@dataclass(frozen=True)
class Skipped:
    """A file that is left out.

    Attributes
    ----------
    path
        Its path below the folder of images.
    reason
        The reason, in a few words.
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
        The files of each class at any depth, ascending, as paths below ``root``. They are not
        opened: some may not be pictures.
    skipped
        Entries that are no file of a class.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    skipped: tuple[Skipped, ...]


def find_images(root: Path) -> ImageFolder:
    """Find the files of each class; names that begin with a dot are ignored.

    Links are followed. Each folder is entered once, so that a link to a folder above makes no
    loop.

    Parameters
    ----------
    root
        Folder with one subfolder per class.

    Raises
    ------
    InputError
        If it is no folder, has no subfolder, or has two subfolders with the same `class_key`.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected one with a subfolder for each class")
    try:
        entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        folders = [path for path in entries if path.is_dir() and not _contains_root(path, root)]
        skipped = [
            Skipped(path.relative_to(root), "in no class's folder")
            for path in entries
            if not path.is_dir()
        ]
        files: list[tuple[Path, ...]] = []
        for folder in folders:
            class_files, class_skipped = _files_below(folder, root)
            files.append(tuple(class_files))
            skipped += class_skipped
    except OSError as error:
        raise _unreadable(error) from error
    names = tuple(folder.name for folder in folders)
    _check_names(root, names)
    return ImageFolder(root, names, tuple(files), tuple(skipped))


def _contains_root(path: Path, root: Path) -> bool:
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
                f"{path_text(root / name)}: found a folder whose name equals "
                f"{path_text(Path(other))} up to spelling, expected one folder for each class"
            )


def _files_below(folder: Path, root: Path) -> tuple[list[Path], list[Skipped]]:
    """The regular files below a folder, and all other entries, as paths below the root."""
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
    """Yield the regular files at any depth below a folder, folder by folder, sorted by name.

    Names and links are treated as in `find_images`. Memory holds only the names in one folder and
    the identities of the folders entered.

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
    """Yield all entries below a folder except folders; a folder is never entered twice."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, subfolders, names in os.walk(folder, followlinks=True, onerror=refuse):
        entered.add(_identity(Path(parent)))
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and _identity(Path(parent, name)) not in entered
        )
        entered |= {_identity(Path(parent, name)) for name in subfolders}
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(parent, name)


def _unreadable(error: OSError) -> InputError:
    return InputError(
        f"{error.filename}: not readable ({error.strerror}), expected a folder of images"
    )


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def open_picture(path: Path, at_least: int | None = None) -> Image.Image:
    """Read a picture as 8-bit RGB, upright.

    An animation gives its first frame, the EXIF orientation is applied, 16-bit grey is scaled to
    8 bit, and transparent pixels are drawn on white.

    Parameters
    ----------
    path
        The file.
    at_least
        Pixels of each side that are enough: a JPEG file may be read at a reduced size, which is
        faster. None for all that it has.

    Raises
    ------
    PictureError
        If it is no picture, is damaged or truncated, or has pixels of unknown range.
    """
    try:
        with Image.open(path) as file:
            wide, high = file.size
            if max(wide, high) > _LONGEST_TO_SHORTEST * min(wide, high):
                raise PictureError(f"{wide} x {high} pixels: a strip, not a picture")
            if at_least is not None:
                file.draft(None, (at_least, at_least))
            file.load()
            return _as_rgb(ImageOps.exif_transpose(file))
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("not a picture") from error
    except Image.DecompressionBombError as error:
        raise PictureError("too many pixels") from error
    except Exception as error:
        # On damaged files Pillow raises a dozen types, depending on the damage.
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
        background = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(background, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


@contextmanager
def quiet_readers() -> Iterator[None]:
    """A context without Pillow's warnings about faulty metadata and large pictures.

    Such pictures are still read. Enter it outside the threads that read.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
