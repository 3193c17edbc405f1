"""The command line ``python -m gsmflow``: one subcommand for each thing to do."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from gsmflow.ablation import AblateOptions, run_ablation
from gsmflow.addclass import AddClassOptions, run_add_class
from gsmflow.bench.command import BenchOptions, run_bench
from gsmflow.check import CheckOptions, run_check
from gsmflow.download import DownloadOptions, run_download
from gsmflow.extract.command import ExtractOptions, run_extract
from gsmflow.page.command import ReportOptions, run_report
from gsmflow.predict import PredictOptions, run_predict
from gsmflow.results import ResultsOptions, run_results
from gsmflow.script import ScriptOptions, TrainOptions, ending, run_training
from gsmflow.shotcurves import FewShotOptions, run_few_shot
from gsmflow.sweep import SweepOptions, run_sweep
from gsmflow.tuning.command import TuneOptions, run_tuning
from gsmflow.util import make_console

__all__ = ["main"]

# The options of each subcommand.
_OPTIONS: Mapping[str, type] = {
    "ablate": AblateOptions,
    "add-class": AddClassOptions,
    "bench": BenchOptions,
    "check": CheckOptions,
    "download": DownloadOptions,
    "extract": ExtractOptions,
    "few-shot": FewShotOptions,
    "predict": PredictOptions,
    "report": ReportOptions,
    "results": ResultsOptions,
    "sweep": SweepOptions,
    "train": TrainOptions,
    "tune": TuneOptions,
}

# What each does with its options, a console and more words: those that are a script's own flags,
# or all words of the command line, to be recorded.
_WORK: Mapping[type, Callable[[Any, Console, Sequence[str]], object]] = {
    AblateOptions: run_ablation,
    AddClassOptions: lambda options, console, _: run_add_class(options, console),
    BenchOptions: lambda options, console, words: run_bench(
        options, console, f"{_prog()} {shlex.join(words)}"
    ),
    CheckOptions: lambda options, console, _: run_check(options, console),
    DownloadOptions: lambda options, console, _: run_download(options, console),
    ExtractOptions: lambda options, console, _: run_extract(options, console),
    FewShotOptions: lambda options, console, _: run_few_shot(options, console),
    PredictOptions: lambda options, _, __: run_predict(options),
    ReportOptions: lambda options, console, _: run_report(options, console),
    ResultsOptions: lambda options, console, _: run_results(options, console),
    SweepOptions: run_sweep,
    TrainOptions: run_training,
    TuneOptions: run_tuning,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a command line and do what it says.

    Parameters
    ----------
    argv
        Words of the command line, the subcommand first; None for the program's own.

    Notes
    -----
    Ends the program with exit code 2 and one sentence on bad input, with 1 and one on a failure
    that is not the user's mistake, and with 130 when interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    options, flags = _parse(argv)
    words = flags if isinstance(options, ScriptOptions) else argv
    console = make_console()
    with ending(console, "interrupted; what was finished is kept"):
        _WORK[type(options)](options, console, words)


def _prog() -> str:
    """What the program was started as: by its name where it is installed as a command."""
    return "gsmflow" if Path(sys.argv[0]).stem == "gsmflow" else "python -m gsmflow"


def _parse(argv: Sequence[str]) -> tuple[Any, list[str]]:
    """The options, and words that are none of them, which are flags of a script."""
    kinds: list[Any] = [
        Annotated[kind, tyro.conf.subcommand(name)] for name, kind in _OPTIONS.items()
    ]
    # All that follows the folder or script of `train` is the run's own, --help too.
    own = argv[:2] if argv[:1] == ["train"] else argv
    settings: dict[str, Any] = {
        "prog": _prog(),
        "description": "Generalized zero-shot learning with GSMFlow.",
        "args": list(own),
    }
    union: Any = reduce(or_, kinds)
    options, flags = tyro.cli(union, return_unknown_args=True, **settings)
    flags = [*flags, *argv[len(own) :]]
    if flags and not isinstance(options, ScriptOptions):
        tyro.cli(union, **settings)  # says what is unknown, and ends the program
    return options, flags


if __name__ == "__main__":
    main()
