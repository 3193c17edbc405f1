"""CVAE-ZSL against loops, torch.distributions and the published sizes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import RowsByEpoch, RowsRequest
from gsmflow.learning.feed import MemoryFeed, Scaled
from gsmflow.methods.cvae_zsl import CVAEZSL, CVAEZSLConfig
from gsmflow.methods.gaussian_encoder import GaussianEncoder
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = CVAEZSLConfig(
    latent_dim=4, encoder_hidden=7, encoder_dropout=0.0, decoder_hidden=8, kl_weight=0.3
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def make_model(scaled: Scaled, **changes: Any) -> CVAEZSL:
    return CVAEZSL.for_problem(scaled, replace(SMALL, **changes), generators(0))


def batch_of(scaled: Scaled) -> tuple[Tensor, Tensor]:
    rows = torch.arange(0, 56, 8)
    return scaled.feed.take(rows).double(), scaled.feed.labels[rows]


def layer(linear: Any, row: Tensor) -> Tensor:
    return torch.stack(
        [
            sum((w * x for w, x in zip(weights, row, strict=True)), bias)
            for weights, bias in zip(linear.weight, linear.bias, strict=True)
        ]
    )


def test_loss_equals_a_loop_over_rows(scaled: Scaled) -> None:
    model = make_model(scaled).double()
    features, labels = batch_of(scaled)
    noise = torch.randn(len(labels), 4, generator=seeded(2), dtype=torch.float64)
    encoder = model.encoder_network
    reconstruction = kl = torch.zeros((), dtype=torch.float64)
    for x, c, eps in zip(features, model.semantics[labels], noise, strict=True):
        hidden = layer(encoder.first, torch.cat([x, c])).clamp(min=0)
        hidden = layer(encoder.second, hidden).clamp(min=0)
        posterior = Normal(
            layer(encoder.mean, hidden), layer(encoder.log_variance, hidden).exp().sqrt()
        )
        kl = kl + kl_divergence(posterior, Normal(0.0, 1.0)).sum()
        latent = posterior.mean + posterior.stddev * eps
        decoded = layer(model.decoder[0], torch.cat([latent, c])).clamp(min=0)
        reconstruction = reconstruction + (layer(model.decoder[2], decoded) - x).square().sum()
    found = model.loss(features, labels, BatchRandom(seeded(2)))
    n = len(labels)
    torch.testing.assert_close(found.parts["kl"], kl / n)
    torch.testing.assert_close(found.parts["reconstruction"], reconstruction / n)
    torch.testing.assert_close(found.total, (reconstruction + 0.3 * kl) / n)


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled, encoder_dropout=0.4).double()
    batch = batch_of(scaled)
    assert_gradients(
        model,
        lambda: model.loss(*batch, BatchRandom(seeded(2))).total,
        step=1e-6,
        relative=1e-4,
        absolute=1e-6,
    )


def test_units_of_the_encoder_are_dropped_in_training_alone() -> None:
    encoder = GaussianEncoder(5, (300, 4), 2, dropped=0.5)
    for parameter in encoder.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5, generator=seeded(0))
    inputs = torch.ones(2, 5)
    assert torch.equal(encoder(inputs)[0][0], encoder(inputs)[0][1])
    trained = encoder(inputs, BatchRandom(seeded(1)))[0]
    assert not torch.equal(trained[0], trained[1])


def test_sizes_are_the_published_ones() -> None:
    classes = torch.zeros(1, dtype=torch.int64)
    model = CVAEZSL(
        CVAEZSLConfig(),
        2048,
        seeded(0),
        semantics=torch.zeros(50, 85),
        seen_classes=classes,
        unseen_classes=classes,
    )
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if "weight" in name}
    assert shapes == {
        "encoder_network.first.weight": (1024, 2133),
        "encoder_network.second.weight": (1024, 1024),
        "encoder_network.mean.weight": (85, 1024),
        "encoder_network.log_variance.weight": (85, 1024),
        "decoder.0.weight": (1024, 170),
        "decoder.2.weight": (2048, 1024),
    }


def rows_of(model: CVAEZSL, scaled: Scaled, **changes: Any) -> RowsByEpoch:
    request = RowsRequest(scaled, seeded(3), samples_per_class=20, capacity_bytes=2**20)
    rows = model.classifier_rows(replace(request, **changes))
    assert isinstance(rows, RowsByEpoch)
    return rows


def test_rows_of_seen_classes_are_synthesized_or_real(scaled: Scaled) -> None:
    problem = scaled.problem
    both = rows_of(make_model(scaled), scaled, samples_per_seen_class=30)
    counts = torch.bincount(both.gzsl().labels)
    assert (counts[problem.seen_classes] == 30).all()
    assert (counts[problem.unseen_classes] == 20).all()
    real = rows_of(make_model(scaled, synthesized_seen=False), scaled)
    n = len(scaled.feed.labels)
    everything = real.gzsl().take(torch.arange(n))
    assert torch.equal(everything, scaled.feed.take(torch.arange(n)))
    assert len(real.gzsl().labels) == n + 20 * len(problem.unseen_classes)


@pytest.mark.parametrize("mib", [1, 0.001])
def test_rows_that_do_not_fit_are_drawn_anew_for_each_epoch(scaled: Scaled, mib: float) -> None:
    model = make_model(scaled, samples_per_class=20)
    rows = rows_of(model, scaled, capacity_bytes=int(mib * 2**20))
    first, second = (rows.gzsl() for _ in range(2))
    some = torch.arange(10)
    assert torch.equal(first.take(some), second.take(some)) == (mib == 1)
    per_class = 20 if mib == 1 else int(1048 / 24 / 10)
    assert (torch.bincount(first.labels) == per_class).all()


def test_real_rows_of_unseen_classes_are_added(scaled: Scaled) -> None:
    labels = torch.from_numpy(scaled.problem.unseen_classes).repeat(2)
    real = MemoryFeed(torch.full((len(labels), 6), 7.0), labels)
    rows = rows_of(make_model(scaled), scaled, real_unseen=real)
    for feed in (rows.gzsl(), rows.zsl()):
        sevens = (feed.take(torch.arange(len(feed.labels))) == 7).all(dim=1)
        assert sevens.sum() == len(labels)
    alone = rows_of(make_model(scaled), scaled, real_unseen=real, synthesizes=False)
    assert len(alone.gzsl().labels) == len(scaled.feed.labels) + len(labels)
