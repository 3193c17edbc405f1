"""The command ``predict``: classes of new feature vectors or pictures, by a trained run."""

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Annotated, Literal, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from gsmflow.cli.verb import Verb
from gsmflow.core.console import make_console
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError
from gsmflow.core.files import replacing
from gsmflow.data.extract.images import class_key
from gsmflow.data.extract.new_pictures import RecordedFeatures, open_pictures
from gsmflow.data.new_rows import NewRows, holds_rows, open_rows
from gsmflow.methods.gates.base import Gated
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.gate_checkpoint import read_gate
from gsmflow.runs.predict import Answer, answer_rows, answerable_classes

__all__ = ["VERB", "PredictOptions", "run_predict"]

_Format: TypeAlias = Literal["auto", "csv", "jsonl"]
_STANDARD_OUTPUT = "-"
_HEADER = ("rank", "class", "kind", "score")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Say which class new pictures or rows of features are of, by a trained run.

    Each has its best class: its name, whether it is seen or unseen, and its score less the penalty
    that seen classes have, or under the gate that the run was trained with. Rows are counted from
    1, as in the file; pictures are named by their files. What is no readable picture is left out
    and listed.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The directory of a finished run."""
    file: Annotated[Positional[Path], arg(metavar="INPUT")]
    """A picture or a folder of pictures, in folders of any kind, for a run on a dataset that
    python -m gsmflow extract made; or rows of features as the run was trained on: .npy (n, d), .mat
    with a field 'features' (d, n), or .csv with or without a header."""
    into: str = _STANDARD_OUTPUT
    """The file to write; -: standard output."""
    format: _Format = "auto"
    """csv: a line for each answer; jsonl: a JSON object for each row or picture; auto: jsonl into a
    file that ends in .jsonl, else csv."""
    top_k: int = 1
    """How many best classes of each to tell; all of them where there are fewer."""
    penalty: str = "run"
    """Subtracted from the scores of the seen classes: run for the one that the run chose on its
    validation classes, none, or a number. Where a gate answers, its threshold takes the penalty's
    place."""
    gate: Literal["run", "none"] = "run"
    """What tells rows of seen from those of unseen classes first: run for the gate that the run was
    trained with, if it was with one, or none."""
    only: Literal["all", "unseen"] = "all"
    """Whether all classes may be answers, or the unseen ones alone (plain zero-shot learning)."""
    weights: Path | None = None
    """Where the backbone's weights lie now; None: where they lay when the dataset was made."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest there is."""


def run_predict(options: PredictOptions) -> None:
    """Write the answers; notes and progress go to standard error.

    Raises
    ------
    InputError
        If the run or the file cannot be used; nothing is written into a file then.
    """
    if options.top_k < 1:
        raise InputError(f"--top-k: found {options.top_k}, expected a number of at least 1")
    console = make_console(stderr=True)
    run = open_trained(options.run, pick_device(options.device))
    gated = _gated(options, run)
    penalty = _penalty(options, run, gated)
    rows = _open_input(options, run)
    for note in rows.notes:
        console.print(f"note: {note}", soft_wrap=True)
    write_row = _WRITERS[_format(options)]
    count, left_out, folders = 0, 0, _Folders.of(run, options.only)
    with _progress(console, rows.total) as advance, _output(options.into) as stream:
        if write_row is _write_csv_row:
            csv.writer(stream, lineterminator="\n").writerow((rows.named_by, *_HEADER))
        for piece in rows.pieces():
            for line in piece.left_out:
                console.print(f"left out: {line}", soft_wrap=True)
            answers = answer_rows(run, piece.features, penalty, options.only, options.top_k, gated)
            for name, own in zip(piece.names, answers, strict=True):
                write_row(stream, {rows.named_by: name}, own)
                folders.count(name, own[0].name)
            count += len(piece.names)
            left_out += len(piece.left_out)
            advance(len(piece.names) + len(piece.left_out))
        stream.flush()
    place = "" if options.into == _STANDARD_OUTPUT else f" in {options.into}"
    without = f", {left_out:,} left out" if left_out else ""
    said = f"{count:,} {rows.named_by}s{place}{without}, {_said(options, run, penalty, gated)}"
    console.print(said, soft_wrap=True)
    if folders.files:
        console.print(
            f"{folders.agreeing:,} of the {folders.files:,} files in folders named as classes have "
            "that class as their answer",
            soft_wrap=True,
        )


def _open_input(options: PredictOptions, run: TrainedRun) -> NewRows:
    if not holds_rows(options.file):
        recorded = RecordedFeatures(run.directory, run.recipe.features, run.feature_dim, run.device)
        return open_pictures(options.file, recorded, options.weights)
    if options.weights is not None:
        raise InputError(
            f"--weights: found {options.weights} with rows of features in {options.file}, expected "
            "it with pictures alone"
        )
    return open_rows(options.file, run.feature_dim)


@dataclass
class _Folders:
    """Files in folders that are named as classes.

    Attributes
    ----------
    classes
        The classes that may be answers, by what spellings of their names have in common.
    files, agreeing
        How many such files there are, and how many have their folder's class as answer.
    """

    classes: Mapping[str, str]
    files: int = 0
    agreeing: int = 0

    @classmethod
    def of(cls, run: TrainedRun, only: Literal["all", "unseen"]) -> "_Folders":
        """None yet."""
        names = (run.kept.class_names[c] for c in answerable_classes(run, only))
        return cls({class_key(name): name for name in names})

    def count(self, name: int | str, answer: str) -> None:
        """Take a row or file and its answer into account."""
        if not isinstance(name, str):
            return
        folder, *below = PurePath(name).parts
        if below and class_key(folder) in self.classes:
            self.files += 1
            self.agreeing += self.classes[class_key(folder)] == answer


def _gated(options: PredictOptions, run: TrainedRun) -> Gated | None:
    """The gate to answer with, if there is one."""
    if options.gate == "none" or options.only == "unseen" or run.recipe.gate == "none":
        return None
    return read_gate(run)


def _penalty(options: PredictOptions, run: TrainedRun, gated: Gated | None) -> float:
    if options.only == "unseen":
        if options.penalty not in ("run", "none"):
            raise InputError(
                f"--penalty: found {options.penalty} with --only unseen, expected none: no seen "
                "class is an answer there"
            )
        return 0.0
    if gated is not None:
        if options.penalty not in ("run", "none"):
            raise InputError(
                f"--penalty: found {options.penalty} with the run's gate ({gated.name}), expected "
                "none: the gate's threshold takes its place; --gate none answers without the gate"
            )
        return 0.0
    if options.penalty == "none":
        return 0.0
    if options.penalty == "run":
        if run.penalty is None:
            raise InputError(
                f"--penalty: found run, with a run that chose none ({options.run}), expected none "
                "or a number"
            )
        return run.penalty
    try:
        value = float(options.penalty)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"--penalty: found {options.penalty}, expected run, none or a number")
    return value


def _said(options: PredictOptions, run: TrainedRun, penalty: float, gated: Gated | None) -> str:
    if options.only == "unseen":
        return "answers among the unseen classes"
    if gated is not None:
        return f"with the run's gate ({gated.name}), threshold {gated.gate.threshold:.6g}"
    chosen = ", as the run chose it on validation classes" if options.penalty == "run" else ""
    gate = run.recipe.gate
    without = "" if gate == "none" else f", without the run's gate ({gate})"
    return f"penalty on seen classes {penalty:.6g}{chosen}{without}"


def _format(options: PredictOptions) -> Literal["csv", "jsonl"]:
    if options.format != "auto":
        return options.format
    return "jsonl" if options.into.endswith(".jsonl") else "csv"


_Named: TypeAlias = Mapping[str, int | str]


def _write_csv_row(stream: IO[str], named: _Named, answers: Sequence[Answer]) -> None:
    csv.writer(stream, lineterminator="\n").writerows(
        (*named.values(), rank, own.name, own.kind, f"{own.score:.9g}")
        for rank, own in enumerate(answers, start=1)
    )


def _write_json_row(stream: IO[str], named: _Named, answers: Sequence[Answer]) -> None:
    told = [
        {"class": own.name, "kind": own.kind, "score": float(f"{own.score:.9g}")} for own in answers
    ]
    stream.write(json.dumps({**named, "answers": told}, ensure_ascii=False) + "\n")


_WRITERS: dict[str, Callable[[IO[str], _Named, Sequence[Answer]], None]] = {
    "csv": _write_csv_row,
    "jsonl": _write_json_row,
}


@contextmanager
def _output(into: str) -> Iterator[IO[str]]:
    """Standard output, or a file that is there whole or not at all."""
    if into == _STANDARD_OUTPUT:
        try:
            yield sys.stdout
        except BrokenPipeError:
            # Whoever read has enough; Python would complain again when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        return
    try:
        with (
            replacing(Path(into)) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            yield stream
    except OSError as error:
        raise InputError(
            f"--into: found {into}, which cannot be written ({error.strerror}), expected a file"
        ) from error


@contextmanager
def _progress(console: Console, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of rows on a terminal, nothing in a log; yields what advances it."""
    columns = (
        TextColumn("classifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


VERB = Verb(PredictOptions, lambda options, console, flags: run_predict(options))
