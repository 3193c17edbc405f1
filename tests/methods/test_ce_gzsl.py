"""CE-GZSL against formulas, autograd and a loop over its optimizers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch, RowsByEpoch, RowsRequest
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.ce_gzsl import CEGZSL, CEGZSLConfig
from gsmflow.methods.losses import contrastive_loss
from gsmflow.methods.wgan import critic_losses
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = CEGZSLConfig(
    hidden=9, embedding_dim=8, direction_dim=4, comparator_hidden=7, critic_steps=2
)
TRAINING = TrainingConfig(
    epochs=6, batch_size=16, learning_rate=1e-2, weight_decay=0.0, lr_decay=1.0
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, **changes: Any) -> CEGZSL:
    model = CEGZSL.for_problem(scaled, replace(SMALL, **changes), generators(0)).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=seeded(i)).double()
    return model


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


def contrasts(model: CEGZSL, features: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Directions of features, and the contrast of classes, in loops over pairs."""
    w = {name: p.detach() for name, p in model.named_parameters()}
    embedded = features @ w["embedding.first.weight"].T + w["embedding.first.bias"]
    embedded = embedded.clamp_min(0)
    directions = embedded @ w["embedding.second.weight"].T + w["embedding.second.bias"]
    per_row = []
    seen = model.seen_classes.tolist()
    for row, label in zip(embedded, labels.tolist(), strict=True):
        scores = []
        for c in seen:
            hidden = w["comparator.rows.weight"] @ row + w["comparator.rows.bias"]
            hidden = hidden + w["comparator.semantics.weight"] @ model.semantics[c]
            hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
            scores.append(float(w["comparator.score.weight"][0] @ hidden))
        shares = np.exp(np.array(scores) / model.config.class_temperature)
        per_row.append(-np.log(shares[seen.index(label)] / shares.sum()))
    unit = directions / directions.norm(dim=1, keepdim=True)
    return unit, float(np.mean(per_row))


def test_losses_of_the_critics_optimizer_equal_formulas(scaled: Scaled) -> None:
    model, batch = make_model(scaled, class_temperature=0.5), batch_of(scaled)
    semantics = model.semantics[batch.labels]
    made = torch.rand(batch.features.shape, generator=seeded(3)).double()
    shares = torch.rand(len(made), generator=seeded(4)).double()
    losses = critic_losses(model.critic, batch.features, made, semantics, shares)
    directions, of_classes = contrasts(model, *batch)
    expected = losses.distance + 10 * losses.penalty + of_classes
    expected = expected + contrastive_loss(directions, batch.labels, 0.1)
    assert model.critic_loss(losses, batch).item() == pytest.approx(expected.item())


def test_losses_of_the_generator_equal_formulas(scaled: Scaled) -> None:
    changes = {"row_weight": 0.7, "class_weight": 0.3, "class_temperature": 0.5}
    model, batch = make_model(scaled, **changes), batch_of(scaled)
    total, parts = model.generator_loss(batch, BatchRandom(seeded(2)))
    semantics = model.semantics[batch.labels]
    noise = torch.randn(semantics.shape, generator=seeded(2), dtype=torch.float64)
    made = model.generator(noise, semantics).detach()
    directions, of_classes = contrasts(model, made, batch.labels)
    both = torch.cat([directions, contrasts(model, *batch)[0]])
    of_rows = contrastive_loss(both, batch.labels.repeat(2), 0.1).item()
    adversarial = -model.critic(made, semantics).mean().item()
    expected = {"adversarial": adversarial, "rows": of_rows, "classes": of_classes}
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected)
    assert total.item() == pytest.approx(adversarial + 0.7 * of_rows + 0.3 * of_classes)


def test_gradients_of_the_generator_equal_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled, row_weight=0.7, class_weight=0.3)

    def loss() -> Tensor:
        return model.generator_loss(batch_of(scaled), BatchRandom(seeded(2)))[0]

    assert_gradients(model.generator, loss, step=1e-6, relative=1e-3, absolute=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_networks_learn(scaled: Scaled, precision: Any) -> None:
    model = CEGZSL.for_problem(scaled, SMALL, generators(0))
    before = {name: p.clone() for name, p in model.named_parameters()}
    Trainer(model, scaled.feed, TRAINING, seeded(3), precision=precision).run_epoch()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    # These biases cancel: between real and synthesized rows, and between classes.
    assert before.keys() - changed <= {"critic.score.bias", "comparator.score.bias"}


@pytest.mark.parametrize("name", ["row_weight", "class_weight"])
def test_contrast_of_weight_0_is_left_out_of_both_losses(scaled: Scaled, name: str) -> None:
    model = make_model(scaled, **{name: 0.0})
    assert len(model.generator_loss(batch_of(scaled), BatchRandom(seeded(2)))[1]) == 2
    batch, zero = batch_of(scaled), torch.zeros((), dtype=torch.float64)
    losses = critic_losses(
        model.critic,
        batch.features,
        batch.features,
        model.semantics[batch.labels],
        torch.zeros(len(batch.labels)),
    )._replace(distance=zero, penalty=zero)
    directions, of_classes = contrasts(model, *batch)
    expected = {
        "row_weight": of_classes,
        "class_weight": contrastive_loss(directions, batch.labels, 0.1).item(),
    }
    assert model.critic_loss(losses, batch).item() == pytest.approx(expected[name])


def test_training_is_deterministic_and_embedded_classes_come_together(scaled: Scaled) -> None:
    models = [CEGZSL.for_problem(scaled, replace(SMALL, hidden=32), generators(0)) for _ in "ab"]
    start = contrastive_loss(
        models[0].embedding.directions(models[0].embedding(batch_of(scaled).features.float())),
        batch_of(scaled).labels,
        0.1,
    )
    histories = []
    for model in models:
        trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
        histories.append([trainer.run_epoch() for _ in range(20)])
    assert histories[0] == histories[1]
    model = models[0]
    features, labels = batch_of(scaled)
    end = contrastive_loss(
        model.embedding.directions(model.embedding(features.float())), labels, 0.1
    )
    assert end < 0.7 * start


def test_classifiers_see_embedded_rows(scaled: Scaled) -> None:
    model = make_model(scaled).float()
    request = RowsRequest(scaled, seeded(1), samples_per_class=4, capacity_bytes=2**20)
    rows = model.classifier_rows(request)
    assert isinstance(rows, RowsByEpoch)
    n = len(scaled.feed.labels)
    found = rows.gzsl().take(torch.arange(n))
    expected = model.embedding(scaled.feed.take(torch.arange(n))).detach()
    torch.testing.assert_close(found, expected)
    assert found.shape == (n, 8)
    assert model.encoder is model.embedding
