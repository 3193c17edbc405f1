"""Gates: routes against a plain choice, thresholds against counts, measures against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsmflow.methods.gates.base import Views, accepting_threshold, measure_gate, route


def views(n: int = 50) -> Views:
    rng = np.random.default_rng(0)
    return Views(np.zeros((n, 1), np.float32), rng.normal(size=(n, 4)), 9 * rng.normal(size=(n, 3)))


def test_best_class_is_that_of_the_chosen_expert() -> None:
    experts = views()
    numbers = np.random.default_rng(1).normal(size=50)
    numbers[0] = 0.25
    answers = route(experts, numbers, 0.25).argmax(axis=1)
    expected = np.where(
        numbers <= 0.25,
        experts.seen.argmax(axis=1),
        4 + experts.unseen.argmax(axis=1),
    )
    np.testing.assert_array_equal(answers, expected)


def test_gamma_on_the_seen_classes_equals_a_lower_threshold() -> None:
    experts, numbers = views(), np.random.default_rng(1).normal(size=50)
    scores = route(experts, numbers, 0.5)
    scores[:, :4] -= 0.7
    np.testing.assert_array_equal(
        scores.argmax(axis=1), route(experts, numbers, 0.5 - 0.7).argmax(axis=1)
    )


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60),
    st.floats(0.01, 1.0),
)
def test_threshold_accepts_the_share_and_no_lower_number_does(
    values: list[float], share: float
) -> None:
    numbers = np.array(values)
    threshold = accepting_threshold(numbers, share)
    assert threshold in numbers
    assert np.mean(numbers <= threshold) >= share - 1e-9
    lower = numbers[numbers < threshold]
    if len(lower):
        assert np.mean(numbers <= lower.max()) < share + 1e-9


def test_measures_equal_counts() -> None:
    rng = np.random.default_rng(2)
    seen, unseen = rng.normal(size=100), rng.normal(size=70) + 1
    is_unseen = np.repeat([False, True], [100, 70])
    measures = measure_gate(np.concatenate([seen, unseen]), is_unseen, 0.3)
    assert pytest.approx(np.mean(unseen[:, None] > seen)) == measures.AUROC
    limit = np.sort(seen)[94]
    assert pytest.approx(np.mean(unseen <= limit)) == measures.FPR95
    assert measures.accepted_seen == np.mean(seen <= 0.3)
    assert measures.accepted_unseen == np.mean(unseen <= 0.3)
    assert measures.threshold == 0.3
