"""The command line ``python -m gsmflow VERB``: finds the verb, parses its options and runs it.

The file of a verb is imported only when the verb is used, so that no verb waits for the imports of
others.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import tyro
from rich.table import Table

from gsmflow.cli.verb import Verb
from gsmflow.core.console import ending, make_console
from gsmflow.core.errors import InputError
from gsmflow.core.nearest import such_as
from gsmflow.core.settings import field_types, flag_in, flag_of

__all__ = ["VERBS", "VERB_GROUPS", "find_verb", "main"]

# The verbs by what a user wants, each with a description of one line. The module
# `gsmflow.cli.<verb>` has its `VERB`.
VERB_GROUPS: Mapping[str, Mapping[str, str]] = {
    "Start here": {
        "extract": "make a dataset of pictures and a description of their classes",
        "train": "train on a dataset, or run a script's recipe",
        "predict": "predict the classes of new pictures or rows of features",
        "report": "write a finished run as one HTML page",
    },
    "Data": {
        "check": "summarize a dataset, and list all that is wrong with it",
        "pack": "make a dataset of features, labels and semantics of your own",
        "download": "fetch the published features into data/",
    },
    "A finished run": {
        "add-class": "add unseen classes to it",
        "sample": "write features that it synthesizes into a file",
    },
    "Experiments": {
        "ablate": "compare a recipe with the same without one idea of the paper",
        "sweep": "run a recipe with several values of a setting",
        "tune": "search for hyperparameters on the validation classes",
        "benchmark": "run methods on datasets with several seeds: a leaderboard",
    },
    "Tables of several runs": {
        "results": "a table for each dataset, beside published figures",
        "few-shot": "a table of their few-shot figures",
    },
}
VERBS: Mapping[str, str] = {
    name: summary for verbs in VERB_GROUPS.values() for name, summary in verbs.items()
}
_HELP, _HELP_ALL = ("-h", "--help"), "--help-all"
# What tyro marks an option with that has no flag.
_POSITIONAL = get_args(tyro.conf.Positional[int])[1]


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
        if words[:1] and words[0] in (*_HELP, _HELP_ALL):
            _print_verbs()
            return
        name = words[0] if words else ""
        if name not in VERBS:
            raise InputError(
                f"VERB: found {name or 'none'}, expected one of {', '.join(VERBS)}"
                f"{such_as(name, VERBS)}"
            )
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
    for group, verbs in VERB_GROUPS.items():
        table = Table.grid(padding=(0, 2))
        for name, summary in verbs.items():
            table.add_row(f"  {name:<9}", summary)
        console.print(group)
        console.print(table)
    console.print(f"\n{_program()} VERB --help lists the options of a verb.")


def _program() -> str:
    """The command that started the program, for help texts: the installed one or python -m."""
    return "gsmflow" if Path(sys.argv[0]).stem == "gsmflow" else "python -m gsmflow"


def _parse(name: str, verb: Verb, words: Sequence[str]) -> tuple[Any, list[str]]:
    """The options of a verb, and the other words, which are flags of a recipe."""
    count = len(words) if verb.option_words is None else verb.option_words
    args = ["--help" if word == _HELP_ALL else word for word in words[:count]]
    settings: dict[str, Any] = {"prog": f"{_program()} {name}", "args": args}
    if not verb.takes_flags:
        _refuse_unknown_flags(verb.options, args)
        return tyro.cli(verb.options, **settings), []
    if verb.option_words is None and not all(word.startswith("-") for word in words):
        settings["args"] = list(words)  # --help-all is a flag of the recipe
    options, flags = tyro.cli(verb.options, return_unknown_args=True, **settings)
    return options, [*flags, *words[count:]]


def _refuse_unknown_flags(options: type[Any], words: Sequence[str]) -> None:
    """Raise `InputError` at a flag that is none of a verb's."""
    hints = field_types(options).items()  # type: ignore[arg-type]
    names = [name for name, hint in hints if _POSITIONAL not in get_args(hint)]
    known = {"--help", _HELP_ALL, *map(flag_of, names)}
    for flag in filter(None, map(flag_in, words)):
        if flag not in known and flag.replace("--no-", "--", 1) not in known:
            raise InputError(
                f"{flag}: found no flag of this name, expected one of those that --help lists"
                f"{such_as(flag, known)}"
            )
