"""Transforms of the features against plain numpy."""

from typing import get_args

import numpy as np
import pytest
import torch

from gsmflow.learning.feed import MemoryFeed
from gsmflow.methods.feature_transform import EncodedFeed, FeatureTransform, fit_transformer

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(1.0, 2.0, size=(50, 6)).astype(np.float32)
FEATURES[:, 4] = 3.0  # constant, unless rows are brought to one length
FEATURES[:, 5] = 0.0
FEED = MemoryFeed(torch.from_numpy(FEATURES), torch.arange(50))
BY_HAND = {
    "none": FEATURES,
    "sqrt": np.copysign(np.sqrt(np.abs(FEATURES)), FEATURES),
    "unit": FEATURES * np.sqrt(6) / np.linalg.norm(FEATURES, axis=1, keepdims=True),
}


@pytest.mark.parametrize("transform", get_args(FeatureTransform))
def test_encoded_rows_are_transformed_and_standardised(transform: FeatureTransform) -> None:
    encoded = fit_transformer(FEED, transform)(FEED.features).numpy()
    transformed = BY_HAND[transform].astype(np.float64)
    deviation = transformed.std(axis=0)
    varies = deviation > 1e-6
    expected = (transformed - transformed.mean(axis=0))[:, varies] / deviation[varies]
    np.testing.assert_allclose(encoded[:, varies], expected, atol=1e-4)
    np.testing.assert_array_equal(encoded[:, ~varies], 0)


@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_decoding_inverts_encoding(transform: FeatureTransform) -> None:
    encoder = fit_transformer(FEED, transform)
    again = encoder.decode(encoder(FEED.features)).numpy()
    np.testing.assert_allclose(again, FEATURES, atol=1e-4)


def test_decoded_rows_of_unit_length_have_the_mean_length() -> None:
    encoder = fit_transformer(FEED, "unit")
    again = encoder.decode(encoder(FEED.features)).numpy()
    lengths = np.linalg.norm(FEATURES, axis=1)
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), lengths.mean(), rtol=1e-4)
    np.testing.assert_allclose(again / lengths.mean(), FEATURES / lengths[:, None], atol=1e-4)


def test_row_of_zeros_stays_finite() -> None:
    encoder = fit_transformer(FEED, "unit")
    assert torch.isfinite(encoder(torch.zeros(1, 6))).all()


def test_encoded_feed_takes_encoded_rows() -> None:
    encoder, rows = fit_transformer(FEED, "sqrt"), torch.tensor([7, 3, 11])
    feed = EncodedFeed(FEED, encoder, rows)
    assert feed.labels.tolist() == [7, 3, 11]
    assert feed.feature_dim == 6
    taken = feed.take(torch.tensor([2, 0]))
    torch.testing.assert_close(taken, encoder(FEED.features[[11, 7]]))
    assert len(EncodedFeed(FEED, encoder).labels) == 50
