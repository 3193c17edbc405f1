"""The finished runs below a folder, for the message where one of them was asked for."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.core.nearest import such_as
from gsmflow.core.rounding import fixed
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.reports.metrics_file import open_metrics

__all__ = ["no_finished_run"]

_LISTED = 30


def no_finished_run(directory: Path, found: str) -> InputError:
    """What to say of a path that is no finished run's directory.

    Parameters
    ----------
    directory
        The path. Where it is a folder of runs, or of datasets with runs, these are listed, the
        latest first: path, method, H in percent, and when it was finished.
    found
        What to say where there is no run below it, such as ``"out/x: no such folder"``. The name
        of the run beside it that is nearest follows, if there is one.
    """
    for pattern in ("[!.]*", "[!.]*/[!.]*"):
        runs = [file.parent for file in directory.glob(f"{pattern}/{METRICS_FILE}")]
        if runs:
            runs.sort(key=lambda run: (-_finished(run), run))
            lines = [_line(run) for run in runs[:_LISTED]]
            more = [f"  and {len(runs) - _LISTED} more"] if len(runs) > _LISTED else []
            return InputError(
                f"{directory}: found a folder with {len(runs)} finished runs, expected one of "
                + "\n".join(["them:", *lines, *more])
            )
    beside = (str(file.parent) for file in directory.parent.glob(f"[!.]*/{METRICS_FILE}"))
    return InputError(
        f"{found}, expected the directory of a finished run{such_as(str(directory), beside)}"
    )


def _finished(run: Path) -> float:
    return (run / METRICS_FILE).stat().st_mtime


def _line(run: Path) -> str:
    """One run in words; only its path and time where its file is damaged."""
    parts, file = [f"  {run}"], run / METRICS_FILE
    with suppress(InputError):
        metrics = open_metrics(file)
        parts.append(metrics["model"].text())
        parts += _h(metrics["H"])
    parts.append(datetime.fromtimestamp(_finished(run)).strftime("%Y-%m-%d %H:%M"))
    return ", ".join(parts)


def _h(figure: Field) -> list[str]:
    return [] if figure.value is None else [f"H {fixed(figure.mean_std().mean)}"]
