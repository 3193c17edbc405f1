"""The page of ``predict --html``: the first answers with their pictures, up to a size in all."""

from collections.abc import Sequence
from pathlib import Path

from gsmflow.reports.answers.render import ShownAnswer, ShownRow
from gsmflow.reports.class_names import readable_name
from gsmflow.reports.web.thumbnails import PAGE_BYTES, Thumbnails
from gsmflow.runs.predict import Answer

__all__ = ["SHOWN_ANSWERS", "ShownRows", "bar_length"]

SHOWN_ANSWERS = 3
"""Answers of each row on the page."""

# What `bar_length` is, for readers of the page.
_PROBABILITIES = "Bars show the probability of each answer."
_ORDER = "Bars show the order of the answers alone, as scores have no unit."

_MOST_ROWS = 1000


def bar_length(answer: Answer, rank: int, count: int) -> float:
    """The length of an answer's bar, from 0 to 1: its probability, where that is known.

    Parameters
    ----------
    answer
        The answer; that none of the classes fits has no bar.
    rank
        Its rank, from 0 for the best answer.
    count
        How many answers the row has.
    """
    if answer.kind is None:
        return 0.0
    return (count - rank) / count if answer.probability is None else answer.probability


class ShownRows:
    """The rows that the page shows: the first ones, as far as there is room.

    Parameters
    ----------
    pictures
        The picture, or the folder that the names of the rows are below; None for rows without
        pictures.
    limit
        The most bytes of all pictures.

    Attributes
    ----------
    rows
        The rows so far.
    """

    def __init__(self, pictures: Path | None, limit: int = PAGE_BYTES) -> None:
        self.rows: list[ShownRow] = []
        self._pictures = pictures
        self._thumbnails = Thumbnails(limit)
        self._full = False

    def add(self, name: int | str, answers: Sequence[Answer]) -> None:
        """Add a row with its best answers, unless the page is full."""
        self._full = self._full or len(self.rows) >= _MOST_ROWS or not self._add_picture(str(name))
        if self._full:
            return
        best = answers[:SHOWN_ANSWERS]
        shown = [
            ShownAnswer(
                readable_name(one.name),
                one.kind,
                None if one.score is None else float(f"{one.score:.9g}"),
                one.probability,
                bar_length(one, rank, len(best)),
            )
            for rank, one in enumerate(best)
        ]
        self.rows.append(ShownRow(str(name), shown, self._thumbnails.texts.get(str(name))))

    @property
    def bars(self) -> str:
        """What the bars show, for readers of the page."""
        known = any(one.probability is not None for row in self.rows for one in row.answers)
        return _PROBABILITIES if known else _ORDER

    def _add_picture(self, name: str) -> bool:
        """Whether there was room for a row's picture, if it has one."""
        if self._pictures is None:
            return True
        is_folder = self._pictures.is_dir()
        return self._thumbnails.add(name, self._pictures / name if is_folder else self._pictures)
