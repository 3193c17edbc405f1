"""The command line ``python -m gsmflow``: one subcommand for each thing to do."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from tyro.extras import subcommand_cli_from_dict

from gsmflow.bench.command import BenchOptions, run_bench
from gsmflow.results import ResultsOptions, run_results
from gsmflow.script import ending
from gsmflow.util import make_console

__all__ = ["main"]

_PROG = "python -m gsmflow"

# The options of each subcommand.
_OPTIONS: Mapping[str, type] = {"bench": BenchOptions, "results": ResultsOptions}

# What each does with its options, a console and all words of the command line.
_WORK: Mapping[type, Callable[[Any, Console, Sequence[str]], object]] = {
    BenchOptions: lambda options, console, words: run_bench(
        options, console, f"{_PROG} {shlex.join(words)}"
    ),
    ResultsOptions: lambda options, console, _: run_results(options, console),
}


def main(argv: Sequence[str]) -> None:
    """Parse a command line and do what it says.

    Parameters
    ----------
    argv
        Words of the command line, the subcommand first.

    Notes
    -----
    Ends the program with exit code 2 and one sentence on bad input, and with 130 when
    interrupted.
    """
    options: Any = subcommand_cli_from_dict(
        dict(_OPTIONS),
        prog=_PROG,
        description="Generalized zero-shot learning with GSMFlow.",
        args=list(argv),
    )
    console = make_console()
    with ending(console, "interrupted; the parts that were finished are written"):
        _WORK[type(options)](options, console, argv)


if __name__ == "__main__":
    main(sys.argv[1:])
