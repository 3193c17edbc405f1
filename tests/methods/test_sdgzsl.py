"""SDGZSL against loops over pairs and classes, torch's layers and finite differences."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch, RowsRequest, StreamedRows
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.sdgzsl import SDGZSL, SDGZSLConfig, relation_error
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = SDGZSLConfig(
    latent_dim=4,
    hidden=12,
    posterior_hidden=5,
    semantic_dim=6,
    residual_dim=3,
    encoder_dropout=0.0,
    decoder_dropout=0.0,
    autoencoder_dropout=0.0,
    relation_weight=0.7,
    correlation_weight=0.6,
    kl_rise=0.4,
    correlation_rise=3.0,
)
GROUPS = ("discriminator", "networks")
TRAINING = TrainingConfig(epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.0)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, done: float = 0.5, **changes: Any) -> SDGZSL:
    model = SDGZSL.for_problem(scaled, replace(SMALL, **changes), generators(0))
    model.warm_up(done)
    return model


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


def test_relation_error_is_the_mean_over_rows_and_distinct_classes() -> None:
    labels = torch.tensor([4, 2, 4, 4, 9])
    relations = torch.rand(5, 10, generator=seeded(0), dtype=torch.float64)
    errors = [
        (relations[row, c] - float(labels[row] == c)) ** 2
        for row in range(5)
        for c in labels.unique()
    ]
    found = relation_error(relations[:, labels], labels)
    torch.testing.assert_close(found, torch.stack(errors).mean())
    twice = relation_error(relations[:, labels].repeat(2, 1), labels)
    torch.testing.assert_close(twice, 2 * found)


def test_losses_are_those_of_torchs_layers(scaled: Scaled) -> None:
    model, batch = make_model(scaled).double(), batch_of(scaled)
    features, labels = batch
    semantics = model.semantics[labels]
    found, codes = model.losses(batch, NoDropout(seeded(2)))

    def leaky(values: Tensor) -> Tensor:
        return functional.leaky_relu(values, 0.2)

    e, d = model.feature_encoder, model.feature_decoder
    third = e.third(leaky(e.second(leaky(e.first(torch.cat([features, semantics], dim=1))))))
    # With a dropout of 0.2, what is kept is divided by 0.8.
    mean, variance = e.mean(third), functional.softplus(e.variance(third) / 0.8)
    noise = torch.randn(mean.shape, generator=seeded(2), dtype=torch.float64)
    inputs = torch.cat([mean + variance.sqrt() * noise, semantics], dim=1)
    norms = [nn.BatchNorm1d(12, eps=0.8).double() for _ in range(2)]
    hidden = norms[0](d.second(leaky(d.first(inputs))))
    decoded = leaky(d.output(leaky(norms[1](d.third(hidden)))))
    kl = -(1 + variance.log() - mean.square() - variance).sum() / 2
    n = len(labels)
    assert found.parts["reconstruction"].item() == pytest.approx(
        (decoded - features).square().sum().item() / n
    )
    assert found.parts["kl"].item() == pytest.approx(kl.item() / n)
    relation = again = torch.zeros((), dtype=torch.float64)
    for rows, code in zip((decoded, features), codes, strict=True):
        expected = leaky(model.code_encoder.layer(rows))
        torch.testing.assert_close(code, expected)
        output = leaky(model.code_output(leaky(model.code_hidden(expected))))
        again = again + functional.mse_loss(output, features)
        distinct, targets = labels.unique(return_inverse=True)
        scores = torch.sigmoid(model.relation(expected[:, :6], model.semantics[distinct]))
        one_hot = functional.one_hot(targets, len(distinct)).double()
        relation = relation + functional.mse_loss(scores, one_hot)
    torch.testing.assert_close(found.parts["codes"], again)
    torch.testing.assert_close(found.parts["relation"], relation)
    expected_total = (
        found.parts["reconstruction"] + 0.2 * found.parts["kl"] + 0.7 * relation + again
    )
    torch.testing.assert_close(found.total, expected_total)


class NoDropout(BatchRandom):
    """Random numbers with which nothing is dropped, not even at a share that is no setting."""

    def uniform_like(self, rows: Tensor) -> Tensor:
        return torch.ones_like(rows)


@pytest.mark.parametrize("squashed", [False, True])
def test_discriminator_tells_whole_codes_from_mixed_ones(scaled: Scaled, squashed: bool) -> None:
    model = make_model(scaled, squashed_scores=squashed, discriminator_weight=0.5).double()
    codes = torch.randn(2, 8, 9, generator=seeded(0), dtype=torch.float64)
    random = BatchRandom(seeded(3))
    orders = [torch.randperm(8, generator=generator) for generator in [seeded(3)] for _ in range(4)]
    expected = torch.zeros((), dtype=torch.float64)

    def logits(rows: Tensor) -> Tensor:
        raw = rows @ model.discriminator.weight.T + model.discriminator.bias
        return torch.sigmoid(raw) if squashed else raw

    for i, whole in enumerate(codes):
        semantic, residual = whole[orders[2 * i], :6], whole[orders[2 * i + 1], 6:]
        mixed = torch.cat([semantic, residual], dim=1)
        for target, rows in ((0, whole), (1, mixed)):
            labels = torch.full((8,), target)
            expected = expected + 0.5 * functional.cross_entropy(logits(rows), labels)
    torch.testing.assert_close(model.discriminator_loss(codes, random), expected)
    scores = logits(codes)
    correlation = (scores[..., 0] - scores[..., 1])[0].mean() + (scores[..., 0] - scores[..., 1])[
        1
    ].mean()
    torch.testing.assert_close(model.total_correlation(codes), correlation)


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled, encoder_dropout=0.2, decoder_dropout=0.2).double()
    batch = batch_of(scaled)

    def loss() -> Tensor:
        losses, codes = model.losses(batch, BatchRandom(seeded(2)))
        return losses.total + model.total_correlation(codes)

    assert_gradients(model, loss, step=1e-6, relative=1e-3, absolute=1e-5)


def test_relation_starts_as_a_network_of_joined_inputs(scaled: Scaled) -> None:
    relation = make_model(scaled, semantic_dim=300, hidden=400).relation
    assert relation.slope == 0
    for layer, inputs in ((relation.rows, 305), (relation.semantics, 305), (relation.score, 400)):
        for parameter in layer.parameters():
            assert parameter.abs().max() <= inputs**-0.5
        if layer is not relation.score:
            assert layer.weight.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.05)


def test_weights_rise_with_the_training_to_at_most_their_full_values(scaled: Scaled) -> None:
    for done, kl, correlation in ((0.0, 0.0, 0.0), (0.1, 0.04, 0.18), (0.5, 0.2, 0.6)):
        model = make_model(scaled, done)
        assert model.kl_weight.item() == pytest.approx(kl)
        assert model.correlation_weight.item() == pytest.approx(correlation)


@pytest.mark.parametrize("steps", [2, 3])
def test_a_step_is_one_without_and_some_with_the_discriminator(scaled: Scaled, steps: int) -> None:
    model = make_model(scaled, correlation_steps=steps)
    calls: list[str] = []

    class Optimizer:
        def __init__(self, name: str) -> None:
            self.name = name

        def minimize(self, loss: Tensor) -> None:
            calls.append(self.name)

    batches = iter([Batch(scaled.feed.take(torch.arange(8)), scaled.feed.labels[:8])] * (steps + 1))
    assert model.batches_per_step() == steps + 1
    model.training_step(batches, BatchRandom(seeded(2)), {name: Optimizer(name) for name in GROUPS})
    assert calls == ["discriminator", "networks", *["networks"] * steps]
    assert next(batches, None) is None


def test_steps_with_the_discriminator_minimise_the_correlation_too(scaled: Scaled) -> None:
    """The total correlation is added with its weight; a step without it has none."""
    model = make_model(scaled, 0.5, correlation_steps=2)
    batch = Batch(scaled.feed.take(torch.arange(8)), scaled.feed.labels[:8])
    minimised: list[Tensor] = []

    class Optimizer:
        def minimize(self, loss: Tensor) -> None:
            minimised.append(loss.detach())

    random = BatchRandom(seeded(2))
    model.training_step(iter([batch] * 3), random, dict.fromkeys(GROUPS, Optimizer()))
    random = BatchRandom(seeded(2))
    losses, codes = model.losses(batch, random)
    expected = [model.discriminator_loss(codes, random), losses.total]
    for _ in range(2):
        losses, codes = model.losses(batch, random)
        log_odds = model._scores(codes).diff(dim=-1).neg()[..., 0]
        assert model.correlation_weight > 0
        added = model.correlation_weight * log_odds.mean(dim=1).sum()
        assert added.abs() > 1e-4
        expected.append(losses.total + added)
    torch.testing.assert_close(torch.stack(minimised), torch.stack(expected))


def test_optimizers_share_no_parameter_and_reach_all(scaled: Scaled) -> None:
    model = make_model(scaled)
    groups = model.parameter_groups()
    parameters = [id(p) for group in groups.values() for p in group.parameters]
    assert sorted(parameters) == sorted(id(p) for p in model.parameters())
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(1))
    losses = [trainer.run_epoch() for _ in range(4)]
    for name in ("reconstruction", "relation", "codes"):
        assert losses[-1][name] < losses[0][name]


def test_classifiers_learn_from_semantic_parts(scaled: Scaled) -> None:
    model = make_model(scaled)
    n = len(scaled.feed.labels)
    request = RowsRequest(scaled, seeded(3), samples_per_class=20, capacity_bytes=2**20)
    rows = model.classifier_rows(request)
    assert not isinstance(rows, StreamedRows)
    found = rows.gzsl().take(torch.arange(n))
    code = functional.leaky_relu(model.code_encoder.layer(scaled.feed.take(torch.arange(n))), 0.2)
    torch.testing.assert_close(found, code[:, :6])
    torch.testing.assert_close(model.encoder(scaled.feed.take(torch.arange(n))), code[:, :6])
    assert len(rows.zsl().labels) == 20 * len(scaled.problem.unseen_classes)


def test_synthesis_uses_the_running_statistics(scaled: Scaled) -> None:
    model = make_model(scaled)
    noise, semantics = torch.randn(5, 4, generator=seeded(0)), model.semantics[:5]
    together = model.synthesized(noise, semantics)
    alone = torch.cat([model.synthesized(noise[i : i + 1], semantics[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone)


def test_batches_of_one_row_are_refused(scaled: Scaled) -> None:
    trainer = Trainer(make_model(scaled), scaled.feed, replace(TRAINING, batch_size=1), seeded(1))
    with pytest.raises(InputError, match=r"^--batch-size: found batches of one row, expected"):
        trainer.run_epoch()
