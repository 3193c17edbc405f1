"""Generation shifts, against samples placed by hand, closed forms, scikit-learn and scipy."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.core.precision import Precision
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out, training_problem
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.evaluation.generation_shifts import RealClasses, Shifts, measure_real, measure_shifts
from gsmflow.learning.feed import MappedFeed, MemoryFeed, make_feed
from gsmflow.learning.sampling import FeatureSampler
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig
from tests.builders import feed_of, generators, make_dataset, scaled_of, seeded

CPU = torch.device("cpu")
# Seen and unseen class numbers interleave, and class 0 is in neither.
SEEN, UNSEEN = [2, 3, 6, 7], [1, 4, 5]
EVERY = [*SEEN, *UNSEEN]
ROWS = 8


@dataclass
class Table:
    """Gives the rows of a class in their order, repeatedly."""

    rows: dict[int, Tensor]
    sizes: list[int] = field(default_factory=list)

    def sampler(self, classes: Tensor) -> FeatureSampler:
        given = dict.fromkeys(classes.tolist(), 0)

        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            self.sizes.append(len(positions))
            drawn = []
            for c in classes[positions].tolist():
                drawn.append(self.rows[c][given[c] % len(self.rows[c])])
                given[c] += 1
            return torch.stack(drawn)

        return draw


def make_rows(seed: int, d: int = 5, spread: float = 0.5) -> dict[int, Tensor]:
    """`ROWS` rows of each class around the centre of the class."""
    rng = np.random.default_rng(seed)
    return {
        c: torch.from_numpy(rng.normal(size=d) + spread * rng.normal(size=(ROWS, d))) for c in EVERY
    }


def feed_with(rows: dict[int, Tensor], classes: list[int], seed: int = 0) -> MemoryFeed:
    """The rows of some classes, shuffled."""
    labels = torch.tensor([c for c in classes for _ in rows[c]])
    order = torch.randperm(len(labels), generator=seeded(seed))
    return MemoryFeed(torch.cat([rows[c] for c in classes])[order], labels[order])


def real_of(rows: dict[int, Tensor]) -> RealClasses:
    return measure_real(feed_with(rows, SEEN), feed_with(rows, UNSEEN))


def semantics_of(seed: int = 9) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)


def shifts_of(
    real: dict[int, Tensor], synthesized: dict[int, Tensor], per_class: int = ROWS
) -> Shifts:
    return measure_shifts(Table(synthesized), real_of(real), semantics_of(), per_class, seeded(0))


def changed(rows: dict[int, Tensor], change: Callable[[Tensor], Tensor]) -> dict[int, Tensor]:
    return {c: change(features) for c, features in rows.items()}


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_samples_that_are_the_real_rows_have_no_shift(seed: int) -> None:
    shifts = shifts_of(make_rows(seed), make_rows(seed))
    summary = shifts.summary()
    assert summary["samples_per_class"] == ROWS
    np.testing.assert_allclose(shifts.variance_ratios, 1)
    assert summary["variance_ratio"] == pytest.approx({"seen": 1, "unseen": 1})
    for correlations in summary["rank_correlation"].values():
        assert correlations["synthesized_real"] == pytest.approx(1)
        expected = correlations["real_semantics"]
        assert correlations["synthesized_semantics"] == pytest.approx(expected)
    for among in ("among_all", "among_unseen"):
        synthesized, real = (
            getattr(c, among) for c in (shifts.consistency, shifts.real.consistency)
        )
        assert synthesized.tolist() == real.tolist()
        assert summary["consistency"][among] == summary["consistency"][f"real_{among}"]


def test_samples_of_another_class_are_inconsistent() -> None:
    rows = make_rows(0, spread=0.01)
    real_names = {1: 1, 4: 5, 5: 3, **{c: c for c in SEEN}}
    shifts = shifts_of(rows, {c: rows[real_names[c]] for c in EVERY})
    assert shifts.real.consistency.among_all.tolist() == [1, 1, 1]
    assert shifts.consistency.among_all.tolist() == [1, 0, 0]
    summary = shifts.summary()["consistency"]
    assert summary["among_all"] == pytest.approx(1 / 3)
    assert summary["real_among_all"] == 1


def test_consistency_of_hand_placed_samples() -> None:
    # On a line: seen means at 0, 10, 20, 30, unseen ones at 4, 14, 24.
    at = {2: 0, 3: 10, 6: 20, 7: 30, 1: 4, 4: 14, 5: 24}
    real = {c: torch.tensor([[x - 1.0, 0.0], [x + 1.0, 0.0]]) for c, x in at.items()}
    placed: dict[int, list[float]] = {
        1: [
            4,
            5,
            6.9,
            7.1,
        ],  # the last is nearest to seen 10, and among the unseen means to its class
        4: [14, 11, 9.1, 8],  # two are nearer to 10; of them one to unseen 4
        5: [-50, 24, 24, 99],  # nearest to 0; right; right; to 30, among the unseen right
    }
    synthesized = real | {
        c: torch.tensor([[x, 0.0] for x in values]) for c, values in placed.items()
    }
    shifts = shifts_of(real, synthesized, per_class=4)
    assert shifts.real.unseen_classes.tolist() == UNSEEN
    assert shifts.consistency.among_all.tolist() == [3 / 4, 1 / 4, 2 / 4]
    assert shifts.consistency.among_unseen.tolist() == [1, 3 / 4, 3 / 4]
    assert shifts.summary()["consistency"]["among_all"] == pytest.approx(1 / 2)


def test_consistency_equals_sklearn_nearest_centroid() -> None:
    rows, drawn = make_rows(1, spread=1.5), make_rows(2, spread=1.5)
    shifts = shifts_of(rows, drawn)
    for among, classes in (("among_all", EVERY), ("among_unseen", UNSEEN)):
        feed = feed_with(rows, classes)
        nearest = NearestCentroid().fit(feed.features.numpy(), feed.labels.numpy())
        for source, consistency in ((rows, shifts.real.consistency), (drawn, shifts.consistency)):
            expected = [np.mean(nearest.predict(source[c].numpy()) == c) for c in UNSEEN]
            assert getattr(consistency, among).tolist() == pytest.approx(expected)
            assert 0 < np.mean(expected) < 1


def test_variances_equal_the_standard_library() -> None:
    rows, drawn = make_rows(3), make_rows(4, spread=2.0)
    shifts = shifts_of(rows, drawn)

    def scatter(features: Tensor) -> float:
        return float(sum(statistics.variance(column) for column in features.T.tolist()))

    ratios = {c: scatter(drawn[c]) / scatter(rows[c]) for c in EVERY}
    assert shifts.variance_ratios.tolist() == pytest.approx(list(ratios.values()))
    assert shifts.summary()["variance_ratio"] == pytest.approx(
        {
            "seen": statistics.geometric_mean([ratios[c] for c in SEEN]),
            "unseen": statistics.geometric_mean([ratios[c] for c in UNSEEN]),
        }
    )


@given(st.floats(0.05, 20), st.floats(0.05, 20), st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_scatter_scales_the_variance_ratio_and_a_similarity_keeps_rank_correlations(
    scatter: float, size: float, seed: int
) -> None:
    rows = make_rows(seed)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=seeded(seed), dtype=torch.float64)).Q

    def change(features: Tensor) -> Tensor:
        mean = features.mean(dim=0)
        return torch.matmul(size * (mean + scatter * (features - mean)), turn) + 7

    shifts = shifts_of(rows, changed(rows, change))
    np.testing.assert_allclose(shifts.variance_ratios, (size * scatter) ** 2)
    for unseen_alone in (True, False):
        found = shifts.rank_correlations(unseen_alone=unseen_alone)["synthesized_real"]
        assert found == pytest.approx(1)


def test_exchanged_means_reverse_the_rank_correlation() -> None:
    # Distances of classes (1, 4), (1, 5), (4, 5): real 1, 3, 2, synthesized 3, 1, 2.
    real = make_rows(0) | {c: torch.full((2, 5), x) for c, x in ((1, 0.0), (4, 1.0), (5, 3.0))}
    drawn = real | {c: torch.full((2, 5), x) for c, x in ((1, 0.0), (4, 3.0), (5, 1.0))}
    shifts = shifts_of(changed(real, Tensor.double), changed(drawn, Tensor.double))
    found = shifts.rank_correlations(unseen_alone=True)
    assert found["synthesized_real"] == pytest.approx(-1)
    assert found["synthesized_semantics"] == pytest.approx(-found["real_semantics"])


def test_rank_correlations_equal_brute_force() -> None:
    shifts = shifts_of(make_rows(5), make_rows(6))
    semantics = semantics_of()
    for unseen_alone, classes in ((True, UNSEEN), (False, EVERY)):
        points = {
            "synthesized": {c: make_rows(6)[c].numpy().mean(axis=0) for c in classes},
            "real": {c: make_rows(5)[c].numpy().mean(axis=0) for c in classes},
            "semantics": {c: semantics[c].astype(np.float64) for c in classes},
        }
        distances = {
            name: [np.linalg.norm(means[a] - means[b]) for a, b in combinations(classes, 2)]
            for name, means in points.items()
        }
        expected = {
            f"{a}_{b}": np.corrcoef(rankdata(distances[a]), rankdata(distances[b]))[0, 1]
            for a, b in combinations(distances, 2)
        }
        assert shifts.rank_correlations(unseen_alone=unseen_alone) == pytest.approx(expected)
        for name, measured in shifts.distances(unseen_alone=unseen_alone).items():
            assert measured.tolist() == pytest.approx(distances[name])


def test_classes_without_a_real_variance_are_left_out() -> None:
    rows = make_rows(7)
    single = rows | {2: rows[2][:1], 4: rows[4][:1], 5: rows[5][:1].repeat(3, 1)}
    shifts = measure_shifts(Table(rows), real_of(single), semantics_of(), ROWS, seeded(0))
    assert np.isnan(shifts.variance_ratios).tolist() == [c in (2, 4, 5) for c in EVERY]
    assert shifts.summary()["variance_ratio"] == pytest.approx({"seen": 1, "unseen": 1})


def test_undefined_values_are_null_in_json() -> None:
    # One sample of each class has no variance; two unseen classes have one distance.
    rows = make_rows(8)
    real = measure_real(feed_with(rows, SEEN), feed_with(rows, UNSEEN[:2]))
    shifts = measure_shifts(Table(rows), real, semantics_of(), 1, seeded(0))
    summary = shifts.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["variance_ratio"] == {"seen": None, "unseen": None}
    assert set(summary["rank_correlation"]["unseen"].values()) == {None}
    assert None not in summary["rank_correlation"]["all"].values()


def test_samples_that_do_not_scatter_have_a_ratio_of_0() -> None:
    rows = make_rows(8)
    shifts = shifts_of(rows, changed(rows, lambda features: features[:1]))
    assert shifts.summary()["variance_ratio"] == {"seen": 0, "unseen": 0}


def test_shifts_do_not_depend_on_the_slab_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, drawn = make_rows(10), make_rows(11)
    whole = shifts_of(rows, drawn)
    # Two classes of 8 samples in 5 dimensions of 4 bytes
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 2 * 8 * 5 * 4)
    table, counts = Table(drawn), list[int]()
    shifts = measure_shifts(
        table, real_of(rows), semantics_of(), ROWS, seeded(0), on_samples=counts.append
    )
    assert table.sizes == [16, 16, 16, 8] == counts
    assert shifts.summary() == whole.summary()
    np.testing.assert_array_equal(shifts.moments.means, whole.moments.means)
    np.testing.assert_array_equal(shifts.consistency.among_all, whole.consistency.among_all)


def test_real_rows_in_memory_and_mapped_give_equal_measures() -> None:
    dataset = check_dataset(make_dataset())
    problem, held_out = training_problem(dataset, "test"), open_held_out(dataset, "test")
    scaling = fit_feature_scaling(problem.train, "standardised")
    feeds = [
        [make_feed(rows, scaling, CPU, storage) for rows in (problem.train, held_out.unseen)]
        for storage in ("memory", "map")
    ]
    assert isinstance(feeds[1][1], MappedFeed)
    memory, mapped = (measure_real(*pair) for pair in feeds)
    assert memory.classes.tolist() == mapped.classes.tolist() == problem.classes.tolist()
    np.testing.assert_array_equal(memory.moments.means, mapped.moments.means)
    np.testing.assert_array_equal(memory.moments.variances, mapped.moments.variances)
    scaled = scaling(held_out.unseen.features).astype(np.float64)
    labels: IntArray = held_out.unseen.labels
    for c, mean in zip(problem.unseen_classes, memory.moments.means[-3:], strict=True):
        np.testing.assert_allclose(mean, scaled[labels == c].mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_flow_measures_depend_on_the_generator_alone(precision: Precision) -> None:
    dataset = check_dataset(make_dataset())
    problem, held_out = training_problem(dataset, "test"), open_held_out(dataset, "test")
    feed = feed_of(problem)
    config = GSMFlowConfig(blocks=1, hidden=4, condition_dim=3)
    model = GSMFlow.for_problem(scaled_of(problem), config, generators(0))
    unseen = MemoryFeed(
        torch.from_numpy(held_out.unseen.features), torch.from_numpy(held_out.unseen.labels)
    )
    real = measure_real(feed, unseen)
    first, again, other = (
        measure_shifts(model, real, problem.semantics, 20, seeded(s), precision=precision)
        for s in (0, 0, 1)
    )
    assert first.summary() == again.summary() != other.summary()
    assert first.moments.means.shape == (10, 6)
    assert len(first.consistency.among_all) == 3


def test_of_many_classes_a_sample_is_measured_as_if_there_were_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gsmflow.data.splits.MOST_DIAGNOSED", 4)
    rows = make_rows(0)
    sampled = real_of(rows)
    seen, unseen = sampled.seen_classes.tolist(), sampled.unseen_classes.tolist()
    assert (len(seen), len(unseen)) == (2, 2)
    alone = measure_real(feed_with(rows, seen), feed_with(rows, unseen))
    np.testing.assert_allclose(sampled.moments.means, alone.moments.means)
    np.testing.assert_array_equal(sampled.consistency.among_all, alone.consistency.among_all)
    shifts = measure_shifts(Table(rows), sampled, semantics_of(), ROWS, seeded(0))
    assert len(shifts.variance_ratios) == 4
