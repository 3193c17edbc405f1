"""Pictures of a dataset, found again by their names, and small copies of them."""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gsmflow.core.files import path_text
from gsmflow.data.extract.existing import match_pictures
from gsmflow.data.extract.images import open_picture, quiet_readers, walk_files

__all__ = ["find_pictures", "thumbnail"]

_PIXELS, _QUALITY = 96, 80


def find_pictures(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """The file of each picture that is there, by its name in a dataset.

    Parameters
    ----------
    names
        Paths of pictures as a dataset lists them.
    folder
        The folder that they are below. Where none of the paths is there, pictures are found by the
        ends of their paths, as `match_pictures` does.

    Raises
    ------
    InputError
        If pictures must be found by the ends of their paths, and two have the same.
    """
    there = {name: folder / name for name in names if _is_below(name)}
    there = {name: file for name, file in there.items() if file.is_file()}
    if there:
        return there
    whole = folder.resolve()  # a picture may lie right in the folder
    files = [whole / file.relative_to(folder) for file in walk_files(folder)]
    wanted = list(dict.fromkeys(names))
    found = match_pictures(
        wanted, "the pictures of the dataset", [*map(path_text, files)], str(folder)
    )
    return {name: files[i] for name, i in zip(wanted, found, strict=True) if i >= 0}


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def thumbnail(path: Path) -> bytes:
    """A small copy of a picture: a JPEG file, 96 pixels at its longer side.

    A smaller picture keeps its size.

    Raises
    ------
    PictureError
        If the file is no readable picture.
    """
    with quiet_readers():
        picture = open_picture(path, at_least=2 * _PIXELS)
    picture.thumbnail((_PIXELS, _PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
