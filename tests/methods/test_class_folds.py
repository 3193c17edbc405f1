"""Cross-validation over seen classes, against the same computed with plain numpy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.evaluation.metrics import harmonic_mean, mean_class_accuracy
from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.class_folds import (
    ClassFolds,
    DiscriminantGate,
    Setting,
    choose_setting,
    fit_discriminant_gate,
    fold_classes,
    gzsl_scores,
    zsl_scores,
)
from gsmflow.methods.linear_discriminant import discriminant
from gsmflow.methods.mean_regression import MeanRegression, shrink
from tests.builders import seeded

SETTING = Setting(whitening=0.25, ridge=0.2, shrinkage=0.5)


def world(
    classes: int = 12, per_class: int = 15, noise: float = 0.5
) -> tuple[MemoryFeed, FloatArray]:
    """Rows of the even classes around a linear map of all classes' semantics."""
    rng = np.random.default_rng(0)
    semantics = rng.normal(size=(2 * classes, 4)).astype(np.float32)
    means = semantics @ rng.normal(size=(4, 6))
    labels = np.repeat(np.arange(0, 2 * classes, 2), per_class)
    features = means[labels] + noise * rng.normal(size=(len(labels), 6))
    feed = MemoryFeed(torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels))
    return feed, semantics


@pytest.fixture(scope="module")
def class_folds() -> ClassFolds:
    feed, semantics = world()
    return fold_classes(feed, semantics, "none", seeded(0))


def test_every_class_is_unseen_in_one_fold_and_a_fifth_of_its_rows_is_held_out(
    class_folds: ClassFolds,
) -> None:
    assert class_folds.classes.tolist() == list(range(0, 24, 2))
    assert sorted(np.bincount(class_folds.folds)) == [2, 2, 2, 3, 3]
    assert len(class_folds.evaluated) == 12 * 15
    np.testing.assert_array_equal(
        np.bincount(class_folds.columns[class_folds.held]), np.full(12, 3)
    )


def test_of_many_classes_some_held_out_rows_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, semantics = world()
    whole = fold_classes(feed, semantics, "none", seeded(0))
    monkeypatch.setattr("gsmflow.methods.class_folds._MOST_SCORES", 12 * 10)
    some = fold_classes(feed, semantics, "none", seeded(0))
    assert len(some.evaluated) == 10
    assert some.held.all()  # they come first
    rows = {tuple(row) for row in whole.evaluated[whole.held].tolist()}
    assert {tuple(row) for row in some.evaluated.tolist()} <= rows
    np.testing.assert_array_equal(some.means, whole.means)


def test_fold_is_fitted_on_the_rows_of_the_other_classes_alone(class_folds: ClassFolds) -> None:
    feed, semantics = world()
    fold = 1
    trials = list(class_folds.trials(SETTING, 0.25))
    fitted, evaluated, columns = trials[fold]
    seen = class_folds.classes[class_folds.folds != fold]
    unseen = class_folds.classes[class_folds.folds == fold]
    encoded = class_folds.encoder(feed.features).numpy().astype(np.float64)
    held = [
        np.abs(encoded - row).sum(axis=1).argmin()
        for row in class_folds.evaluated[class_folds.held]
    ]
    is_fitted = ~np.isin(np.arange(len(encoded)), held)
    labels = feed.labels.numpy()
    means = np.stack([encoded[(labels == c) & is_fitted].mean(axis=0) for c in seen])
    within = np.mean(
        [np.cov(encoded[(labels == c) & is_fitted].T, bias=True) for c in seen], axis=0
    )
    regression = MeanRegression(means, semantics, seen, SETTING.whitening)
    every = np.concatenate([means, regression.predict(SETTING.ridge)[unseen]])
    covariance = shrink(within + regression.error_covariance(SETTING.ridge), SETTING.shrinkage)
    expected = discriminant(covariance, every, means.mean(axis=0), 0.25)(evaluated)
    np.testing.assert_allclose(fitted.common(evaluated), expected, atol=2e-3)
    names = np.concatenate([seen, unseen])[columns]
    assert {*names} == {*class_folds.classes}
    rows = [np.abs(encoded - row).sum(axis=1).argmin() for row in evaluated]
    np.testing.assert_array_equal(names, labels[rows])


def test_chosen_setting_is_the_best_of_the_settings_tried(
    class_folds: ClassFolds,
) -> None:
    chosen, value = choose_setting(class_folds, 0.25, SETTING)
    assert (
        value >= choose_setting(class_folds, 0.25, SETTING, ["whitening", "ridge", "shrinkage"])[1]
    )
    values = []
    for fitted, evaluated, columns in class_folds.trials(chosen, 0.25):
        scores, seen = fitted.common(evaluated), fitted.seen
        unseen_rows = columns >= seen
        t1 = mean_class_accuracy(
            columns[unseen_rows], seen + scores[unseen_rows][:, seen:].argmax(axis=1)
        )
        gaps = scores[:, :seen].max(axis=1) - scores[:, seen:].max(axis=1)
        best = 0.0
        for gamma in [*(gaps + 1e-4), *(gaps - 1e-4)]:
            moved = scores - gamma * (np.arange(scores.shape[1]) < seen)
            answers = moved.argmax(axis=1)
            u = mean_class_accuracy(columns[unseen_rows], answers[unseen_rows])
            s = mean_class_accuracy(columns[~unseen_rows], answers[~unseen_rows])
            best = max(best, harmonic_mean(u, s))
        values.append((t1 + best) / 2)
    assert value == pytest.approx(np.mean(values), abs=1e-9)


def test_fixed_settings_stay_unchanged(class_folds: ClassFolds) -> None:
    start = Setting(whitening=0.0, ridge=1.6, shrinkage=0.05)
    chosen, _ = choose_setting(class_folds, 0.0, start, ["whitening", "shrinkage"])
    assert (chosen.whitening, chosen.shrinkage) == (0.0, 0.05)


def test_gate_is_a_balanced_logistic_regression_with_a_shifted_bias(
    class_folds: ClassFolds,
) -> None:
    gate = fit_discriminant_gate(class_folds, SETTING, 0.25)
    inputs, is_unseen = [], []
    for fitted, evaluated, columns in class_folds.trials(SETTING, 0.25):
        common, seen = fitted.common(evaluated), fitted.seen
        seen_expert = fitted.seen_expert()(evaluated)
        parts = common[:, :seen], common[:, seen:], seen_expert
        inputs.append(np.stack([part.max(axis=1) for part in parts], axis=1))
        is_unseen.append(columns >= seen)
    features, answers = np.concatenate(inputs).astype(np.float64), np.concatenate(is_unseen)
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    ).fit(features, answers)
    odds = pipeline.decision_function(features)
    moved = features @ gate.weight + gate.bias
    np.testing.assert_allclose(moved - odds, (moved - odds)[0], atol=1e-3)
    assert np.mean((moved > 0) == answers) > 0.8


def test_gated_scores_are_the_log_probabilities_of_one_distribution() -> None:
    rng = np.random.default_rng(0)
    common, seen_expert = rng.normal(size=(9, 5)).astype(np.float32), rng.normal(size=(9, 3))
    gate = DiscriminantGate(np.array([0.3, -0.2, 1.0]), 0.1, 2.0, 0.5)
    scores = gzsl_scores(common, seen_expert.astype(np.float32), 3, gate)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    odds = 0.3 * common[:, :3].max(1) - 0.2 * common[:, 3:].max(1) + seen_expert.max(1) + 0.1
    unseen = np.exp(scores[:, 3:]).sum(axis=1)
    np.testing.assert_allclose(unseen, 1 / (1 + np.exp(-odds)), rtol=1e-5)
    within = scores[:, 3:] - np.log(unseen)[:, None]
    np.testing.assert_allclose(within, log_softmax(common[:, 3:] * 0.5, axis=1), atol=1e-5)
    np.testing.assert_allclose(within, zsl_scores(common, 3, gate), atol=1e-5)


def test_too_few_classes_for_folds_are_refused() -> None:
    feed, semantics = world(classes=3)
    with pytest.raises(InputError, match="seen classes: found 3, expected at least 4"):
        fold_classes(feed, semantics, "none", seeded(0))


def test_class_of_one_row_is_fitted_and_never_evaluated_as_seen() -> None:
    feed, semantics = world()
    rows = torch.cat([torch.arange(1), torch.arange(15, len(feed.labels))])
    single = MemoryFeed(feed.features[rows], feed.labels[rows])
    class_folds = fold_classes(single, semantics, "sqrt", seeded(0))
    assert (class_folds.columns[class_folds.held] != 0).all()
    assert np.isfinite(class_folds.means).all()
    assert np.isfinite(choose_setting(class_folds, 0.25, SETTING)[1])
