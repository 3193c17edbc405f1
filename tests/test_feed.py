"""Training rows by batch, against plain indexing."""

import numpy as np
import pytest
import torch

from gsmflow.feed import Feed, JoinedFeed, MemoryFeed, class_means, join
from tests.builders import seeded


def make_feed(n: int, d: int = 3, *, classes: int = 4, seed: int = 0) -> MemoryFeed:
    generator = seeded(seed)
    labels = torch.arange(n) % classes
    return MemoryFeed(torch.randn(n, d, generator=generator, dtype=torch.float64), labels)


def test_rows_are_taken_in_their_order() -> None:
    feed = make_feed(9)
    rows = torch.tensor([4, 0, 4, 8])
    assert torch.equal(feed.take(rows), torch.stack([feed.features[i] for i in rows]))
    assert feed.feature_dim == 3


@pytest.mark.parametrize("in_place", [True, False])
def test_joined_feeds_are_their_concatenation(in_place: bool) -> None:
    first, second = make_feed(5, seed=1), make_feed(7, seed=2)
    joined: Feed = join(first, second)
    if in_place:
        joined = JoinedFeed(first, second, torch.cat([first.labels, second.labels]))
    every = torch.cat([first.features, second.features])
    for rows in (torch.randperm(12, generator=seeded(3)), torch.arange(5), torch.arange(5, 12)):
        assert torch.equal(joined.take(rows), every[rows])
    assert joined.take(torch.arange(0)).shape == (0, 3)
    assert torch.equal(joined.labels, torch.cat([first.labels, second.labels]))
    assert joined.feature_dim == 3


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_class_means_are_numpys(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsmflow.feed._CHUNK", chunk)
    feed = make_feed(23)
    classes = torch.tensor([1, 4, 6, 9])
    feed = MemoryFeed(feed.features, classes[feed.labels])
    expected = [
        feed.features.numpy()[feed.labels.numpy() == c].mean(axis=0) for c in classes.numpy()
    ]
    np.testing.assert_allclose(class_means(feed, classes).numpy(), np.stack(expected), rtol=1e-12)
