"""Temperatures against scikit-learn, a grid and the gradient; kept scores against all of them."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from gsmflow.data.dataset import HeldOut, Problem, Rows
from gsmflow.evaluation.probabilities import (
    AnswerProbabilities,
    KeptScores,
    Temperatures,
    calibration_error,
    class_probabilities,
    fit_temperature,
    reliability_bins,
)
from gsmflow.evaluation.protocol import SlabScores

SEEN, UNSEEN = np.array([1, 4, 7]), np.array([2, 5])
CLASSES = np.concatenate([SEEN, UNSEEN])


def draw(seed: int, temperature: float, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(n, 5)`` and columns that are drawn from their softmax over a temperature."""
    rng = np.random.default_rng(seed)
    scores = temperature * 3 * rng.normal(size=(rows, 5))
    gumbel = rng.gumbel(size=scores.shape)
    return scores, (scores / temperature + gumbel).argmax(axis=1)


def loss(scores: np.ndarray, columns: np.ndarray, temperature: float) -> float:
    """The mean over classes of the mean negative log-likelihood, class by class."""
    likely = -log_softmax(scores / temperature, axis=1)[np.arange(len(columns)), columns]
    return float(np.mean([likely[columns == c].mean() for c in np.unique(columns)]))


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=25)
def test_temperature_is_the_best_of_a_grid_and_of_no_gradient(seed: int, scale: float) -> None:
    scores, columns = draw(seed, scale, rows=60)
    scores += np.random.default_rng(seed).normal(size=(60, 1)) * 100 * scale  # of no meaning
    found = fit_temperature(scores, columns)
    least = loss(scores, columns, found)
    for temperature in found * np.exp(np.linspace(-2, 2, 41)):
        assert least <= loss(scores, columns, temperature) + 1e-9
    logits, log = torch.from_numpy(scores), torch.tensor(np.log(found), requires_grad=True)
    likely = torch.log_softmax(logits / log.exp(), dim=1)[torch.arange(60), columns]
    weights = torch.from_numpy(1 / np.bincount(columns, minlength=5)[columns])
    (gradient,) = torch.autograd.grad((weights * likely).sum() / weights.sum(), log)
    assert abs(float(gradient)) < 1e-3


def test_temperature_is_found_again_and_scales_with_the_scores() -> None:
    scores, columns = draw(3, 0.05, rows=20_000)
    found = fit_temperature(scores, columns)
    assert found == pytest.approx(0.05, rel=0.05)
    assert fit_temperature(40 * scores - 9, columns) == pytest.approx(40 * found, rel=1e-4)


def test_temperature_of_two_classes_is_that_of_a_logistic_regression() -> None:
    scores, _ = draw(1, 2.0)
    scores = scores[:, :2]
    gap = scores[:, 1] - scores[:, 0]
    columns = (gap / 2 + np.random.default_rng(5).logistic(size=len(gap)) > 0).astype(np.int64)
    model = LogisticRegression(C=1e9, fit_intercept=False, class_weight="balanced", tol=1e-9)
    model.fit(gap[:, None], columns)
    assert fit_temperature(scores, columns) == pytest.approx(1 / model.coef_[0, 0], rel=1e-3)


def test_temperature_of_scores_without_a_minimum_is_finite() -> None:
    assert fit_temperature(np.zeros((3, 4)), np.array([0, 1, 1])) == 1
    right = np.eye(4) * 1e-3
    for rows in (4, 400):  # all right: the runner-up has one chance in rows + 1 of the first's
        columns = np.arange(rows) % 4
        shares = class_probabilities(right[columns], fit_temperature(right[columns], columns))
        np.testing.assert_allclose(np.sort(shares)[:, -1] / np.sort(shares)[:, -2], rows + 1)
    wrong = class_probabilities(right, fit_temperature(right, (np.arange(4) + 1) % 4))
    assert wrong.max() < 0.5


def test_scores_far_below_the_others_do_not_count() -> None:
    """As log-densities of other classes are, of which some are millions below the best two."""
    scores, columns = draw(7, 2.0)
    far = np.concatenate(
        [scores, -1e8 * (1 + np.random.default_rng(0).random(scores.shape))], axis=1
    )
    assert fit_temperature(far, columns) == pytest.approx(fit_temperature(scores, columns))


def test_probabilities_are_a_softmax_and_do_not_overflow() -> None:
    scores, _ = draw(2, 1.0)
    expected = softmax(scores / 0.3, axis=1)
    np.testing.assert_allclose(class_probabilities(scores, 0.3), expected)
    np.testing.assert_array_equal(class_probabilities(np.array([[-1e30, 1e30]]), 1.0), [[0, 1]])


@pytest.mark.parametrize("most", [2**22, 5 * 5 * 8])
def test_kept_scores_give_the_temperatures_of_the_calibrated_scores(most: int) -> None:
    rng = np.random.default_rng(0)
    scores, columns = draw(4, 0.5)
    scores[:, :3] += 0.7  # what gamma takes off again
    order = np.argsort(columns >= 3, kind="stable")  # seen rows first
    scores, labels = scores[order], CLASSES[columns[order]]
    zsl = rng.normal(size=(len(labels), 2))
    plain = rng.normal(size=scores.shape)
    seen = np.isin(labels, SEEN)
    none = np.zeros((len(labels), 1), np.float32)
    held_out = HeldOut(Rows(none[seen], labels[seen]), Rows(none[~seen], labels[~seen]))
    train = Rows(none, labels)
    problem = Problem(
        "validation", train, np.zeros((9, 2), np.float32), tuple("abcdefghi"), SEEN, UNSEEN
    )
    with patch("gsmflow.evaluation.probabilities._MOST_SCORES", most):
        kept, again = KeptScores(problem, held_out), KeptScores(problem, held_out)
    for size in (1, 50):  # in slabs of any size
        target = kept if size == 50 else again
        for part in (np.flatnonzero(seen), np.flatnonzero(~seen)):
            for start in range(0, len(part), size):
                rows = part[start : start + size]
                zsl_scores = zsl[rows] if part[0] else None
                target.add(SlabScores(plain[rows], scores[rows], zsl_scores))
    found = kept.temperatures(0.7)
    assert found == again.temperatures(0.7)
    lowered = scores - 0.7 * np.isin(CLASSES, SEEN)
    whole = Temperatures(
        fit_temperature(lowered, columns[order]),
        fit_temperature(zsl[~seen], columns[order][~seen] - 3),
    )
    if most == 2**22:
        assert found == whole
        # Without calibration, those of the plain scores.
        assert kept.temperatures(0.0).among_all == fit_temperature(plain, columns[order])
    else:  # eight rows of each class
        assert found.among_all == pytest.approx(whole.among_all, rel=0.6)
        assert found != whole


@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_calibration_error_is_that_of_bins_by_hand(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    labels, right = rng.choice(CLASSES, rows), rng.random(rows) < 0.6
    shares = rng.choice([0.0, 1 / 15, 0.2, 0.2000001, 1.0, *rng.random(9)], rows)
    weights = [1 / np.sum(labels == c) / len(np.unique(labels)) for c in labels]
    expected = 0.0
    for place in range(15):
        low, high = place / 15, (place + 1) / 15
        inside = [i for i in range(rows) if low < shares[i] <= high or (shares[i] == 0 == place)]
        expected += abs(sum(weights[i] * (right[i] - shares[i]) for i in inside))
    bins = reliability_bins(shares, right, labels)
    assert calibration_error(bins) == pytest.approx(expected, abs=1e-12)
    assert sum(part.share for part in bins) == pytest.approx(1)
    assert sum(part.rows for part in bins) == rows


def test_probabilities_of_answers_come_slab_by_slab() -> None:
    scores, _ = draw(6, 0.5)
    others, is_seen = -2 * scores, np.array([True, True, True, False, False])
    for gamma, chosen in ((0.7, others), (0.0, scores)):
        found = AnswerProbabilities(0.3, gamma, is_seen)
        for start in range(0, 400, 90):
            rows = slice(start, start + 90)
            found.add(SlabScores(scores[rows], others[rows], None))
        expected = softmax((chosen - gamma * is_seen) / 0.3, axis=1).max(axis=1)
        np.testing.assert_allclose(found.of_rows(), expected)
