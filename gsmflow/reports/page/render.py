"""The page of a run."""

from collections.abc import Mapping
from typing import Any

from gsmflow.reports.web.assemble import assemble

__all__ = ["render_page"]


def render_page(document: Mapping[str, Any]) -> str:
    """A self-contained HTML page that shows a document.

    Parameters
    ----------
    document
        From `read_run`.
    """
    return assemble(
        document,
        title=f"{document['model']} on {document['dataset']}, {document['run']}",
        written_by="python -m gsmflow report",
        package="gsmflow.reports.page",
        body="page.html",
        style="page.css",
        scripts=("answers.js", "charts.js", "matrix.js", "gallery.js", "page.js"),
    )
