"""A leaderboard as CSV, Markdown and LaTeX, read again by other readers."""

import csv
import io
from pathlib import Path

import pytest

from gsmflow.core.rounding import fixed
from gsmflow.core.tables import MeanStd, latex, markdown
from gsmflow.evaluation.bootstrap import Estimate
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.ranks import rank_methods
from gsmflow.reports.leaderboard.entries import (
    DatasetEntry,
    Leaderboard,
    LeaderboardCell,
    MethodEntry,
)
from gsmflow.reports.leaderboard.forms import (
    LEAST_STD,
    csv_of,
    dataset_grid,
    document_of,
    moved,
    rank_grid,
    read_csv,
)
from gsmflow.reports.published import Published

KEYS = [metric.key for metric in metrics_in("table")]


def cell(
    method: str, dataset: str, value: float | None, std: float | None = None
) -> LeaderboardCell:
    done = value is not None
    figures = {key: MeanStd(value + i, std) for i, key in enumerate(KEYS)} if value else {}
    estimate = Estimate(0.5, 0.4, 0.6, method == "a", None, None)
    return LeaderboardCell(
        method=method,
        dataset=dataset,
        state="done" if done else "failed",
        sentence="" if done else 'memory | is, "short"',
        seeds=(0, 1) if done else (),
        figures=figures,
        estimates={"H": estimate} if done else {},
        seconds=12.25 if done else None,
        peak_mib=800 if done else None,
        folder=Path("runs") / method,
    )


def board() -> Leaderboard:
    datasets = tuple(DatasetEntry(name, "res101", "att", 8, 2, 50) for name in ("X", "Y"))
    methods = tuple(MethodEntry(k, f"Method {k}", "generative", "", "short", "p") for k in "abc")
    cells = [
        cell(method.key, data.key, value, 0.5)
        for data, values in zip(datasets, ((50.0, 40.0, None), (60.0, 30.0, 20.0)), strict=True)
        for method, value in zip(methods, values, strict=True)
    ]
    figures = {
        m.key: {c.dataset: c.figures["H"].mean for c in cells if c.method == m.key and c.figures}
        for m in methods
    }
    published = Published(
        method="Old",
        year="2018",
        venue="CVPR",
        setting="inductive",
        dataset="X",
        features="ResNet-101",
        semantics="att",
        figures="as printed",
        source="a page",
        measures={"T1": 60.0},
    )
    return Leaderboard(
        datasets=datasets,
        methods=methods,
        cells=tuple(cells),
        ranking=rank_methods(figures),
        published=(published,),
        command="command",
        environment={"commit": "c"},
    )


def test_csv_has_every_cell_and_is_read_again(tmp_path: Path) -> None:
    text = csv_of(board())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["dataset"], r["method"], r["state"]) for r in rows] == [
        ("X", "a", "done"),
        ("X", "b", "done"),
        ("X", "c", "failed"),
        ("Y", "a", "done"),
        ("Y", "b", "done"),
        ("Y", "c", "done"),
    ]
    assert rows[2]["sentence"] == 'memory | is, "short"'
    assert (rows[0]["H_low"], rows[0]["H_high"], rows[0]["H_best"]) == ("40.0000", "60.0000", "yes")
    file = tmp_path / "leaderboard.csv"
    file.write_text(text)
    cells = read_csv(file)
    assert [(c.dataset, c.method, c.preset, c.seeds) for c in cells[:2]] == [
        ("X:res101:att", "a", "short", (0, 1)),
        ("X:res101:att", "b", "short", (0, 1)),
    ]
    assert cells[0].figures == board().cells[0].figures


def test_tables_mark_the_best_and_set_published_figures_apart() -> None:
    grid = dataset_grid(board(), board().datasets[0])
    ours, theirs = grid.sections
    assert [row[0] for row in ours] == ["Method a", "Method b", "Method c"]
    assert [row[1] for row in ours] == ["2", "2", "failed"]
    assert [row[0] for row in theirs] == ["Old (CVPR 2018, ResNet-101)"]
    text, tex = markdown(grid), latex(grid)
    best = 50.0 + KEYS.index("H")
    assert f"**{fixed(best)} ± 0.5**" in text
    assert f"\\mathbf{{{fixed(best)} \\pm 0.5}}" in tex
    assert text.count("**") == 2
    assert any(note.startswith("Method c: memory") for note in grid.notes)
    assert len(dataset_grid(board(), board().datasets[1]).sections) == 1


def test_ranks_are_of_methods_with_figures_everywhere() -> None:
    grid = rank_grid(board())
    assert grid is not None
    assert grid.sections[0] == (("Method a", "1.00"), ("Method b", "2.00"))
    assert "not ranked: Method c" in grid.notes[1]


def test_document_has_all_cells_with_paths_from_its_folder() -> None:
    document = document_of(board(), Path("out"), {("a", "X:res101:att"): Path("out/runs/a/r.html")})
    assert [c["page"] for c in document["cells"]] == ["runs/a/r.html"] + 5 * [None]
    assert document["cells"][0]["figures"]["H"] == {
        "mean": 50.0 + KEYS.index("H"),
        "std": 0.5,
        "low": 40.0,
        "high": 60.0,
        "best": True,
    }
    assert document["ranks"]["methods"][0] == {"key": "a", "rank": 1.0}


@pytest.mark.parametrize(
    ("std", "shift", "expected"),
    [(0.5, 1.4, 0), (0.5, 1.6, len(KEYS)), (None, 2.9 * LEAST_STD, 0), (None, 0.7, len(KEYS))],
)
def test_moved_is_more_than_three_standard_deviations(
    std: float | None, shift: float, expected: int, tmp_path: Path
) -> None:
    before = cell("a", "X:res101:att", 50.0, std)
    one = Leaderboard(board().datasets[:1], board().methods[:1], (before,), None, (), "", {})
    (tmp_path / "b.csv").write_text(csv_of(one))
    (old,) = read_csv(tmp_path / "b.csv")
    assert len(moved(old, cell("a", "X:res101:att", 50.0 + shift))) == expected
