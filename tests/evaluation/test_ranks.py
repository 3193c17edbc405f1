import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, rankdata

from gsmflow.evaluation.ranks import nemenyi_difference, rank_methods

# Demšar (JMLR 2006), table 6. The last figure of "voting" is printed as 0.975, with rank 3.
AUC = {
    "C4.5": "763 599 954 628 882 936 661 583 775 1000 940 619 972 957",
    "C4.5+m": "768 591 971 661 888 931 668 583 838 1000 962 666 981 978",
    "C4.5+cf": "771 590 968 654 886 916 609 563 866 1000 965 614 975 946",
    "C4.5+m+cf": "798 569 967 657 898 931 685 625 875 1000 962 669 974.9 970",
}
EXAMPLE = {
    method: {str(i): float(x) for i, x in enumerate(text.split())} for method, text in AUC.items()
}

figures = st.integers(3, 6).flatmap(
    lambda datasets: st.lists(
        st.lists(st.integers(0, 5), min_size=datasets, max_size=datasets), min_size=3, max_size=7
    )
)


@pytest.mark.parametrize(
    ("methods", "q"),
    [
        *((2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850)),
        *((7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)),
    ],
)
def test_critical_values_are_those_of_demsars_table_5(methods: int, q: float) -> None:
    difference = nemenyi_difference(methods, 12)
    assert difference / np.sqrt(methods * (methods + 1) / 72) == pytest.approx(q, abs=1.1e-3)


def test_demsars_example() -> None:
    ranking = rank_methods(EXAMPLE)
    assert ranking is not None
    assert ranking.methods == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert ranking.ranks == pytest.approx([1.964, 2.000, 2.893, 3.143], abs=5e-4)
    assert ranking.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert ranking.groups == (ranking.methods,)
    assert ranking.friedman is not None
    # The paper does not correct for ties.
    ties = sum(
        count**3 - count
        for column in zip(*(row.values() for row in EXAMPLE.values()), strict=True)
        for count in np.unique(column, return_counts=True)[1]
    )
    uncorrected = ranking.friedman.chi_square * (1 - ties / (14 * (4**3 - 4)))
    assert uncorrected == pytest.approx(9.28, abs=0.02)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.02)


def test_demsars_groups_at_ten_percent() -> None:
    ranking = rank_methods(EXAMPLE, alpha=0.1)
    assert ranking is not None
    assert ranking.critical_difference == pytest.approx(1.12, abs=5e-3)
    assert ranking.groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5"))


@given(figures)
@settings(deadline=None, max_examples=50)
def test_ranks_test_and_groups_by_brute_force(rows: list[list[int]]) -> None:
    named = {f"m{i}": {f"d{j}": float(x) for j, x in enumerate(row)} for i, row in enumerate(rows)}
    ranking = rank_methods(named)
    assert ranking is not None
    assert ranking == rank_methods(dict(reversed(named.items())))
    expected = np.mean([rankdata([-x for x in column]) for column in zip(*rows, strict=True)], 0)
    ranks = dict(zip(ranking.methods, ranking.ranks, strict=True))
    assert [ranks[f"m{i}"] for i in range(len(rows))] == pytest.approx(expected)
    assert list(ranking.ranks) == sorted(ranking.ranks)

    assert ranking.friedman is not None
    if all(row == rows[0] for row in rows):
        assert ranking.friedman.p == 1
    else:
        test = friedmanchisquare(*rows)
        assert ranking.friedman.chi_square == pytest.approx(test.statistic)
        assert ranking.friedman.p == pytest.approx(test.pvalue)

    # Two methods share a group exactly where they do not differ; no group is part of another.
    for a, b in zip(ranking.methods, ranking.methods[1:], strict=False):
        close = abs(ranks[a] - ranks[b]) < ranking.critical_difference
        assert close == any({a, b} <= set(group) for group in ranking.groups)
    for group in ranking.groups:
        assert ranks[group[-1]] - ranks[group[0]] < ranking.critical_difference
        assert not any(set(group) < set(other) for other in ranking.groups)


def test_methods_without_a_figure_are_left_out_and_one_dataset_is_not_ranked() -> None:
    named = {"a": {"x": 1.0, "y": 1.0}, "b": {"x": 2.0, "y": 0.5}, "c": {"x": 3.0}}
    ranking = rank_methods(named)
    assert ranking is not None
    assert (ranking.methods, ranking.left_out) == (("a", "b"), ("c",))
    assert ranking.friedman is None
    assert rank_methods({"a": {"x": 1.0}, "b": {"x": 2.0}}) is None
    assert rank_methods({}) is None


def test_datasets_that_rank_alike_have_an_infinite_f() -> None:
    ranking = rank_methods({f"m{i}": {f"d{j}": float(i) for j in range(4)} for i in range(3)})
    assert ranking is not None
    assert ranking.friedman is not None
    assert ranking.friedman.chi_square == pytest.approx(8)
    assert (ranking.friedman.f, ranking.friedman.f_p) == (None, 0)
