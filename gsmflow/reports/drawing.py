"""Drawing pictures of figures that are saved already."""

from collections.abc import Callable
from pathlib import Path

from gsmflow.core.errors import one_line

__all__ = ["drawn"]


def drawn(draw: Callable[[], Path], warn: Callable[[str], object]) -> list[Path]:
    """Draw a picture of figures that are saved already.

    Parameters
    ----------
    draw
        Draws it and returns its file.
    warn
        Called with a sentence if that fails: no picture is worth a finished run.

    Returns
    -------
    list
        The file, or nothing.
    """
    try:
        return [draw()]
    except Exception as error:
        warn(f"a picture cannot be drawn ({type(error).__name__}: {one_line(error)})")
        return []
