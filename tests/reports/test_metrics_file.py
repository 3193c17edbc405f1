"""Hostile ``metrics.json`` files: each is left out with a sentence, and no other run with it."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from rich.console import Console

from gsmflow.core.aggregate import summarise_seeds
from gsmflow.core.tables import terminal_table
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.results import collect_runs, render_csv, results_grid
from gsmflow.reports.tables import print_metrics
from gsmflow.runs.sections import REPORTS
from tests.fuzz import mutations, read_or_refused, tampered

MEASURES: dict[str, Any] = {
    **{"T1": 0.3, "U": 0.34, "S": 0.2, "H": 0.25, "AUSUC": 0.1},
    "calibrated": {"gamma": -0.5, "U": 0.1, "S": 0.2, "H": 0.15},
}
OVER_DRAWS = {"mean": 0.3, "std": 0.1, "values": [0.2, 0.4]}
METRICS: dict[str, Any] = {
    **{"model": "GSMFlow", "dataset": "CUB", "features": "res101", "semantics": "att", "seed": 0},
    "protocol": "last epoch",
    "validation": {"gamma": -0.5, "curve": [{"epoch": 4, "T1": 0.1, "gamma": 1.0}]},
    **MEASURES,
    "baselines": {"ESZSL": {**MEASURES, "choices": None}},
    "classifiers_beside": {"prototypes": MEASURES},
    "oracle": MEASURES,
    "gate": {
        "name": "boundary",
        "measures": MEASURES,
        **dict.fromkeys(("AUROC", "FPR95", "accepted_seen", "accepted_unseen"), 0.5),
    },
    "top_k": {"k": 5, **MEASURES},
    "few_shot": {"1": {**dict.fromkeys(("T1", "U", "S", "H", "AUSUC"), OVER_DRAWS), "share": 0.5}},
    "test_selected": MEASURES,
}


def show(folder: Path) -> None:
    """What ``results`` does."""
    console = Console(file=StringIO())
    found = collect_runs(folder, REPORTS)
    for dataset in {row.dataset for row in found.rows}:
        rows = [row for row in found.rows if row.dataset == dataset]
        console.print(terminal_table(results_grid(dataset, rows)))
        assert render_csv(rows)


def write(folder: Path, content: bytes) -> Path:
    file = folder / "metrics.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_good_file_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "CUB" / "good", json.dumps(METRICS).encode())
    assert open_metrics(file).object() == METRICS
    assert collect_runs(tmp_path, REPORTS).warnings == ()
    seeds = summarise_seeds({0: METRICS, 1: METRICS})
    file.write_text(json.dumps(seeds))
    assert open_metrics(file).object() == seeds


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=tampered(METRICS) | mutations(json.dumps(METRICS).encode()))
def test_hostile_file_ends_neither_the_table_nor_its_own_run_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    write(folder / "CUB" / "good", json.dumps(METRICS).encode())
    file = write(folder / "CUB" / "bad", content)
    show(folder)
    assert "good" in {row.run for row in collect_runs(folder, REPORTS).rows}
    console = Console(file=StringIO())
    read_or_refused(lambda: print_metrics(open_metrics(file), REPORTS, console))
    read_or_refused(lambda: summarise_seeds({0: METRICS, 1: open_metrics(file).object()}))
