"""FREE against formulas, finite differences and counts of random classes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.free import FREE, FREEConfig, margin_loss
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients
from tests.methods.steps import (
    VAEGANByHand,
    assert_equal_parameters,
    cross_entropy,
    divergence,
    leaky,
    optimizers_of,
    weighted_errors,
)

SMALL = FREEConfig(hidden=9, critic_steps=2, refinement_weight=0.5)
TRAINING = TrainingConfig(
    epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=0.0, lr_decay=1.0
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, **changes: Any) -> FREE:
    model = FREE.for_problem(scaled, replace(SMALL, **changes), generators(0)).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=seeded(i)).double()
    return model


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


def gaussian(model: FREE, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden units, means and deviations."""
    w = {name: p.detach() for name, p in model.refinement.named_parameters()}
    hidden = features @ w["first.weight"].T + w["first.bias"]
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    out = hidden @ w["second.weight"].T + w["second.bias"]
    return hidden, out[:, :5], 1 / (1 + (-out[:, 5:]).exp())


def test_refinement_loss_equals_formulas(scaled: Scaled) -> None:
    changes = {"centre_weight": 0.7, "centre_margin": 1.5, "centre_balance": 0.3}
    model, batch = make_model(scaled, **changes), batch_of(scaled)
    total, parts = model.refinement_loss(batch, BatchRandom(seeded(2)))
    random = BatchRandom(seeded(2))
    _, means, deviations = gaussian(model, batch.features)
    drawn = 1 / (1 + (-(means + deviations * random.normal(means))).exp())
    semantics = model.semantics[batch.labels]
    errors = (drawn - semantics / semantics.norm(dim=1, keepdim=True)).abs()
    refined = (errors.pow(3).sum(dim=1) / errors.norm(dim=1)).mean()
    columns = torch.searchsorted(model.seen_classes, batch.labels)
    others = model._other_columns(columns, random)
    of_centres = []
    for u, own, other in zip(means, columns.tolist(), others.tolist(), strict=True):
        near = float((u - model.centres[own]).detach().square().sum())
        far = float((u - model.centres[other]).detach().square().sum())
        of_centres.append(max(0.0, 1.5 + 0.3 * near - 0.7 * far))
    assert parts["refinement"].item() == pytest.approx(refined.item())
    assert parts["centres"].item() == pytest.approx(np.mean(of_centres))
    assert total.item() == pytest.approx(0.7 * np.mean(of_centres) + 0.5 * refined.item())


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model, batch = make_model(scaled, centre_margin=2.0), batch_of(scaled)

    def loss() -> Tensor:
        return model.refinement_loss(batch, BatchRandom(seeded(2)))[0]

    networks = torch.nn.ModuleList([model.refinement])
    networks.register_parameter("centres", model.centres)
    assert_gradients(networks, loss, step=1e-6, relative=1e-3, absolute=1e-6)


def test_margin_is_between_own_and_other_centre() -> None:
    u, own = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    near = margin_loss(u, own, torch.tensor([[6.0, 8.0]]), margin=10.0, balance=0.5)
    assert near.item() == 0  # 10 + 12.5 - 50
    far = margin_loss(u, own, torch.tensor([[3.0, 0.0]]), margin=10.0, balance=0.5)
    assert far.item() == pytest.approx(10 + 12.5 - 4.5)


def test_one_seen_class_is_refused(scaled: Scaled) -> None:
    alone = replace(scaled.problem, seen_classes=scaled.problem.seen_classes[:1])
    with pytest.raises(InputError, match=r"^seen classes: found 1, expected at least 2"):
        FREE.for_problem(replace(scaled, problem=alone), FREEConfig(), generators(0))


def test_other_classes_are_uniform_and_never_the_own(scaled: Scaled) -> None:
    model = make_model(scaled)
    seen = len(scaled.problem.seen_classes)
    columns = torch.arange(seen).repeat(6000)
    others = model._other_columns(columns, BatchRandom(seeded(0)))
    counts = torch.zeros(seen, seen).index_put_(
        (columns, others), torch.ones(len(columns)), accumulate=True
    )
    assert counts.diagonal().sum() == 0
    off = counts[~torch.eye(seen, dtype=torch.bool)]
    assert (off - 1000).abs().max() < 5 * 1000**0.5


def test_classifiers_see_features_units_and_semantics_of_the_mean(scaled: Scaled) -> None:
    model, (features, _) = make_model(scaled), batch_of(scaled)
    hidden, means, _ = gaussian(model, features)
    expected = torch.cat([features, hidden, 1 / (1 + (-means).exp())], dim=1)
    torch.testing.assert_close(model.encoder(features), expected)


class FREEByHand(VAEGANByHand):
    """Its networks, with the refinement network."""

    def refined(self, features: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Refined semantics that are drawn, and the Gaussian's means."""
        out = self.layer("refinement.second", leaky(self.layer("refinement.first", features)))
        mean, deviation = out[:, :5], 1 / (1 + (-out[:, 5:]).exp())
        return 1 / (1 + (-(mean + deviation * random.normal(mean))).exp()), mean


@pytest.mark.parametrize("encoded_noise", [True, False])
def test_training_equals_steps_by_hand(scaled: Scaled, encoded_noise: bool) -> None:
    """Two steps of the generator, each after two of the refinement network and of the critic."""
    changes = {
        "hidden": 5,
        "critic_weight": 3.0,
        "adversarial_weight": 2.0,
        "encoded_noise": encoded_noise,
        "refinement_weight": 0.7,
        "centre_weight": 0.4,
        "centre_margin": 8.0,
        "centre_balance": 0.3,
    }
    model = make_model(scaled, **changes)
    hand, numbers, given = FREEByHand(model), BatchRandom(seeded(4)), BatchRandom(seeded(4))
    optimizers = optimizers_of(model)
    adams = {name: hand.adam(name) for name in ("critic", "generator", "refinement", "centres")}
    adams["encoder"] = hand.adam("encoder_network", betas=(0.9, 0.999))
    assert optimizers.keys() == adams.keys()
    centres, seen = hand.parameters["centres"], scaled.problem.seen_classes.tolist()
    for rows in torch.randperm(56, generator=seeded(3))[:16].split(8):
        batches = [
            Batch(scaled.feed.take(taken).double(), scaled.feed.labels[taken])
            for taken in rows.split(4)
        ]
        parts = model.training_step(iter(batches), given, optimizers)
        of_critic: list[list[float]] = []
        for x, labels in batches:
            semantics = model.semantics[labels]
            drawn, means = hand.refined(x, numbers)
            refined = weighted_errors(drawn, semantics)
            own = torch.tensor([seen.index(label) for label in labels.tolist()])
            other = (own + 1 + (numbers.uniform(4) * (len(seen) - 1)).long()) % len(seen)
            near = (means - centres[own]).square().sum(dim=1)
            far = (means - centres[other]).square().sum(dim=1)
            gathered = (8 + 0.3 * near - 0.7 * far).clamp(min=0).mean()
            hand.descend(0.4 * gathered + 0.7 * refined, adams["refinement"], adams["centres"])
            mean, deviation = hand.posterior(x, semantics)
            latents = noise = numbers.normal(torch.zeros(4, 5).double())
            if encoded_noise:
                latents = mean + deviation * noise
            shares = numbers.uniform(4).double()
            made = hand.rows(hand.units(latents, semantics))
            losses = hand.critic_losses(x, made, semantics, shares)
            hand.descend(3 * (losses[0] + hand.penalty_weight * losses[1]), adams["critic"])
            of_critic.append([loss.item() for loss in losses])
        hand.adapt([penalty for _, penalty in of_critic])
        # The last batch once more, with the critic and the refinement network as they are now.
        mean, deviation = hand.posterior(x, semantics)
        latents = mean + deviation * numbers.normal(mean)
        again = made = hand.rows(hand.units(latents, semantics))
        if not encoded_noise:
            made = hand.rows(hand.units(numbers.normal(mean), semantics))
        cycle = weighted_errors(hand.refined(made, numbers)[0], semantics)
        adversarial = -hand.score(made, semantics).mean()
        distance, penalty = np.mean(of_critic, axis=0)
        expected = {
            "distance": distance,
            "penalty": penalty,
            "reconstruction": cross_entropy(again, x).item(),
            "kl": divergence(mean, deviation).item(),
            "adversarial": adversarial.item(),
            "centres": gathered.item(),
            "refinement": refined.item(),
            "cycle": cycle.item(),
        }
        autoencoder = cross_entropy(again, x) + divergence(mean, deviation)
        learning = (adams[name] for name in ("generator", "encoder", "refinement"))
        hand.descend(autoencoder + 2 * adversarial + 0.7 * cycle, *learning)
        assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected)
        assert model.penalty_weight.item() == pytest.approx(hand.penalty_weight)
    assert_equal_parameters(model, hand.parameters)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_networks_and_the_centres_learn(scaled: Scaled, precision: Any) -> None:
    model = FREE.for_problem(scaled, SMALL, generators(0))
    before = {name: p.clone() for name, p in model.named_parameters()}
    Trainer(model, scaled.feed, TRAINING, seeded(3), precision=precision).run_epoch()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    # The score's bias cancels between real and synthesized rows.
    assert before.keys() - changed <= {"critic.score.bias"}


def test_training_is_deterministic_and_gathers_the_classes(scaled: Scaled) -> None:
    # With a larger margin the centres would move so far that a sigmoid of the means is 0 or 1.
    config = replace(SMALL, hidden=32, centre_margin=2.0, refinement_weight=5.0)
    histories = []
    for _ in range(2):
        model = FREE.for_problem(scaled, config, generators(0))
        trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
        histories.append([trainer.run_epoch() for _ in range(15)])
    assert histories[0] == histories[1]
    first, last = histories[0][0], histories[0][-1]
    assert last["centres"] < 0.9 * first["centres"]
    assert last["refinement"] < 0.9 * first["refinement"]
