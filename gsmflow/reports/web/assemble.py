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
    """
    chart = re.sub(r"\n//# sourceMappingURL=\S*", "", _asset(_SHARED, "vendor/chart.umd.min.js"))
    shared = [_asset(_SHARED, name) for name in ("base.js", "drawing.js")]
    own = [_asset(package, name) for name in scripts]
    blocks = [f"\n{chart.strip()}\n", "\n" + "\n".join(shared + own)]
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
        "chart_licence": html.escape(_asset(_SHARED, "vendor/LICENSE.md")),
        "data": _inside_script(document),
        "chart": blocks[0],
        "script": blocks[1],
    }
    frame = _asset(_SHARED, "frame.html")
    return re.sub(r"\{\{ (\w+) \}\}", lambda slot: filling[slot[1]], frame)


def _asset(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _inside_script(document: Mapping[str, Any]) -> str:
    """JSON that no text in it can end the element around it with."""
    return json.dumps(document, allow_nan=False, default=str).replace("<", "\\u003c")
