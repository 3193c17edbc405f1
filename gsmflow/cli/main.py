"""The command line ``python -m gsmflow VERB``: finds the verb, parses its options and runs it.

The file of a verb is imported only when the verb is used, so that no verb waits for the imports of
others.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from gsmflow.cli.verb import Verb
from gsmflow.core.console import ending, make_console
from gsmflow.core.errors import InputError

__all__ = ["VERBS", "find_verb", "main"]

# Each verb with a short description. The module `gsmflow.cli.<verb>` has its `VERB`.
VERBS: Mapping[str, str] = {
    "ablate": "compare a recipe with its ablations: the same without one idea of the paper",
    "add-class": "add unseen classes to a trained run",
    "benchmark": "run methods on datasets with several seeds, and write a leaderboard",
    "check": "summarize a dataset, and list all that is wrong with it",
    "download": "fetch the published features into data/",
    "extract": "make a dataset of a folder of pictures and a description of their classes",
    "few-shot": "put the few-shot figures of runs side by side",
    "pack": "make a dataset of features, labels, semantics and splits in files of your own",
    "predict": "predict the classes of new pictures or rows of features",
    "report": "write a finished run as one HTML page",
    "results": "put finished runs into one table per dataset, beside published figures",
    "sample": "write synthesized features of a trained run into a file",
    "sweep": "run a recipe with several values of a setting",
    "train": "train on a dataset, or run a script's recipe",
    "tune": "search for hyperparameters on the validation classes",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a command line and run its verb.

    Parameters
    ----------
    argv
        Words of the command line, the verb first; None for ``sys.argv[1:]``.

    Notes
    -----
    Ends the program with exit code 2 and one sentence on bad input, with 1 and one sentence on a
    failure that is not the user's mistake, and with 130 or 143 when interrupted; see `ending`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console = make_console()
    with ending(console):
        if words[:1] in (["-h"], ["--help"]):
            _print_verbs()
            return
        name = words[0] if words else ""
        if name not in VERBS:
            raise InputError(f"VERB: found {name!r}, expected one of {', '.join(VERBS)}")
        verb = find_verb(name)
        options, flags = _parse(name, verb, words[1:])
        verb.run(options, console, flags)


def find_verb(name: str) -> Verb:
    """The verb of this name, one of `VERBS`."""
    verb = import_module(f"gsmflow.cli.{name.replace('-', '_')}").VERB
    assert isinstance(verb, Verb)
    return verb


def _print_verbs() -> None:
    console = make_console()
    console.print(f"usage: {_program()} VERB [OPTIONS]\n")
    console.print("Generalized zero-shot learning: methods, one protocol, tables and pages.\n")
    table = Table.grid(padding=(0, 2))
    for name, summary in VERBS.items():
        table.add_row(name, summary)
    console.print(table)
    console.print(f"\n{_program()} VERB --help lists the options of a verb.")


def _program() -> str:
    """The command that started the program, for help texts: the installed one or python -m."""
    return "gsmflow" if Path(sys.argv[0]).stem == "gsmflow" else "python -m gsmflow"


def _parse(name: str, verb: Verb, words: Sequence[str]) -> tuple[Any, list[str]]:
    """The options of a verb, and the other words, which are flags of a recipe."""
    count = len(words) if verb.option_words is None else verb.option_words
    settings: dict[str, Any] = {"prog": f"{_program()} {name}", "args": list(words[:count])}
    if not verb.takes_flags:
        return tyro.cli(verb.options, **settings), []
    options, flags = tyro.cli(verb.options, return_unknown_args=True, **settings)
    return options, [*flags, *words[count:]]
