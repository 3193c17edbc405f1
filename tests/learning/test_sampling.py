"""Synthesized rows: how many, of which class, in which order, all at once and in a stream."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.learning.sampling import FeatureSampler, Rescaled, Reservoir, Sampler, synthesize
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig
from tests.builders import generators, make_dataset, scaled_of, seeded


class Counting:
    """Draws ``(class, number of the draw)``, so that a row shows what it was drawn for and when."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype
        self.sizes: list[int] = []

    def sampler(self, classes: Tensor) -> FeatureSampler:
        def draw(positions: Tensor, generator: torch.Generator) -> Tensor:
            first = sum(self.sizes)
            self.sizes.append(len(positions))
            numbers = torch.arange(first, first + len(positions))
            return torch.stack([classes[positions], numbers], dim=1).to(self.dtype)

        return draw


def make_gsmflow() -> GSMFlow:
    problem = training_problem(check_dataset(make_dataset()), "test")
    config = GSMFlowConfig(blocks=1, hidden=4, condition_dim=3)
    return GSMFlow.for_problem(scaled_of(problem), config, generators(0))


def make_reservoir(
    model: Sampler, classes: list[int], per_class: int, capacity: int, seed: int = 0
) -> Reservoir:
    return Reservoir(
        model, torch.tensor(classes), per_class, capacity=capacity, generator=seeded(seed)
    )


def test_rows_cycle_through_the_classes_in_the_given_order() -> None:
    features, labels = synthesize(Counting(), torch.tensor([7, 2, 9]), 3, seeded(0))
    assert labels.tolist() == [7, 2, 9, 7, 2, 9, 7, 2, 9]
    assert features[:, 0].tolist() == labels.tolist()
    assert features.shape == (9, 2)


@pytest.mark.parametrize("per_class", [1, 1365, 4095, 4096, 4097, 9000])
def test_every_class_gets_its_rows_for_any_chunk_size(per_class: int) -> None:
    model = Counting()
    features, labels = synthesize(model, torch.tensor([4, 0, 3]), per_class, seeded(0))
    assert labels.unique(return_counts=True)[1].tolist() == [per_class] * 3
    assert torch.equal(features[:, 0].long(), labels)
    # No row is written twice or left unwritten.
    assert features[:, 1].tolist() == list(range(3 * per_class))
    assert sum(model.sizes) == 3 * per_class


def test_large_request_is_drawn_in_pieces() -> None:
    model, counts = Counting(), list[int]()
    synthesize(model, torch.arange(5), 20_000, seeded(0), on_samples=counts.append)
    assert max(model.sizes) < 20_000
    assert counts == model.sizes


def test_rows_depend_on_the_generator_alone() -> None:
    model, classes = make_gsmflow(), torch.tensor([8, 1])
    runs = [synthesize(model, classes, 2500, seeded(s))[0] for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_one_chunk_is_one_draw_of_the_model() -> None:
    model, classes = make_gsmflow(), torch.tensor([1, 8])
    features, labels = synthesize(model, classes, 5, seeded(0))
    torch.testing.assert_close(features, model.sample(labels, seeded(0)))
    assert features.shape == (10, 6)
    assert not features.requires_grad


def test_bf16_rows_equal_fp32_rows_up_to_rounding() -> None:
    model, classes = make_gsmflow(), torch.tensor([1, 8])
    exact, _ = synthesize(model, classes, 50, seeded(0))
    rounded, _ = synthesize(model, classes, 50, seeded(0), precision="bf16")
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


def test_features_keep_the_dtype_of_the_sampler() -> None:
    features, labels = synthesize(Counting(torch.float32), torch.tensor([1]), 2, seeded(0))
    assert features.dtype == torch.float32
    assert labels.dtype == torch.int64


@settings(deadline=None)
@given(
    k=st.integers(1, 6),
    per_class=st.integers(1, 40),
    capacity=st.integers(1, 300),
    shares=st.lists(st.floats(0, 1), max_size=6),
    chunk=st.integers(1, 50),
)
def test_reservoir_holds_the_newest_of_each_class_and_makes_each_sample_once(
    k: int, per_class: int, capacity: int, shares: list[float], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsmflow.learning.sampling._CHUNK", chunk)
        model = Counting()
        reservoir = make_reservoir(model, list(range(10, 10 + k)), per_class, capacity)
        held = min(per_class, max(1, capacity // k)) * k
        assert len(reservoir.labels) == held
        assert reservoir.total == k * per_class
        for share in [*sorted(shares), 1.0]:
            reservoir.advance(share)
            made = sum(model.sizes)
            goal = held + int(share * (reservoir.total - held))
            assert goal - chunk < made <= goal
            assert max(model.sizes) <= chunk
            # A simulation by lists: sample i is of class i mod k; the newest of each stay.
            newest = [set(range(made)[c::k][-(held // k) :]) for c in range(k)]
            for c in range(k):
                rows = reservoir.features[reservoir.labels == 10 + c]
                assert rows[:, 0].tolist() == [10 + c] * (held // k)
                assert set(rows[:, 1].long().tolist()) == newest[c]
        assert made == reservoir.total


@pytest.mark.parametrize(
    ("per_class", "capacity", "held"),
    [
        (300, 300, None),  # all rows
        (300, 299, 99),
        (5000, 1500, None),  # 500 rows of each class
        (5000, 1499, 499),
        (5000, 1, 1),
    ],
)
def test_reservoir_with_few_rows_of_a_class_is_scarce(
    per_class: int, capacity: int, held: int | None
) -> None:
    capacity = 3 * per_class if held is None and per_class == 300 else capacity
    reservoir = Reservoir(
        Counting(), torch.tensor([4, 7, 1]), per_class, capacity=capacity, generator=seeded(0)
    )
    if held is None:
        assert reservoir.scarcity is None
        return
    assert reservoir.scarcity is not None
    assert reservoir.scarcity[:2] == (held, per_class)
    # Two float64 numbers a row.
    enough = reservoir.scarcity.enough_bytes
    assert enough == 3 * min(per_class, 500) * 2 * 8
    larger = Reservoir(
        Counting(), torch.tensor([4, 7, 1]), per_class, capacity=enough // 16, generator=seeded(0)
    )
    assert larger.scarcity is None


def test_small_advances_are_collected_into_whole_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.learning.sampling._CHUNK", 8)
    model = Counting()
    reservoir = make_reservoir(model, [0, 1], per_class=500, capacity=100)
    first = len(model.sizes)
    for step in range(900):
        reservoir.advance((step + 1) / 900)
    renewals = model.sizes[first:]
    # 100 slots are not a multiple of 8: the ring's end cuts a chunk short.
    assert sum(renewals) == 900
    assert sum(size < 8 for size in renewals) <= 2 * 900 / 100 + 1


def test_rows_are_drawn_evenly_with_their_labels() -> None:
    reservoir = make_reservoir(Counting(), [5, 3, 8], per_class=20, capacity=30)
    features, labels = reservoir.draw(30_000)
    assert features.shape == (30_000, 2)
    assert torch.equal(features[:, 0].long(), labels)
    counts = torch.bincount(features[:, 1].long(), minlength=30)
    # Six standard deviations of a binomial with mean 1000.
    assert (counts - 1000).abs().max() < 6 * 1000**0.5
    assert reservoir.draw(0)[0].shape == (0, 2)


def test_stream_of_a_reservoir_depends_on_the_generator_alone() -> None:
    model = make_gsmflow()

    def stream(seed: int) -> Tensor:
        reservoir = make_reservoir(model, [8, 1], per_class=600, capacity=100, seed=seed)
        drawn = []
        for step in range(20):
            reservoir.advance((step + 1) / 20)
            drawn.append(reservoir.draw(7)[0])
        return torch.cat(drawn)

    first, same, other = stream(0), stream(0), stream(1)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_rescaled_features_equal_those_of_the_other_scaling() -> None:
    rows = np.random.default_rng(0).normal(3, 2, size=(50, 2)).astype(np.float32)
    first, other = (fit_feature_scaling(rows, name) for name in ("standardised", "minmax"))

    class Rows:
        """Draws the rows in the order of the positions, in the first scaling."""

        def sampler(self, classes: Tensor) -> FeatureSampler:
            return lambda positions, generator: torch.from_numpy(first(rows))[positions]

    draw = Rescaled(Rows(), first, other).sampler(torch.tensor([0]))
    positions = torch.tensor([7, 0, 7, 31])
    lowest, highest = rows.min(axis=0), rows.max(axis=0)
    expected = ((rows - lowest) / (highest - lowest))[positions.numpy()]
    np.testing.assert_allclose(draw(positions, seeded(0)).numpy(), expected, atol=1e-5)
