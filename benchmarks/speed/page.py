"""Tables of a record, for the console and for a Markdown page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.record import Record, targets
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import write_bytes
from gsmflow.core.tables import markdown_table

__all__ = ["check_page", "print_record", "record_tables", "render_markdown", "write_page"]

_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"


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
        "synthesis": _synthesis_grids,
        "growth": _growth_grids,
        "reading": _reading_grids,
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
        table = Table(title=grid.title, title_justify="left")
        for i, column in enumerate(grid.columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in grid.rows:
            table.add_row(*row)
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


def check_page(path: Path) -> tuple[str, str]:
    """Split a page at its marked section; both pieces include their marker line.

    Raises
    ------
    InputError
        If the page is missing, or does not have each marker line once.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}), expected a page with the lines {_BEGIN} "
            f"and {_END}"
        ) from error
    lines = text.splitlines(keepends=True)
    begins, ends = (
        [i for i, line in enumerate(lines) if line.strip() == marker] for marker in (_BEGIN, _END)
    )
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        raise InputError(
            f"{path}: found the line {_BEGIN} {len(begins)} times and {_END} {len(ends)} times, "
            "expected each once, in this order"
        )
    begin, end = begins[0], ends[0]
    return "".join(lines[: begin + 1]), "".join(lines[end:])


def write_page(path: Path, record: Record) -> None:
    """Replace the marked section of a page by the tables of a record."""
    before, after = check_page(path)
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


def _step_grids(results: Mapping[str, Any]) -> list[_Grid]:
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
    return [_Grid("A training step (the baseline in fp32)", columns, tuple(rows))]


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
