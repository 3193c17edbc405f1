"""The test pictures on a run's page: which of them, and where they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsmflow.core.errors import InputError
from gsmflow.data.extract.record import recorded_facts
from gsmflow.data.extract.thumbnails import find_pictures
from gsmflow.reports.web.thumbnails import PAGE_BYTES, Thumbnails

__all__ = ["Gallery", "PictureSource", "make_gallery"]

_FLAG = "--pictures"


@dataclass(frozen=True)
class PictureSource:
    """Where the pictures of a page are.

    Attributes
    ----------
    folder
        The folder of the dataset's pictures; None for the one that the dataset was made of.
    note
        Called with a sentence if there are none.
    """

    folder: Path | None = None
    note: Callable[[str], object] = lambda text: None


@dataclass(frozen=True, eq=False)
class Gallery:
    """The pictures of a page.

    Attributes
    ----------
    texts
        Thumbnails by name, as `Thumbnails` has them.
    rows
        Of each run, the test rows whose pictures are shown, in their order.
    """

    texts: Mapping[str, str]
    rows: Sequence[list[int]]


def make_gallery(
    directories: Sequence[Path],
    pictures: Sequence[Mapping[int, str]],
    source: PictureSource,
    limit: int = PAGE_BYTES,
) -> Gallery | None:
    """Thumbnails of the runs of a page; None, with a note, where there are no pictures.

    Parameters
    ----------
    directories
        The directories of the runs.
    pictures
        Of each run, the names of its pictures by test rows, those to be shown first in front. All
        runs have equal shares of the limit.
    source
        Where the pictures are.
    limit
        The most bytes of all thumbnails.

    Raises
    ------
    InputError
        If the folder that the source names has none of the pictures.
    """
    names = list(dict.fromkeys(name for of_run in pictures for name in of_run.values()))
    files = _find(directories[0], names, source)
    if not files:
        return None
    thumbnails = Thumbnails(0)
    for number, of_run in enumerate(pictures, start=1):
        thumbnails.limit = limit * number // len(pictures)
        # What is shown is the first of an order: no smaller picture after it fills a gap.
        all(thumbnails.add(name, files[name]) for name in of_run.values() if name in files)
    if thumbnails.unreadable:
        count = len(thumbnails.unreadable)
        source.note(f"{count} of the pictures cannot be read and are left out")
    texts = thumbnails.texts
    rows = [[row for row, name in of_run.items() if name in texts] for of_run in pictures]
    return Gallery(texts, rows)


def _find(directory: Path, names: Sequence[str], source: PictureSource) -> dict[str, Path]:
    """The files of the pictures by name; none, with a note, where there are none."""
    if source.folder is not None:
        try:
            return _find_in(source.folder, names)
        except InputError as error:
            raise InputError(f"{_FLAG}: {error}") from error
    if not names:
        return {}
    recorded = recorded_facts(directory).pictures
    if recorded is None:
        source.note(
            f"no pictures on the page: the run has no record of their folder; {_FLAG} names it"
        )
        return {}
    try:
        return _find_in(Path(recorded), names)
    except InputError as error:
        source.note(f"no pictures on the page: {error}; {_FLAG} names their present folder")
        return {}


def _find_in(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    if not names:
        raise InputError(
            f"found {folder} with a run that does not know the names of its pictures, expected a "
            "run on a dataset that names them ('image_files')"
        )
    if not folder.is_dir():
        raise InputError(f"found no folder {folder}, expected that of the dataset's pictures")
    found = find_pictures(names, folder)
    if not found:
        raise InputError(
            f"found none of the dataset's pictures in {folder}, expected some, such as {names[0]}"
        )
    return found
