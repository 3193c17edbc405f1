"""The command ``benchmark``: methods by datasets by seeds under one protocol, as a leaderboard."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tyro.conf import arg

from gsmflow.cli.tune import TuneOptions, run_tuning
from gsmflow.cli.verb import Verb
from gsmflow.core.console import command_line, make_console, warner
from gsmflow.core.errors import InputError
from gsmflow.core.progress import progress as log_progress
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.core.settings import Range, check_settings
from gsmflow.core.tables import terminal_table
from gsmflow.learning.method import PresetName
from gsmflow.reports.leaderboard.entries import Leaderboard
from gsmflow.reports.leaderboard.forms import (
    CsvCell,
    dataset_grid,
    moved,
    rank_grid,
    read_csv,
)
from gsmflow.reports.published import PUBLISHED_FILE, read_published
from gsmflow.runs.benchmark import (
    CellRun,
    finished_in,
    known_runs,
    memory_of,
    opened_folder,
    run_cells,
    runs_of,
)
from gsmflow.runs.board import collect_board, write_board
from gsmflow.runs.executors import (
    Ended,
    ExecutorName,
    LocalSettings,
    SlurmSettings,
    Started,
    Work,
    executor_settings,
)
from gsmflow.runs.grid import (
    Cell,
    GridData,
    MethodChoice,
    check_classifiers_beside,
    find_unfit,
    make_cells,
    open_data,
    read_data_choice,
    read_method_choices,
)
from gsmflow.runs.parallel import do_all

__all__ = ["VERB", "BenchmarkOptions", "run_benchmark"]

_PROG = "python -m gsmflow benchmark"
_SHOWN_RUNNING = 8


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Run methods on datasets with several seeds under one protocol, and write a leaderboard.

    python -m gsmflow benchmark --methods all --datasets data/FLO data/CUB:vgg_fc7:att --seeds 3

    Each cell of the grid is a run directory of its own below --out, named by what it computes. The
    same command goes on where it was interrupted, and runs nothing twice; more methods, datasets
    or seeds may be asked for later. A run that fails is recorded with its reason, and does not
    stop the others. Other words are flags of all runs, such as --device cpu or --no-diagnosis.
    """

    datasets: tuple[str, ...]
    """The datasets: PATH, PATH:FEATURES or PATH:FEATURES:SEMANTICS, where PATH is a dataset's
    folder, such as data/FLO, or a script, such as train_FLO.py, whose settings GSMFlow then has."""
    methods: tuple[str, ...] = ("all",)
    """The methods by the names that --model takes, or all that fit a dataset. NAME:CLASSIFIER is a
    method with another classifier, such as f-clswgan:prototypes."""
    classifiers_beside: tuple[str, ...] = ()
    """Further classifiers on the trained models of methods that synthesize, such as prototypes:
    each has a row, without a training of its own."""
    seeds: Annotated[int, Range(min=1)] = 3
    """Seeds 0, 1, ... of each cell; a closed form that draws nothing has one."""
    class_splits: Annotated[int, Range(min=0)] = 0
    """Random class splits 0, 1, ... on which each seed of each cell runs, with mean, standard
    deviation and intervals over splits (docs/protocol.md); 0: the dataset's own split. With
    --split-unseen for the number of unseen classes."""
    preset: PresetName | Literal["tuned"] = "published"
    """The settings of each method: published; short (docs/methods.md); or tuned: for each method
    and dataset, settings around the published ones are searched on validation classes first."""
    trials: Annotated[int, Range(min=1)] = 20
    """Trials of each search under --preset tuned."""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("out/leaderboard")
    """The folder of all runs and of the leaderboard."""
    executor: ExecutorName = "local"
    """Where runs run: as processes on this machine, or as jobs of a SLURM cluster."""
    workers: Annotated[int | None, Range(min=1)] = None
    """Runs at the same time; None: as many as cores, memory and GPUs allow, on SLURM as many as
    it starts."""
    threads: Annotated[int, Range(min=1)] = 1
    """CPU threads of each run."""
    partition: str | None = None
    """SLURM's partition; None: its default."""
    job_gpus: Annotated[int, Range(min=0)] = 0
    """GPUs of each run on SLURM."""
    job_minutes: Annotated[int, Range(min=1)] = 120
    """Minutes after which SLURM ends a run, which then goes on in a new job."""
    job_memory_gib: Annotated[int | None, Range(min=1)] = None
    """Memory of each run on SLURM, GiB; None: as estimated from the features."""
    retry_failed: bool = False
    """Whether runs that failed before begin again."""
    draws: Annotated[int, Range(min=0)] = 2000
    """Draws of the bootstrap that gives intervals; 0: no intervals."""
    published: bool = True
    """Published figures of the same datasets below the runs."""
    known: tuple[Path, ...] = ()
    """Files leaderboard.safetensors of other benchmarks: their runs of the same settings on the
    same data count as finished."""
    check: Path | None = None
    """A leaderboard.csv: run the first seed of each of its cells that the grid has, and report
    those that moved by more than three standard deviations, with exit code 1; None: no check."""


@dataclass
class _Progress:
    """What has happened to the runs so far."""

    total: int
    done: int = 0
    failed: int = 0
    running: dict[str, float] = field(default_factory=dict)


def run_benchmark(options: BenchmarkOptions, console: Console, flags: Sequence[str]) -> None:
    """Run the cells of a grid that are not finished; write and print the leaderboard.

    Parameters
    ----------
    options
        The grid, and where it runs.
    console
        Where progress and tables are printed.
    flags
        Flags of all runs.

    Raises
    ------
    InputError
        If a method, a dataset or a flag is not known, the executor is not to be had, or the folder
        cannot be used.
    """
    _check(options, flags)
    baseline = None if options.check is None else read_csv(options.check)
    elsewhere = known_runs(options.known)
    methods = read_method_choices(options.methods)
    check_classifiers_beside(options.classifiers_beside, methods)
    choices = [read_data_choice(word) for word in dict.fromkeys(options.datasets)]
    # None where absent in the files of older folders.
    over_splits = True if options.class_splits else None
    identity: dict[str, object] = {
        "preset": options.preset,
        "flags": list(flags),
        "class_splits": over_splits,
        "classifiers_beside": list(options.classifiers_beside) or None,
    }
    if options.preset == "tuned":
        identity["trials"] = options.trials
    with opened_folder(options.out, identity):
        cache = ["--out", str(options.out), *flags]
        first_split = ["--class-split", "0"] if options.class_splits else []
        datasets = [
            open_data(choice, methods[0], [*cache, *first_split], _PROG) for choice in choices
        ]
        _check_different(datasets)
        settings = executor_settings(
            options.executor,
            device=datasets[0].recipe.device,
            workers=options.workers,
            threads=options.threads,
            partition=options.partition,
            gpus=options.job_gpus,
            minutes=options.job_minutes,
            memory_gib=options.job_memory_gib,
        )
        unfit = find_unfit(methods, datasets)
        for (method, data), why in unfit.items():
            console.print(f"left out: {method} on {data}: {why}", soft_wrap=True, highlight=False)
        chosen = None
        if options.preset == "tuned":
            pairs = [
                (data, method)
                for data, method in product(datasets, methods)
                if (method.key, data.key) not in unfit
            ]
            chosen = _search(options, pairs, cache, settings, console)
        cells = make_cells(
            methods,
            datasets,
            range(options.seeds),
            "published" if options.preset == "tuned" else options.preset,
            cache,
            options.out / "runs",
            _PROG,
            chosen,
            range(options.class_splits),
            unfit,
            options.classifiers_beside,
        )
        if baseline is not None:
            cells = _cells_in(baseline, cells, options)
        runs = runs_of(cells, elsewhere)
        _run(options, runs, settings, console)
        finished = finished_in(runs)
        published = read_published(PUBLISHED_FILE) if options.published else []
        board = collect_board(
            runs,
            finished,
            datasets,
            published,
            preset=options.preset,
            command=command_line(),
            draws=options.draws,
        )
        files = write_board(board, runs, finished, options.out, warner(console))
    for dataset in board.datasets:
        console.print(terminal_table(dataset_grid(board, dataset)))
        console.print()
    ranks = rank_grid(board)
    if ranks is not None:
        console.print(terminal_table(ranks))
    console.print(f"leaderboard: {', '.join(map(str, files))}", soft_wrap=True)
    if baseline is not None and _report_moved(baseline, board, console):
        sys.exit(1)


def _cells_in(
    baseline: Sequence[CsvCell], cells: Sequence[Cell], options: BenchmarkOptions
) -> list[Cell]:
    """The cells of a grid that a leaderboard has, with their first seed."""
    known = {(old.dataset, old.method) for old in baseline if old.preset == options.preset}
    if any(old.splits for old in baseline):
        raise InputError(
            f"--check: found figures over random class splits in {options.check}, expected a "
            "leaderboard of the dataset's own splits"
        )
    found = [
        replace(cell, seeds=cell.seeds[:1])
        for cell in cells
        if (cell.data.key, cell.method.key) in known
    ]
    if not found:
        raise InputError(
            f"--check: found no cell of this grid with preset {options.preset} in "
            f"{options.check}, expected some"
        )
    return found


def _report_moved(baseline: Sequence[CsvCell], board: Leaderboard, console: Console) -> bool:
    """Print which cells moved, and whether there are any."""
    cells = {(cell.dataset, cell.method): cell for cell in board.cells}
    compared = [
        (old, cells[old.dataset, old.method])
        for old in baseline
        if (old.dataset, old.method) in cells
    ]
    lines = []
    for old, now in compared:
        changes = (
            moved(old, now) if now.state == "done" else [f"{now.state} {now.sentence}".strip()]
        )
        if changes:
            lines.append(f"moved: {old.method} on {old.dataset}: {', '.join(changes)}")
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print(f"{len(lines)} of {len(compared)} cells moved")
    return bool(lines)


def _check(options: BenchmarkOptions, flags: Sequence[str]) -> None:
    check_settings(options)
    if options.class_splits:
        _check_splits(options, flags)
    if options.known and options.check is not None:
        raise InputError(
            "--known: found with --check, expected one of them: a check runs its cells anew"
        )
    if not options.datasets:
        raise InputError("--datasets: found nothing, expected a dataset's folder or a script")


def _check_splits(options: BenchmarkOptions, flags: Sequence[str]) -> None:
    """Raise `InputError` if something is asked for that has no meaning over class splits."""
    named = {word.partition("=")[0].replace("_", "-") for word in flags}
    for found, expected in (
        (
            options.preset == "tuned",
            "--preset published or short: a search on the dataset's own "
            "seen classes would learn from classes that a split leaves unseen",
        ),
        (options.check is not None, "no --check, which compares figures of one split"),
        ("--class-split" in named, "no --class-split: the splits are 0, 1, ..."),
    ):
        if found:
            raise InputError(f"--class-splits: found {options.class_splits}, expected {expected}")


def _check_different(datasets: Sequence[GridData]) -> None:
    keys = [data.key for data in datasets]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(
                f"--datasets: found {key} {keys.count(key)} times, expected each dataset with its "
                "features and semantics once"
            )


def _search(
    options: BenchmarkOptions,
    pairs: Sequence[tuple[GridData, MethodChoice]],
    flags: Sequence[str],
    settings: LocalSettings | SlurmSettings,
    console: Console,
) -> dict[tuple[str, str], Path]:
    """Search the settings of each pair of dataset and method; the files of what was found.

    Raises
    ------
    InputError
        If a search fails: why the first one did.
    """
    files, works = {}, []
    for data, method in pairs:
        name = f"{data.key.replace(':', '-')}/{method.key.replace(':', '-')}"
        study = options.out / "searches" / name
        files[method.key, data.key] = study / RECIPE_FILE
        if not (study / RECIPE_FILE).is_file():
            words = [*method.words, *data.choice.words, "--beside", *flags]
            tune = TuneOptions(
                script=data.choice.path, trials=options.trials, class_draws=1, study=study
            )
            works.append(Work(name, partial(_tune, tune, words), memory_of(data)))
    do_all(works, settings, options.out / "executor" / "searches", console)
    return files


def _tune(options: TuneOptions, words: Sequence[str]) -> None:
    """Search settings; called in a process of its own, whose output goes to a file."""
    run_tuning(options, make_console(), words)


def _run(
    options: BenchmarkOptions,
    runs: Sequence[CellRun],
    settings: LocalSettings | SlurmSettings,
    console: Console,
) -> None:
    """Run what is left, with a live table on a terminal, and plain lines in a log."""
    states = [run.state for run in runs]
    failed = 0 if options.retry_failed else states.count("failed")
    progress = _Progress(len(runs), states.count("done"), failed)
    left = progress.total - progress.done - progress.failed
    console.print(
        f"{len(runs)} runs, {progress.done} done, {progress.failed} failed before, {left} left",
        soft_wrap=True,
    )
    by_name = {run.name: run for run in runs}
    log = (options.out / "benchmark.log").open("a", encoding="utf-8")
    with log, _shown(progress, console) as update:
        events = run_cells(
            runs, settings, options.out / "executor", retry_failed=options.retry_failed
        )
        for event in events:
            if event is not None:
                line = _note(event, progress, by_name)
                stamp = time.strftime("%Y-%m-%d %H:%M:%S")
                log.write(f"{stamp} {line}\n")
                log.flush()
                if isinstance(event, Ended):
                    console.print(line, soft_wrap=True)
            update()


def _note(event: Started | Ended, progress: _Progress, runs: dict[str, CellRun]) -> str:
    """Take an event into account; a line that says what happened."""
    if isinstance(event, Started):
        progress.running[event.name] = time.monotonic()
        return f"started {event.name}"
    progress.running.pop(event.name, None)
    outcome = runs[event.name].outcome
    if outcome is not None and outcome.state == "done":
        progress.done += 1
        return f"done {event.name}, {outcome.seconds or 0:.0f} s"
    progress.failed += 1
    sentence = "" if outcome is None else outcome.sentence
    return f"failed {event.name}: {sentence}"


@contextmanager
def _shown(progress: _Progress, console: Console) -> Iterator[Callable[[], None]]:
    """A context with a live table on a terminal, lines in a log; yields what updates it."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )
    task = bar.add_task("runs", total=progress.total, completed=progress.done + progress.failed)
    if not console.is_terminal:
        ended = progress.done + progress.failed
        with log_progress(console, "benchmark", progress.total, ended, unit="runs") as advance:

            def count() -> None:
                nonlocal ended
                now = progress.done + progress.failed
                advance(now - ended)
                ended = now

            yield count
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def update() -> None:
            bar.update(task, completed=progress.done + progress.failed)
            live.update(Group(bar, _running_table(progress)), refresh=True)

        yield update


def _running_table(progress: _Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(
        f"{progress.done} done",
        f"{len(progress.running)} running",
        f"{progress.failed} failed",
    )
    now = time.monotonic()
    for name, start in list(progress.running.items())[:_SHOWN_RUNNING]:
        table.add_row(name, f"{now - start:.0f} s", "")
    return table


VERB = Verb(BenchmarkOptions, run_benchmark, takes_flags=True)
