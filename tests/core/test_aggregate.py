import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.core.aggregate import mean_std, summarise

RUNS = [
    {
        "T1": 0.5,
        "seed": 0,
        "calibrated": {"H": 0.25},
        "protocol": "p",
        "curve": [1],
        "only_here": 1,
    },
    {"T1": 0.7, "seed": 1, "calibrated": {"H": 0.75}, "protocol": "p", "curve": [1]},
    {"T1": 0.9, "seed": 2, "calibrated": {"H": 0.50}, "protocol": "p", "curve": [2]},
]


def test_aggregate_has_the_fields_of_a_run() -> None:
    summary = summarise(RUNS)
    assert summary.keys() == {"T1", "seed", "calibrated", "protocol"}
    assert summary["protocol"] == "p"
    assert summary["T1"]["values"] == [0.5, 0.7, 0.9]
    assert summary["calibrated"]["H"]["mean"] == pytest.approx(0.5)
    assert summary["calibrated"]["H"]["std"] == pytest.approx(0.25)
    json.dumps(summary)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_mean_and_standard_deviation_equal_those_of_numpy(values: list[float]) -> None:
    aggregate = summarise([{"H": value} for value in values])["H"]
    assert aggregate["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert aggregate["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def test_single_run_has_no_standard_deviation() -> None:
    assert summarise(RUNS[:1])["T1"] == {"mean": 0.5, "std": None, "values": [0.5]}


def test_aggregates_over_draws_are_pooled_over_runs() -> None:
    runs = [{"few": summarise([{"H": 0.1}, {"H": 0.5}])}, {"few": summarise([{"H": 0.3}])}]
    aggregate = summarise(runs)["few"]["H"]
    assert aggregate["values"] == [0.1, 0.5, 0.3]
    assert aggregate["mean"] == pytest.approx(0.3)
    assert aggregate["std"] == pytest.approx(0.2)


def test_differing_values_are_left_out_and_equal_ones_stay() -> None:
    runs = [{"features": "a", "calibrated": None}, {"features": "b", "calibrated": None}]
    assert summarise(runs) == {"calibrated": None}


def test_mean_std_converts_to_percent() -> None:
    numbers = [
        mean_std(v) for v in (0.515, {"mean": 0.5, "std": 0.025}, {"mean": 0.5, "std": None})
    ]
    assert [f.text(" ±") for f in numbers if f is not None] == ["51.5", "50.0 ±2.5", "50.0"]
    constant = mean_std({"mean": 0.5, "std": 0.0})
    assert constant is not None
    assert constant.text(" ±") == "50.0"
    assert mean_std(None) is None
