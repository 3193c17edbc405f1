"""A leaderboard's document with the figures of ``docs/leaderboard.csv``, for tests of its page."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gsmflow.evaluation.measures import metrics_in
from gsmflow.methods.registry import find_method
from gsmflow.reports.published import PUBLISHED_FILE, read_published
from gsmflow.runs.grid import read_method_choices

__all__ = ["demo_document"]

_FIGURES = Path(__file__).resolve().parents[3] / "docs" / "leaderboard.csv"
_KEYS = tuple(metric.key for metric in metrics_in("table"))
# On the second dataset, a method that failed here and one that was never run.
_FAILED, _NOT_RUN = "dem", "sync"


def demo_document() -> dict[str, Any]:
    """The methods of the first dataset on all: most are done, one failed, some were never run."""
    with _FIGURES.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["state"] == "done"]
    first = {row["method"] for row in rows if _key(row) == _key(rows[0])}
    datasets = {_key(row): _dataset(row) for row in rows}
    second = list(datasets)[1]
    gaps = {(second, _FAILED), (second, _NOT_RUN)}
    kept = [r for r in rows if r["method"] in first and (_key(r), r["method"]) not in gaps]
    cells = [_cell(row) for row in kept]
    for dataset in datasets:
        for metric in _KEYS:
            found = [c["figures"][metric] for c in cells if c["dataset"] == dataset]
            max(found, key=lambda figure: figure["mean"])["best"] = True
    failed = {"method": _FAILED, "dataset": second, "state": "failed"}
    sentence = "found 1.2 GB of free memory, expected 3.4 GB (--memory sets another limit)"
    cells.append(_EMPTY | failed | {"sentence": sentence})
    return {
        "title": "Leaderboard",
        "command": "python -m gsmflow benchmark --methods all --seeds 3 -o out/leaderboard",
        "made": {
            "commit": "c1aab2e",
            "machine": "2 cores, no GPU",
            "versions": {"python": "3.11", "torch": "2.8"},
        },
        "protocol": "Official splits, last epochs, nothing chosen on test rows.",
        "metrics": [
            {"key": m.key, "label": m.label, "description": m.description}
            for m in metrics_in("table")
        ],
        "datasets": list(datasets.values()),
        "methods": [_method(name) for name in dict.fromkeys(row["method"] for row in kept)],
        "cells": cells,
        "ranks": _ranks(cells, len(datasets)),
        "published": [asdict(row) for row in read_published(PUBLISHED_FILE)],
    }


_EMPTY: Mapping[str, Any] = {
    "sentence": "",
    "seeds": [],
    "figures": {},
    "seconds": None,
    "peak_mib": None,
    "page": None,
}


def _key(row: Mapping[str, str]) -> str:
    return ":".join(row[name] for name in ("dataset", "features", "semantics"))


def _dataset(row: Mapping[str, str]) -> dict[str, Any]:
    names = {name: row[name] for name in ("dataset", "features", "semantics")}
    return {"key": _key(row), **names, "seen": 82, "unseen": 20, "rows": 2563}


def _method(key: str) -> dict[str, str]:
    (choice,) = read_method_choices([key])
    method = find_method(choice.name)
    return {
        "key": key,
        "label": choice.label,
        "kind": method.kind,
        "classifier": "" if method.classifies else choice.classifier or "softmax",
        "preset": "published",
        "paper": method.paper,
    }


def _cell(row: Mapping[str, str]) -> dict[str, Any]:
    figures = {}
    for key in _KEYS:
        mean, std = float(row[key]), float(row[f"{key}_std"] or 0) or None
        wide = (std or 0) + 1
        figures[key] = {
            "mean": mean,
            "std": std,
            "low": max(0, mean - wide),
            "high": mean + wide,
            "best": False,
        }
    return {
        **_EMPTY,
        "method": row["method"],
        "dataset": _key(row),
        "state": "done",
        "seeds": list(map(int, row["seeds"].split())),
        "figures": figures,
        "seconds": round(float(row["seconds"])) if row["seconds"] else None,
        "peak_mib": int(row["peak_mib"]) if row["peak_mib"] else None,
        "page": f"runs/{_key(row).replace(':', '-')}/{row['method']}/report.html",
    }


def _ranks(cells: list[dict[str, Any]], datasets: int) -> dict[str, Any]:
    """Average ranks of the methods that have a figure on every dataset."""
    figures: dict[str, dict[str, float]] = {}
    for cell in cells:
        if cell["state"] == "done":
            mean = cell["figures"]["H_calibrated"]["mean"]
            figures.setdefault(cell["method"], {})[cell["dataset"]] = mean
    everywhere = {name: on for name, on in figures.items() if len(on) == datasets}
    ranks = {
        name: sum(
            1 + sum(others[key] > mean for others in everywhere.values())
            for key, mean in on.items()
        )
        / datasets
        for name, on in everywhere.items()
    }
    return {
        "metric": "H_calibrated",
        "methods": [{"key": name, "rank": rank} for name, rank in ranks.items()],
        "critical_difference": 11.6,
        "datasets": datasets,
        "p": 2.4e-7,
    }
