"""A browser for the tests of the HTML pages."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Shown", "accessibility_problems", "launched_browser", "pages_in"]

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Shown:
    """A page in the browser, and its errors."""

    page: Any
    complaints: list[str]
    requests: list[str]


@contextmanager
def launched_browser() -> Iterator[Any]:
    """Chromium; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if _CHROMIUM is None:
        pytest.skip("no Chromium here")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def pages_in(browser: Any, folder: Path) -> Iterator[Callable[..., Shown]]:
    """What shows the text of a page, offline; asserts at the end that it had no errors."""
    all_shown: list[tuple[Shown, Any, str]] = []

    def open_page(content: str, **options: Any) -> Shown:
        file = folder / f"page{len(all_shown)}.html"
        file.write_text(content)
        settings = {"viewport": {"width": 1200, "height": 900}, "offline": True}
        context = browser.new_context(**(settings | options))
        context.set_default_timeout(180_000)  # a busy machine is slow
        shown = Shown(context.new_page(), [], [])
        shown.page.on("console", lambda entry: shown.complaints.append(entry.text))
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("dialog", lambda dialog: shown.complaints.append(dialog.message))
        shown.page.on("request", lambda request: shown.requests.append(request.url))
        shown.page.goto(file.as_uri())
        all_shown.append((shown, context, file.as_uri()))
        return shown

    yield open_page
    for shown, context, address in all_shown:
        context.close()
        assert shown.complaints == []
        assert shown.requests == [address]


def accessibility_problems(page: Any) -> list[tuple[str, str]]:
    """What axe finds on a page in light colours, all of it open, and its contrasts in dark ones."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page.eval_on_selector_all("details", "all => all.forEach(item => { item.open = true })")
    found = axe.Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    contrast = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
    found += axe.Axe().run(page, options=contrast).response["violations"]
    return [(item["id"], item["nodes"][0]["html"]) for item in found]
