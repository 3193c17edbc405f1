"""Intervals and comparisons over class splits, beside scipy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gsmflow.core.aggregate import summarise_seeds, summarise_splits, t_interval
from gsmflow.evaluation.class_splits import estimate_over_splits

FIGURES = st.lists(st.floats(0, 1), min_size=3, max_size=12)


@given(FIGURES)
def test_interval_is_scipys(values: list[float]) -> None:
    found = t_interval(values)
    assert found is not None
    if np.std(values) > 1e-9:
        expected = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert found == pytest.approx(expected)
    else:
        assert found == pytest.approx((np.mean(values), np.mean(values)))
    assert t_interval(values[:1]) is None


def of_splits(values: list[float]) -> dict[str, dict[int, float]]:
    return {"H": dict(enumerate(values))}


def test_comparison_is_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    common = rng.uniform(0.3, 0.6, 20)  # splits differ more than methods
    good = common + rng.normal(0.02, 0.01, 20)
    bad, noise = common + rng.normal(0, 0.01, 20), rng.normal(0, 0.01, 20)
    equal = good + noise - noise.mean() - 0.001
    rows = {name: of_splits(list(v)) for name, v in (("a", bad), ("b", good), ("c", equal))}
    found = estimate_over_splits(rows)
    assert found["b"]["H"].mean == pytest.approx(good.mean())
    assert found["b"]["H"].p is None
    for name, values, is_best in (("a", bad, False), ("c", equal, True)):
        estimate = found[name]["H"]
        assert estimate.p == pytest.approx(stats.ttest_rel(good, values).pvalue)
        assert estimate.best is is_best
    p_a, p_c = found["a"]["H"].p, found["c"]["H"].p
    assert p_a is not None
    assert p_c is not None
    assert found["a"]["H"].p_holm == pytest.approx(2 * p_a)
    assert found["c"]["H"].p_holm == pytest.approx(max(p_c, 2 * p_a))


def test_only_splits_of_both_are_compared() -> None:
    found = estimate_over_splits(
        {"a": {"H": {0: 0.9, 1: 0.8, 2: 0.7}}, "b": {"H": {1: 0.7, 2: 0.5, 3: 0.2}}}
    )
    assert found["b"]["H"].p == pytest.approx(stats.ttest_rel([0.8, 0.7], [0.7, 0.5]).pvalue)


def test_one_split_has_no_interval_and_equal_methods_are_both_best() -> None:
    assert estimate_over_splits({"a": of_splits([0.5])}) == {"a": {}}
    found = estimate_over_splits({"a": of_splits([0.5, 0.6]), "b": of_splits([0.5, 0.6])})
    assert found["a"]["H"].best
    assert found["b"]["H"].best
    assert found["b"]["H"].p == 1


@given(st.lists(FIGURES.map(lambda v: v[:3]), min_size=2, max_size=5))
def test_summary_over_splits_is_of_the_means_over_seeds(table: list[list[float]]) -> None:
    splits = {
        split: summarise_seeds(
            {seed: {"seed": seed, "H": h, "model": "m"} for seed, h in enumerate(row)}
        )
        for split, row in enumerate(table)
    }
    found = summarise_splits(splits)
    means = [np.mean(row) for row in table]
    assert found["H"]["values"] == pytest.approx(means)
    assert found["H"]["mean"] == pytest.approx(np.mean(means))
    assert found["H"]["std"] == pytest.approx(np.std(means, ddof=1), abs=1e-12)
    assert found["class_splits"] == list(range(len(table)))
    assert (found["seeds"], found["model"]) == ([0, 1, 2], "m")
