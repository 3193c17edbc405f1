"""The command ``results``: finished runs in one table per dataset, beside published figures."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from gsmflow.core.aggregate import t_interval
from gsmflow.core.csv_cells import csv_text
from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.core.rounding import fixed
from gsmflow.core.run_files import ABLATION_FILE, METRICS_FILE
from gsmflow.core.tables import Cell, Grid, MeanStd
from gsmflow.evaluation.measures import Metric, metrics_in
from gsmflow.reports.metric_values import read_metrics
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.published import Published
from gsmflow.reports.section import SectionReport, SectionRow, measured

__all__ = ["Collection", "Row", "collect_runs", "published_row", "render_csv", "results_grid"]

_RUN, _BASELINE, _ORACLE, _FEW_SHOT = "run", "baseline", "oracle", "few-shot"
_SELECTED, _PUBLISHED = "selected on test", "published"
_PROTOCOLS = {
    _BASELINE: "baseline; nothing chosen on test",
    _ORACLE: "oracle: classifiers trained on half of the real unseen rows, tested on the rest",
    _FEW_SHOT: "few-shot: trained on k labelled rows of each unseen class, tested on the rows that "
    "the largest k leaves; mean and standard deviation over draws of them, of all seeds",
    _SELECTED: "selected on test, as published figures often are; "
    "not comparable with the other rows of runs",
}


@dataclass(frozen=True)
class Row:
    """A method's figures on a dataset, in percent.

    Attributes
    ----------
    kind
        ``run``, ``baseline``, ``oracle``, ``few-shot``, ``selected on test`` or ``published``.
    dataset, features, semantics
        What it was measured on.
    method
        The model, the baseline or the published method.
    protocol
        How what was chosen was chosen.
    figures
        Those that are known of the metrics, by key.
    run
        The run's path below its dataset's folder; empty where the figures are those of all runs.
    venue
        Where and when it was published.
    seeds
        How many seeds the figures are of, on each class split; None where they depend on none, or
        it is not known.
    source
        The file, or where published figures were read.
    shots
        How many labelled rows of each unseen class were learned from, in a ``few-shot`` row.
    splits
        Seeds of the random class splits that the figures are of; none with the dataset's split.
    of_seeds
        The seeds of the runs that the figures are of; none in a published row.
    """

    kind: str
    dataset: str
    features: str
    semantics: str
    method: str
    protocol: str
    figures: Mapping[str, MeanStd]
    run: str = ""
    venue: str = ""
    seeds: int | None = None
    source: str = ""
    shots: int | None = None
    splits: tuple[int, ...] = ()
    of_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Collection:
    """What was found below a folder: rows of runs, and a sentence on each file left out."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


def collect_runs(
    folder: Path,
    reports: Sequence[SectionReport],
    *,
    identify: Callable[[Path], str] | None = None,
) -> Collection:
    """Read all finished runs below a folder, in the order of their paths.

    What lies below a run belongs to it: the single runs of several seeds are not listed again.

    Parameters
    ----------
    folder
        Where to look.
    reports
        Of the sections that add rows.
    identify
        What is the same for run directories that differ in class split and seed alone. Where it is
        given, these are joined to a row over class splits, in whichever folders they lie.

    Raises
    ------
    InputError
        If there is no such folder, or a run that is to be joined has a damaged recipe.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one with finished runs")
    rows: list[Row] = []
    warnings = []
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if METRICS_FILE in files and ABLATION_FILE not in files:
            try:
                found = _read_run(Path(path), folder, reports)
            except InputError as error:
                warnings.append(str(error))
            else:
                if identify is not None and len(found[0].splits) > 1:
                    continue  # its single splits are found below it
                rows += found
                folders.clear()
    if identify is not None:
        rows, repeated = _join_splits(rows, identify)
        warnings += repeated
    return Collection(tuple(_merge_equal(rows)), tuple(warnings))


def _join_splits(
    rows: Iterable[Row], identify: Callable[[Path], str]
) -> tuple[list[Row], list[str]]:
    """Rows with one for each group of class splits, and a sentence on each run that is repeated."""
    groups: dict[tuple[Any, ...], dict[int, list[Row]]] = {}
    joined, warnings = list[Row](), list[str]()
    for row in rows:
        if not row.splits:
            joined.append(row)
            continue
        inputs = (row.dataset, row.features, row.semantics, row.kind, row.method, row.shots)
        key = (*inputs, row.protocol, identify(Path(row.source).parent))
        same = groups.setdefault(key, {}).setdefault(row.splits[0], [])
        again = next((other for other in same if set(other.of_seeds) & set(row.of_seeds)), None)
        if again is None:
            same.append(row)
        elif row.kind == _RUN:
            warnings.append(f"{row.source}: found the class split and the seed of {again.source}")
    joined += map(_over_splits, groups.values())
    return joined, warnings


def _over_splits(splits: Mapping[int, Sequence[Row]]) -> Row:
    """The row of several class splits: of each split, the mean over the seeds of its rows."""
    means = [_over_seeds(rows) for rows in splits.values()]
    rows = [row for same in splits.values() for row in same]
    first, counts = rows[0], {sum(len(row.of_seeds) for row in same) for same in splits.values()}
    if len(splits) == 1 and len(rows) == 1:
        return first
    shared = [key for key in first.figures if all(key in values for values in means)]
    return replace(
        first,
        figures={key: _spread([values[key] for values in means]) for key in shared},
        run=f"{first.run} and {len(rows) - 1} more",
        seeds=counts.pop() if len(counts) == 1 else None,
        splits=tuple(sorted(splits)),
    )


def _over_seeds(rows: Sequence[Row]) -> dict[str, float]:
    weights = [len(row.of_seeds) for row in rows]
    shared = [key for key in rows[0].figures if all(key in row.figures for row in rows)]
    return {key: fmean([row.figures[key].mean for row in rows], weights=weights) for key in shared}


def _spread(values: Sequence[float]) -> MeanStd:
    std = stdev(values) if len(values) > 1 else None
    return MeanStd(fmean(values), std, t_interval(values))


def published_row(entry: Published) -> Row:
    """A published row beside those of runs."""
    return Row(
        kind=_PUBLISHED,
        dataset=entry.dataset,
        features=entry.features,
        semantics=entry.semantics,
        method=entry.method,
        protocol=f"published, {entry.figures}; {entry.setting}; best on test unless its paper says "
        "otherwise",
        figures={name: MeanStd(value) for name, value in entry.measures.items()},
        venue=f"{entry.venue} {entry.year}".strip(),
        source=entry.source,
    )


def results_grid(dataset: str, rows: Iterable[Row]) -> Grid:
    """The table of a dataset: a section for each kind of input, then what was chosen on test.

    Parameters
    ----------
    dataset
        Its name.
    rows
        All rows of this dataset; within a section they keep their order where kind and method
        are the same.
    """
    shown = metrics_in("results")
    comparable: dict[tuple[tuple[int, ...], str, str], list[Row]] = {}
    selected: list[Row] = []
    published: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind == _SELECTED:
            selected.append(row)
        elif row.kind == _PUBLISHED:
            published.setdefault(row.features, []).append(row)
        else:
            # Figures of different class splits cannot be compared.
            comparable.setdefault((row.splits, row.features, row.semantics), []).append(row)
    order = (_BASELINE, _RUN, _ORACLE, _FEW_SHOT)

    def rank(row: Row) -> tuple[Any, ...]:
        # The numbers of labelled rows of one run stay together.
        run = row.run if row.kind == _FEW_SHOT else ""
        return order.index(row.kind), row.method, run, row.shots or 0

    sections = [sorted(comparable[inputs], key=rank) for inputs in sorted(comparable)]
    sections += [section for section in (selected, *published.values()) if section]
    protocols = list(dict.fromkeys(row.protocol for section in sections for row in section))
    notes = [f"{number}: {protocol}" for number, protocol in enumerate(protocols, 1)]
    with_std = [
        row.kind
        for section in sections
        for row in section
        if any(figure.std is not None for figure in row.figures.values())
    ]
    if any(kind != _FEW_SHOT for kind in with_std):
        several = any(len(row.splits) > 1 for section in sections for row in section)
        over = ", in rows of several class splits over these" if several else ""
        notes.append(f"±: standard deviation over seeds{over}")
    if published:
        notes.append("figures of different features cannot be compared")
    return Grid(
        title=f"{dataset} · percent, means over classes",
        columns=(
            *("method", "run or venue", "features", "semantics"),
            *(metric.label for metric in shown),
            "note",
        ),
        align="llll" + "r" * (len(shown) + 1),
        sections=tuple(
            tuple(
                cells
                for row in section
                for cells in _rows_of_cells(row, protocols.index(row.protocol) + 1)
            )
            for section in sections
        ),
        notes=tuple(notes),
    )


def render_csv(rows: Iterable[Row]) -> str:
    """All that is known of rows as CSV, a column for each mean and each standard deviation."""
    words = ("dataset", "kind", "method", "run", "venue", "features", "semantics", "seeds", "shots")
    ends = ("", "_std", "_low", "_high")
    keys = [metric.key for metric in metrics_in("results")]
    columns = [f"{key}{end}" for key in keys for end in ends]
    lines: list[list[object]] = [[*words, "splits", *columns, "protocol", "source"]]
    for row in rows:
        numbers: list[float | None] = []
        for key in keys:
            figure = row.figures.get(key)
            known = [None] * len(ends) if figure is None else _numbers_of(figure)
            numbers += [None if number is None else round(number, 2) for number in known]
        origin = [getattr(row, word) for word in words]
        splits = " ".join(map(str, row.splits))
        lines.append([*origin, splits, *numbers, row.protocol, row.source])
    return csv_text(lines)


def _numbers_of(figure: MeanStd) -> list[float | None]:
    """Mean, standard deviation and the ends of the interval."""
    return [figure.mean, figure.std, *(figure.interval or (None, None))]


def _rows_of_cells(row: Row, note: int) -> Iterator[tuple[Cell, ...]]:
    """The cells of a row, and of its intervals below it where there are some."""
    yield _cells(row, note)
    figures = [row.figures.get(metric.key) for metric in metrics_in("results")]
    if any(figure is not None and figure.interval for figure in figures):
        intervals = [
            f"{fixed(figure.interval[0])}–{fixed(figure.interval[1])}"
            if figure is not None and figure.interval
            else None
            for figure in figures
        ]
        yield ("95% (Student's t)", "", "", "", *intervals, str(note))


def _cells(row: Row, note: int) -> tuple[Cell, ...]:
    # What was chosen on test says so in its first cell, from wherever it may be copied.
    method = f"{row.method} ({row.kind})" if row.kind == _SELECTED else row.method
    method += "" if row.shots is None else f", k = {row.shots}"
    counts = [f"{row.seeds} seeds"] if row.seeds is not None and row.seeds > 1 else []
    counts += [f"{len(row.splits)} class splits"] if len(row.splits) > 1 else []
    counts += [f"class split {row.splits[0]}"] if len(row.splits) == 1 else []
    bracket = f"({', '.join(counts)})" if counts else ""
    origin = f"{row.run or row.venue} {bracket}".strip()
    figures = (row.figures.get(metric.key) for metric in metrics_in("results"))
    return (method, origin, row.features, row.semantics, *figures, str(note))


def _merge_equal(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows, with one for each baseline and oracle that is equal in all runs on its input."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        # A row that belongs to its run is alone in its group.
        run = row.run if row.kind in (_RUN, _SELECTED, _FEW_SHOT) else ""
        inputs = (row.dataset, row.features, row.semantics, row.splits)
        key = (*inputs, row.kind, row.method, run)
        groups.setdefault(key, []).append(row)
    for (*_, run), group in groups.items():
        alike = not run and len({_rounded(row.figures) for row in group}) == 1
        yield from [replace(group[0], run="")] if alike else group


def _rounded(figures: Mapping[str, MeanStd]) -> frozenset[tuple[str, float, float]]:
    """Figures to be compared: the same computation elsewhere may differ in the last bits."""
    return frozenset(
        (name, round(figure.mean, 3), round(figure.std or 0, 3)) for name, figure in figures.items()
    )


def _read_run(directory: Path, root: Path, reports: Sequence[SectionReport]) -> list[Row]:
    """The rows of a run: its model's, its baselines', its oracle's, what was selected on test."""
    file = directory / METRICS_FILE
    metrics = open_metrics(file)
    dataset = metrics["dataset"].text()
    if Path(dataset).name != dataset or dataset == "..":
        raise metrics["dataset"].refused("a plain file name")
    seeds, splits = _seeds(metrics), _splits(metrics)
    model = Row(
        kind=_RUN,
        dataset=dataset,
        features=metrics["features"].text(),
        semantics=metrics["semantics"].text(),
        method=metrics["model"].text(),
        protocol=metrics["protocol"].text(),
        figures=_figures(metrics, metrics_in("results"), max(len(seeds), len(splits))),
        run=_run_name(directory, root, dataset),
        seeds=len(seeds),
        source=str(file),
        splits=splits,
        of_seeds=seeds,
    )
    return [
        model,
        *(
            _added(model, row)
            for report in measured(metrics, reports)
            for row in report.rows(metrics)
        ),
    ]


def _added(model: Row, row: SectionRow) -> Row:
    """A row of a section, beside its model's."""
    if row.kind == _FEW_SHOT:  # its deviations are over draws too, with one seed as with several
        figures = read_metrics(row.measures, metrics_in(row.view))
    else:
        count = max(len(model.of_seeds), len(model.splits))
        figures = _figures(row.measures, metrics_in(row.view), count)
    if row.kind == _RUN:
        return replace(model, method=row.method, figures=figures)
    varied = any(figure.std is not None for figure in figures.values())
    seeds = model.seeds if row.kind != _BASELINE or varied else None
    companion = _companion(model, row.kind, row.method, figures, seeds)
    return replace(companion, shots=row.shots)


def _companion(
    model: Row, kind: str, method: str, figures: Mapping[str, MeanStd], seeds: int | None
) -> Row:
    """Another row of the same run, beside its model's."""
    return replace(
        model, kind=kind, method=method, protocol=_PROTOCOLS[kind], figures=figures, seeds=seeds
    )


def _seeds(metrics: Field) -> tuple[int, ...]:
    """The seeds of a run, one or several."""
    seeds = metrics["seeds"]
    if seeds.value is None:
        return (_seed(metrics["seed"]),)
    return tuple(map(_seed, seeds.items()))


def _splits(metrics: Field) -> tuple[int, ...]:
    """The seeds of the random class splits of a run; none with the dataset's own."""
    splits = metrics["class_splits"]
    if splits.value is None:
        split = metrics["class_split"]
        return () if split.value is None else (_seed(split["seed"]),)
    return tuple(map(_seed, splits.items()))


def _seed(field: Field) -> int:
    if not isinstance(field.value, int):
        raise field.refused("a seed")
    return field.value


def _figures(record: Field, metrics: Sequence[Metric], runs: int) -> dict[str, MeanStd]:
    """Figures by the metric's key; with a standard deviation only where it is over several runs."""
    figures = read_metrics(record, metrics)
    # A closed form has the same figures under every seed.
    if runs == 1 or not any(figure.std for figure in figures.values()):
        return {key: MeanStd(figure.mean) for key, figure in figures.items()}
    return figures


def _run_name(directory: Path, root: Path, dataset: str) -> str:
    """A run's path below the folder of its dataset."""
    parts = list(directory.relative_to(root).parts)
    if dataset in parts:
        parts.remove(dataset)
    return "/".join(parts) or directory.resolve().name
