"""The choice of gamma against brute force over a grid of gammas, on random and on plain cases."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsmflow.data.dataset import Problem, Rows
from gsmflow.evaluation.balance import BalanceCurve, balance_curve, choose_gamma, fold_curves
from gsmflow.evaluation.balance_names import Balance
from gsmflow.evaluation.metrics import best_interval, harmonic_mean
from gsmflow.evaluation.protocol import Outcome

SEEN, UNSEEN = np.arange(6), np.arange(6, 9)
CLASSES = np.concatenate([SEEN, UNSEEN])
# Three classes more are the unseen ones of the final problem: a quarter of all.
PROBLEM = Problem(
    "validation",
    Rows(np.zeros((6, 1), np.float32), SEEN),
    np.zeros((12, 2), np.float32),
    tuple("abcdefghijkl"),
    SEEN,
    UNSEEN,
)
# Scores are whole numbers, so that gammas at halves lie within every interval.
GRID = np.arange(-12, 13) + 0.5


def draw_outcome(rng: np.random.Generator, bias: int = 0, per_class: int = 4) -> Outcome:
    """Random scores with a bias to the seen classes; right classes score higher."""
    labels = np.repeat(CLASSES, per_class)
    scores = rng.integers(-3, 4, size=(len(labels), len(CLASSES)))
    scores[np.arange(len(labels)), labels] += 3
    scores[:, : len(SEEN)] += bias
    zsl_scores = scores[np.isin(labels, UNSEEN)][:, len(SEEN) :]
    return Outcome.of_scores(scores.astype(float), zsl_scores, labels, CLASSES, SEEN)


def value_of(outcome: Outcome, gamma: float | None, balance: Balance) -> float:
    """What is balanced, counted row by row."""
    answers = outcome.predictions(gamma)
    accuracies = {c: float(np.mean(answers[outcome.labels == c] == c)) for c in CLASSES}
    of_labels = set(outcome.labels.tolist())
    seen = np.mean([accuracies[c] for c in SEEN if c in of_labels])
    unseen = np.mean([accuracies[c] for c in UNSEEN if c in of_labels])
    if balance == "overall":
        return float(0.75 * seen + 0.25 * unseen)
    return harmonic_mean(float(unseen), float(seen))


def grid_best(parts: Sequence[Outcome], balance: Balance) -> tuple[float, set[float]]:
    """The highest mean value over a grid of gammas, and the gammas that reach it."""
    means = [np.mean([value_of(part, g, balance) for part in parts]) for g in GRID]
    highest = max(means)
    return highest, {g for g, mean in zip(GRID, means, strict=True) if mean > highest - 1e-12}


@given(st.integers(0, 2**32), st.integers(-4, 4), st.sampled_from(["harmonic", "overall"]))
@settings(deadline=None, max_examples=40)
def test_gamma_is_the_best_of_the_mean_over_draws(seed: int, bias: int, balance: Balance) -> None:
    rng = np.random.default_rng(seed)
    draws = [draw_outcome(rng, bias) for _ in range(3)]
    curves = [balance_curve(draw, PROBLEM, balance) for draw in draws]
    for draw, curve in zip(draws, curves, strict=True):
        assert curve.plain == pytest.approx(value_of(draw, None, balance))
        expected = [value_of(draw, g, balance) for g in GRID]
        np.testing.assert_allclose(curve.at(GRID), expected)
    best = choose_gamma(balance, curves, []).best
    found = float(np.mean([value_of(draw, best, balance) for draw in draws]))
    assert found == pytest.approx(grid_best(draws, balance)[0])


@given(st.integers(0, 2**32), st.integers(-4, 4))
@settings(deadline=None, max_examples=30)
def test_gain_is_that_of_each_draw_with_the_gamma_of_the_others(seed: int, bias: int) -> None:
    rng = np.random.default_rng(seed)
    draws = [draw_outcome(rng, bias) for _ in range(3)]
    curves = [balance_curve(draw, PROBLEM, "harmonic") for draw in draws]
    chosen = choose_gamma("harmonic", curves, curves[:1])
    gains = []
    for part in range(3):
        others = [draw for i, draw in enumerate(draws) if i != part]
        gamma = choose_gamma("harmonic", [c for i, c in enumerate(curves) if i != part], []).best
        assert np.mean([value_of(o, gamma, "harmonic") for o in others]) == pytest.approx(
            grid_best(others, "harmonic")[0]
        )
        beyond = gamma + 1e-9  # of equal scores, a curve takes the unseen class
        gains.append(value_of(draws[part], beyond, "harmonic") - draws[part].harmonic_mean)
    assert chosen.draws == chosen.parts == 3
    assert chosen.gain == pytest.approx(np.mean(gains))
    assert chosen.error == pytest.approx(np.std(gains, ddof=1) / np.sqrt(3))
    assert chosen.gamma == (chosen.best if np.mean(gains) > 2 * chosen.error else 0)


def test_folds_divide_the_classes_and_keep_their_rows() -> None:
    outcome = draw_outcome(np.random.default_rng(1))
    curves = fold_curves(outcome, PROBLEM, "harmonic")
    assert len(curves) == len(UNSEEN)  # fewer than five
    # Every fold has two seen classes and one unseen one, so that the mean over folds of an accuracy
    # over classes is that of all classes.
    overall = fold_curves(outcome, PROBLEM, "overall")
    whole = balance_curve(outcome, PROBLEM, "overall")
    for gamma in GRID:
        mean = np.mean([curve.at(np.array([gamma]))[0] for curve in overall])
        assert mean == pytest.approx(whole.at(np.array([gamma]))[0])
    again = fold_curves(outcome, PROBLEM, "harmonic")
    for one, other in zip(curves, again, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def step(before: float, after: float) -> BalanceCurve:
    """A value that changes once, at gamma 1, from that without calibration to another."""
    return BalanceCurve(np.array([-np.inf, 1.0, np.inf]), np.array([before, after]), before)


def test_a_gain_within_its_noise_is_left_alone() -> None:
    sure = choose_gamma("harmonic", [step(0.5, 0.8), step(0.4, 0.6), step(0.3, 0.4)], [])
    # The others always say that it is worth having: gains of 0.3, 0.2 and 0.1.
    assert sure.gain == pytest.approx(0.2)
    assert sure.error == pytest.approx(0.1 / np.sqrt(3))
    assert sure.gamma == sure.best == 1.0
    assert sure.sentence() == (
        "calibration factor gamma 1; gain in H, cross-validated over 3 draws of validation "
        "classes: 20.0 ± 5.8 points"
    )
    # One draw gains much, the others lose a little; it is the others that decide for it.
    lucky = choose_gamma("harmonic", [step(0.5, 0.6), step(0.5, 0.45), step(0.5, 0.48)], [])
    assert lucky.best == 1.0
    assert lucky.gain == pytest.approx((0 - 0.05 - 0.02) / 3)
    assert lucky.gamma == 0.0
    assert lucky.sentence().startswith("no calibration factor: its gain in H, cross-validated")
    assert lucky.sentence().endswith("-2.3 ± 1.5 points, is within its noise")


def test_a_bias_to_seen_classes_is_calibrated_on_class_folds() -> None:
    biased = draw_outcome(np.random.default_rng(0), bias=8)
    curve = balance_curve(biased, PROBLEM, "harmonic")
    chosen = choose_gamma("harmonic", [curve], fold_curves(biased, PROBLEM, "harmonic"))
    assert chosen.gamma == chosen.best == biased.curve().best_gamma() > 0
    assert (chosen.draws, chosen.parts) == (1, 3)
    assert "over 3 folds of validation classes" in chosen.sentence()


def test_none_and_a_single_class_are_not_calibrated() -> None:
    outcome = draw_outcome(np.random.default_rng(0), bias=8)
    curve = balance_curve(outcome, PROBLEM, "none")
    chosen = choose_gamma("none", [curve], fold_curves(outcome, PROBLEM, "none"))
    assert chosen.gamma == 0 != chosen.best
    assert "--balance none" in chosen.sentence()
    one_class = outcome.of_rows(np.isin(outcome.labels, [0, 1, 6]))
    folds = fold_curves(one_class, PROBLEM, "harmonic")
    assert len(folds) == 1
    alone = choose_gamma("harmonic", [balance_curve(one_class, PROBLEM, "harmonic")], folds)
    assert (alone.gamma, alone.gain, alone.error) == (0, None, None)
    assert "cannot be cross-validated" in alone.sentence()


def test_a_curve_is_saved_and_read() -> None:
    curve = balance_curve(draw_outcome(np.random.default_rng(0)), PROBLEM, "harmonic")
    read = BalanceCurve.from_tensors(curve.as_tensors())
    np.testing.assert_array_equal(read.edges, curve.edges)
    np.testing.assert_array_equal(read.values, curve.values)
    assert read.plain == curve.plain


def test_best_interval_without_an_end_is_beside_its_other_end() -> None:
    edges = np.array([-np.inf, 1.0, 2.0, np.inf])
    assert best_interval(edges, np.array([3.0, 1.0, 2.0])) == np.nextafter(1.0, -np.inf)
    assert best_interval(edges, np.array([1.0, 1.0, 2.0])) == 2.0
    assert best_interval(edges, np.array([1.0, 1.0, 1.0])) == 0.0
    # One with both ends is preferred.
    ends = np.array([-np.inf, 1.0, 2.0, 3.0, np.inf])
    assert best_interval(ends, np.array([3.0, 1.0, 3.0, 1.0])) == 2.5
