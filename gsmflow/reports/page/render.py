"""The page: a document, the script that shows it, its style and a chart library, in one file."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

__all__ = ["render_page"]

_SCRIPTS = ("answers.js", "charts.js", "matrix.js", "page.js")


def render_page(document: Mapping[str, Any]) -> str:
    """A self-contained HTML page that shows a document.

    Parameters
    ----------
    document
        From `read_run`.
    """
    chart = re.sub(r"\n//# sourceMappingURL=\S*", "", _asset("vendor/chart.umd.min.js"))
    scripts = [f"\n{chart.strip()}\n", "\n" + "\n".join(map(_asset, _SCRIPTS))]
    title = f"{document['model']} on {document['dataset']}, {document['run']}"
    filling = {
        "title": html.escape(title),
        # Nothing but these scripts may run, and nothing may be fetched.
        "policy": "; ".join(
            (
                "default-src 'none'",
                "style-src 'unsafe-inline'",
                "img-src data:",
                f"script-src {' '.join(map(_source_hash, scripts))}",
            )
        ),
        "style": _asset("page.css"),
        "chart_licence": html.escape(_asset("vendor/LICENSE.md")),
        "data": _inside_script(document),
        "chart": scripts[0],
        "script": scripts[1],
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda slot: filling[slot[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return files("gsmflow.reports.page").joinpath(name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _inside_script(document: Mapping[str, Any]) -> str:
    """JSON that no text in it can end the element around it with."""
    return json.dumps(document, allow_nan=False, default=str).replace("<", "\\u003c")
