import statistics
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from gsmflow.core.arrays import IntArray
from gsmflow.evaluation.metrics import (
    BestAnswers,
    SeenUnseenCurve,
    best_answers,
    confusion_counts,
    harmonic_mean,
    mean_class_accuracy,
    mean_class_top_k_accuracy,
    per_class_accuracy,
    seen_unseen_curve,
    true_class_ranks,
)
from tests.builders import SHARED

answers = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)


@given(answers)
@settings(deadline=None)
def test_mean_class_accuracy_equals_sklearn_balanced_accuracy(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    with warnings.catch_warnings():
        # sklearn warns about classes that are only predicted, and about a single class.
        warnings.simplefilter("ignore", UserWarning)
        expected = balanced_accuracy_score(labels, predictions)
    assert mean_class_accuracy(labels, predictions) == pytest.approx(expected)


@given(answers)
@settings(deadline=None)
def test_per_class_accuracy_is_the_share_of_each_class(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    classes, accuracies = per_class_accuracy(labels, predictions)
    assert classes.tolist() == sorted({label for label, _ in pairs})
    for c, accuracy in zip(classes, accuracies, strict=True):
        predictions = [prediction for label, prediction in pairs if label == c]
        assert accuracy == pytest.approx(predictions.count(c) / len(predictions))


@given(st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_harmonic_mean_equals_the_standard_library(unseen: float, seen: float) -> None:
    assert harmonic_mean(unseen, seen) == pytest.approx(statistics.harmonic_mean([unseen, seen]))


@pytest.mark.parametrize(("unseen", "seen"), [(0, 0), (0, 0.7), (0.7, 0)])
def test_harmonic_mean_is_zero_if_one_side_is_zero(unseen: float, seen: float) -> None:
    assert harmonic_mean(unseen, seen) == 0


@dataclass(frozen=True)
class Case:
    scores: NDArray[Any]
    labels: NDArray[Any]
    classes: NDArray[Any]
    seen_classes: NDArray[Any]

    def curve(self) -> SeenUnseenCurve:
        return seen_unseen_curve(self.scores, self.labels, self.classes, self.seen_classes)

    def ranks(self) -> IntArray:
        return true_class_ranks(self.labels, self.scores, self.classes)

    def at(self, gamma: float) -> tuple[float, float]:
        """Seen and unseen accuracy with a gamma, by predicting every row again."""
        is_seen = np.isin(self.classes, self.seen_classes)
        unseen_first = np.argsort(is_seen, kind="stable")  # argmax takes the first: unseen wins
        shifted = self.scores.astype(np.float64) - gamma * is_seen
        predictions = self.classes[unseen_first][shifted[:, unseen_first].argmax(axis=1)]
        accuracy = {
            c: float(np.mean(predictions[self.labels == c] == c)) for c in np.unique(self.labels)
        }
        parts = ([a for c, a in accuracy.items() if (c in self.seen_classes) == k] for k in (1, 0))
        seen, unseen = (statistics.fmean(part) for part in parts)
        return seen, unseen

    def gaps(self) -> list[float]:
        is_seen = np.isin(self.classes, self.seen_classes)
        rows = self.scores.astype(np.float64)
        return sorted({float(row[is_seen].max() - row[~is_seen].max()) for row in rows})

    def between_gaps(self) -> list[float]:
        gaps = self.gaps()
        return [gaps[0] - 1, *((a + b) / 2 for a, b in pairwise(gaps)), gaps[-1] + 1]

    def gammas(self) -> list[float]:
        return sorted([*self.gaps(), *self.between_gaps()])


# Half-precision numbers make every sum, difference and midpoint exact in double precision, so
# that brute force does not round; few integers make many ties.
score_values = st.one_of(st.integers(-3, 3).map(float), st.floats(-8, 8, width=16))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    k = draw(st.integers(2, 5))
    classes = draw(st.lists(st.integers(0, 30), min_size=k, max_size=k, unique=True))
    seen = classes[: draw(st.integers(1, k - 1))]
    unseen = classes[len(seen) :]
    labels = [draw(st.sampled_from(seen)), draw(st.sampled_from(unseen))]
    labels += draw(st.lists(st.sampled_from(classes), max_size=10))
    values = draw(st.sampled_from([st.integers(-3, 3).map(float), score_values]))
    row = st.lists(values, min_size=k, max_size=k)
    scores = draw(st.lists(row, min_size=len(labels), max_size=len(labels)))
    columns = draw(st.permutations(classes))
    return Case(np.array(scores), np.array(labels), np.array(columns), np.array(seen))


@given(cases())
@settings(deadline=None)
def test_curve_gives_the_accuracies_of_every_gamma(case: Case) -> None:
    curve = case.curve()
    for gamma in case.gammas():
        # A gamma on an edge belongs to the interval above: the tie has gone to the unseen class.
        interval = np.searchsorted(curve.edges, gamma, side="right") - 1
        found = (curve.seen[interval], curve.unseen[interval])
        assert found == pytest.approx(case.at(gamma)), gamma


@given(cases())
@settings(deadline=None)
def test_curve_is_monotone_between_its_two_empty_ends(case: Case) -> None:
    curve = case.curve()
    assert len(curve.edges) == len(curve.seen) + 1 == len(curve.unseen) + 1
    assert (np.diff(curve.edges) > 0).all()
    assert (curve.edges[0], curve.edges[-1]) == (-np.inf, np.inf)
    assert (np.diff(curve.seen) <= 0).all()
    assert (np.diff(curve.unseen) >= 0).all()
    assert curve.unseen[0] == 0
    assert curve.seen[-1] == 0


@given(cases())
@settings(deadline=None)
def test_area_is_the_sum_of_trapezoids_between_brute_force_points(case: Case) -> None:
    points = [case.at(gamma) for gamma in case.between_gaps()]
    area = sum((u1 - u0) * (s0 + s1) / 2 for (s0, u0), (s1, u1) in pairwise(points))
    assert case.curve().area == pytest.approx(area)


@given(cases())
@settings(deadline=None)
def test_best_gamma_has_the_highest_h_of_all_gammas(case: Case) -> None:
    def h(gamma: float) -> float:
        seen, unseen = case.at(gamma)
        return statistics.harmonic_mean([seen, unseen])

    best = case.curve().best_gamma()
    assert np.isfinite(best)
    assert h(best) == pytest.approx(max(map(h, case.gammas())))


@given(cases())
@settings(deadline=None)
def test_rank_of_the_true_class_equals_a_stable_sort(case: Case) -> None:
    order = np.argsort(-case.scores, axis=1, kind="stable")
    ranked = [case.classes[columns].tolist() for columns in order]
    expected = [row.index(label) for row, label in zip(ranked, case.labels, strict=True)]
    assert true_class_ranks(case.labels, case.scores, case.classes).tolist() == expected


@given(cases())
@settings(deadline=None)
def test_top_1_is_the_accuracy_and_top_k_never_decreases(case: Case) -> None:
    predictions = case.classes[case.scores.argmax(axis=1)]
    found = [
        mean_class_top_k_accuracy(case.labels, case.ranks(), k)
        for k in range(1, len(case.classes) + 2)
    ]
    assert found[0] == mean_class_accuracy(case.labels, predictions)
    assert found == sorted(found)
    assert found[-2:] == [1, 1]


def sklearns_top_k(case: Case, k: int) -> float:
    """Mean per-class top-k accuracy; sklearn's ties go to the later column, so all are turned."""
    turned = case.classes[::-1].tolist()
    targets = np.array([turned.index(label) for label in case.labels])
    counts = np.bincount(targets, minlength=len(turned))
    found = top_k_accuracy_score(
        targets,
        case.scores[:, ::-1],
        k=k,
        sample_weight=1 / counts[targets],
        labels=np.arange(len(turned)),
    )
    return float(found)


@given(cases().filter(lambda case: len(case.classes) > 2), st.integers(1, 4))
@settings(deadline=None)
def test_top_k_equals_sklearn_with_balanced_sample_weights(case: Case, k: int) -> None:
    k = min(k, len(case.classes) - 1)
    found = mean_class_top_k_accuracy(case.labels, case.ranks(), k)
    assert found == pytest.approx(sklearns_top_k(case, k))


@given(cases())
@settings(deadline=None)
def test_confusion_counts_equal_sklearn(case: Case) -> None:
    predictions = case.classes[case.scores.argmax(axis=1)]
    found = confusion_counts(case.labels, predictions, case.classes)
    expected = confusion_matrix(case.labels, predictions, labels=case.classes)
    np.testing.assert_array_equal(found.toarray(), expected)


@given(cases(), st.none() | st.floats(-3, 3))
@settings(deadline=None)
def test_best_answers_give_the_answer_at_any_gamma(case: Case, gamma: float | None) -> None:
    is_seen = np.isin(case.classes, case.seen_classes)
    order = np.argsort(~is_seen, kind="stable")  # the seen ones first
    scores, classes = case.scores[:, order], case.classes[order]
    half = len(scores) // 2
    parts = [
        best_answers(part, classes, case.seen_classes) for part in (scores[:half], scores[half:])
    ]
    found = BestAnswers.joined(parts).answers(gamma)
    shifted = scores if gamma is None else scores.astype(np.float64) - gamma * is_seen[order]
    np.testing.assert_array_equal(found, classes[shifted.argmax(axis=1)])


def test_without_unseen_classes_the_answer_is_a_seen_one() -> None:
    scores = np.array([[1.0, 3.0], [2.0, -5.0]])
    best = best_answers(scores, np.array([4, 6]), np.array([4, 6]))
    assert best.answers().tolist() == best.answers(9.0).tolist() == [6, 4]


def two_class_case(gaps: list[float], labels: list[int]) -> Case:
    """Class 0 is seen, class 1 unseen; the seen column is higher by the gap."""
    scores = np.stack([np.array(gaps), np.zeros(len(gaps))], axis=1)
    return Case(scores, np.array(labels), np.array([0, 1]), np.array([0]))


def test_all_rows_right_give_area_one() -> None:
    curve = two_class_case([3.0, 3.0, 1.0, 1.0], [0, 0, 1, 1]).curve()
    assert curve.edges.tolist() == [-np.inf, 1, 3, np.inf]
    assert curve.seen.tolist() == [1, 1, 0]
    assert curve.unseen.tolist() == [0, 1, 1]
    assert curve.area == 1
    assert curve.best_gamma() == 2


def test_no_row_right_gives_area_zero() -> None:
    # Two classes a side, every row highest at the wrong one of its side.
    scores = np.array([[0.0, 1.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
    curve = seen_unseen_curve(scores, np.array([0, 2]), np.arange(4), np.array([0, 1]))
    assert curve.edges.tolist() == [-np.inf, np.inf]
    assert (curve.seen.tolist(), curve.unseen.tolist()) == ([0], [0])
    assert curve.area == 0
    assert curve.best_gamma() == 0


def test_one_side_wrong_gives_area_zero() -> None:
    scores = np.array([[2.0, 0.0, 1.0], [2.0, 0.0, 1.0]])
    curve = seen_unseen_curve(scores, np.array([0, 1]), np.array([0, 1, 2]), np.array([0]))
    assert curve.seen.tolist() == [1, 0]
    assert curve.unseen.tolist() == [0, 0]
    assert curve.area == 0
    assert np.isfinite(curve.best_gamma())


def test_best_gamma_is_the_middle_of_the_longest_best_interval() -> None:
    # S/U is 1/0, 1/.5, .5/.5, .5/1, 0/1: H is highest, 2/3, on (0, 1) and on (2, 10).
    case = two_class_case([1.0, 10.0, 0.0, 2.0], [0, 0, 1, 1])
    assert case.curve().best_gamma() == 6


# The README beside the score files, percent: T1, seen-only, U, S, H, AUSUC, best H.
PUBLISHED = {
    "f-CLSWGAN_AWA1_test": (65.648, 77.311, 53.600, 66.997, 59.554, 46.161, 60.613),
    "f-CLSWGAN_CUB_test": (56.110, 71.185, 45.079, 55.512, 49.754, 34.476, 50.158),
    "f-CLSWGAN_FLO_test": (63.969, 88.297, 58.085, 73.245, 64.790, 53.077, 64.907),
    "LAGO_AWA1_test": (63.501, 76.496, 21.849, 73.620, 33.698, 43.414, 57.731),
    "LAGO_CUB_test": (55.900, 68.864, 24.555, 64.792, 35.614, 33.150, 48.119),
    "LAGO_AWA1_val": (52.570, 82.734, 19.730, 78.161, 31.506, 37.688, 51.952),
}


def published_case(name: str) -> Case:
    file = SHARED / "scores" / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    data = np.load(file)
    classes = np.concatenate([data["seen_classes"], data["unseen_classes"]])
    return Case(data["scores"][:, classes], data["labels"], classes, data["seen_classes"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_top_5_of_real_score_matrices_equals_sklearn(name: str) -> None:
    case = published_case(name)
    found = mean_class_top_k_accuracy(case.labels, case.ranks(), 5)
    assert found == pytest.approx(sklearns_top_k(case, 5))


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_score_matrices_give_their_known_figures(name: str) -> None:
    case = published_case(name)
    labels, seen, classes = case.labels, case.seen_classes, case.classes
    unseen = np.setdiff1d(classes, seen)
    is_seen = np.isin(labels, seen)

    def accuracy(side: bool, among: NDArray[Any], gamma: float = 0.0) -> float:
        rows, columns = is_seen == side, np.isin(classes, among)
        shifted = case.scores[np.ix_(rows, columns)] - gamma * np.isin(classes[columns], seen)
        return mean_class_accuracy(labels[rows], classes[columns][shifted.argmax(axis=1)])

    curve = case.curve()
    u, s = accuracy(False, classes), accuracy(True, classes)
    best = curve.best_gamma()
    best_h = harmonic_mean(accuracy(False, classes, best), accuracy(True, classes, best))
    found = (accuracy(False, unseen), accuracy(True, seen), u, s, harmonic_mean(u, s))
    found += (curve.area, best_h)
    assert [100 * value for value in found] == pytest.approx(PUBLISHED[name], abs=6e-4)
