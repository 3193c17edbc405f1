"""Thumbnails inside a page, up to a size in all."""

import base64
from pathlib import Path

from gsmflow.data.extract.images import PictureError
from gsmflow.data.extract.thumbnails import thumbnail

__all__ = ["PAGE_BYTES", "Thumbnails"]

PAGE_BYTES = 2 * 2**20
"""The most that the thumbnails of a page take, as they stand in it."""


class Thumbnails:
    """Thumbnails by name, as texts that a page shows as ``data:image/jpeg;base64,TEXT``.

    Parameters
    ----------
    limit
        The most bytes of all texts together.

    Attributes
    ----------
    texts
        The texts by name.
    unreadable
        The names of the files that are no readable pictures.
    """

    def __init__(self, limit: int = PAGE_BYTES) -> None:
        self.limit = limit
        self.texts: dict[str, str] = {}
        self.unreadable: set[str] = set()
        self._size = 0

    def add(self, name: str, file: Path) -> bool:
        """Add a picture's thumbnail, unless it is there; False if there is no room for it."""
        if name in self.texts or name in self.unreadable:
            return True
        try:
            text = base64.b64encode(thumbnail(file)).decode("ascii")
        except PictureError:
            self.unreadable.add(name)
            return True
        if self._size + len(text) > self.limit:
            return False
        self.texts[name] = text
        self._size += len(text)
        return True
