"""The frame of every HTML page: its policy names its scripts, and no text leaves its place."""

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.reports.web.assemble import assemble

PAGE = {
    "written_by": "python -m gsmflow benchmark",
    "package": "gsmflow.reports.leaderboard",
    "body": "leaderboard.html",
    "style": "leaderboard.css",
    "scripts": ("leaderboard.js",),
}


class Parsed(HTMLParser):
    """What a page's scripts, title and policy are to a parser of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.title = ""
        self.policy = ""
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        if tag == "script":
            self.scripts.append("")
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        if self.inside == "title":
            self.title += data


def test_policy_has_the_hash_of_each_script_that_runs() -> None:
    page = Parsed(assemble({}, title="", **PAGE))
    data, *running = page.scripts
    assert json.loads(data) == {}
    assert len(running) == 2
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in running]
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    assert page.policy.endswith(f"script-src {allowed}")


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")))
@pytest.mark.parametrize(
    "around", ["{}", "</script><script>{}", "{{{{ data }}}} {}<!--", "</title>{}"]
)
def test_any_text_stays_where_it_belongs(around: str, text: str) -> None:
    document: dict[str, Any] = {"text": around.format(text)}
    page = Parsed(assemble(document, title=document["text"], **PAGE))
    assert json.loads(page.scripts[0]) == document
    assert page.title == document["text"]
    assert len(page.scripts) == 3


def test_page_without_charts_has_no_library_and_its_policy_still_holds() -> None:
    page = Parsed(assemble({}, title="", charts=False, **PAGE))
    _, *running = page.scripts
    assert len(running) == 1
    digest = base64.b64encode(hashlib.sha256(running[0].encode()).digest()).decode()
    assert page.policy.endswith(f"script-src 'sha256-{digest}'")
    assert "Chart.defaults" not in running[0]
