"""One HTML file of a document, the scripts that show it, their styles and a chart library."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

__all__ = ["assemble"]

_SHARED = "gsmflow.reports.web"


def assemble(
    document: Mapping[str, Any],
    *,
    title: str,
    written_by: str,
    package: str,
    body: str,
    style: str,
    scripts: Sequence[str],
    charts: bool = True,
) -> str:
    """A self-contained HTML page, which fetches nothing and runs only its own scripts.

    Its script finds the document as ``content``, and has what ``base.js`` and ``drawing.js`` give.

    Parameters
    ----------
    document
        What the page shows, JSON-ready, without NaN and infinities. Its texts may be anything.
    title
        The title of the window; any text.
    written_by
        The command that writes such pages, for the foot of the page.
    package
        The package that holds the files named below.
    body
        An HTML file: all that stands between the head and the foot of the page.
    style
        A style sheet that is added to ``base.css``.
    scripts
        JavaScript files that run one after the other, after ``base.js`` and ``drawing.js``.
    charts
        Whether the page draws charts; else it has neither the chart library nor ``drawing.js``.
    """
    shared = [_asset(_SHARED, name) for name in ("base.js", "drawing.js")[: 1 + charts]]
    own = [_asset(package, name) for name in scripts]
    blocks = [*([_chart_library()] if charts else []), "\n" + "\n".join(shared + own)]
    filling = {
        "title": html.escape(title),
        # Nothing but these scripts may run, and nothing may be fetched.
        "policy": "; ".join(
            (
                "default-src 'none'",
                "style-src 'unsafe-inline'",
                "img-src data:",
                f"script-src {' '.join(map(_source_hash, blocks))}",
            )
        ),
        "style": _asset(_SHARED, "base.css") + _asset(package, style),
        "body": _asset(package, body),
        "written_by": html.escape(written_by),
        "credits": _chart_credits() if charts else "",
        "data": _inside_script(document),
        "scripts": "\n".join(f"<script>{block}</script>" for block in blocks),
    }
    frame = _asset(_SHARED, "frame.html")
    return re.sub(r"\{\{ (\w+) \}\}", lambda slot: filling[slot[1]], frame)


def _chart_library() -> str:
    text = _asset(_SHARED, "vendor/chart.umd.min.js")
    return "\n" + re.sub(r"\n//# sourceMappingURL=\S*", "", text).strip() + "\n"


def _chart_credits() -> str:
    licence = html.escape(_asset(_SHARED, "vendor/LICENSE.md"))
    return (
        "<p>Charts by Chart.js.</p>\n<details><summary>Licence of Chart.js</summary>"
        f'<pre tabindex="0">{licence}</pre></details>'
    )


def _asset(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _inside_script(document: Mapping[str, Any]) -> str:
    """JSON that no text in it can end the element around it with."""
    return json.dumps(document, allow_nan=False, default=str).replace("<", "\\u003c")
