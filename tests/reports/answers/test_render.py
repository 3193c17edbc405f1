"""The page of answers, as a browser shows it."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from gsmflow.reports.answers.render import (
    AnswersDocument,
    ShownAnswer,
    ShownRow,
    render_answers,
)
from tests.browser import accessibility_problems, launched_browser, pages_in

MARKUP = "<img src=x onerror=alert(1)></script>"


def picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 48), "red").save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def document(**changes: Any) -> AnswersDocument:
    def row(name: str, best: str, kind: Any, shown: str | None) -> ShownRow:
        answers = [
            ShownAnswer(best, kind, -0.25, None, 1.0),
            ShownAnswer("second", "seen", -1.5, 0.125, 0.125),
        ]
        return ShownRow(name, answers, shown)

    values: dict[str, Any] = {
        "model": "GSMFlow",
        "dataset": MARKUP,
        "run": "out/TINY/run",
        "decision": "calibration factor gamma 0.5",
        "bars": "Bars show the order.",
        "named_by": "file",
        "rows": [
            row(f"{MARKUP}/0.png", MARKUP, "unseen", picture()),
            row("a/long" * 20 + ".png", "plain", "seen", None),
            ShownRow("c.png", [ShownAnswer("none of these", None, None, None, 0.0)]),
        ],
        "seen": 5,
        "unseen": 2,
        "rejected": 1,
        "sentences": ("3 of the 4 files are right.",),
    }
    return AnswersDocument(**(values | changes))


def test_page_shows_pictures_answers_and_kinds(tmp_path: Any) -> None:
    with launched_browser() as browser, pages_in(browser, tmp_path) as show:
        page = show(render_answers(document()), viewport={"width": 400, "height": 800}).page
        words = page.locator("#says li").all_inner_texts()
        assert words == [
            "8 pictures: 5 answered with a class that was seen in training, 2 with an unseen one, "
            "1 with none of these.",
            "3 of the 4 files are right.",
        ]
        assert page.locator("#rows > li").count() == 3
        assert page.eval_on_selector("#rows img", "i => [i.naturalWidth, i.alt]") == [
            96,
            f"Picture {MARKUP}/0.png",
        ]
        first = page.locator("#rows > li").first.inner_text()
        assert f"{MARKUP} (unseen) score -0.25" in first
        assert "second (seen) 12.5 %" in first
        widths = page.eval_on_selector_all(".fill", "all => all.map(f => f.style.width)")
        assert widths == ["100%", "12.5%"] * 2
        assert "The first 3 of 8 are on this page" in page.inner_text("#shown")
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        page.select_option("#kind", "none")
        assert page.locator("#rows > li").all_inner_texts() == ["c.png\nnone of these"]
        page.select_option("#kind", "seen")
        assert page.locator("#rows > li").count() == 1
        assert page.inner_text("#shown").startswith("1 picture.")
        page.fill("#filter", "nothing is called so")
        assert page.locator("#rows > li").count() == 0
        page.select_option("#kind", "all")
        page.fill("#filter", "")
        assert accessibility_problems(page) == []


@pytest.mark.parametrize("named_by", ["file", "row"])
def test_page_needs_no_chart_library(named_by: Any) -> None:
    text = render_answers(document(named_by=named_by))
    assert "Chart" not in text
    assert len(text) < 30_000
