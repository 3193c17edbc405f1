"""GDAN against other closed forms, finite differences and counted draws."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch
from gsmflow.learning.feed import Scaled
from gsmflow.methods.gdan import GDAN, GDANConfig
from gsmflow.recipes.flags import published_recipe
from tests.builders import generators, make_dataset, make_recipe, scaled_of, seeded
from tests.methods.gradients import assert_gradients
from tests.methods.steps import RATE, assert_equal_parameters, optimizers_of

SMALL = GDANConfig(
    latent_dim=4,
    encoder_hidden=7,
    encoder_second_hidden=6,
    encoder_dropout=0.0,
    decoder_hidden=8,
    decoder_relu=False,
    discriminator_hidden=5,
    regressor_hidden=9,
    cycle_weight=0.3,
    regression_weight=0.7,
    dual_weight=0.6,
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def make_model(scaled: Scaled, done: float = 0.5, **changes: Any) -> GDAN:
    model = GDAN.for_problem(scaled, replace(SMALL, **changes), generators(0))
    model.warm_up(done)
    return model.double()


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


def noise_of(n: int) -> Tensor:
    """What a generator of seed 2 gives first."""
    return torch.randn(n, 4, generator=seeded(2), dtype=torch.float64)


def forward(network: nn.Sequential, *inputs: Tensor) -> Tensor:
    first, last = (layer for layer in network if isinstance(layer, nn.Linear))
    hidden = (torch.cat(inputs, dim=1) @ first.weight.T + first.bias).clamp(min=0)
    return hidden @ last.weight.T + last.bias


def posterior(model: GDAN, features: Tensor) -> Normal:
    encoder = model.encoder_network
    for layer in (encoder.first, encoder.second):
        features = (features @ layer.weight.T + layer.bias).clamp(min=0)
    mean, log_variance = (
        features @ layer.weight.T + layer.bias for layer in (encoder.mean, encoder.log_variance)
    )
    return Normal(mean, log_variance.exp().sqrt())


def generator_loss(model: GDAN, batch: Batch, noise: Tensor, *, joint: bool) -> Tensor:
    """The published sum; in the pretraining, of the autoencoder's and the regressor's own parts."""
    features, n = batch.features, len(batch.labels)
    semantics, q = model.semantics[batch.labels], posterior(model, features)
    latents = q.mean + q.stddev * noise
    decoded = forward(model.decoder, latents, semantics)
    regressed = forward(model.regressor, features)
    vae = (decoded - features).square().sum() / 2 + kl_divergence(q, Normal(0.0, 1.0)).sum()
    alone = vae / n + 0.7 * (regressed - semantics).square().mean()
    if not joint:
        return alone
    cycles = (forward(model.regressor, decoded) - semantics).square().mean()
    cycles += (forward(model.decoder, latents, regressed) - features).square().mean()
    adversarial = (forward(model.discriminator, decoded, semantics) - 1).square().mean()
    dual = (forward(model.discriminator, features, regressed) - 1).square().mean()
    return alone + adversarial + 0.3 * cycles + 0.6 * dual


def discriminator_loss(model: GDAN, batch: Batch, noise: Tensor, others: Tensor) -> Tensor:
    """The published sum, with other classes than the rows' own."""
    features = batch.features
    semantics, q = model.semantics[batch.labels], posterior(model, features)
    decoded = forward(model.decoder, q.mean + q.stddev * noise, semantics)
    total = torch.zeros((), dtype=torch.float64)
    for weight, target, x, c in (
        (1.0, 1.0, features, semantics),
        (1.0, 0.0, decoded, semantics),
        (0.6, 0.0, features, forward(model.regressor, features)),
        (1.0, 0.0, features, model.semantics[others]),
    ):
        scores = forward(model.discriminator, x, c)
        total = total + weight * (scores - target).square().mean()
    return total


def test_generator_loss_is_the_published_sum(scaled: Scaled) -> None:
    model, batch = make_model(scaled), batch_of(scaled)
    noise = noise_of(len(batch.labels))
    found = model.generator_loss(batch, BatchRandom(seeded(2)))
    torch.testing.assert_close(found.total, generator_loss(model, batch, noise, joint=True))
    alone = make_model(scaled, done=0.49).generator_loss(batch, BatchRandom(seeded(2)))
    torch.testing.assert_close(alone.total, generator_loss(model, batch, noise, joint=False))


def test_discriminator_loss_is_the_published_sum(
    scaled: Scaled, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = make_model(scaled), batch_of(scaled)
    others = (batch.labels + 3) % 7
    monkeypatch.setattr(model, "other_classes", lambda labels, random: others)
    found = model.discriminator_loss(batch, BatchRandom(seeded(2)))
    expected = discriminator_loss(model, batch, noise_of(len(batch.labels)), others)
    torch.testing.assert_close(found, expected)
    found.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in model.parameter_groups()["generator"].parameters)


@pytest.mark.parametrize("joint", [True, False])
def test_training_equals_steps_by_hand(scaled: Scaled, joint: bool) -> None:
    """The discriminator learns from a batch, then the other networks from the next one."""
    model = make_model(scaled, done=0.5 if joint else 0.49)
    hand, numbers, given = deepcopy(model), BatchRandom(seeded(4)), BatchRandom(seeded(4))
    networks = (hand.encoder_network, hand.decoder, hand.regressor)
    discriminator, generator = (
        torch.optim.Adam(
            [p for network in chosen for p in network.parameters()], RATE, (0.8, 0.999)
        )
        for chosen in ([hand.discriminator], networks)
    )
    optimizers = optimizers_of(model)
    for rows in torch.randperm(56, generator=seeded(3))[:16].split(8):
        batches = [
            Batch(scaled.feed.take(taken).double(), scaled.feed.labels[taken])
            for taken in rows.split(4)
        ]
        parts = model.training_step(iter(batches), given, optimizers)
        noise = numbers.normal(torch.zeros(4, 4).double())
        others = (batches[0].labels + 1 + (numbers.uniform(4) * 6).long()) % 7
        discrimination = discriminator_loss(hand, batches[0], noise, others)
        hand.zero_grad()
        discrimination.backward()  # type: ignore[no-untyped-call]
        discriminator.step()
        noise = numbers.normal(torch.zeros(4, 4).double())
        hand.zero_grad()
        generation = generator_loss(hand, batches[1], noise, joint=joint)
        generation.backward()  # type: ignore[no-untyped-call]
        generator.step()
        torch.testing.assert_close(parts["discriminator"], discrimination)
    assert_equal_parameters(model, dict(hand.named_parameters()))


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model, batch = make_model(scaled, encoder_dropout=0.3), batch_of(scaled)
    assert_gradients(
        model,
        lambda: model.generator_loss(batch, BatchRandom(seeded(2))).total,
        step=1e-6,
        relative=1e-4,
        absolute=1e-6,
    )


def test_other_classes_are_seen_ones_and_uniform(scaled: Scaled) -> None:
    model = make_model(scaled)
    labels = torch.tensor([0, 3, 6]).repeat(6000)
    others = model.other_classes(labels, BatchRandom(seeded(0)))
    counts = torch.zeros(7, 7)
    counts.index_put_((labels, others), torch.ones(len(labels)), accumulate=True)
    for own in (0, 3, 6):
        assert counts[own, own] == 0
        rest = torch.cat([counts[own, :own], counts[own, own + 1 :]])
        # Six standard deviations of a binomial with mean 1000.
        assert (rest - 1000).abs().max() < 6 * (6000 / 6 * 5 / 6) ** 0.5


def test_decoder_ends_with_relu_as_set(scaled: Scaled) -> None:
    for relu in (True, False):
        model = make_model(scaled, decoder_relu=relu)
        draw = model.sampler(torch.arange(10))
        features = draw(torch.arange(10).repeat(50), seeded(0))
        assert bool((features < 0).any()) != relu


def test_one_seen_class_has_no_other(scaled: Scaled) -> None:
    one = replace(scaled.problem, seen_classes=scaled.problem.seen_classes[:1])
    with pytest.raises(InputError, match="seen classes: found 1, expected at least 2"):
        GDAN.for_problem(replace(scaled, problem=one), SMALL, generators(0))


@pytest.mark.parametrize(
    ("dataset", "pretraining"), [("AWA2", 150), ("CUB", 670), ("SUN", 320), ("APY", 590)]
)
def test_five_hundred_epochs_follow_the_published_pretraining(
    dataset: str, pretraining: int
) -> None:
    recipe = published_recipe(make_recipe(dataset=dataset), "gdan")
    epochs = recipe.training.epochs
    done = [e / epochs >= recipe.method.pretraining for e in range(epochs)]
    assert done.count(False) == pretraining
    assert done.count(True) == 500
