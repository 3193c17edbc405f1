from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.evaluation import bootstrap as module
from gsmflow.evaluation.bootstrap import (
    RightAnswers,
    bootstrap,
    holm,
    right_answers,
)
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.metrics import harmonic_mean
from gsmflow.evaluation.protocol import Outcome

Methods = Mapping[str, Mapping[int, RightAnswers]]


def split(
    classes: int, rows: int, unseen: int, generator: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Shuffled labels of ``rows`` rows of each class, and which classes are seen."""
    labels = generator.permutation(np.repeat(np.arange(classes), rows))
    return labels, np.arange(classes) >= unseen


def answers(
    labels: NDArray[Any], seen: NDArray[Any], share: float, generator: np.random.Generator
) -> RightAnswers:
    gzsl, calibrated, zsl = (generator.random(len(labels)) < share for _ in range(3))
    return RightAnswers(gzsl, zsl[~seen[labels]], calibrated)


def random_outcome(generator: np.random.Generator) -> Outcome:
    classes = generator.permutation(6)
    seen = classes[:4]
    labels = generator.integers(0, 6, 60)
    labels[:6] = np.arange(6)
    unseen = ~np.isin(labels, seen)
    return Outcome.of_scores(
        scores=generator.normal(size=(60, 6)),
        zsl_scores=generator.normal(size=(unseen.sum(), 2)),
        labels=labels,
        classes=classes,
        seen_classes=seen,
    )


def test_means_are_those_of_the_tables() -> None:
    generator = np.random.default_rng(0)
    outcome = random_outcome(generator)
    seen = np.isin(np.arange(6), outcome.seen_classes)
    found = bootstrap(
        outcome.labels, seen, {"a": {3: right_answers(outcome, 0.4)}}, generator, draws=10
    )["a"]
    expected = measure(outcome, 0.4)
    for name in ("T1", "U", "S", "H"):
        assert found[name].mean == pytest.approx(expected.plain[name])
    for name in ("U", "S", "H"):
        assert found[f"{name}_calibrated"].mean == pytest.approx(expected.calibrated[name])


def loop(
    labels: NDArray[Any], seen: NDArray[Any], methods: Methods, draws: int, seed: int
) -> dict[str, NDArray[Any]]:
    """T1, U, S and H of every draw and method, with classes, rows and seeds drawn one by one."""
    generator = np.random.default_rng(seed)
    rows = {c: np.flatnonzero(labels == c) for c in range(len(seen))}
    number = np.cumsum(~seen[labels]) - 1
    figures: dict[str, list[list[float]]] = {name: [] for name in ("T1", "U", "S", "H")}
    for _ in range(draws):
        picked = {
            side: [
                generator.choice(rows[c], len(rows[c]))
                for c in generator.choice(np.flatnonzero(seen == side), (seen == side).sum())
            ]
            for side in (True, False)
        }
        taken = generator.choice(sorted(next(iter(methods.values()))), len(methods["a"]))
        line: dict[str, list[float]] = {name: [] for name in figures}
        for own in methods.values():
            of_seeds = []
            for s in taken:
                right = own[s]
                u, v = (
                    np.mean([right.gzsl[r].mean() for r in picked[side]]) for side in (False, True)
                )
                assert right.zsl is not None
                t1 = np.mean([right.zsl[number[r]].mean() for r in picked[False]])
                of_seeds.append((t1, u, v, harmonic_mean(float(u), float(v))))
            for name, value in zip(figures, np.mean(of_seeds, axis=0), strict=True):
                line[name].append(float(value))
        for name, values in line.items():
            figures[name].append(values)
    return {name: np.array(values) for name, values in figures.items()}


def test_intervals_are_those_of_a_loop_over_draws() -> None:
    generator = np.random.default_rng(2)
    labels, seen = split(9, 6, 4, generator)
    methods = {
        name: {s: answers(labels, seen, share, generator) for s in range(3)}
        for name, share in (("a", 0.75), ("b", 0.45))
    }
    found = bootstrap(labels, seen, methods, generator, draws=20000)
    for name, drawn in loop(labels, seen, methods, 1500, seed=3).items():
        for i, method in enumerate(methods):
            low, high = np.quantile(drawn[:, i], (0.025, 0.975))
            estimate = found[method][name]
            assert [estimate.low, estimate.high] == pytest.approx([low, high], abs=0.03)
        # The draws of both methods are paired: so is the verdict on their difference.
        difference = np.quantile(drawn[:, 0] - drawn[:, 1], 0.025)
        if abs(difference) > 0.03:
            assert found["b"][name].best == (difference <= 0)


def test_weights_are_the_counts_of_drawn_rows() -> None:
    rows = module._Rows.of(np.array([2, 0, 2, 2, 0]), np.ones(5, dtype=bool))
    assert rows.order.tolist() == [1, 4, 0, 2, 3]
    weights = rows.resample(500, np.random.default_rng(0))
    assert weights.sum(axis=1) == pytest.approx(1)
    # Each of 2 places for a class has weight 1/2, which is shared by as many rows as it has.
    times = weights[:, :2].sum(axis=1) * 2
    assert times == pytest.approx(times.round())
    counts = weights * 2 * np.array([2, 2, 3, 3, 3])
    assert counts == pytest.approx(counts.round())
    assert weights.mean(axis=0) == pytest.approx(rows.every_row_once()[0], abs=0.03)


def test_intervals_cover_a_known_truth() -> None:
    # Classes come from a population whose mean accuracy is 0.6: the interval is for that.
    generator, covered, trials = np.random.default_rng(4), 0, 200
    seen = np.zeros(40, dtype=bool)
    labels = np.repeat(np.arange(40), 10)
    for _ in range(trials):
        right = generator.random(400) < generator.beta(6, 4, 40)[labels]
        methods = {"a": {0: RightAnswers(right)}}
        estimate = bootstrap(labels, seen, methods, generator, draws=200)["a"]["U"]
        covered += estimate.low <= 0.6 <= estimate.high
    assert 0.90 <= covered / trials <= 0.99


def test_methods_with_nearly_equal_answers_are_told_apart_by_pairing() -> None:
    generator = np.random.default_rng(5)
    labels, seen = split(40, 20, 40, generator)
    right = generator.random(800) < generator.beta(1, 1, 40)[labels]
    worse = right & (generator.random(800) < 0.95)
    methods = {"a": {0: RightAnswers(right)}, "b": {0: RightAnswers(worse)}}
    found = bootstrap(labels, seen, methods, generator)
    a, b = found["a"]["U"], found["b"]["U"]
    assert a.low < b.high  # not by their intervals
    assert a.best
    assert not b.best
    assert b.p is not None
    assert b.p < 0.01
    # The same number of right answers, on other rows: nothing is paired.
    other = RightAnswers(generator.permutation(worse))
    assert bootstrap(labels, seen, methods | {"b": {0: other}}, generator)["b"]["U"].best


def test_methods_without_a_difference_are_both_best() -> None:
    generator = np.random.default_rng(6)
    labels, seen = split(10, 5, 4, generator)
    same = {s: answers(labels, seen, 0.5, generator) for s in range(2)}
    found = bootstrap(labels, seen, {"b": same, "a": same}, generator, draws=100)
    assert {e.best for of_method in found.values() for e in of_method.values()} == {True}
    assert {e.p for e in found["a"].values()} == {None}
    assert {(e.p, e.p_holm) for e in found["b"].values()} == {(1, 1)}


@given(st.permutations(["a", "b", "c", "d"]), st.integers(0, 5))
def test_order_of_methods_changes_nothing(order: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, seen = split(8, 4, 3, generator)
    seeds = {"a": [0, 1, 2], "b": [1, 2, 4], "c": [0], "d": [0, 1, 2]}
    methods = {
        name: {s: answers(labels, seen, 0.6, generator) for s in own} for name, own in seeds.items()
    }
    first, second = (
        bootstrap(labels, seen, {n: methods[n] for n in names}, np.random.default_rng(7), draws=30)
        for names in (list("abcd"), order)
    )
    for name, of_method in first.items():
        for key, estimate in of_method.items():
            assert vars(second[name][key]) == pytest.approx(vars(estimate))


def test_seeds_are_shared_where_they_can_be() -> None:
    own = {"a": [0, 1, 2], "b": [0, 1, 2], "c": [1, 2], "d": [5]}
    weights = module._resample_seeds(own, 4000, np.random.default_rng(0))
    assert (weights["a"] == weights["b"]).all()
    assert (weights["d"] == 1).all()
    for name, seeds in own.items():
        assert weights[name].sum(axis=1) == pytest.approx(1)
        # Mean and variance of shares of m draws among m seeds.
        m = len(seeds)
        assert weights[name].mean(axis=0) == pytest.approx(1 / m, abs=0.02)
        assert weights[name].var(axis=0) == pytest.approx((m - 1) / m**3, abs=0.01)
    assert np.corrcoef(weights["a"][:, 1], weights["c"][:, 0])[0, 1] > 0.2


def test_blocks_of_draws_are_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, seen = split(6, 5, 2, np.random.default_rng(8))
    methods = {"a": {0: answers(labels, seen, 0.5, np.random.default_rng(9))}}
    whole = bootstrap(labels, seen, methods, np.random.default_rng(0), draws=4000)["a"]["H"]
    monkeypatch.setattr(module, "_BLOCK_BYTES", 2**16)
    parts = bootstrap(labels, seen, methods, np.random.default_rng(0), draws=4000)["a"]["H"]
    assert [parts.low, parts.high] == pytest.approx([whole.low, whole.high], abs=0.03)
    answered = {"U": module._Answered("unseen", np.zeros((50, 2)), {"a": slice(2)})}
    blocks = list(module._blocks(1000, answered))
    assert (sum(blocks), len(blocks) > 1) == (1000, True)


@pytest.mark.parametrize(("unseen", "keys"), [(0, {"S"}), (6, {"T1", "U"})])
def test_rows_of_one_kind(unseen: int, keys: set[str]) -> None:
    generator = np.random.default_rng(10)
    labels, seen = split(6, 5, unseen, generator)
    zsl = generator.random(30) < 0.5 if unseen else None
    methods = {"a": {0: RightAnswers(generator.random(30) < 0.5, zsl)}}
    found = bootstrap(labels, seen, methods, generator, draws=20)["a"]
    assert set(found) == keys


def test_holm_by_hand() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert corrected == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.5})
    assert holm({}) == {}


def test_answers_of_another_split_are_refused() -> None:
    labels, seen = split(4, 3, 2, np.random.default_rng(0))
    methods = {"ALE": {2: RightAnswers(np.ones(11, dtype=bool))}}
    with pytest.raises(InputError, match=r"ALE, seed 2, gzsl: .*\(11,\), expected one .* 12 rows"):
        bootstrap(labels, seen, methods, np.random.default_rng(0))
    with pytest.raises(InputError, match="ALE: found no seed"):
        bootstrap(labels, seen, {"ALE": {}}, np.random.default_rng(0))
