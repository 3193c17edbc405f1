"""CADA-VAE against other closed forms, loops, autograd and the published numbers."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.contract import RowsByEpoch, RowsRequest
from gsmflow.learning.feed import MemoryFeed, Scaled, scale_problem
from gsmflow.learning.trainer import steps_per_epoch
from gsmflow.methods.cada_vae import (
    CADAVAE,
    CADAVAEConfig,
    rows_of_each_class,
    wasserstein_distance,
    weights_at,
)
from gsmflow.recipes.flags import published_recipe
from tests.builders import generators, make_dataset, make_recipe, seeded

D, A, SMALL = (
    6,
    5,
    CADAVAEConfig(
        latent_dim=4,
        image_encoder_hidden=7,
        semantics_encoder_hidden=8,
        image_decoder_hidden=9,
        semantics_decoder_hidden=10,
    ),
)


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    problem = training_problem(check_dataset(make_dataset(d=D, a=A)), "test")
    return scale_problem(problem, "minmax", torch.device("cpu"), "memory")


def make_model(scaled: Scaled, **changes: Any) -> CADAVAE:
    model = CADAVAE.for_problem(scaled, replace(SMALL, **changes), generators(0))
    with torch.no_grad():  # away from where all biases are 0
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(1))
    model.warm_up(0.5)
    return model


def gaussians(n: int = 20, k: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    mean, log_variance = torch.randn(2, n, k, generator=seeded(seed), dtype=torch.float64)
    return mean, log_variance


def batch(scaled: Scaled, rows: int = 12) -> tuple[Tensor, Tensor]:
    return scaled.feed.take(torch.arange(0, 2 * rows, 2)), scaled.feed.labels[: 2 * rows : 2]


def test_wasserstein_distance_equals_that_of_full_covariances() -> None:
    first, second = gaussians(), gaussians(seed=1)
    found = wasserstein_distance(first, second)
    for i in range(len(found)):
        a, b = (np.diag(log_variance[i].exp().numpy()) for _, log_variance in (first, second))
        root = sqrtm(b)
        cross = np.real(sqrtm(root @ a @ root))
        means = (first[0][i] - second[0][i]).numpy()
        assert found[i].item() ** 2 == pytest.approx(means @ means + np.trace(a + b - 2 * cross))


def test_gradient_of_the_wasserstein_distance_equals_finite_differences() -> None:
    inputs = [t[:3].requires_grad_() for t in (*gaussians(), *gaussians(seed=1))]
    assert torch.autograd.gradcheck(lambda a, b, c, d: wasserstein_distance((a, b), (c, d)), inputs)


def test_gradient_is_finite_if_both_gaussians_are_equal() -> None:
    mean, log_variance = (t.requires_grad_() for t in gaussians())
    same = mean.detach().clone(), log_variance.detach().clone()
    wasserstein_distance((mean, log_variance), same).sum().backward()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(log_variance.grad).all()


@pytest.mark.parametrize(
    ("epoch", "beta", "gamma", "delta"),
    [
        (0, 0.0, 0.0, 0.0),
        (6, 0.25 * 6 / 93, 0.0, 0.0),
        (14, 0.25 * 14 / 93, 0.0, 8.13 / 2),
        (21, 0.25 * 21 / 93, 0.0, 8.13 * 15 / 16),
        (22, 0.25 * 22 / 93, 2.37 / 54, 8.13),
        (48, 0.25 * 48 / 93, 2.37 / 2, 8.13),
        (75, 0.25 * 75 / 93, 2.37, 8.13),
        (93, 0.25, 2.37, 8.13),
        (99, 0.25, 2.37, 8.13),
    ],
)
def test_weights_rise_over_the_published_epochs_of_a_hundred(
    epoch: int, beta: float, gamma: float, delta: float
) -> None:
    assert weights_at(CADAVAEConfig(), epoch / 100) == pytest.approx((beta, gamma, delta))


def test_sizes_and_initial_weights_are_the_published_ones() -> None:
    model = CADAVAE(
        CADAVAEConfig(),
        semantics=torch.zeros(10, 312),
        feature_dim=2048,
        generator=seeded(0),
    )
    shapes = {
        name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")
    }
    assert shapes == {
        "image_encoder.hidden.weight": (1560, 2048),
        "image_encoder.mean.weight": (64, 1560),
        "image_encoder.log_variance.weight": (64, 1560),
        "semantics_encoder.hidden.weight": (1450, 312),
        "semantics_encoder.mean.weight": (64, 1450),
        "semantics_encoder.log_variance.weight": (64, 1450),
        "image_decoder.0.weight": (1660, 64),
        "image_decoder.2.weight": (2048, 1660),
        "semantics_decoder.0.weight": (665, 64),
        "semantics_decoder.2.weight": (312, 665),
    }
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            bound = 0.5 * math.sqrt(6 / sum(parameter.shape))
            largest = parameter.abs().max().item()
            assert 0.99 * bound < largest <= bound


class Noise:
    """Replaces `BatchRandom`: the numbers that it gives are known beforehand."""

    shares = 1

    def __init__(self, *numbers: Tensor) -> None:
        self.numbers = list(numbers)

    def normal(self, like: Tensor) -> Tensor:
        noise = self.numbers.pop(0)
        assert noise.shape == like.shape
        return noise


def layer(linear: Any, row: Tensor) -> Tensor:
    return torch.stack(
        [
            sum((w * x for w, x in zip(weights, row, strict=True)), bias)
            for weights, bias in zip(linear.weight, linear.bias, strict=True)
        ]
    )


def decoded(decoder: nn.Sequential, latent: Tensor) -> Tensor:
    return layer(decoder[2], layer(decoder[0], latent).clamp(min=0))


@pytest.mark.parametrize("as_published", [False, True])
def test_loss_equals_the_sum_of_a_loop_over_rows(scaled: Scaled, as_published: bool) -> None:
    model = make_model(scaled, as_published=as_published)
    features, labels = batch(scaled, rows=5)
    width = 1 if as_published else SMALL.latent_dim
    noises = [torch.randn(5, width, generator=seeded(s)) for s in (2, 3)]
    found = model.loss(features, labels, Noise(*noises))  # type: ignore[arg-type]
    expected = torch.zeros(())
    for i in range(5):
        x, c = features[i], model.semantics[labels[i]]
        means, deviations, latents = [], [], []
        encoders = (model.image_encoder, model.semantics_encoder)
        for encoder, inputs, noise in zip(encoders, (x, c), noises, strict=True):
            hidden = layer(encoder.hidden, inputs).clamp(min=0)
            mean, variance = layer(encoder.mean, hidden), layer(encoder.log_variance, hidden).exp()
            means.append(mean)
            deviations.append(variance.sqrt())
            # The published errors: variance instead of deviation, one number for all dimensions.
            latents.append(mean + (variance if as_published else variance.sqrt()) * noise[i])
            posterior = Normal(mean, variance.sqrt())
            weight = 0.25 * 50 / 93
            expected = expected + weight * kl_divergence(posterior, Normal(0.0, 1.0)).sum()
        for same, other in ((0, 1), (1, 0)):
            for target, decoder, index in (
                (x, model.image_decoder, 0),
                (c, model.semantics_decoder, 1),
            ):
                if index == same:
                    expected = expected + (decoded(decoder, latents[same]) - target).abs().sum()
                    crossed = (decoded(decoder, latents[other]) - target).abs().sum()
                    expected = expected + 2.37 * 29 / 54 * crossed
        squared = (means[0] - means[1]).square().sum()
        squared = squared + (deviations[0] - deviations[1]).square().sum()
        expected = expected + 8.13 * squared.sqrt()
    torch.testing.assert_close(found.total, expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_the_loss_equals_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled).double()
    features, labels = (t[:4] for t in batch(scaled))
    noises = [torch.randn(4, 4, generator=seeded(s), dtype=torch.float64) for s in (2, 3)]

    def loss() -> Tensor:
        noise: Any = Noise(*noises)
        return model.loss(features.double(), labels, noise).total

    loss().backward()
    step = 1e-6
    for name, parameter in model.named_parameters():
        first = tuple(0 for _ in parameter.shape)
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter[first] += sign * step
                values.append(loss().item())
                parameter[first] -= sign * step
        slope = (values[0] - values[1]) / (2 * step)
        assert parameter.grad is not None
        assert parameter.grad[first].item() == pytest.approx(slope, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize(
    ("changes", "without"), [({"gamma": 0.0}, "cross"), ({"delta": 0.0}, "distribution")]
)
def test_ablation_removes_its_loss(scaled: Scaled, changes: dict[str, float], without: str) -> None:
    model = make_model(scaled, **changes)
    losses = model.loss(*batch(scaled), BatchRandom(seeded(2)))
    weights = {
        "reconstruction": 1.0,
        "kl": 0.25 * 50 / 93,
        "cross": 2.37 * 29 / 54,
        "distribution": 8.13,
    }
    weights[without] = 0.0
    expected = 12 * sum(weights[name] * part for name, part in losses.parts.items())
    torch.testing.assert_close(losses.total, expected)


def test_shares_of_a_batch_have_its_loss_as_their_mean(scaled: Scaled) -> None:
    model = make_model(scaled)
    features, labels = batch(scaled)
    whole = model.loss(features, labels, BatchRandom(seeded(2))).total
    parts = [
        model.loss(features[rows], labels[rows], BatchRandom(seeded(2), share, 2)).total
        for share, rows in enumerate((slice(0, 6), slice(6, 12)))
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_encoding_of_test_features_is_the_posterior_mean_for_any_noise(scaled: Scaled) -> None:
    model = make_model(scaled)
    features, _ = batch(scaled)
    assert model.encoder is model.image_encoder
    torch.testing.assert_close(
        model.image_encoder(features), model.image_encoder.posterior(features)[0]
    )


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    count=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_each_row_of_a_class_is_drawn_as_often_as_any_other(
    sizes: list[int], count: int, seed: int
) -> None:
    classes = torch.arange(len(sizes)) * 3 + 2
    labels = classes.repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=seeded(seed))]
    rows = rows_of_each_class(labels, classes, count, seeded(seed))
    assert labels[rows].tolist() == classes.repeat_interleave(count).tolist()
    for c in classes:
        class_rows = torch.nonzero(labels == c)[:, 0]
        times = torch.bincount(rows, minlength=len(labels))[class_rows]
        assert times.max() - times.min() <= 1


def latents(model: CADAVAE, scaled: Scaled, **changes: Any) -> RowsByEpoch:
    request = RowsRequest(scaled, seeded(3), samples_per_class=0, capacity_bytes=0)
    rows = model.classifier_rows(replace(request, **changes))
    assert isinstance(rows, RowsByEpoch)
    return rows


def test_there_are_as_many_latents_of_each_class_as_set(scaled: Scaled) -> None:
    model = make_model(scaled, latents_seen=20, latents_unseen=40, latents_zsl=30)
    rows = latents(model, scaled)
    problem = scaled.problem
    for feed, counts in (
        (rows.gzsl(), dict.fromkeys(problem.seen_classes, 20)),
        (rows.zsl(), {}),
    ):
        counts |= dict.fromkeys(problem.unseen_classes, 40 if counts else 30)
        found = dict(zip(*np.unique(feed.labels.numpy(), return_counts=True), strict=True))
        assert found == counts
        assert feed.feature_dim == 4


@pytest.mark.parametrize("as_published", [False, True])
def test_latents_of_unseen_classes_are_drawn_from_the_posterior_of_their_semantics(
    scaled: Scaled, as_published: bool
) -> None:
    model = make_model(scaled, latents_zsl=20000, as_published=as_published)
    feed = latents(model, scaled).zsl()
    features = feed.take(torch.arange(len(feed.labels)))
    for c in scaled.problem.unseen_classes:
        mean, log_variance = model.semantics_encoder.posterior(model.semantics[int(c)][None])
        class_features = features[feed.labels == c]
        deviation = log_variance[0].exp() if as_published else (log_variance[0] / 2).exp()
        torch.testing.assert_close(class_features.mean(dim=0), mean[0], rtol=0, atol=0.05)
        torch.testing.assert_close(class_features.std(dim=0), deviation, rtol=0.05, atol=0)
        correlation = torch.corrcoef(class_features.T)
        expected = torch.ones(4, 4) if as_published else torch.eye(4)
        torch.testing.assert_close(correlation, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("dynamic", [False, True])
def test_dynamic_latents_are_drawn_again_in_each_epoch(scaled: Scaled, dynamic: bool) -> None:
    rows = latents(make_model(scaled, dynamic_latents=dynamic), scaled)
    for give in (rows.gzsl, rows.zsl):
        first, second = (feed.take(torch.arange(50)) for feed in (give(), give()))
        assert torch.equal(first, second) is not dynamic


def test_rows_of_unseen_classes_are_added_to_or_replace_their_semantics(
    scaled: Scaled,
) -> None:
    settings = {"latents_seen": 20, "latents_unseen": 40, "latents_zsl": 30, "latents_few_shot": 10}
    model = make_model(scaled, **settings)
    labels = torch.from_numpy(scaled.problem.unseen_classes).repeat(2)
    real = MemoryFeed(torch.rand(len(labels), D, generator=seeded(4)), labels)
    beside = latents(model, scaled, real_unseen=real)
    alone = latents(model, scaled, real_unseen=real, synthesizes=False)
    first = scaled.problem.unseen_classes[0]
    counts = [
        int((give().labels == first).sum())
        for give in (beside.gzsl, beside.zsl, alone.gzsl, alone.zsl)
    ]
    assert counts == [10 + 10, 10 + 10, 40, 30]


def test_sampled_features_are_decoded_from_latents_of_the_semantics(scaled: Scaled) -> None:
    model = make_model(scaled)
    with torch.no_grad():
        model.semantics_encoder.log_variance.weight.zero_()
        model.semantics_encoder.log_variance.bias.fill_(-40)  # next to no noise
    classes = torch.tensor([9, 2])
    features = model.sampler(classes)(torch.tensor([1, 0, 1]), seeded(0))
    for row, c in zip(features, (2, 9, 2), strict=True):
        mean = model.semantics_encoder(model.semantics[c][None])[0]
        torch.testing.assert_close(row, decoded(model.image_decoder, mean), rtol=1e-4, atol=1e-5)


# The published script's table: dataset, labelled rows, and epochs of the GZSL and ZSL classifiers.
PUBLISHED_EPOCHS = """
SUN 0 21 30    SUN 1 22 96    SUN 2 29 61    SUN 5 29 78    SUN 10 79 94
AWA1 0 33 25   AWA1 1 40 81   AWA1 2 56 59   AWA1 5 89 62   AWA1 10 100 50
CUB 0 23 22    CUB 1 34 46    CUB 2 39 31    CUB 5 64 73    CUB 10 85 67
AWA2 0 29 39   AWA2 1 44 96   AWA2 2 69 79   AWA2 5 99 100  AWA2 10 86 78
"""


@pytest.mark.parametrize("dataset", ["SUN", "AWA1", "CUB", "AWA2"])
def test_classifiers_are_trained_as_published(dataset: str) -> None:
    recipe = published_recipe(make_recipe(dataset=dataset), "cada-vae")
    words = PUBLISHED_EPOCHS.split()
    for name, *numbers in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True):
        k, epochs, zsl_epochs = map(int, numbers)
        if name == dataset:
            config = recipe.softmax.for_shots(k) if k else recipe.softmax
            assert (config.epochs, config.for_zsl.epochs) == (epochs, zsl_epochs)
    assert (config.initial_weights, config.initial_gain) == ("xavier-uniform", 0.5)
    assert (config.last_batch, config.for_zsl.last_batch) == ("dropped", "wrapped")
    # 7057 rows, the first batches of 142 permutations.
    assert steps_per_epoch(7057, recipe.training) == 142
