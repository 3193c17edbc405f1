from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score

from gsmflow.core.arrays import FloatArray
from gsmflow.data.dataset import HeldOut, Problem, Rows
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.evaluation.measures import measure
from gsmflow.evaluation.protocol import (
    Calibrated,
    Outcome,
    TopK,
    evaluate,
    evaluate_all,
    evaluate_candidates,
    evaluate_top_k,
    scale_held_out,
)
from gsmflow.learning.feed import MappedFeed, MemoryFeed

# Seen and unseen class numbers interleave and leave gaps; the columns are 1, 4, 7, 2, 5.
SEEN, UNSEEN = np.array([1, 4, 7]), np.array([2, 5])

PROBLEM = Problem(
    split="test",
    train=Rows(np.zeros((3, 7), np.float32), SEEN),
    semantics=np.zeros((9, 2), np.float32),
    class_names=tuple("abcdefghi"),
    seen_classes=SEEN,
    unseen_classes=UNSEEN,
)


@dataclass(frozen=True)
class ColumnsScorer:
    """A row's features are its five GZSL scores, then its two ZSL scores."""

    def gzsl_scores(self, features: FloatArray) -> NDArray[Any]:
        return features[:, :5]

    def zsl_scores(self, features: FloatArray) -> NDArray[Any]:
        return features[:, 5:]


def rows(*table: tuple[list[float], int]) -> Rows:
    scores, labels = zip(*table, strict=True)
    return Rows(np.array(scores, np.float32), np.array(labels))


# Scores of classes 1, 4, 7, 2, 5, then ZSL scores of 2, 5; true class.
SEEN_ROWS = rows(
    ([9, 0, 0, 1, 0, 0, 0], 1),  # right by 8
    ([2, 0, 0, 5, 0, 0, 0], 1),  # lost to class 2
    ([0, 8, 0, 0, 1, 0, 0], 4),  # right by 7
    ([0, 0, 6, 0, 3, 0, 0], 7),  # right by 3
    ([0, 0, 6, 3.5, 0, 0, 0], 7),  # right by 2.5
    ([7, 0, 6, 0, 0, 0, 0], 7),  # lost to class 1
)
UNSEEN_ROWS = rows(
    ([0, 0, 0, 4, 1, 4, 1], 2),  # right in both settings
    ([5, 0, 0, 4, 1, 4, 1], 2),  # lost to class 1 by 1, right among the unseen
    ([0, 0, 9, 4, 1, 4, 1], 2),  # lost to class 7 by 5, right among the unseen
    ([0, 0, 0, 1, 4, 1, 4], 2),  # lost to class 5 in both settings
    ([0, 0, 0, 1, 4, 1, 4], 5),  # right in both settings
    ([0, 0, 0, 1, 4, 4, 1], 5),  # right among all; its ZSL score says class 2
)


def figures(measures: Calibrated | TopK, *names: str) -> list[float]:
    return [getattr(measures, name) for name in names]


@pytest.fixture
def outcome() -> Outcome:
    return evaluate(ColumnsScorer(), PROBLEM, HeldOut(SEEN_ROWS, UNSEEN_ROWS))


def test_measures_of_a_hand_made_case(outcome: Outcome) -> None:
    measures = measure(outcome)
    seen, unseen = (1 / 2 + 1 + 2 / 3) / 3, (1 / 4 + 2 / 2) / 2
    h = 2 * seen * unseen / (seen + unseen)
    found = [measures.plain[name] for name in ("T1", "S", "U", "H")]
    assert found == pytest.approx([5 / 8, seen, unseen, h])
    assert measures.gamma is None
    assert measures.as_json()["calibrated"] is None


def test_gamma_shifts_the_seen_columns_alone(outcome: Outcome) -> None:
    # 2.75 lies above the margins of one right seen row (2.5) and one lost unseen row (1).
    measures = measure(outcome, 2.75)
    seen, unseen = (1 / 2 + 1 + 1 / 3) / 3, (2 / 4 + 2 / 2) / 2
    h = 2 * seen * unseen / (seen + unseen)
    assert measures.as_json()["calibrated"]["gamma"] == 2.75
    found = [measures.calibrated[name] for name in ("S", "U", "H")]
    assert found == pytest.approx([seen, unseen, h])
    assert found == figures(outcome.calibrated(2.75), "S", "U", "H")


def test_negative_gamma_helps_seen_classes(outcome: Outcome) -> None:
    # Right are all seen rows but the one that another seen class wins.
    seen = (1 + 1 + 2 / 3) / 3
    assert figures(outcome.calibrated(-100), "S", "U", "H") == pytest.approx([seen, 0, 0])


def test_gamma_leaves_the_plain_metrics_as_they_are(outcome: Outcome) -> None:
    assert measure(outcome).plain == measure(outcome, 2.75).plain


def test_area_of_a_hand_made_case(outcome: Outcome) -> None:
    # Steps as gamma grows, by the margin of the seen side. Unseen rows come right at
    # -4 (one of four of class 2 and both of class 5), 1 and 5; seen rows go wrong at -3 (half of
    # class 1), 2.5 and 3 (a third of class 7 each), 7 (class 4) and 8 (the other half of 1).
    s, u = 1 / 3, 1 / 2
    top = s * (1 + 1 + 2 / 3)
    area = top * u * (1 / 4 + 1)  # at -4
    area += (top - s / 2) * u / 4  # at 1
    area += (top - s / 2 - s * 2 / 3) * u / 4  # at 5
    # The step at -4 starts at U = 0, where S is highest: no trapezoid there is slanted.
    assert outcome.curve().area == pytest.approx(area)
    assert measure(outcome).plain["AUSUC"] == pytest.approx(area)


def test_two_answers_a_row_of_a_hand_made_case() -> None:
    seen = rows(
        ([3, 2, 1, 0, 0, 0, 0], 1),  # first
        ([3, 2, 1, 0, 0, 0, 0], 4),  # second
        ([3, 2, 1, 0, 0, 0, 0], 7),  # third
        ([0, 0, 5, 9, 8, 0, 0], 7),  # third, after two unseen classes
        ([0, 0, 8, 5, 9, 0, 0], 7),  # second
    )
    unseen = rows(
        ([9, 8, 0, 5, 1, 1, 0], 2),  # third
        ([9, 0, 0, 5, 5, 0, 1], 2),  # second, as its column is before the equal one
        ([9, 0, 0, 5, 5, 0, 1], 5),  # third, after its equal
        ([0, 0, 0, 0, 1, 0, 1], 5),  # first
    )
    top = evaluate_top_k(ColumnsScorer(), PROBLEM, HeldOut(seen, unseen), 2)
    s, u = (1 + 1 + 1 / 3) / 3, 1 / 2
    assert top.k == 2
    assert figures(top, "T1", "S", "U", "H") == pytest.approx([1, s, u, 2 * s * u / (s + u)])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_equals_sklearn_on_each_side(k: int) -> None:
    rng = np.random.default_rng(k)
    labels = PROBLEM.classes[rng.integers(0, 5, 300)]
    scores, zsl_scores = (rng.integers(0, 99, (300, c)) + rng.random((300, c)) for c in (5, 2))
    is_unseen = np.isin(labels, UNSEEN)
    features = np.concatenate([scores, zsl_scores], axis=1)
    held_out = HeldOut(*(Rows(features[side], labels[side]) for side in (~is_unseen, is_unseen)))

    def expected(side: NDArray[np.bool_], scores: NDArray[Any], first: int = 0) -> float:
        true = labels[side]
        weights = 1 / np.bincount(true)[true]
        every, columns = np.unique(PROBLEM.classes[first:], return_index=True)
        if len(every) <= k:
            return 1.0
        of_rows = scores[side][:, columns]
        if len(every) == 2:  # which sklearn takes for one score
            hits = every[of_rows.argmax(axis=1)] == true
            return float(np.average(hits, weights=weights))
        found = top_k_accuracy_score(true, of_rows, k=k, sample_weight=weights, labels=every)
        return float(found)

    u, s = expected(is_unseen, scores), expected(~is_unseen, scores)
    t1 = expected(is_unseen, zsl_scores, first=3)
    found = figures(evaluate_top_k(ColumnsScorer(), PROBLEM, held_out, k), "T1", "U", "S", "H")
    assert found == pytest.approx([t1, u, s, 2 * u * s / (u + s)])
    if k == 1:
        outcome = evaluate(ColumnsScorer(), PROBLEM, held_out)
        assert found == [measure(outcome).plain[name] for name in ("T1", "U", "S", "H")]


def test_columns_follow_the_class_order_of_the_problem(outcome: Outcome) -> None:
    assert outcome.classes.tolist() == [1, 4, 7, 2, 5]
    assert len(outcome.best.seen) == 12
    for column, c in enumerate((1, 4, 7, 2, 5)):
        row = np.zeros((1, 7), np.float32)
        row[0, column] = 1
        single = Rows(row, np.array([c]))
        both = (single, UNSEEN_ROWS) if c in SEEN else (SEEN_ROWS, single)
        accuracy = evaluate(ColumnsScorer(), PROBLEM, HeldOut(*both)).calibrated(0)
        assert (accuracy.S if c in SEEN else accuracy.U) == 1


def test_huge_gamma_turns_gzsl_into_zsl() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(60, 5)).astype(np.float32)
    features = np.concatenate([scores, scores[:, 3:]], axis=1)
    parts = [Rows(features[:30], rng.choice(SEEN, 30)), Rows(features[30:], rng.choice(UNSEEN, 30))]
    outcome = evaluate(ColumnsScorer(), PROBLEM, HeldOut(*parts))
    measures = measure(outcome, 1e6)
    assert measures.calibrated["S"] == 0
    assert measures.calibrated["H"] == 0
    assert 0 < outcome.t1 < 1
    assert measures.calibrated["U"] == measures.plain["T1"] == outcome.t1


def test_best_gamma_reaches_the_best_h_of_the_curve() -> None:
    rng = np.random.default_rng(5)
    labels = rng.choice([*SEEN, *UNSEEN], 200)
    scores = rng.normal(size=(200, 5)) + 1.5 * (labels[:, None] == PROBLEM.classes)
    scores[:, :3] += 2  # the usual bias towards seen classes
    scores = scores.astype(np.float32)
    outcome = Outcome.of_scores(
        scores, scores[np.isin(labels, UNSEEN), 3:], labels, PROBLEM.classes, SEEN
    )
    curve = outcome.curve()
    best = outcome.calibrated(curve.best_gamma())
    reached = 2 * curve.seen * curve.unseen / (curve.seen + curve.unseen + 1e-300)
    assert figures(best, "H") == pytest.approx([reached.max()])
    assert best.H > outcome.calibrated(0).H


@dataclass(frozen=True)
class ReversedColumnsScorer(ColumnsScorer):
    """To calibrate: the GZSL scores with their sign changed."""

    def calibrated_scores(self, features: FloatArray) -> NDArray[Any]:
        return -features[:, :5]


def test_calibrated_metrics_are_of_the_scores_for_calibration() -> None:
    held_out = HeldOut(SEEN_ROWS, UNSEEN_ROWS)
    plain, both = evaluate_all([ColumnsScorer(), ReversedColumnsScorer()], PROBLEM, held_out)
    assert plain.best_to_calibrate is None
    np.testing.assert_array_equal(both.best.seen_scores, plain.best.seen_scores)
    # A method with these scores alone.
    features = np.concatenate([SEEN_ROWS.features, UNSEEN_ROWS.features])
    zsl_scores = UNSEEN_ROWS.features[:, 5:]
    others = Outcome.of_scores(-features[:, :5], zsl_scores, plain.labels, plain.classes, SEEN)
    assert others.curve().area != plain.curve().area
    for gamma in (-3.5, 1.5):
        found, of_plain, of_others = (measure(o, gamma) for o in (both, plain, others))
        assert found.calibrated == of_others.calibrated
        assert found.plain["AUSUC"] == of_others.plain["AUSUC"]
        for name in ("T1", "U", "S", "H"):
            assert found.plain[name] == of_plain.plain[name]
        np.testing.assert_array_equal(both.predictions(gamma), others.predictions(gamma))
    for none in (None, 0.0):
        np.testing.assert_array_equal(both.predictions(none), plain.predictions())
    assert measure(both, 0.0).calibrated == measure(plain, 0.0).calibrated


@pytest.mark.parametrize("free", [0, 2**30])
def test_candidates_are_evaluated_on_scaled_rows_as_each_alone(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slabs of three rows, which may stay in memory or not.
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 3 * 4 * 7)
    monkeypatch.setattr("gsmflow.learning.feed._free_bytes", lambda device: free)
    held_out = HeldOut(SEEN_ROWS, UNSEEN_ROWS)
    scaling = fit_feature_scaling(SEEN_ROWS, "minmax")
    rows = scale_held_out(held_out, scaling, torch.device("cpu"))
    assert isinstance(rows.seen, MemoryFeed if free else MappedFeed)
    rng = np.random.default_rng(0)
    gzsl, zsl = rng.normal(size=(4, 7, 5)), rng.normal(size=(4, 7, 2))
    outcomes = evaluate_candidates(
        lambda features: features @ torch.from_numpy(gzsl),
        lambda features: features @ torch.from_numpy(zsl),
        PROBLEM,
        rows,
        torch.float64,
    )
    x = scaling(np.concatenate([SEEN_ROWS.features, UNSEEN_ROWS.features])).astype(np.float64)
    assert len(outcomes) == 4
    for i, outcome in enumerate(outcomes):
        alone = Outcome.of_scores(
            x @ gzsl[i], x[len(SEEN_ROWS) :] @ zsl[i], outcome.labels, PROBLEM.classes, SEEN
        )
        np.testing.assert_array_equal(outcome.zsl_answers, alone.zsl_answers)
        for name, values in vars(alone.best).items():
            np.testing.assert_allclose(getattr(outcome.best, name), values, rtol=0, atol=1e-12)
        assert outcome.labels.tolist() == [*SEEN_ROWS.labels, *UNSEEN_ROWS.labels]
        assert outcome.classes.tolist() == [*SEEN, *UNSEEN]
        assert outcome.seen_classes.tolist() == [*SEEN]
