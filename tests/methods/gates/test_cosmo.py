"""Adaptive confidence smoothing against scikit-learn, plain probabilities, and published scores."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from gsmflow.evaluation.metrics import harmonic_mean, mean_class_accuracy, seen_unseen_curve
from gsmflow.methods.gates.cosmo import NUMBERS, Smoothing, fit_smoothing, score_temperature
from tests.builders import SHARED

SCORES = SHARED / "scores"


def made_up(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of three seen and two unseen classes, and the right column of each row."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 5, size=n)
    scores = rng.normal(size=(n, 5))
    scores[np.arange(n), columns] += 2
    return scores[:, :3], scores[:, 3:], columns


def test_scores_are_the_smoothed_probabilities() -> None:
    seen, unseen, _ = made_up(20)
    smoothing = Smoothing(np.array([-1.5, 0.8]), 0.3, 2.0, 0.5)
    odds = -1.5 * seen.max(axis=1) + 0.8 * unseen.max(axis=1) + 0.3
    np.testing.assert_allclose(smoothing.log_odds(seen, unseen), odds)
    p = expit(odds)[:, None]
    of_seen = (1 - p) * ((1 - p) * softmax(2 * seen, axis=1) + p / 3)
    of_unseen = p * (p * softmax(unseen / 2, axis=1) + (1 - p) / 2)
    expected = np.concatenate([of_seen, of_unseen], axis=1)
    np.testing.assert_allclose(np.exp(smoothing.scores(seen, unseen)), expected)


def test_expert_outside_its_domain_is_almost_uniform() -> None:
    seen, unseen, _ = made_up(5)
    sure = Smoothing(np.zeros(2), -30.0, 1.0, 1.0).scores(seen, unseen)
    np.testing.assert_allclose(np.exp(sure[:, :3]), softmax(seen, axis=1), rtol=1e-6)
    assert np.ptp(sure[:, 3:], axis=1).max() < 1e-6


def test_gate_ranks_rows_as_logistic_regression_of_the_best_scores() -> None:
    seen, unseen, columns = made_up()
    fitted = fit_smoothing(seen, unseen, columns)
    best = np.stack([seen.max(axis=1), unseen.max(axis=1)], axis=1)
    logistic = LogisticRegression(class_weight="balanced", C=1e6).fit(best, columns >= 3)
    ratio = fitted.weight / logistic.coef_[0]
    assert ratio[0] == pytest.approx(ratio[1], rel=0.05)
    accuracy = np.mean(fitted.scores(seen, unseen).argmax(axis=1) == columns)
    raw = np.mean(np.concatenate([seen, unseen], axis=1).argmax(axis=1) == columns)
    assert accuracy > raw - 0.03


def test_numbers_restore_the_smoothing() -> None:
    seen, unseen, columns = made_up()
    fitted = fit_smoothing(seen, unseen, columns)
    again = Smoothing.from_numbers(fitted.numbers())
    assert set(fitted.numbers()) == set(NUMBERS)
    np.testing.assert_array_equal(again.scores(seen, unseen), fitted.scores(seen, unseen))


def test_temperature_inverts_a_factor_on_the_scores() -> None:
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(5000, 6))
    columns = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    assert score_temperature([(10 * logits, columns)]) == pytest.approx(0.1, rel=0.05)


@pytest.mark.skipif(not SCORES.is_dir(), reason="published scores are not here")
def test_h_on_published_scores_exceeds_raw_scores_and_calibrated_stacking() -> None:
    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(SCORES / f"LAGO_AWA1_{name}.npz") as file:
            arrays = {key: file[key] for key in file}
        arrays["scores"] = arrays["scores"].astype(np.float64)
        classes = np.concatenate([arrays["seen_classes"], arrays["unseen_classes"]])
        order = np.argsort(classes)
        arrays["columns"] = order[np.searchsorted(classes, arrays["labels"], sorter=order)]
        return arrays

    val, test = read("val"), read("test")
    parts = {
        name: [
            np.log(arrays["scores"][:, arrays[f"{domain}_classes"]] + 1e-12)
            for domain in ("seen", "unseen")
        ]
        for name, arrays in (("val", val), ("test", test))
    }
    smoothing = fit_smoothing(*parts["val"], val["columns"])

    def harmonic(scores: np.ndarray, arrays: dict[str, np.ndarray]) -> float:
        answers, is_unseen = scores.argmax(axis=1), arrays["columns"] >= len(arrays["seen_classes"])
        return harmonic_mean(
            *(
                mean_class_accuracy(arrays["columns"][domain], answers[domain])
                for domain in (is_unseen, ~is_unseen)
            )
        )

    ours = harmonic(smoothing.scores(*parts["test"]), test)
    raw = harmonic(np.concatenate(parts["test"], axis=1), test)
    every, s = np.arange(40), len(val["seen_classes"])
    probabilities = np.exp(np.concatenate(parts["val"], axis=1))
    curve = seen_unseen_curve(probabilities, val["columns"], every, every[:s])
    stacked = np.exp(np.concatenate(parts["test"], axis=1))
    stacked[:, : len(test["seen_classes"])] -= curve.best_gamma()
    print(f"raw {raw:.4f}, stacking {harmonic(stacked, test):.4f}, COSMO {ours:.4f}")
    assert raw == pytest.approx(0.33698, abs=1e-4)
    assert ours > harmonic(stacked, test) > raw
