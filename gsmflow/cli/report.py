"""The command ``report``: write a finished run as one HTML page."""

import errno
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from gsmflow.cli.verb import Verb
from gsmflow.core.errors import naming_flag
from gsmflow.core.files import write_bytes
from gsmflow.reports.page.document import read_run
from gsmflow.reports.page.gallery import PictureSource
from gsmflow.reports.page.projection import MapName
from gsmflow.reports.page.render import render_page
from gsmflow.runs.sections import REPORTS

__all__ = ["VERB", "ReportOptions", "run_report"]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write a finished run as one HTML page that needs no network.

    A run of several seeds is also one page, with a choice of the seed.
    """

    run: Positional[Path]
    """The run directory, such as out/FLO/20250131-101500-seed0."""
    map: MapName = "pca"
    """Projection for the map of real and synthesized features: tsne and umap keep neighbours
    together and take up to a minute; umap needs the package umap-learn."""
    pictures: Path | None = None
    """Folder of the dataset's pictures, some of which are shown; None: that which python -m gsmflow
    extract made the dataset of, if it is there."""
    into: Path | None = None
    """The file to write; None: report.html in the run directory."""
    open: bool = False
    """Show the page in the web browser."""


def run_report(options: ReportOptions, console: Console) -> None:
    """Write the page, print its path, and open it with ``--open``.

    Parameters
    ----------
    options
        The run, and where to write.
    console
        Where the path is printed.

    Raises
    ------
    InputError
        If there is no finished run, one of its files is damaged, ``--pictures`` has none of the
        pictures, or the page cannot be written.
    """
    source = PictureSource(
        options.pictures, lambda text: console.print(f"note: {text}", soft_wrap=True)
    )
    document = read_run(options.run, REPORTS, options.map, source)
    path = options.into or options.run / "report.html"
    content = render_page(document).encode()
    with naming_flag("--into", path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder")
        write_bytes(path, content)
    console.print(f"page: {path} ({len(content) / 1e6:.1f} MB)", soft_wrap=True)
    if options.open and not webbrowser.open(path.resolve().as_uri()):
        console.print("warning: found no web browser to open it in")


VERB = Verb(ReportOptions, lambda options, console, flags: run_report(options, console))
