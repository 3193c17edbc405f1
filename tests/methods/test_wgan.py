"""Wasserstein GANs against autograd's second derivatives and a training loop by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch, RowsByEpoch, RowsRequest
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.wgan import (
    ConditionalCritic,
    ConditionalGenerator,
    FeatureGAN,
    WGANConfig,
    adapt_penalty_weight,
    critic_losses,
)
from tests.builders import generators, make_dataset, scaled_of, seeded

D, A, N = 6, 5, 8
SMALL = WGANConfig(hidden=9, critic_steps=3, samples_per_class=4)
TRAINING = TrainingConfig(
    epochs=6, batch_size=N, learning_rate=1e-2, weight_decay=0.0, lr_decay=1.0
)


class PlainGAN(FeatureGAN):
    """A WGAN-GP whose generator has the adversarial loss alone."""

    config_class = WGANConfig

    def generator_loss(self, batch: Batch, random: BatchRandom) -> tuple[Tensor, dict[str, Tensor]]:
        semantics = self.semantics[batch.labels]
        made = self.generator(self.noise_for(semantics, random), semantics)
        loss = -self.critic(made, semantics).mean()
        return loss, {"adversarial": loss}


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, **changes: Any) -> PlainGAN:
    return PlainGAN.for_problem(scaled, replace(SMALL, **changes), generators(0))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def make_critic(hidden: int = 9, seed: int = 3) -> ConditionalCritic:
    critic = ConditionalCritic(D, A, hidden).double()
    for i, parameter in enumerate(critic.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed + i)
    return critic


def autograd_losses(
    critic: Callable[[Tensor, Tensor], Tensor], rows: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Distance and penalty as most code has them: three passes, and a graph of the gradient."""
    real, made, semantics, shares = rows
    distance = critic(made, semantics).mean() - critic(real, semantics).mean()
    between = (shares[:, None] * real + (1 - shares[:, None]) * made).requires_grad_()
    scores = critic(between, semantics)
    (slope,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    return distance, (slope.norm(2, dim=1) - 1).square().mean()


def make_rows(n: int) -> tuple[Tensor, ...]:
    shares = torch.rand(n, generator=seeded(7), dtype=torch.float64)
    return normal(n, D, seed=0), normal(n, D, seed=1), normal(n, A, seed=2), shares


# --- the gradient penalty ------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "hidden"), [(4, 9), (40, 3), (1, 1)])
def test_losses_and_gradients_equal_autograds_double_backward(n: int, hidden: int) -> None:
    critic, rows = make_critic(hidden), make_rows(n)
    found, expected = critic_losses(critic, *rows), autograd_losses(critic, rows)
    parameters = list(critic.parameters())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        gradients = (
            torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            for loss in (ours, theirs)
        )
        for mine, other in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, other)


def test_gradients_of_the_score_equal_autograd() -> None:
    critic, (x, _, semantics, _) = make_critic(), make_rows(5)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(critic(x, semantics).sum(), x)
    before = critic.features(x) + critic.semantics(semantics)
    torch.testing.assert_close(critic.gradients(before), expected)


def test_no_gradient_reaches_the_rows() -> None:
    real, made, semantics, shares = make_rows(4)
    losses = critic_losses(make_critic(), real, made.requires_grad_(), semantics, shares)
    losses.penalty.backward()  # type: ignore[no-untyped-call]
    assert made.grad is None


def test_losses_in_bf16_are_summed_in_fp32() -> None:
    rows = tuple(values.float() for values in make_rows(64))
    critic = make_critic(64).float()
    expected = critic_losses(critic, *rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = critic_losses(critic, *rows)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert ours.item() == pytest.approx(theirs.item(), rel=0.03, abs=0.3)


# --- the adaptive weight -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("penalty", "factor"), [(0.5, 1 / 1.1), (1.0, 1 / 1.1), (1.02, 1.0), (1.06, 1.1), (30.0, 1.1)]
)
def test_weight_follows_the_published_rule(penalty: float, factor: float) -> None:
    weight = torch.tensor(10.0)
    adapt_penalty_weight(weight, torch.tensor(penalty))
    assert weight.item() == pytest.approx(10 * factor)


@pytest.mark.parametrize("penalty", [0.0, 50.0])
def test_adaptive_weight_stays_finite_and_above_zero(penalty: float) -> None:
    weight = torch.tensor(10.0)
    for _ in range(2000):
        adapt_penalty_weight(weight, torch.tensor(penalty))
    assert 0 < weight.item() < torch.inf
    for _ in range(500):
        adapt_penalty_weight(weight, torch.tensor(50.0 - penalty))
    assert 0.9e-6 < weight.item() < 1.1e6
    assert (weight.item() > 1) == (penalty == 0)


def test_training_with_an_adaptive_weight_stays_finite(scaled: Scaled) -> None:
    model = make_model(scaled, adaptive_penalty=True)
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
    weights = []
    for _ in range(40):
        losses = trainer.run_epoch()
        assert all(abs(value) < 1e4 for value in losses.values())
        weights.append(model.penalty_weight.item())
    assert min(weights) < 5
    assert all(0.9e-6 < weight < 1e6 for weight in weights)


# --- the training step ---------------------------------------------------------------------------


def concatenated(model: PlainGAN) -> tuple[nn.Sequential, nn.Sequential]:
    """The networks as most code has them, on noise or features beside semantics."""
    ours = ((model.generator, "noise", "features"), (model.critic, "features", "score"))
    networks = []
    for network, first, last in ours:
        left, right = getattr(network, first), network.get_submodule("semantics")
        weight = torch.cat([left.weight, right.weight], dim=1).detach()
        out = getattr(network, last)
        made = nn.Sequential(
            nn.Linear(weight.shape[1], len(weight)),
            nn.LeakyReLU(0.2),
            nn.Linear(out.in_features, out.out_features),
        )
        made[0].load_state_dict({"weight": weight, "bias": left.bias.detach()})
        made[2].load_state_dict(out.state_dict())
        networks.append(made)
    networks[0].append(nn.ReLU())
    return networks[0], networks[1]


def test_training_equals_a_loop_by_hand(scaled: Scaled) -> None:
    """Synthesis for each critic step, three critic passes, a double backward, two Adams."""
    # In fp32, Adam would divide a gradient that is zero up to rounding by its own size.
    model = make_model(scaled).double()
    generator, critic = (network.double() for network in concatenated(model))
    feed, random, numbers = scaled.feed, seeded(3), BatchRandom(seeded(4))
    rows = [torch.randperm(len(feed.labels), generator=random)[:N] for _ in range(12)]
    batches = [Batch(feed.take(chosen).double(), feed.labels[chosen]) for chosen in rows]
    adams = [
        torch.optim.Adam(p.parameters(), 1e-2, betas=(0.5, 0.999)) for p in (critic, generator)
    ]

    def score(features: Tensor, semantics: Tensor) -> Tensor:
        scores: Tensor = critic(torch.cat([features, semantics], dim=1))
        return scores.squeeze(1)

    expected = []
    for step in range(4):
        taken = batches[3 * step : 3 * step + 3]
        semantics = [model.semantics[batch.labels] for batch in taken]
        noise = numbers.normal(torch.zeros(3 * N, A, dtype=torch.float64)).chunk(3)
        found = []
        for batch, z, condition in zip(taken, noise, semantics, strict=True):
            made = generator(torch.cat([z, condition], dim=1)).detach()
            shares = torch.rand(N, generator=numbers.generator).double()
            losses = autograd_losses(score, (batch.features, made, condition, shares))
            adams[0].zero_grad()
            (losses[0] + 10 * losses[1]).backward()
            adams[0].step()
            found.append(torch.stack(losses).detach())
        z = numbers.normal(torch.zeros(N, A, dtype=torch.float64))
        loss = -score(generator(torch.cat([z, semantics[-1]], dim=1)), semantics[-1]).mean()
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        expected.append([*torch.stack(found).mean(dim=0).tolist(), loss.item()])

    class Adam:
        def __init__(self, parameters: list[nn.Parameter]) -> None:
            self.parameters = parameters
            self.adam = torch.optim.Adam(parameters, 1e-2, betas=(0.5, 0.999))

        def minimize(self, loss: Tensor) -> None:
            self.adam.zero_grad()
            loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
            self.adam.step()

    numbers.generator.manual_seed(4)
    groups = model.parameter_groups()
    optimizers = {name: Adam(list(group.parameters)) for name, group in groups.items()}
    for step, values in enumerate(expected):
        parts = model.training_step(iter(batches[3 * step : 3 * step + 3]), numbers, optimizers)
        assert [part.item() for part in parts.values()] == pytest.approx(values, rel=1e-6, abs=1e-9)
    for ours, theirs in zip(concatenated(model), (generator, critic), strict=True):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.double(), other, rtol=1e-5, atol=1e-7)


def test_critic_learns_to_tell_rows_apart_and_the_generator_follows(scaled: Scaled) -> None:
    trainer = Trainer(make_model(scaled, hidden=32), scaled.feed, TRAINING, seeded(3))
    distances = [trainer.run_epoch()["distance"] for _ in range(30)]
    assert min(distances) < -0.05
    assert distances[-1] > 0.6 * min(distances)


def test_generator_gets_gradients_in_bf16(scaled: Scaled) -> None:
    """A weight that was copied to bf16 without gradients must not be used with them."""
    model = make_model(scaled)
    before = {name: p.clone() for name, p in model.named_parameters()}
    Trainer(model, scaled.feed, TRAINING, seeded(3), precision="bf16").run_epoch()
    for name, parameter in model.named_parameters():
        # The score's bias cancels between real and synthesized rows.
        assert torch.equal(parameter, before[name]) == (name == "critic.score.bias"), name


# --- synthesis -----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["relu", "sigmoid", "none"])
def test_generator_equals_its_layers_on_concatenated_inputs(output: Any) -> None:
    network = ConditionalGenerator(4, A, 9, D, output).double()
    for i, parameter in enumerate(network.parameters()):
        parameter.data = normal(*parameter.shape, seed=i)
    z, semantics = normal(7, 4, seed=10), normal(7, A, seed=11)
    weight = torch.cat([network.noise.weight, network.semantics.weight], dim=1)
    inputs = torch.cat([z, semantics], dim=1)
    hidden = functional.linear(inputs, weight, network.noise.bias)
    hidden = torch.maximum(hidden, 0.2 * hidden)
    out = functional.linear(hidden, network.features.weight, network.features.bias)
    expected = {"relu": out.clamp_min(0), "sigmoid": 1 / (1 + (-out).exp()), "none": out}[output]
    torch.testing.assert_close(network(z, semantics), expected)


def test_sampler_has_the_classes_asked_for_and_noise_for_each_row(scaled: Scaled) -> None:
    model = make_model(scaled, noise_dim=3)
    unseen = torch.tensor(scaled.problem.unseen_classes)
    positions = torch.tensor([0, 2, 2, 1])
    drawn = model.sampler(unseen)(positions, seeded(5))
    noise = torch.randn(4, 3, generator=seeded(5))
    expected = model.generator(noise, model.semantics[unseen[positions]])
    torch.testing.assert_close(drawn, expected.detach())


def test_unseen_classes_are_synthesized_uniformly(scaled: Scaled) -> None:
    request = RowsRequest(scaled, seeded(1), samples_per_class=7, capacity_bytes=2**20)
    rows = make_model(scaled).classifier_rows(request)
    assert isinstance(rows, RowsByEpoch)
    classes, counts = rows.zsl().labels.unique(return_counts=True)
    assert classes.tolist() == scaled.problem.unseen_classes.tolist()
    assert counts.tolist() == [7] * len(classes)
    assert len(rows.gzsl().labels) == len(scaled.feed.labels) + 7 * len(classes)


def test_sizes_and_initial_weights(scaled: Scaled) -> None:
    model = PlainGAN.for_problem(scaled, WGANConfig(), generators(0))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {
        "generator.noise.weight": (4096, A),
        "generator.noise.bias": (4096,),
        "generator.semantics.weight": (4096, A),
        "generator.features.weight": (D, 4096),
        "generator.features.bias": (D,),
        "critic.features.weight": (4096, D),
        "critic.features.bias": (4096,),
        "critic.semantics.weight": (4096, A),
        "critic.score.weight": (1, 4096),
        "critic.score.bias": (1,),
    }
    for name, parameter in model.named_parameters():
        expected = 0.0 if name.endswith("bias") else 0.02
        assert parameter.std(correction=0).item() == pytest.approx(expected, rel=0.05), name
