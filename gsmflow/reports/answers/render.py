"""The page of answers for new pictures or rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gsmflow.reports.web.assemble import assemble

__all__ = ["AnswersDocument", "ShownAnswer", "ShownRow", "render_answers"]


@dataclass(frozen=True)
class ShownAnswer:
    """One class for a row.

    Attributes
    ----------
    name, kind
        The class, and whether it is seen; without a kind, that none of the classes fits.
    score, probability
        Its score, and its probability from 0 to 1; None where there is none.
    bar
        The length of its bar, from 0 to 1.
    """

    name: str
    kind: Literal["seen", "unseen"] | None
    score: float | None
    probability: float | None
    bar: float


@dataclass(frozen=True)
class ShownRow:
    """A picture or a row, and its best answers.

    Attributes
    ----------
    name
        Its file, its name or its number.
    answers
        The best first.
    picture
        A JPEG file as base64; None without a picture.
    """

    name: str
    answers: Sequence[ShownAnswer]
    picture: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnswersDocument:
    """What the page shows.

    Attributes
    ----------
    model, dataset, run
        The method, what it was trained on, and the run's directory.
    decision
        How scores become answers.
    bars
        What the bars show.
    named_by
        What a row is.
    rows
        The rows that are shown.
    seen, unseen, rejected
        How many of all rows are answered with seen classes, with unseen ones, and with none.
    sentences
        What else is known of all of them, one sentence each.
    """

    model: str
    dataset: str
    run: str
    decision: str
    bars: str
    named_by: Literal["file", "row"]
    rows: Sequence[ShownRow]
    seen: int
    unseen: int
    rejected: int = 0
    sentences: Sequence[str] = ()


def render_answers(document: AnswersDocument) -> str:
    """A self-contained HTML page."""
    content: dict[str, Any] = asdict(document)
    return assemble(
        content,
        title=f"Answers by {document.model} on {document.dataset}",
        written_by="python -m gsmflow predict --html",
        package="gsmflow.reports.answers",
        body="answers.html",
        style="answers.css",
        scripts=("answers.js",),
        charts=False,
    )
