"""The page of a leaderboard: tables to sort and filter, accuracy against time, average ranks."""

from collections.abc import Mapping
from typing import Any

from gsmflow.reports.web.assemble import assemble

__all__ = ["render_leaderboard"]


def render_leaderboard(document: Mapping[str, Any]) -> str:
    """A self-contained HTML page that shows the figures of methods on datasets.

    Parameters
    ----------
    document
        JSON-ready, without NaN and infinities; texts may be anything. Its fields:

        ``title``, ``command``, ``protocol``
            The heading, the command line that made the figures, and a sentence on how they were
            measured.
        ``made``
            What made them: commit, machine, versions; an object of texts and objects.
        ``class_splits``
            On how many random class splits each cell ran; 0 or left out: on the dataset's own.
        ``metrics``
            Objects with ``key``, ``label`` and ``description``, in the order of the columns.
        ``datasets``
            Objects with ``key``, ``dataset``, ``features``, ``semantics``, and the numbers of
            ``seen`` and ``unseen`` classes and of test ``rows``.
        ``methods``
            Objects with ``key``, ``label``, ``kind``, ``classifier``, ``preset`` and ``paper``.
        ``cells``
            Objects with the keys of a ``method`` and a ``dataset``; ``state``: ``done``,
            ``failed`` with a ``sentence``, or ``missing``; a list of ``seeds``; ``figures`` by
            key of a metric, with ``mean``, ``std``, ``low`` and ``high`` (of the 95 % interval)
            in percent, None where unknown, and ``best``; ``seconds``, ``peak_mib`` and ``page``
            (a path relative to this page), which may be None. A cell or figure may be left out.
        ``ranks``
            None, or an object with the key of a ``metric``, ``methods`` with ``key`` and
            ``rank``, ``critical_difference`` and ``p`` (which may be None), and the number of
            ``datasets``.
        ``published``
            Objects like `gsmflow.reports.published.Published`.
    """
    return assemble(
        document,
        title=str(document["title"]),
        written_by="python -m gsmflow benchmark",
        package="gsmflow.reports.leaderboard",
        body="leaderboard.html",
        style="leaderboard.css",
        scripts=("sortable.js", "scatter.js", "leaderboard.js"),
    )
