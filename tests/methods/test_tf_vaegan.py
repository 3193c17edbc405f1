"""TF-VAEGAN: without its additions it is f-VAEGAN; each addition against formulas."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch, Optimizer, RowsByEpoch, RowsRequest
from gsmflow.learning.feed import MappedFeed, Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.f_vaegan import FVAEGAN, FVAEGANConfig
from gsmflow.methods.tf_vaegan import TFVAEGAN, TFVAEGANConfig
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.steps import (
    VAEGANByHand,
    assert_equal_parameters,
    cross_entropy,
    divergence,
    leaky,
    optimizers_of,
    weighted_errors,
)

SMALL = TFVAEGANConfig(hidden=9, critic_steps=2, samples_per_class=4)
TRAINING = TrainingConfig(
    epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=0.0, lr_decay=1.0
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, **changes: Any) -> TFVAEGAN:
    model = TFVAEGAN.for_problem(scaled, replace(SMALL, **changes), generators(0)).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=seeded(i)).double()
    return model


@pytest.mark.parametrize("encoded_noise", [True, False])
def test_without_decoder_it_is_f_vaegan_step_for_step(scaled: Scaled, encoded_noise: bool) -> None:
    shared: dict[str, Any] = {"hidden": 9, "critic_steps": 2, "encoded_noise": encoded_noise}
    plain = FVAEGAN.for_problem(scaled, FVAEGANConfig(**shared), generators(0))
    config = TFVAEGANConfig(**shared, decoder_weight=0.0, feedback_weight=0.0)
    full = TFVAEGAN.for_problem(scaled, config, generators(0))
    trainers = [Trainer(model, scaled.feed, TRAINING, seeded(3)) for model in (plain, full)]
    states: list[list[dict[str, Tensor]]] = [[], []]
    for trainer, seen in zip(trainers, states, strict=True):
        for _ in range(3):
            trainer.run_epoch(
                lambda trainer=trainer, seen=seen: seen.append(  # type: ignore[misc]
                    {k: v.clone() for k, v in trainer.model.state_dict().items()}
                )
            )
    assert len(states[0]) == 3 * trainers[0].steps_per_epoch
    for ours, theirs in zip(*states, strict=True):
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name
    request = RowsRequest(scaled, seeded(1), samples_per_class=4, capacity_bytes=2**20)
    rows = [model.classifier_rows(replace(request, generator=seeded(1))) for model in (plain, full)]
    feeds = [found.gzsl() for found in rows if isinstance(found, RowsByEpoch)]
    taken = [feed.take(torch.arange(len(feed.labels))) for feed in feeds]
    assert torch.equal(taken[0], taken[1])


def test_feedback_of_weight_0_changes_nothing(scaled: Scaled) -> None:
    model = make_model(scaled)
    latents, semantics = torch.ones(3, 5).double(), model.semantics[:3]
    torch.testing.assert_close(
        model.fed_back_logits(latents, semantics, 0.0), model.logits(latents, semantics)
    )


@pytest.mark.parametrize("weight", [None, 0.3])
def test_feedback_is_added_to_the_generators_hidden_units(
    scaled: Scaled, weight: float | None
) -> None:
    model = make_model(scaled, feedback_weight=0.8)
    latents = torch.randn(4, 5, generator=seeded(9), dtype=torch.float64)
    semantics = model.semantics[:4]
    w = {name: p.detach() for name, p in model.named_parameters()}

    def layer(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    units = leaky(layer("generator.noise", latents) + semantics @ w["generator.semantics.weight"].T)
    first = 1 / (1 + (-layer("generator.features", units)).exp())
    says = leaky(layer("decoder.first", first))
    correction = leaky(layer("feedback.second", leaky(layer("feedback.first", says))))
    strength = 0.8 if weight is None else weight
    expected = layer("generator.features", units + strength * correction)
    torch.testing.assert_close(model.fed_back_logits(latents, semantics, weight), expected)


def test_first_synthesis_and_decoder_get_no_gradient_through_the_feedback(scaled: Scaled) -> None:
    model = make_model(scaled)
    latents = torch.randn(4, 5, generator=seeded(9), dtype=torch.float64).requires_grad_()
    semantics, constant = model.semantics[:4], torch.randn(4, 9, generator=seeded(1)).double()
    model.fed_back_logits(latents, semantics).sum().backward()  # type: ignore[no-untyped-call]
    assert model.decoder.first.weight.grad is None
    assert model.feedback.first.weight.grad is not None
    found = latents.grad
    with torch.no_grad():
        constant = model.feedback(
            model.decoder.hidden(torch.sigmoid(model.logits(latents, semantics)))
        )
    again = latents.detach().requires_grad_()
    hidden = model.generator.hidden(again, model.generator.semantics(semantics))
    model.generator.logits(hidden + constant).sum().backward()
    torch.testing.assert_close(found, again.grad)


def test_synthesis_has_its_own_weight_of_the_feedback(scaled: Scaled) -> None:
    changes = {"feedback_weight": 0.8, "feedback_weight_in_synthesis": 0.3}
    model = make_model(scaled, **changes).float()
    classes, positions = torch.tensor([9, 2]), torch.tensor([0, 1, 1])
    found = model.sampler(classes)(positions, seeded(4))
    noise = torch.randn(3, 5, generator=seeded(4))
    expected = torch.sigmoid(model.fed_back_logits(noise, model.semantics[classes[positions]], 0.3))
    torch.testing.assert_close(found, expected.detach())


def test_decoded_semantics_have_length_1_and_their_units_are_features(scaled: Scaled) -> None:
    model = make_model(scaled)
    x = torch.rand(6, 6, generator=seeded(1), dtype=torch.float64)
    hidden = functional.linear(x, model.decoder.first.weight, model.decoder.first.bias)
    hidden = torch.maximum(hidden, 0.2 * hidden)
    semantics = functional.linear(hidden, model.decoder.second.weight, model.decoder.second.bias)
    expected = torch.cat([x, semantics / semantics.norm(dim=1, keepdim=True), hidden], dim=1)
    torch.testing.assert_close(model.encoder(x), expected)
    assert expected.shape == (6, 6 + 5 + 9)
    assert torch.equal(make_model(scaled, decoded_features=False).encoder(x), x)


@pytest.mark.parametrize("mapped", [True, False])
def test_rows_of_the_classifiers_are_encoded(scaled: Scaled, mapped: bool) -> None:
    model = make_model(scaled).float()
    given = scaled
    if mapped:
        feed = MappedFeed(scaled.problem.train, scaled.scaling, scaled.feed.labels)
        given = replace(scaled, feed=feed)
    request = RowsRequest(given, seeded(1), samples_per_class=4, capacity_bytes=2**20)
    rows = model.classifier_rows(request)
    assert isinstance(rows, RowsByEpoch)
    n = len(scaled.feed.labels)
    everything = rows.gzsl().take(torch.arange(n + 12))
    real = model.encoder(scaled.feed.take(torch.arange(n))).detach()
    torch.testing.assert_close(everything[:n], real)
    made = model.sampler(torch.tensor(scaled.problem.unseen_classes))
    drawn = made(torch.arange(12) % 3, seeded(1))
    torch.testing.assert_close(everything[n:], model.encoder(drawn).detach())


class Noting:
    """An optimizer that notes its calls, and changes nothing."""

    def __init__(self, name: str, parameters: list[Any], calls: list[tuple[str, float]]) -> None:
        self.name, self.parameters, self.calls = name, parameters, calls

    def minimize(self, loss: Tensor) -> None:
        self.calls.append((self.name, loss.item()))

    def step(self, gradients: list[Tensor | None]) -> None:
        found = [gradient for gradient in gradients if gradient is not None]
        assert found
        self.calls.append((f"{self.name} together", float(sum(g.square().sum() for g in found))))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("feedback", [0.0, 0.5])
def test_order_of_the_steps(scaled: Scaled, frozen: bool, feedback: float) -> None:
    model = make_model(scaled, decoder_frozen=frozen, feedback_weight=feedback)
    rows = [torch.arange(i, 56, 7) for i in range(model.batches_per_step())]
    feed = scaled.feed
    batches = iter([Batch(feed.take(r).double(), feed.labels[r]) for r in rows])
    calls: list[tuple[str, float]] = []
    optimizers = {
        name: Noting(name, list(group.parameters), calls)
        for name, group in model.parameter_groups().items()
    }
    model.training_step(batches, BatchRandom(seeded(2)), optimizers)  # type: ignore[arg-type]
    together = ["generator together", "encoder together"]
    together += [] if frozen else ["decoder together"]
    expected = ["decoder", "critic"] * 2 + together
    if feedback:
        expected += ["decoder", "critic"] * 2 + [*together, "feedback together"]
    assert [name for name, _ in calls] == expected


def test_decoders_losses_equal_formulas(scaled: Scaled) -> None:
    model = make_model(scaled, feedback_weight=0.0, decoder_weight=0.7)
    feed, calls = scaled.feed, []
    rows = [torch.arange(i, 56, 7) for i in range(2)]
    batches = [Batch(feed.take(r).double(), feed.labels[r]) for r in rows]
    optimizers = {
        name: Noting(name, list(group.parameters), calls)
        for name, group in model.parameter_groups().items()
    }
    parts = model.training_step(iter(batches), BatchRandom(seeded(2)), optimizers)  # type: ignore[arg-type]
    of_decoder = [loss for name, loss in calls if name == "decoder"]
    for loss, batch in zip(of_decoder, batches, strict=True):
        semantics = model.semantics[batch.labels]
        targets = semantics / semantics.norm(dim=1, keepdim=True)
        errors = model.decoder(batch.features).detach() - targets
        per_row = [
            sum(float(e) ** 2 / float(row.norm()) * abs(float(e)) for e in row) for row in errors
        ]
        assert loss == pytest.approx(0.7 * np.mean(per_row), rel=1e-6)
    assert parts["decoder"].item() == pytest.approx(of_decoder[-1] / 0.7)
    assert parts["cycle"] > 0


class TFVAEGANByHand(VAEGANByHand):
    """Its networks, with the feedback."""

    def decoded(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's hidden units and semantics of length 1."""
        hidden = leaky(self.layer("decoder.first", features))
        semantics = self.layer("decoder.second", hidden)
        return hidden, semantics / semantics.norm(dim=1, keepdim=True)

    def made(self, latents: Tensor, semantics: Tensor, feedback: float) -> Tensor:
        """Features with a weight of the feedback; of weight 0, there is none."""
        units = self.units(latents, semantics)
        if feedback == 0:
            return self.rows(units)
        says = self.decoded(self.rows(units))[0].detach()
        for name in ("first", "second"):
            says = leaky(self.layer(f"feedback.{name}", says))
        return self.rows(units + feedback * says)


@pytest.mark.parametrize(
    ("encoded_noise", "frozen", "feedback"),
    [(True, True, 0.6), (False, False, 0.6), (True, False, 0.0)],
)
def test_training_equals_steps_by_hand(
    scaled: Scaled, encoded_noise: bool, frozen: bool, feedback: float
) -> None:
    """Two steps, the networks of each without feedback and, where it has a weight, with it."""
    changes = {
        "hidden": 5,
        "critic_weight": 3.0,
        "adversarial_weight": 2.0,
        "encoded_noise": encoded_noise,
        "decoder_weight": 0.7,
        "decoder_frozen": frozen,
        "decoder_rate_factor": 0.5,
        "feedback_weight": feedback,
        "feedback_rate_factor": 0.2,
    }
    model = make_model(scaled, **changes)
    hand, numbers, given = TFVAEGANByHand(model), BatchRandom(seeded(4)), BatchRandom(seeded(4))
    adams = {
        "critic": hand.adam("critic"),
        "generator": hand.adam("generator"),
        "encoder": hand.adam("encoder_network", betas=(0.9, 0.999)),
        "decoder": hand.adam("decoder", factor=0.5),
    }
    passes = [0.0]
    if feedback:
        adams["feedback"] = hand.adam("feedback", factor=0.2)
        passes.append(feedback)
    optimizers, order = optimizers_of(model), torch.randperm(56, generator=seeded(3))
    assert optimizers.keys() == adams.keys()
    for _ in range(2):
        rows, order = order.split([8 * len(passes), len(order) - 8 * len(passes)])
        batches = [
            Batch(scaled.feed.take(taken).double(), scaled.feed.labels[taken])
            for taken in rows.split(4)
        ]
        parts = model.training_step(iter(batches), given, optimizers)
        for i, weight in enumerate(passes):
            of_critic: list[list[float]] = []
            for x, labels in batches[2 * i : 2 * i + 2]:
                semantics = model.semantics[labels]
                of_real = weighted_errors(hand.decoded(x)[1], semantics)
                hand.descend(0.7 * of_real, adams["decoder"])
                mean, deviation = hand.posterior(x, semantics)
                latents = noise = numbers.normal(torch.zeros(4, 5).double())
                if encoded_noise:
                    latents = mean + deviation * noise
                shares = numbers.uniform(4).double()
                made = hand.made(latents, semantics, weight)
                losses = hand.critic_losses(x, made, semantics, shares)
                hand.descend(3 * (losses[0] + hand.penalty_weight * losses[1]), adams["critic"])
                of_critic.append([loss.item() for loss in losses])
            hand.adapt([penalty for _, penalty in of_critic])
            # The last batch once more, with the critic as it is now.
            mean, deviation = hand.posterior(x, semantics)
            latents = mean + deviation * numbers.normal(mean)
            again = made = hand.made(latents, semantics, weight)
            if not encoded_noise:
                made = hand.made(numbers.normal(mean), semantics, weight)
            cycle = weighted_errors(hand.decoded(made)[1], semantics)
            adversarial = -hand.score(made, semantics).mean()
            expected = {
                "reconstruction": cross_entropy(again, x).item(),
                "kl": divergence(mean, deviation).item(),
                "adversarial": adversarial.item(),
                "decoder": of_real.item(),
                "cycle": cycle.item(),
            }
            autoencoder = cross_entropy(again, x) + divergence(mean, deviation)
            learning = ["generator", "encoder", *["decoder"] * (not frozen)]
            learning += ["feedback"] * (weight > 0)
            hand.descend(
                autoencoder + 2 * adversarial + 0.7 * cycle, *(adams[name] for name in learning)
            )
        expected["distance"], expected["penalty"] = np.mean(of_critic, axis=0)
        assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected)
        assert model.penalty_weight.item() == pytest.approx(hand.penalty_weight)
    assert_equal_parameters(model, hand.parameters)


def trained_parts(model: TFVAEGAN, scaled: Scaled, **settings: Any) -> set[str]:
    """The networks that change in an epoch."""
    before = {name: p.clone() for name, p in model.named_parameters()}
    Trainer(model, scaled.feed, TRAINING, seeded(3), **settings).run_epoch()
    after = dict(model.named_parameters())
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    # The score's bias cancels between real and synthesized rows.
    assert before.keys() - changed <= {"critic.score.bias"}
    return {name.split(".")[0] for name in changed}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("encoded_noise", [True, False])
def test_all_networks_learn(scaled: Scaled, precision: str, encoded_noise: bool) -> None:
    config = replace(SMALL, encoded_noise=encoded_noise)
    model = TFVAEGAN.for_problem(scaled, config, generators(0))
    found = trained_parts(model, scaled, precision=precision)
    assert found == {"generator", "critic", "encoder_network", "decoder", "feedback"}


def test_frozen_decoder_learns_from_real_rows_alone(scaled: Scaled) -> None:
    """Its weights are those of a decoder that is trained alone on the critic's batches."""
    config = replace(SMALL, decoder_frozen=True, feedback_weight=0.0)
    models = [TFVAEGAN.for_problem(scaled, config, generators(0)) for _ in range(2)]
    met: list[Batch] = []
    step = models[0].training_step

    def noting(
        batches: Iterator[Batch], random: BatchRandom, optimizers: Mapping[str, Optimizer]
    ) -> Mapping[str, Tensor]:
        met.extend(given := list(batches))
        return step(iter(given), random, optimizers)

    models[0].training_step = noting  # type: ignore[method-assign]
    Trainer(models[0], scaled.feed, TRAINING, seeded(3)).run_epoch()
    decoder = models[1].decoder
    adam = torch.optim.Adam(decoder.parameters(), lr=1e-2, betas=(0.5, 0.999), fused=True)
    for features, labels in met:
        errors = weighted_errors(decoder(features), models[1].semantics[labels])
        loss = errors * config.decoder_weight
        adam.zero_grad()
        loss.backward()
        adam.step()
    for ours, theirs in zip(models[0].decoder.parameters(), decoder.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_decoder_learns_the_semantics(scaled: Scaled, tmp_path: Path) -> None:
    config = replace(SMALL, hidden=32, decoder_weight=1.0)
    model = TFVAEGAN.for_problem(scaled, config, generators(0))
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
    losses = [trainer.run_epoch() for _ in range(20)]
    assert losses[-1]["decoder"] < 0.5 * losses[0]["decoder"]
    assert losses[-1]["cycle"] < 0.8 * losses[0]["cycle"]
