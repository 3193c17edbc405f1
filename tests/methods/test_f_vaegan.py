"""f-VAEGAN against formulas in numpy, loops and finite differences."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import Batch
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.f_vaegan import FVAEGAN, METHOD, FVAEGANConfig
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = FVAEGANConfig(hidden=9, critic_steps=2, noise_dim=4)
TRAINING = TrainingConfig(
    epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=0.0, lr_decay=1.0
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_of(training_problem(check_dataset(make_dataset()), "test"), "minmax")


def make_model(scaled: Scaled, **changes: Any) -> FVAEGAN:
    model = FVAEGAN.for_problem(scaled, replace(SMALL, **changes), generators(0)).double()
    for i, parameter in enumerate(model.parameters()):  # large enough for every part to matter
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=seeded(i)).double()
    return model


def batch_of(scaled: Scaled) -> Batch:
    rows = torch.arange(0, 56, 5)
    return Batch(scaled.feed.take(rows).double(), scaled.feed.labels[rows])


def arrays(model: FVAEGAN) -> dict[str, NDArray[Any]]:
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def layer(w: dict[str, NDArray[Any]], name: str, x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])


def leaky(x: NDArray[Any]) -> NDArray[Any]:
    return np.where(x > 0, x, 0.2 * x)


def decoded(model: FVAEGAN, z: NDArray[Any], semantics: NDArray[Any]) -> NDArray[Any]:
    w = arrays(model)
    hidden = leaky(layer(w, "generator.noise", z) + semantics @ w["generator.semantics.weight"].T)
    out = layer(w, "generator.features", hidden)
    return out if model.config.output == "none" else np.asarray(1 / (1 + np.exp(-out)))


def score(model: FVAEGAN, x: NDArray[Any], semantics: NDArray[Any]) -> NDArray[Any]:
    w = arrays(model)
    hidden = leaky(layer(w, "critic.features", x) + semantics @ w["critic.semantics.weight"].T)
    return layer(w, "critic.score", hidden)[:, 0]


@pytest.mark.parametrize("output", ["sigmoid", "none"])
@pytest.mark.parametrize("encoded_noise", [True, False])
def test_losses_equal_formulas(scaled: Scaled, encoded_noise: bool, output: str) -> None:
    settings = {"encoded_noise": encoded_noise, "output": output}
    model = make_model(scaled, **settings, adversarial_weight=0.7)
    batch, random = batch_of(scaled), BatchRandom(seeded(2))
    losses = model.vae_gan_losses(batch, BatchRandom(seeded(2)), model.logits)
    x, w = batch.features.numpy(), arrays(model)
    semantics = scaled.problem.semantics[batch.labels.numpy()].astype(np.float64)
    hidden = leaky(layer(w, "encoder_network.first", np.concatenate([x, semantics], axis=1)))
    hidden = leaky(layer(w, "encoder_network.second", hidden))
    mean = layer(w, "encoder_network.mean", hidden)
    log_variance = layer(w, "encoder_network.log_variance", hidden)
    noise = random.normal(torch.zeros(len(x), 4, dtype=torch.float64)).numpy()
    out = decoded(model, mean + np.exp(log_variance / 2) * noise, semantics)
    made = out
    if not encoded_noise:
        noise = random.normal(torch.zeros(len(x), 4, dtype=torch.float64)).numpy()
        made = decoded(model, noise, semantics)
    if output == "sigmoid":
        log_likelihood = x * np.log(out) + (1 - x) * np.log(1 - out)
    else:
        log_likelihood = norm.logpdf(x, loc=out) - norm.logpdf(0)
    reconstruction = -log_likelihood.sum(axis=1).mean()
    kl = (-(1 + log_variance - mean**2 - np.exp(log_variance)).sum(axis=1) / 2).mean()
    adversarial = -score(model, made, semantics).mean()
    expected = {"reconstruction": reconstruction, "kl": kl, "adversarial": adversarial}
    assert {name: part.item() for name, part in losses.parts.items()} == pytest.approx(expected)
    assert losses.total.item() == pytest.approx(reconstruction + kl + 0.7 * adversarial)
    np.testing.assert_allclose(losses.made.detach().numpy(), made)


@pytest.mark.parametrize("encoded_noise", [True, False])
def test_gradients_equal_finite_differences(scaled: Scaled, encoded_noise: bool) -> None:
    model, batch = make_model(scaled, encoded_noise=encoded_noise), batch_of(scaled)

    def loss() -> Tensor:
        return model.generator_loss(batch, BatchRandom(seeded(2)))[0]

    for network in (model.generator, model.encoder_network):
        model.zero_grad()
        assert_gradients(network, loss, step=1e-6, relative=1e-3, absolute=1e-5)


@pytest.mark.parametrize("encoded_noise", [True, False])
def test_critic_sees_reconstructed_or_synthesized_rows(scaled: Scaled, encoded_noise: bool) -> None:
    model, batch = make_model(scaled, encoded_noise=encoded_noise), batch_of(scaled)
    semantics = model.semantics[batch.labels]
    found = model.rows_for_critic(batch.features, semantics, BatchRandom(seeded(2)))
    noise = torch.randn(len(semantics), 4, generator=seeded(2), dtype=torch.float64)
    if encoded_noise:
        mean, log_variance = model.encoder_network(batch.features, semantics)
        noise = mean + (log_variance / 2).exp() * noise
    expected = decoded(model, noise.detach().numpy(), semantics.double().numpy())
    np.testing.assert_allclose(found.detach().numpy(), expected)


def test_critics_loss_has_its_factor(scaled: Scaled) -> None:
    """With a factor of 2, its gradients are twice as large; the losses in the log are the same."""
    met: dict[float, list[Tensor]] = {}

    class Noting:
        def __init__(self, model: FVAEGAN) -> None:
            self.parameters = list(model.critic.parameters())

        def minimize(self, loss: Tensor) -> None:
            found = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
            met[factor] = list(found)

    losses = []
    for factor in (1.0, 2.0):
        model = make_model(scaled, critic_weight=factor)
        batches, random = [batch_of(scaled)], BatchRandom(seeded(2))
        losses.append(model.train_critic(batches, random, Noting(model)))  # type: ignore[arg-type]
    for once, twice in zip(met[1.0], met[2.0], strict=True):
        torch.testing.assert_close(2 * once, twice)
    for ours, theirs in zip(*losses, strict=True):
        assert torch.equal(ours, theirs)


def test_features_outside_of_the_unit_interval_do_not_reward_large_logits(scaled: Scaled) -> None:
    model, (features, labels) = make_model(scaled), batch_of(scaled)
    far = Batch(features + 5, labels)
    parts = model.vae_gan_losses(far, BatchRandom(seeded(2)), model.logits).parts
    assert parts["reconstruction"] > 0


def test_training_is_deterministic_and_reconstructs(scaled: Scaled) -> None:
    histories, models = [], []
    for _ in range(2):
        model = FVAEGAN.for_problem(scaled, replace(SMALL, hidden=32), generators(0))
        trainer = Trainer(model, scaled.feed, TRAINING, seeded(3))
        histories.append([trainer.run_epoch() for _ in range(25)])
        models.append(model)
    assert histories[0] == histories[1]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name
    assert histories[0][-1]["reconstruction"] < 0.97 * histories[0][0]["reconstruction"]
    assert models[0].penalty_weight != 10


def test_all_networks_learn_in_bf16(scaled: Scaled) -> None:
    model = FVAEGAN.for_problem(scaled, SMALL, generators(0))
    before = {name: p.clone() for name, p in model.named_parameters()}
    Trainer(model, scaled.feed, TRAINING, seeded(3), precision="bf16").run_epoch()
    for name, parameter in model.named_parameters():
        # The score's bias cancels between real and synthesized rows.
        assert torch.equal(parameter, before[name]) == (name == "critic.score.bias"), name


def test_encoder_has_adams_default_decay_rates(scaled: Scaled) -> None:
    betas = {name: group.betas for name, group in make_model(scaled).parameter_groups().items()}
    assert betas == {
        "critic": (0.5, 0.999),
        "generator": (0.5, 0.999),
        "encoder": (0.9, 0.999),
    }


def test_sizes_of_the_encoder(scaled: Scaled) -> None:
    model = FVAEGAN.for_problem(scaled, FVAEGANConfig(), generators(0))
    shapes = {n: tuple(p.shape) for n, p in model.encoder_network.named_parameters() if p.dim() > 1}
    assert shapes == {
        "first.weight": (4096, 6 + 5),
        "second.weight": (10, 4096),
        "mean.weight": (5, 10),
        "log_variance.weight": (5, 10),
    }


@pytest.mark.parametrize("dataset", ["AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"])
def test_published_weights_of_critic_and_generator_are_equal(dataset: str) -> None:
    settings = METHOD.settings_for(dataset, "res101")
    assert settings["critic_weight"] == settings["adversarial_weight"]
    assert settings["classifier_batch_size"] == settings["samples_per_class"]
