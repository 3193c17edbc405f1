"""The table of metrics: what it computes, and that one entry is enough to add a metric."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from sklearn.metrics import recall_score

from gsmflow.core.arrays import IntArray
from gsmflow.core.json_fields import Field
from gsmflow.core.rounding import fixed
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.evaluation import measures
from gsmflow.evaluation.measures import METRICS, Metric, measure, metrics_in, validation_point
from gsmflow.evaluation.metrics import per_class_accuracy
from gsmflow.evaluation.protocol import Outcome
from gsmflow.reports.page.document import read_run
from gsmflow.reports.results import collect_runs, render_csv, results_grid
from gsmflow.reports.tables import result_table
from gsmflow.runs.sections import REPORTS
from gsmflow.tuning.trial import Objective


def make_scores(*, unseen_rows: bool = True) -> tuple[NDArray[np.float64], IntArray]:
    """Scores of 8 seen and 4 unseen classes that lean towards the seen ones, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12 if unseen_rows else 8, 300)
    scores = rng.normal(size=(300, 12)) + (labels[:, None] == np.arange(12))
    scores[:, :8] += 0.5
    return scores, labels


def make_outcome(*, unseen_rows: bool = True) -> Outcome:
    scores, labels = make_scores(unseen_rows=unseen_rows)
    classes = np.arange(12)
    return Outcome.of_scores(scores, scores[labels >= 8, 8:], labels, classes, classes[:8])


def test_shape_of_metrics_json() -> None:
    record = measure(make_outcome(), 0.5).as_json()
    assert list(record) == ["T1", "U", "S", "H", "AUSUC", "calibrated"]
    assert list(record["calibrated"]) == ["gamma", "U", "S", "H"]
    assert measure(make_outcome()).as_json()["calibrated"] is None


def test_keys_and_labels_are_unique() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert len({metric.label for metric in METRICS}) == len(METRICS)


def test_validation_point_has_the_best_gamma_of_its_rows() -> None:
    outcome = make_outcome()
    point, curve = validation_point(outcome), outcome.curve()
    assert point["gamma"] == curve.best_gamma()
    assert point["H_calibrated"] == pytest.approx(curve.best_harmonic_mean())
    assert point["H_calibrated"] == outcome.calibrated(point["gamma"]).H > point["H"]


def test_without_unseen_rows_only_seen_accuracy_is_known() -> None:
    outcome = make_outcome(unseen_rows=False)
    record = measure(outcome, 0.5).as_json()
    assert {name for name, value in record.items() if value is None} == {"T1", "U", "H", "AUSUC"}
    answers = (make_scores(unseen_rows=False)[0] - 0.5 * (outcome.classes < 8)).argmax(axis=1)
    rates = [np.mean(answers[outcome.labels == c] == c) for c in range(8)]
    assert record["calibrated"] == {"gamma": 0.5, "U": None, "S": np.mean(rates), "H": None}


def test_objectives_of_a_search_are_those_of_the_table() -> None:
    assert set(get_args(Objective)) == {metric.key for metric in metrics_in("objective")}


def _best_unseen_class(outcome: Outcome) -> float:
    rows = ~outcome.row_is_seen
    _, accuracies = per_class_accuracy(outcome.labels[rows], outcome.predictions()[rows])
    return float(accuracies.max())


BEST_CLASS = Metric(
    name="U_best",
    label="U best class",
    description="unseen rows of the class with the highest accuracy",
    compute=_best_unseen_class,
    views=frozenset({"table", "results", "validation"}),
    rows="unseen",
)


def write_run(folder: Path, outcome: Outcome, gamma: float) -> None:
    content = {
        "model": "GSMFlow",
        "dataset": "CUB",
        "features": "res101",
        "semantics": "sent",
        "seed": 0,
        "protocol": "nothing chosen on test",
        **measure(outcome, gamma).as_json(),
        "baselines": {},
        "validation": {"curve": [{"epoch": 1, **validation_point(outcome)}]},
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(content))
    (folder / "recipe.json").write_text("{}")


@pytest.mark.parametrize("calibrated", [False, True])
def test_one_table_entry_adds_a_metric_to_all_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibrated: bool
) -> None:
    added = replace(BEST_CLASS, calibrated=calibrated)
    outcome, gamma = make_outcome(), 0.75
    older, run = tmp_path / "CUB" / "a", tmp_path / "CUB" / "b"
    write_run(older, outcome, gamma)
    monkeypatch.setattr(measures, "METRICS", (*METRICS, added))
    write_run(run, outcome, gamma)

    answers = (make_scores()[0] - (gamma if calibrated else 0) * (np.arange(12) < 8)).argmax(axis=1)
    recalls = recall_score(outcome.labels, answers, labels=range(8, 12), average=None)
    expected = 100 * recalls.max()

    metrics = json.loads((run / "metrics.json").read_text())
    found = (metrics["calibrated"] if calibrated else metrics)["U_best"]
    assert 100 * found == pytest.approx(expected)

    console = Console(record=True, width=160, file=io.StringIO())
    console.print(result_table(Field(Path(METRICS_FILE), "", metrics), REPORTS))
    printed = console.export_text()
    assert "U best class" in printed
    assert fixed(expected) in printed

    document = read_run(run, REPORTS)
    (row,) = document["rows"]
    shown = dict(zip(document["columns"], row["figures"], strict=True))
    assert shown["U best class"]["mean"] == pytest.approx(expected)
    assert document["glossary"].count("U best class") == 1
    assert "U best class" in document["parts"][0]["validation"]

    collection = collect_runs(tmp_path, REPORTS)
    assert not collection.warnings
    blank, line = csv.DictReader(render_csv(collection.rows).splitlines())
    assert float(line[added.key]) == pytest.approx(expected, abs=0.005)
    assert "U best class" in results_grid("CUB", collection.rows).columns
    # The other run was made before the metric was added.
    assert blank[added.key] == ""
    (row,) = read_run(older, REPORTS)["rows"]
    assert row["figures"][-1] is None


def test_run_without_a_required_metric_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "CUB" / "run", make_outcome(), 0.5)
    file = tmp_path / "CUB" / "run" / "metrics.json"
    content = json.loads(file.read_text())
    del content["H"]
    file.write_text(json.dumps(content))
    (warning,) = collect_runs(tmp_path, REPORTS).warnings
    assert "field 'H': found nothing, expected a fraction from 0 to 1" in warning
