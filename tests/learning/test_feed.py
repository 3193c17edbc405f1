"""Training rows by batch, against plain indexing."""

import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler

from gsmflow.core.arrays import IntArray
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Rows, training_problem
from gsmflow.data.scaling import FeatureScaling, FeatureScalingName, fit_feature_scaling
from gsmflow.learning import feed as feed_module
from gsmflow.learning.feed import (
    FeatureStorage,
    Feed,
    JoinedFeed,
    MappedFeed,
    MemoryFeed,
    PairedFeed,
    SelectedFeed,
    class_means,
    class_variances,
    feed_slabs,
    is_in_memory,
    join,
    make_feed,
    row_slabs,
    scale_problem,
)
from tests.builders import make_dataset, seeded

CPU = torch.device("cpu")


def random_feed(n: int, d: int = 3, *, classes: int = 4, seed: int = 0) -> MemoryFeed:
    generator = seeded(seed)
    labels = torch.arange(n) % classes
    return MemoryFeed(torch.randn(n, d, generator=generator, dtype=torch.float64), labels)


def test_rows_are_taken_in_the_given_order() -> None:
    feed = random_feed(9)
    rows = torch.tensor([4, 0, 4, 8])
    assert torch.equal(feed.take(rows), torch.stack([feed.features[i] for i in rows]))
    assert feed.feature_dim == 3


def test_paired_rows_have_further_values_behind_their_own() -> None:
    feed, values = random_feed(9), torch.arange(18.0).double().view(9, 2)
    paired = PairedFeed(feed, values)
    rows = torch.tensor([4, 0, 4, 8])
    assert torch.equal(paired.take(rows), torch.cat([feed.features, values], dim=1)[rows])
    assert paired.feature_dim == 5
    assert torch.equal(paired.labels, feed.labels)
    assert is_in_memory(paired)


@pytest.mark.parametrize("in_place", [True, False])
def test_joined_feeds_are_their_concatenation(in_place: bool) -> None:
    first, second = random_feed(5, seed=1), random_feed(7, seed=2)
    joined: Feed = join(first, second)
    if in_place:
        joined = JoinedFeed(first, second, torch.cat([first.labels, second.labels]))
    every = torch.cat([first.features, second.features])
    for rows in (torch.randperm(12, generator=seeded(3)), torch.arange(5), torch.arange(5, 12)):
        assert torch.equal(joined.take(rows), every[rows])
    assert joined.take(torch.arange(0)).shape == (0, 3)
    assert torch.equal(joined.labels, torch.cat([first.labels, second.labels]))
    assert joined.feature_dim == 3


@pytest.mark.parametrize("select", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("in_memory", [True, False])
def test_joined_selection_holds_its_rows_once(select: tuple[bool, bool], in_memory: bool) -> None:
    parts: list[Feed] = [random_feed(5, seed=1), random_feed(7, seed=2)]
    if not in_memory:
        parts[0] = JoinedFeed(parts[0], parts[0], parts[0].labels.repeat(2))
    many = torch.tensor([3, 0, 3, 3, 1, 4, 3, 3, 3, 3])
    feeds = [
        SelectedFeed(part, many) if selected else part
        for part, selected in zip(parts, select, strict=True)
    ]
    joined = join(feeds[0], feeds[1])
    every = torch.cat([part.take(torch.arange(len(part.labels))) for part in feeds])
    rows = torch.randperm(len(every), generator=seeded(3))
    assert torch.equal(joined.take(rows), every[rows])
    assert torch.equal(joined.labels, torch.cat([part.labels for part in feeds]))
    assert isinstance(joined, SelectedFeed)
    assert len(joined.feed.labels) == sum(len(part.labels) for part in parts)
    assert isinstance(joined.feed, MemoryFeed) == in_memory


@pytest.mark.parametrize("one_hot_classes", [3, 1000])
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_class_means_and_variances_equal_numpy(
    chunk: int, one_hot_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.learning.feed._CHUNK", chunk)
    monkeypatch.setattr("gsmflow.learning.feed._ONE_HOT_CLASSES", one_hot_classes)
    feed = random_feed(23)
    classes = torch.tensor([1, 4, 6, 9])
    feed = MemoryFeed(feed.features, classes[feed.labels])
    rows = [feed.features.numpy()[feed.labels.numpy() == c] for c in classes.numpy()]
    means = class_means(feed, classes)
    np.testing.assert_allclose(means, np.stack([r.mean(axis=0) for r in rows]), rtol=1e-12)
    expected = np.stack([r.var(axis=0) for r in rows])
    np.testing.assert_allclose(class_variances(feed, classes, means), expected, rtol=1e-9)


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
def test_slabs_are_all_rows_in_order(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.learning.feed._CHUNK", chunk)
    feed = random_feed(23)
    features, labels = zip(*feed_slabs(feed), strict=True)
    assert max(map(len, labels)) == min(chunk, 23)
    assert torch.equal(torch.cat(features), feed.features)
    assert torch.equal(torch.cat(labels), feed.labels)


def test_slabs_are_divided_as_those_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 1000)
    train = training_problem(check_dataset(make_dataset()), "test").train
    scaling = fit_feature_scaling(train, "standardised")
    expected = list(train.slabs())
    assert len(expected) > 1
    for storage in ("memory", "map"):
        found = row_slabs(make_feed(train, scaling, CPU, storage))
        for (span, features), (expected_span, slab) in zip(found, expected, strict=True):
            assert span == expected_span
            np.testing.assert_array_equal(features, scaling(slab))


def test_problem_is_scaled_by_its_training_rows() -> None:
    problem = training_problem(check_dataset(make_dataset()), "test")
    scaled = scale_problem(problem, "minmax", CPU, "map")
    assert scaled.problem is problem
    assert isinstance(scaled.feed, MappedFeed)
    expected = MinMaxScaler().fit_transform(problem.train.features.astype(np.float64))
    every = torch.arange(len(problem.train))
    np.testing.assert_allclose(scaled.feed.take(every).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(scaled.scaling(problem.train.features), expected, atol=1e-5)
    assert scaled.feed.labels.tolist() == problem.train.labels.tolist()


# --- rows that stay on disk ----------------------------------------------------------------------


def mapped_rows(path: Path, n: int, d: int, index: IntArray | None = None) -> Rows:
    """Rows of a memory map that cannot be written to."""
    rng = np.random.default_rng(5)
    np.save(path, (rng.normal(size=(n, d)) * 3 + 1).astype(np.float32))
    labels = rng.integers(4, size=n)
    source = np.lib.format.open_memmap(path, mode="r")
    return Rows(source, labels if index is None else labels[index], index)


@pytest.mark.parametrize("name", get_args(FeatureScalingName))
def test_mapped_rows_have_the_same_bits_as_those_in_memory(
    tmp_path: Path, name: FeatureScalingName
) -> None:
    rng = np.random.default_rng(0)
    rows = mapped_rows(tmp_path / "x.npy", 60, 37, rng.permutation(60)[:50])
    scaling = fit_feature_scaling(rows, name)
    memory, mapped = (make_feed(rows, scaling, CPU, storage) for storage in ("memory", "map"))
    assert isinstance(memory, MemoryFeed)
    assert isinstance(mapped, MappedFeed)
    assert torch.equal(memory.labels, mapped.labels)
    assert memory.feature_dim == mapped.feature_dim == 37
    for size in (0, 1, 2, 7, 50):
        taken = torch.from_numpy(rng.permutation(50)[:size])
        assert torch.equal(memory.take(taken), mapped.take(taken))
    twice = torch.tensor([3, 3, 49, 0])
    assert torch.equal(memory.take(twice), mapped.take(twice))
    classes = memory.labels.unique()
    assert torch.equal(class_means(memory, classes), class_means(mapped, classes))


def test_scaled_rows_equal_the_scaling_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 1000)
    index = np.random.default_rng(0).permutation(60)[:50]
    rows = mapped_rows(tmp_path / "x.npy", 60, 37, index)
    scaling = fit_feature_scaling(rows, "standardised")
    feed = make_feed(rows, scaling, CPU, "memory")
    expected = (rows.source[index] - scaling.shift) / scaling.spread
    np.testing.assert_array_equal(feed.take(torch.arange(50)).numpy(), expected)


@pytest.mark.parametrize(
    ("storage", "processes", "free", "kind"),
    [
        ("auto", 1, 2 * 4 * 60 * 5, MemoryFeed),
        ("auto", 1, 2 * 4 * 60 * 5 - 2, MappedFeed),
        ("auto", 2, 4 * 4 * 60 * 5 - 2, MappedFeed),
        ("memory", 1, 0, MemoryFeed),
        ("map", 1, 10**9, MappedFeed),
    ],
)
def test_rows_above_half_of_the_free_memory_stay_mapped(
    tmp_path: Path,
    storage: FeatureStorage,
    processes: int,
    free: int,
    kind: type[Feed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "_free_bytes", lambda device: free)
    rows = mapped_rows(tmp_path / "x.npy", 60, 5)
    feed = make_feed(rows, fit_feature_scaling(rows, "none"), CPU, storage, processes)
    assert type(feed) is kind


def test_mapped_rows_are_never_in_memory_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 2**15)
    n, d = 20_000, 64
    rows = mapped_rows(tmp_path / "x.npy", n, d, np.arange(n)[::-1])
    scaling = FeatureScaling(np.ones(d, np.float32), np.full(d, 2, np.float32))
    tracemalloc.start()
    try:
        feed = make_feed(rows, scaling, CPU, "map")
        for batch in torch.randperm(n).split(100):
            feed.take(batch)
        fit_feature_scaling(rows, "standardised")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n * d * 4 / 4
