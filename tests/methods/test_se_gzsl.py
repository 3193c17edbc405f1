"""SE-GZSL against other closed forms, finite differences and steps by hand."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.se_gzsl import METHOD, SEGZSL, SEGZSLConfig
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients
from tests.methods.steps import RATE, assert_equal_parameters, optimizers_of

SMALL = SEGZSLConfig(
    latent_dim=4,
    encoder_hidden=7,
    decoder_hidden=8,
    regressor_hidden=9,
    kl_weight=0.3,
    regression_weight=0.7,
    feedback_weight=0.6,
    regeneration_weight=0.4,
    latent_weight=0.9,
    semantics_norm=2.0,
)
TRAINING = TrainingConfig(epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.0)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"))


def make_model(scaled: Scaled, done: float = 0.5, **changes: Any) -> SEGZSL:
    model = SEGZSL.for_problem(scaled, replace(SMALL, **changes), generators(0))
    model.warm_up(done)
    return model


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


class Given:
    """Replaces `BatchRandom`: the numbers that it gives are known beforehand."""

    def __init__(self, classes: Tensor, *noises: Tensor) -> None:
        self.classes, self.noises = classes, list(noises)

    def uniform(self, count: int) -> Tensor:
        assert count == len(self.classes)
        return (self.classes + 0.5) / 10

    def normal(self, like: Tensor) -> Tensor:
        noise = self.noises.pop(0)
        assert noise.shape == like.shape
        return noise


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 4, generator=seeded(seed), dtype=torch.float64)


def forward(network: nn.Sequential, inputs: Tensor) -> Tensor:
    first, last = (layer for layer in network if isinstance(layer, nn.Linear))
    hidden = (inputs @ first.weight.T + first.bias).clamp(min=0)
    return hidden @ last.weight.T + last.bias


def posterior(model: SEGZSL, features: Tensor) -> Normal:
    encoder = model.encoder_network
    for layer in (encoder.first, encoder.second):
        features = (features @ layer.weight.T + layer.bias).clamp(min=0)
    mean, log_variance = (
        features @ layer.weight.T + layer.bias for layer in (encoder.mean, encoder.log_variance)
    )
    return Normal(mean, log_variance.exp().sqrt())


def regressor_loss(model: SEGZSL, batch: Batch, classes: Tensor, noise: Tensor) -> Tensor:
    """The weighted sum of the errors on real rows and on rows of any class."""
    semantics = model.semantics[classes]  # the seen classes are 0 to 6, the unseen ones 7 to 9
    made = forward(model.decoder, torch.cat([noise, semantics], dim=1)).detach()
    total = torch.zeros((), dtype=torch.float64)
    targets = model.semantics[batch.labels]
    for weight, rows, own in ((1.0, batch.features, targets), (0.7, made, semantics)):
        for x, c in zip(rows, own, strict=True):
            total = total + weight * (forward(model.regressor, x[None])[0] - c).square().sum()
    return total / len(classes)


def autoencoder_loss(
    model: SEGZSL, batch: Batch, epsilon: Tensor, classes: Tensor, noise: Tensor
) -> Tensor:
    """The weighted sum of the five parts; regenerated rows are constant targets."""
    q = posterior(model, batch.features)
    latents = q.mean + q.stddev * epsilon
    decoded = forward(model.decoder, torch.cat([latents, model.semantics[batch.labels]], dim=1))
    semantics = model.semantics[classes]
    made = forward(model.decoder, torch.cat([noise, semantics], dim=1))
    again = posterior(model, made).mean
    regenerated = forward(model.decoder, torch.cat([again, semantics], dim=1))
    total = (
        (decoded - batch.features).square().sum()
        + 0.3 * kl_divergence(q, Normal(0.0, 1.0)).sum()
        + 0.6 * (forward(model.regressor, made) - semantics).square().sum()
        + 0.4 * (regenerated - made.detach()).square().sum()
        + 0.9 * (again - noise).square().sum()
    )
    return total / len(classes)


def test_regressor_learns_from_real_rows_and_from_rows_of_any_class(scaled: Scaled) -> None:
    model = make_model(scaled).double()
    batch = batch_of(scaled)
    n, classes = len(batch.labels), torch.arange(len(batch.labels)) % 10
    noise = normal(n, 2)
    found = model.regressor_loss(batch, Given(classes, noise))  # type: ignore[arg-type]
    torch.testing.assert_close(found.total, regressor_loss(model, batch, classes, noise))
    found.total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in model.decoder.parameters())
    assert all(p.grad is not None for p in model.regressor.parameters())


def test_autoencoder_loss_is_the_weighted_sum_of_its_five_parts(scaled: Scaled) -> None:
    model = make_model(scaled).double()
    batch = batch_of(scaled)
    n, classes = len(batch.labels), torch.arange(len(batch.labels)) % 10
    epsilon, noise = normal(n, 2), normal(n, 3)
    found = model.autoencoder_loss(batch, Given(classes, epsilon, noise))  # type: ignore[arg-type]
    expected = autoencoder_loss(model, batch, epsilon, classes, noise)
    torch.testing.assert_close(found.total, expected)


def test_training_equals_steps_by_hand(scaled: Scaled) -> None:
    """The regressor learns from a batch, then the autoencoder from the same one."""
    model = make_model(scaled).double()
    hand, numbers, given = deepcopy(model), BatchRandom(seeded(4)), BatchRandom(seeded(4))
    regressor = torch.optim.Adam(hand.regressor.parameters(), RATE)
    autoencoder = torch.optim.Adam(
        [*hand.encoder_network.parameters(), *hand.decoder.parameters()], RATE
    )
    optimizers = optimizers_of(model)

    def draw() -> tuple[Tensor, Tensor]:
        classes = (numbers.uniform(4) * 10).long()
        return classes, numbers.normal(torch.zeros(4, 4).double())

    for rows in torch.randperm(56, generator=seeded(3))[:8].split(4):
        batch = Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])
        model.training_step(iter([batch]), given, optimizers)
        hand.zero_grad()
        regressor_loss(hand, batch, *draw()).backward()  # type: ignore[no-untyped-call]
        regressor.step()
        epsilon = numbers.normal(torch.zeros(4, 4).double())
        hand.zero_grad()
        loss = autoencoder_loss(hand, batch, epsilon, *draw())
        loss.backward()  # type: ignore[no-untyped-call]
        autoencoder.step()
    assert_equal_parameters(model, dict(hand.named_parameters()))


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    # Not of the regeneration, whose target is constant in a gradient and not in a difference.
    model = make_model(scaled, regeneration_weight=0.0).double()
    batch = batch_of(scaled)

    def loss() -> Tensor:
        random = BatchRandom(seeded(2))
        return (
            model.regressor_loss(batch, random).parts["regression"]
            + model.autoencoder_loss(batch, random).total
        )

    assert_gradients(model, loss, step=1e-6, relative=1e-4, absolute=1e-6)


def test_generated_rows_are_constant_targets_of_their_regeneration(scaled: Scaled) -> None:
    model, batch = make_model(scaled).double(), batch_of(scaled)
    n, classes = len(batch.labels), torch.arange(len(batch.labels)) % 10
    given: Any = Given(classes, normal(n, 2), normal(n, 3))
    found = model.autoencoder_loss(batch, given).parts["regeneration"]
    semantics = model.semantics[classes]
    made = forward(model.decoder, torch.cat([normal(n, 3), semantics], dim=1))
    again = torch.cat([posterior(model, made).mean, semantics], dim=1)
    errors = (forward(model.decoder, again) - made.detach()).square().sum(dim=1)
    weights: list[Any] = [model.decoder[2].bias, model.encoder_network.first.weight]
    ours, theirs = (torch.autograd.grad(loss, weights) for loss in (found, errors.mean()))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


def test_there_is_no_feedback_in_the_pretraining(scaled: Scaled) -> None:
    batch = batch_of(scaled)
    totals = {}
    for done in (0.0, 0.29, 0.3, 0.9):
        model = make_model(scaled, done).double()
        random = BatchRandom(seeded(2))
        totals[done] = model.regressor_loss(batch, random), model.autoencoder_loss(batch, random)
    for done in (0.0, 0.29):
        regression, autoencoder = totals[done]
        assert torch.equal(regression.total, regression.parts["regression"])
        alone = autoencoder.parts["reconstruction"] + 0.3 * autoencoder.parts["kl"]
        assert torch.equal(autoencoder.total, alone)
    for early, late in zip(totals[0.3], totals[0.9], strict=True):
        assert torch.equal(early.total, late.total)
    assert totals[0.3][1].total > totals[0.29][1].total


def test_each_optimizer_changes_its_own_networks(scaled: Scaled) -> None:
    model = make_model(scaled)
    groups = model.parameter_groups()
    parameters = [p for group in groups.values() for p in group.parameters]
    assert {id(p) for p in parameters} == {id(p) for p in model.parameters()}
    assert len(parameters) == len(list(model.parameters()))
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(1))
    losses = [trainer.run_epoch() for _ in range(4)]
    assert losses[-1]["regression"] < losses[0]["regression"]
    assert losses[-1]["reconstruction"] < losses[0]["reconstruction"]


def test_vae_variant_has_the_loss_of_the_pretraining(scaled: Scaled) -> None:
    model = make_model(scaled, **METHOD.variants["vae"]).double()
    loss = model.autoencoder_loss(batch_of(scaled), BatchRandom(seeded(2)))
    torch.testing.assert_close(loss.total, loss.parts["reconstruction"] + 0.3 * loss.parts["kl"])
