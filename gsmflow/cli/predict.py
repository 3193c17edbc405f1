"""The command ``predict``: classify new rows of features or pictures with a trained run.

Where the file of the rows has their labels, the answers are evaluated.
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path, PurePath
from typing import IO, Annotated, Literal, TypeAlias

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

from gsmflow.cli.answers_page import SHOWN_ANSWERS, ShownRows
from gsmflow.cli.verb import Verb
from gsmflow.core.arrays import IntArray
from gsmflow.core.console import make_console
from gsmflow.core.csv_cells import as_cells
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError, naming_flag
from gsmflow.core.files import replacing, write_bytes
from gsmflow.core.progress import progress
from gsmflow.core.rounding import fixed
from gsmflow.core.tables import Cell, Grid, MeanStd, terminal_table
from gsmflow.core.text_cells import Header
from gsmflow.data.class_names import class_key
from gsmflow.data.extract.new_pictures import RecordedFeatures, open_pictures
from gsmflow.data.given_labels import GivenLabels, labels_beside
from gsmflow.data.new_rows import NewRows, holds_rows, open_rows
from gsmflow.evaluation.per_class import ClassTally
from gsmflow.methods.gates.base import Gated
from gsmflow.reports.answers.render import AnswersDocument, render_answers
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.gate_checkpoint import read_gate
from gsmflow.runs.novelty import Rejection, read_rejection
from gsmflow.runs.predict import (
    NONE_OF_THESE,
    Answer,
    Evaluation,
    answer_rows,
    answerable_classes,
    evaluate_answers,
    temperature_of,
    true_classes,
)

__all__ = ["VERB", "PredictOptions", "run_predict"]

_Format: TypeAlias = Literal["auto", "csv", "jsonl"]
_STANDARD_OUTPUT = "-"
_HEADER = ("rank", "class", "kind", "score", "probability")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Classify new pictures or rows of features with a trained run.

    An answer is the best class: its name, whether it is seen or unseen, its score, and its
    probability. Scores of seen classes are reduced by the calibration factor gamma, or the gate
    that the run was trained with combines the scores. Probabilities are the softmax of the scores
    over a temperature that the run fitted on its validation classes. Rows have the names that the
    file gives them, or are counted from 1.
    Pictures are named by their files. Files that are no readable pictures are left out and listed.
    With labels in the file of the rows, the accuracies are printed, too.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The directory of a finished run, such as out/MINE/first; for a folder of runs, they are
    listed."""
    file: Annotated[Positional[Path | None], arg(metavar="INPUT")] = None
    """A picture or a folder of pictures at any depth, for a run on a dataset that python -m gsmflow
    extract made; or rows of the features that the run was trained on: .npy (n, d); .npz, .pt or .h5
    with a field 'features' (n, d) and optionally 'labels' and 'names'; .mat with a field 'features'
    (d, n) and optionally 'labels'; or .csv, with or without a header, a first column of names and
    a column headed label."""
    into: str = _STANDARD_OUTPUT
    """The file to write; -: standard output."""
    html: Path | None = None
    """File to write a page to: each picture, or row, with its three best answers; None: no page."""
    format: _Format = "auto"
    """csv: a line for each answer; jsonl: a JSON object for each row or picture; auto: jsonl into a
    file that ends in .jsonl, else csv."""
    header: Header = "auto"
    """Whether the first line of a .csv file is a header; auto: its cells say so."""
    top_k: int = 1
    """Number of best classes of each row; all classes if there are fewer."""
    gamma: str = "run"
    """Calibration factor gamma, which is subtracted from the scores of seen classes: run for the
    one that the run chose on its validation classes, none, or a number. With a gate, the gate's
    threshold takes its place."""
    gate: Literal["run", "none"] = "run"
    """Gate, which first separates rows of seen from rows of unseen classes: run for the gate that
    the run was trained with, if any, or none."""
    only: Literal["all", "unseen"] = "all"
    """all: answers among all classes; unseen: among the unseen ones only (zero-shot learning)."""
    reject: float | None = None
    """Answer 'none of these' to pictures or rows that are unlike all classes: the share, such as
    0.05, of held-out rows of known classes that the threshold rejects; None: reject none."""
    evaluate: bool = True
    """Compare the answers with the labels, if the file of the rows has some."""
    weights: Path | None = None
    """Present path of the backbone's weights; None: that when the dataset was made."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest available device."""


def run_predict(options: PredictOptions) -> None:
    """Write the answers; notes and progress go to standard error.

    Raises
    ------
    InputError
        If the run or the file cannot be used; no file is written then.
    """
    _check(options)
    console = make_console(stderr=True)
    run = open_trained(options.run, pick_device(options.device))
    decision = _Decision.of(options, run)
    rejection = _rejection(options, run)
    if options.file is None:
        raise InputError(
            "INPUT: found none, expected a picture, a folder of pictures or a file of features"
        )
    rows, truth = _open_input(options, options.file, run)
    shown = ShownRows(options.file if rows.named_by == "file" else None)
    best = options.top_k if options.html is None else max(options.top_k, SHOWN_ANSWERS)
    for note in [*rows.notes, *_probability_notes(options, run, decision)]:
        console.print(f"note: {note}", soft_wrap=True)
    counts, predictions = _Counts.of(run, options.only, rows.named_by), list[int]()
    unit = f"{rows.named_by}s"
    with (
        progress(console, "classifying", rows.total, unit=unit) as advance,
        _output(options.into) as stream,
    ):
        write_row = _row_writer(options, rows.named_by, stream)
        for piece in rows.pieces():
            for line in piece.left_out:
                console.print(f"left out: {line}", soft_wrap=True)
            answers = answer_rows(
                run,
                piece.features,
                decision.gamma,
                options.only,
                best,
                decision.gated,
                rejection,
            )
            for name, row_answers in zip(piece.names, answers, strict=True):
                write_row(name, row_answers[: options.top_k])
                counts.add(name, row_answers[0])
                if options.html is not None:
                    shown.add(name, row_answers)
                if truth is not None:
                    predictions.append(row_answers[0].number)
            counts.left_out += len(piece.left_out)
            advance(len(piece.names) + len(piece.left_out))
        stream.flush()
    _print_summary(options, rows.named_by, counts, decision, console)
    if options.html is not None:
        _write_page(options.html, run, shown, counts, decision, console)
    if truth is not None:
        _evaluate(options, run, truth, np.array(predictions, dtype=np.int64), console)


def _check(options: PredictOptions) -> None:
    """Raise `InputError` for options that nothing can be written with."""
    if options.top_k < 1:
        raise InputError(f"--top-k: found {options.top_k}, expected a number of at least 1")
    if options.html is not None and (options.html.is_dir() or str(options.html) == options.into):
        found = "a folder" if options.html.is_dir() else "the file of --into"
        raise InputError(f"--html: found {options.html}, {found}, expected a file for the page")


def _rejection(options: PredictOptions, run: TrainedRun) -> Rejection | None:
    """The rule of ``--reject``, if any."""
    share = options.reject
    if share is None:
        return None
    if not 0 < share < 1:
        raise InputError(f"--reject: found {share:g}, expected a share above 0 and below 1")
    return read_rejection(run, share)


def _probability_notes(
    options: PredictOptions, run: TrainedRun, decision: "_Decision"
) -> list[str]:
    """Why there are no probabilities, in one sentence; empty where there are some."""
    if temperature_of(run, decision.gamma, options.only, decision.gated) is not None:
        return []
    if decision.gated is not None:
        why = (
            f"the scores of the gate {decision.gated.name} have none; --gate none answers with "
            "probabilities"
        )
    elif run.temperatures is None:
        why = (
            "the run has no temperature, as one made before they were fitted or with "
            "--no-calibrate; train again for them"
        )
    else:
        why = f"{run.metrics['model']} has them only with the calibration factor gamma"
    return [f"no probabilities: {why}"]


def _read_gate(run: TrainedRun) -> Gated:
    try:
        return read_gate(run)
    except InputError as error:
        raise InputError(f"{error}; --gate none answers without it") from error


def _print_summary(
    options: PredictOptions,
    named_by: str,
    counts: "_Counts",
    decision: "_Decision",
    console: Console,
) -> None:
    target = "" if options.into == _STANDARD_OUTPUT else f" in {options.into}"
    left_out = f", {counts.left_out:,} left out" if counts.left_out else ""
    rejected = f", {counts.rejected:,} answered {NONE_OF_THESE!r}" if options.reject else ""
    console.print(
        f"{counts.rows:,} {named_by}s{target}{left_out}{rejected}, {decision.text}", soft_wrap=True
    )
    if counts.in_class_folders:
        console.print(counts.agreement, soft_wrap=True)


def _write_page(
    path: Path,
    run: TrainedRun,
    shown: ShownRows,
    counts: "_Counts",
    decision: "_Decision",
    console: Console,
) -> None:
    """Write the page of ``--html``."""
    document = AnswersDocument(
        model=run.recipe.method_info.label,
        dataset=run.recipe.dataset,
        run=str(run.directory),
        decision=decision.text,
        bars=shown.bars,
        named_by=counts.named_by,
        rows=shown.rows,
        seen=counts.rows - counts.unseen - counts.rejected,
        unseen=counts.unseen,
        rejected=counts.rejected,
        sentences=(f"{counts.agreement}.",) if counts.in_class_folders else (),
    )
    content = render_answers(document).encode()
    with naming_flag("--html", path):
        write_bytes(path, content)
    console.print(f"page: {path} ({len(content) / 1e6:.1f} MB)", soft_wrap=True)


@dataclass(frozen=True, eq=False)
class _Truth:
    """The labels of the rows, and the true class of each, ``(n,)``."""

    given: GivenLabels
    classes: IntArray


def _open_input(
    options: PredictOptions, file: Path, run: TrainedRun
) -> tuple[NewRows, _Truth | None]:
    """The rows, and their true classes if the file has labels."""
    if not holds_rows(file):
        recorded = RecordedFeatures(run.directory, run.recipe.features, run.feature_dim, run.device)
        return open_pictures(file, recorded, options.weights), None
    if options.weights is not None:
        raise InputError(
            f"--weights: found {options.weights} with rows of features in {file}, expected "
            "it with pictures only"
        )
    rows = open_rows(file, run.feature_dim, header=options.header)
    try:
        given = labels_beside(file, options.header) if options.evaluate else None
        truth = None if given is None else _Truth(given, true_classes(run, given, rows.total))
    except InputError as error:
        raise InputError(f"{error}; --no-evaluate answers without the labels") from error
    return rows, truth


def _evaluate(
    options: PredictOptions,
    run: TrainedRun,
    truth: _Truth,
    predictions: IntArray,
    console: Console,
) -> None:
    """Print how many of the answers are right."""
    kept = np.ones(len(predictions), dtype=np.bool_)
    if options.only == "unseen":
        kept = np.isin(truth.classes, run.kept.unseen_classes)
    left_out = f", {(~kept).sum():,} rows of seen classes left out" if not kept.all() else ""
    counted = truth.given.first_number or 0
    names = truth.given.are_names or truth.given.class_names
    kind = "names" if names else f"class numbers, counted from {counted}"
    console.print(f"labels: {truth.given.where} ({kind}){left_out}", soft_wrap=True)
    if not kept.any():
        console.print("no row of an unseen class to evaluate")
        return
    found = evaluate_answers(run, truth.classes[kept], predictions[kept])
    console.print(terminal_table(_class_grid(found)))
    rejected = int((predictions[kept] < 0).sum())
    console.print(_accuracy_line(found, rejected), soft_wrap=True)


def _accuracy_line(found: Evaluation, rejected: int) -> str:
    """The accuracies in one line, with so many rejected rows among those that are counted."""
    classes = len(found.seen_classes) + len(found.unseen_classes)
    wrong = f" ({rejected:,} rejected, which count as wrong)" if rejected else ""
    parts = [
        f"accuracy {fixed(100 * found.accuracy)} % over {found.rows:,} rows{wrong}",
        f"{fixed(100 * found.class_mean)} % as the mean over the {classes} classes that occur",
    ]
    for kind, share, own in (
        ("seen", found.seen, found.seen_classes),
        ("unseen", found.unseen, found.unseen_classes),
    ):
        if share is not None and len(own) < classes:
            parts.append(f"{fixed(100 * share)} % over {len(own)} {kind}")
    if found.harmonic_mean is not None:
        parts.append(f"harmonic mean {fixed(100 * found.harmonic_mean)} %")
    return ", ".join(parts)


def _class_grid(found: Evaluation) -> Grid:
    def rows(kind: str, tallies: tuple[ClassTally, ...]) -> tuple[tuple[Cell, ...], ...]:
        return tuple(
            (
                tally.name,
                kind,
                f"{tally.rows:,}",
                None if tally.accuracy is None else MeanStd(100 * tally.accuracy),
                tally.wrong_answer,
                None if tally.wrong_share is None else MeanStd(100 * tally.wrong_share),
            )
            for tally in tallies
        )

    return Grid(
        title="Accuracy of each class in percent",
        columns=("class", "kind", "rows", "accuracy", "frequent wrong answer", "its share"),
        align="llrrlr",
        sections=(rows("seen", found.seen_classes), rows("unseen", found.unseen_classes)),
    )


@dataclass
class _Counts:
    """Numbers of rows and files, and their answers.

    Attributes
    ----------
    classes
        The possible answers, by `class_key`.
    named_by
        What the names are.
    rows, left_out, rejected
        Rows or files with an answer, files that are no readable pictures, and rows or files that
        are answered with none of the classes.
    unseen
        Rows or files whose answer is an unseen class.
    in_class_folders, agreeing
        Files in folders that are named as classes, and those whose answer is that class.
    """

    classes: Mapping[str, str]
    named_by: Literal["row", "file"]
    rows: int = 0
    unseen: int = 0
    left_out: int = 0
    rejected: int = 0
    in_class_folders: int = 0
    agreeing: int = 0

    @classmethod
    def of(
        cls, run: TrainedRun, only: Literal["all", "unseen"], named_by: Literal["row", "file"]
    ) -> "_Counts":
        """Zeros, for the possible answers of a run."""
        names = (run.kept.class_names[c] for c in answerable_classes(run, only))
        return cls({class_key(name): name for name in names}, named_by)

    @property
    def agreement(self) -> str:
        """How many of the files in folders of classes are answered so, in words."""
        return (
            f"{self.agreeing:,} of the {self.in_class_folders:,} files in folders named as classes "
            "have that class as their answer"
        )

    def add(self, name: int | str, answer: Answer) -> None:
        """Count a row or file and its answer."""
        self.rows += 1
        self.unseen += answer.kind == "unseen"
        self.rejected += answer.kind is None
        if self.named_by != "file":
            return
        folder, *below = PurePath(str(name)).parts
        if below and class_key(folder) in self.classes:
            self.in_class_folders += 1
            self.agreeing += self.classes[class_key(folder)] == answer.name


@dataclass(frozen=True, eq=False)
class _Decision:
    """How scores become answers.

    Attributes
    ----------
    gated
        The run's gate; None to answer without one.
    gamma
        The calibration factor gamma, which is subtracted from the scores of seen classes; None
        without calibration.
    text
        Both in words.
    """

    gated: Gated | None
    gamma: float | None
    text: str

    @classmethod
    def of(cls, options: PredictOptions, run: TrainedRun) -> "_Decision":
        """What the options ask for.

        Raises
        ------
        InputError
            If ``--gamma`` is no number, or has no meaning here.
        """
        if options.only == "unseen":
            _check_no_gamma(options, "--only unseen", "no seen class is an answer there")
            return cls(None, None, "answers among the unseen classes")
        gate = run.recipe.gate_name
        if options.gate == "run" and gate != "none":
            gated = _read_gate(run)
            _check_no_gamma(
                options,
                f"the run's gate ({gated.name})",
                "the gate's threshold takes its place; --gate none answers without the gate",
            )
            threshold = f"threshold {gated.gate.threshold:.6g}"
            return cls(gated, None, f"with the run's gate ({gated.name}), {threshold}")
        gamma = _gamma(options, run)
        chosen = ", as the run chose on validation classes" if options.gamma == "run" else ""
        without = "" if gate == "none" else f", without the run's gate ({gate})"
        factor = f"calibration factor gamma {gamma:.6g}" if gamma else "no calibration factor"
        return cls(None, gamma, f"{factor}{chosen}{without}")


def _check_no_gamma(options: PredictOptions, context: str, reason: str) -> None:
    if options.gamma not in ("run", "none"):
        raise InputError(f"--gamma: found {options.gamma} with {context}, expected none: {reason}")


def _gamma(options: PredictOptions, run: TrainedRun) -> float | None:
    if options.gamma == "none":
        return None
    if options.gamma == "run":
        if run.gamma is None:
            raise InputError(
                f"--gamma: found run, with a run that chose none ({options.run}), expected none "
                "or a number"
            )
        return run.gamma
    try:
        value = float(options.gamma)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"--gamma: found {options.gamma}, expected run, none or a number")
    return value


def _format(options: PredictOptions) -> Literal["csv", "jsonl"]:
    if options.format != "auto":
        return options.format
    return "jsonl" if options.into.endswith(".jsonl") else "csv"


_RowWriter: TypeAlias = Callable[[int | str, Sequence[Answer]], None]


def _row_writer(options: PredictOptions, named_by: str, stream: IO[str]) -> _RowWriter:
    """A function that writes the answers of a row; a CSV file gets its header at once.

    Parameters
    ----------
    options
        The options of the command.
    named_by
        What names a row: ``"row"`` or ``"file"``.
    stream
        The output.
    """
    if _format(options) == "jsonl":

        def write_json(name: int | str, answers: Sequence[Answer]) -> None:
            records = [
                {
                    "class": answer.name,
                    "kind": answer.kind,
                    "score": _rounded(answer.score, 9),
                    "probability": _rounded(answer.probability, 6),
                }
                for answer in answers
            ]
            record = {named_by: name, "answers": records}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")

        return write_json

    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((named_by, *_HEADER))

    def write_csv(name: int | str, answers: Sequence[Answer]) -> None:
        for rank, answer in enumerate(answers, start=1):
            numbers = _rounded(answer.score, 9), _rounded(answer.probability, 6)
            texts = ("" if number is None else f"{number:.9g}" for number in numbers)
            writer.writerow(as_cells((name, rank, answer.name, answer.kind or "", *texts)))

    return write_csv


def _rounded(value: float | None, digits: int) -> float | None:
    """A number with so many significant digits; None stays None."""
    return None if value is None else float(f"{value:.{digits}g}")


@contextmanager
def _output(into: str) -> Iterator[IO[str]]:
    """A context with standard output, or with a file that is written atomically."""
    if into == _STANDARD_OUTPUT:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as in a file, whatever the terminal has
        yield sys.stdout
        return
    with (
        naming_flag("--into", Path(into)),
        replacing(Path(into)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        yield stream


VERB = Verb(PredictOptions, lambda options, console, flags: run_predict(options))
