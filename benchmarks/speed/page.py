"""Tables of a record, for the console and for a Markdown page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.speed.ceilings import COPY
from benchmarks.speed.record import Record, targets
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import write_bytes
from gsmflow.core.tables import markdown_table
from gsmflow.reports.stage_seconds import OTHER

__all__ = [
    "check_page",
    "print_record",
    "print_targets",
    "record_tables",
    "render_markdown",
    "write_page",
]

# The marker lines of the section of a CPU and of that of a GPU.
_CPU_MARKERS = "<!-- bench: begin -->", "<!-- bench: end -->"
_GPU_MARKERS = "<!-- bench on a GPU: begin -->", "<!-- bench on a GPU: end -->"
# Characters of a kernel's name, which may have hundreds.
_LONGEST_NAME = 90
# Stages with a smaller share of a run have no row of their own.
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class _Grid:
    """A table of texts; its first column is left-aligned, all others right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    made_by: str = ""


def record_tables(record: Record) -> list[_Grid]:
    """All tables of a record: the targets, then one or more for each part."""
    makers = {
        "step": _step_grids,
        "peak": _peak_grids,
        "gan": _gan_grids,
        "synthesis": _synthesis_grids,
        "growth": _growth_grids,
        "reading": _reading_grids,
        "run": _run_grids,
        "ceilings": _ceiling_grids,
        "profile": _profile_grids,
    }
    grids = [_target_grid(record)]
    for name, part in record["parts"].items():
        *others, last = makers[name](part["results"])
        grids += [*others, _Grid(last.title, last.columns, last.rows, _made_by(part))]
    return grids


def print_record(record: Record, console: Console) -> None:
    """Print all tables of a record."""
    console.print(_machine_line(record["machine"]))
    for note in record["notes"]:
        console.print(note)
    for grid in record_tables(record):
        _print_grid(grid, console)


def print_targets(record: Record, console: Console) -> None:
    """Print the table of the targets alone."""
    _print_grid(_target_grid(record), console)


def _print_grid(grid: _Grid, console: Console) -> None:
    table = Table(title=grid.title, title_justify="left")
    for i, column in enumerate(grid.columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in grid.rows:
        table.add_row(*map(escape, row))  # names of kernels have brackets
    console.print(table)
    if grid.made_by:
        console.print(grid.made_by)


def render_markdown(record: Record) -> str:
    """All tables of a record as Markdown."""
    lines = [_machine_line(record["machine"]), ""]
    if record["quick"]:
        lines += ["**Made with `--quick`: tiny sizes, whose figures mean nothing.**", ""]
    for note in record["notes"]:
        lines += [note + ".", ""]
    for grid in record_tables(record):
        lines += [f"### {grid.title}", ""]
        lines += markdown_table(grid.columns, "l" + "r" * (len(grid.columns) - 1), grid.rows)
        lines.append("")
        if grid.made_by:
            lines += [grid.made_by, ""]
    return "\n".join(lines)


def check_page(path: Path, device: str) -> tuple[str, str]:
    """Split a page at its marked section; both pieces include their marker line.

    Parameters
    ----------
    path
        The page.
    device
        The measured device, ``cpu`` or another, which have a section each.

    Raises
    ------
    InputError
        If the page is missing, or does not have each marker line once.
    """
    begin_line, end_line = markers = _CPU_MARKERS if device == "cpu" else _GPU_MARKERS
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected a page with the lines "
            f"{begin_line} and {end_line}"
        ) from error
    lines = text.splitlines(keepends=True)
    begins, ends = (
        [i for i, line in enumerate(lines) if line.strip() == marker] for marker in markers
    )
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        raise InputError(
            f"{path}: found the line {begin_line} {len(begins)} times and {end_line} {len(ends)} "
            "times, expected each once, in this order"
        )
    begin, end = begins[0], ends[0]
    return "".join(lines[: begin + 1]), "".join(lines[end:])


def write_page(path: Path, record: Record) -> None:
    """Replace the marked section of a record's device in a page by the tables of the record."""
    before, after = check_page(path, record["machine"]["device"])
    write_bytes(path, f"{before}\n{render_markdown(record)}\n{after}".encode())


def _machine_line(machine: Mapping[str, Any]) -> str:
    units = ", ".join(machine["bf16_units"]) or "no bf16 units"
    gpu = f"; {machine['gpu']}" if machine["gpu"] else ""
    return (
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{units}, {machine['memory_gib']} GiB{gpu}; torch {machine['torch']}, device "
        f"{machine['device']}."
    )


def _made_by(part: Mapping[str, Any]) -> str:
    commit = (part["commit"] or "unknown").partition("+")
    changes = " with changes" if commit[1] else ""
    return (
        f"`{part['command']}`, {part['repetitions']}, {part['seconds']:.0f} s in all, "
        f"{part['date']}, commit {commit[0][:10]}{changes}."
    )


def _target_grid(record: Record) -> _Grid:
    rows = []
    for target in targets(record["machine"]):
        figure = record.get(target.key)
        if figure is None and target.bound is None:
            continue
        sign = "≥" if target.at_least else "≤"
        goal = "-" if target.bound is None else f"{sign} {target.bound:g}"
        met = {None: "-", True: "yes", False: "no"}[target.met(figure)]
        rows.append((target.text, "not measured" if figure is None else f"{figure:.3f}", goal, met))
    return _Grid("Targets", ("what", "measured", "target", "met"), tuple(rows))


def _step_grids(
    results: Mapping[str, Any], title: str = "A training step (the baseline in fp32)"
) -> list[_Grid]:
    rows = [
        (
            size,
            precision,
            f"{1e3 * found['plain']:.4g}",
            f"{1e3 * row['seconds']:.4g}",
            f"{row['ratio']:.2f}",
        )
        for size, found in results.items()
        for precision, row in found["ours"].items()
    ]
    columns = ("size", "ours in", "baseline, ms", "ours, ms", "ratio")
    return [_Grid(title, columns, tuple(rows))]


def _gan_grids(results: Mapping[str, Any]) -> list[_Grid]:
    title = "A training step of f-CLSWGAN: five of the critic and one of the generator"
    return _step_grids(results, f"{title} (the baseline in fp32)")


def _peak_grids(results: Mapping[str, Any]) -> list[_Grid]:
    rows = [
        (
            size,
            precision,
            f"{found['operations'] / 1e9:.3g}",
            f"{row['achieved'] / 1e9:.4g}",
            f"{row['peak'] / 1e9:.4g}",
            f"{row['peak_median'] / 1e9:.4g}",
            f"{row['fraction']:.2f}",
            f"{row['fraction_of_median']:.2f}",
        )
        for size, found in results.items()
        for precision, row in found["ours"].items()
    ]
    columns = (
        "size",
        "ours in",
        "GFLOP a step",
        "GFLOP/s",
        "best product, GFLOP/s",
        "median product",
        "of best",
        "of median",
    )
    return [_Grid("Our step against the matrix-product peak", columns, tuple(rows))]


def _synthesis_grids(results: Mapping[str, Any]) -> list[_Grid]:
    plain = results["plain"]
    named = {"baseline": plain} | {f"ours, {p}": row for p, row in results["ours"].items()}
    plain_mib = plain["host_mib"] + plain["device_mib"]
    rows = []
    for name, row in named.items():
        mib = row["host_mib"] + row["device_mib"]
        rows.append(
            (
                name,
                f"{row['seconds']:.4g}",
                f"{row['synthesis']:.4g}",
                f"{row['seconds'] - row['synthesis']:.4g}",
                f"{mib:,.0f}",
                f"{plain['seconds'] / row['seconds']:.2f}",
                f"{plain_mib / mib:.2f}" if mib > 0 else "-",
                " / ".join(f"{p / 1e9:.4g}" for p in row["products"]),
            )
        )
    columns = (
        "who",
        "seconds",
        "synthesis",
        "classifiers",
        "peak MiB",
        "ratio, seconds",
        "ratio, memory",
        "fp32 product before / after, GFLOP/s",
    )
    return [_Grid("Synthesis and both classifiers", columns, tuple(rows))]


def _growth_grids(results: Mapping[str, Any]) -> list[_Grid]:
    grown = {
        f"A step in fp32 as the seen classes grow, `prototype_classes` {n}": ("seen classes", found)
        for n, found in results["step"].items()
    }
    grown["Synthesis and classifiers as the samples grow"] = ("samples", results["samples"])
    grown["Synthesis and classifiers as the unseen classes grow, samples fixed"] = (
        "unseen classes",
        results["unseen"],
    )
    return [_grown_grid(title, what, found) for title, (what, found) in grown.items()]


def _grown_grid(title: str, what: str, found: Mapping[str, Any]) -> _Grid:
    rows = [
        (f"{n:,}", f"{seconds:.3g}", f"{mib:,.1f}")
        for n, seconds, mib in zip(found["sizes"], found["seconds"], found["mib"], strict=True)
    ]
    seconds, mib = (
        "-" if exponent is None else f"{exponent:.2f}"
        for exponent in (found["seconds_exponent"], found["mib_exponent"])
    )
    rows.append(("fitted exponent", seconds, mib))
    return _Grid(title, (what, "seconds", "peak MiB"), tuple(rows))


def _reading_grids(results: Mapping[str, Any]) -> list[_Grid]:
    rows = []
    for kind, found in results.items():
        for way, reads in found["ways"].items():
            seconds = [read["seconds"] for read in reads]
            rows.append(
                (
                    f"{kind}, {way}",
                    f"{found['file_mib']:,.0f}",
                    f"{median(seconds):.3g}",
                    f"{min(seconds):.3g}",
                    f"{max(read['host_mib'] for read in reads):,.0f}",
                )
            )
    columns = ("file", "MiB on disk", "seconds, median", "seconds, best", "peak MiB")
    return [_Grid("Reading a dataset", columns, tuple(rows))]


def _run_grids(results: Mapping[str, Any]) -> list[_Grid]:
    epochs, published = results["epochs"], results["published_epochs"]
    stages = {s["stage"]: (s["seconds"], s["published"]) for s in results["stages"]}
    totals = _sums(stages.values())
    kept = {
        name: values
        for name, values in sorted(stages.items(), key=lambda item: -item[1][1])
        if name != OTHER
        and any(v >= _SMALLEST_SHARE * t for v, t in zip(values, totals, strict=True))
    }
    other = _sums(values for name, values in stages.items() if name not in kept)
    rows = kept | {OTHER: other, "all": totals, "all, minutes": (totals[0] / 60, totals[1] / 60)}
    texts = tuple((name, *(f"{value:.2f}" for value in values)) for name, values in rows.items())
    columns = ("stage", f"seconds, epochs: {epochs}", f"seconds, epochs: {published}")
    return [_Grid("A run of train_AWA2.py, stage by stage", columns, texts)]


def _sums(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*pairs, strict=True)
    return sum(first), sum(second)


def _ceiling_grids(results: Mapping[str, Any]) -> list[_Grid]:
    names = {COPY: ("copy in its memory, GB/s read and written", 1e9)}
    rows = []
    for name, found in results.items():
        text, unit = names.get(name, (f"matrix product in {name}, TFLOP/s", 1e12))
        rows.append((text, *(f"{found[key] / unit:.4g}" for key in ("best", "median"))))
    return [_Grid("Ceilings of the device", ("what", "best", "median"), tuple(rows))]


def _profile_grids(results: Mapping[str, Any]) -> list[_Grid]:
    """Shares of the time in all kernels or operators, and in the last row that time's share."""
    busy, shown = results["busy"], results["rows"]
    rows = [(f"`{_short(r['name'])}`", r["calls"], r["seconds"] / busy) for r in shown]
    rows += [
        ("all others", "", 1 - sum(share for *_, share in rows)),
        ("all, of the steps' wall-clock time", "", busy / results["seconds"]),
    ]
    texts = tuple((name, str(calls), f"{100 * share:.1f}") for name, calls, share in rows)
    title = f"Profile of {results['steps']} training steps"
    return [_Grid(title, ("kernel or operator", "calls", "percent of device time"), texts)]


def _short(name: str) -> str:
    """The name of a kernel without its return type, cut where its template arguments go on."""
    plain = name.removeprefix("void ")
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"
