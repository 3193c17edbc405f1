"""IZF against brute force over classes, torch.distributions and change of variables."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.learning.feed import Scaled
from gsmflow.learning.trainer import Trainer, TrainingConfig
from gsmflow.methods.izf import IZF, IZFConfig, classes_of_batch
from gsmflow.methods.synthesizing import any_of
from tests.builders import generators, make_dataset, scaled_of, seeded
from tests.methods.gradients import assert_gradients

SMALL = IZFConfig(
    blocks=2,
    hidden=8,
    flow_weight=0.5,
    centre_weight=0.7,
    discrepancy_weight=0.3,
    semantics_norm=2.0,
)
TRAINING = TrainingConfig(epochs=6, batch_size=8, learning_rate=1e-2, weight_decay=0.0)


def scaled_with(**sizes: int) -> Scaled:
    problem = training_problem(check_dataset(make_dataset(**sizes)), "test")
    return scaled_of(problem, "standardised")


@pytest.fixture(scope="module")
def scaled() -> Scaled:
    return scaled_with()


def make_model(scaled: Scaled, **changes: Any) -> IZF:
    model = IZF.for_problem(scaled, replace(SMALL, **changes), generators(0))
    with torch.no_grad():  # away from a near permutation
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=seeded(1))
    return model.double()


def batch_of(scaled: Scaled, count: int = 12) -> tuple[Tensor, Tensor]:
    rows = torch.arange(0, 55, 56 // count)[:count]
    return scaled.feed.take(rows).double(), scaled.feed.labels[rows]


@pytest.mark.parametrize("count", [4, 12])  # fewer rows than the 7 seen classes, and more
def test_sums_over_classes_are_those_over_the_distinct_classes(scaled: Scaled, count: int) -> None:
    features, labels = batch_of(scaled, count)
    labels = labels.clone()
    labels[1] = labels[0]
    found = classes_of_batch(features, labels, torch.arange(7))
    assert len(found.classes) == min(count, 7)
    targets = torch.randn(7, 6, generator=seeded(0), dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    for c in labels.unique():
        own = [x for x, label in zip(features, labels, strict=True) if label == c]
        expected += (sum(own) / len(own) - targets[c]).norm()
    distances = (found.means - targets[found.classes]).norm(dim=1)
    torch.testing.assert_close((found.weights * distances).sum(), expected)


@pytest.mark.parametrize("count", [4, 12])
def test_loss_is_the_weighted_sum_of_its_parts(scaled: Scaled, count: int) -> None:
    model = make_model(scaled)
    features, labels = batch_of(scaled, count)
    found = model.loss(features, labels, BatchRandom(seeded(2)))
    centres = torch.zeros((), dtype=torch.float64)
    for c in labels.unique():
        latent = torch.cat([model.semantics[c], torch.zeros(1, dtype=torch.float64)])
        centre = model.flow.inverse(latent[None])[0]
        centres = centres + (centre - features[labels == c].mean(dim=0)).norm()
    torch.testing.assert_close(found.parts["centres"], centres)
    draws = BatchRandom(seeded(2))
    unseen = any_of(model.unseen_classes, len(labels), draws)
    made = model.synthesized(model.noise_for(unseen, draws), model.semantics[unseen])
    of_rows, of_made, across = (
        _mean_kernel(a, b) for a, b in ((features, features), (made, made), (features, made))
    )
    torch.testing.assert_close(found.parts["discrepancy"], of_rows + of_made - 2 * across)
    parts = found.parts
    expected = 0.5 * parts["likelihood"] + 0.7 * centres - 0.3 * parts["discrepancy"]
    torch.testing.assert_close(found.total, expected)


def _mean_kernel(a: Tensor, b: Tensor) -> Tensor:
    """The mean of ``2 d / (2 d + |x - y|^2)`` over pairs of different rows."""
    values = [
        2 * a.shape[1] / (2 * a.shape[1] + (x - y).square().sum())
        for i, x in enumerate(a)
        for j, y in enumerate(b)
        if a is not b or i != j
    ]
    return torch.stack(values).mean()


def test_density_is_that_of_the_change_of_variables(scaled: Scaled) -> None:
    model = make_model(scaled)
    features, labels = batch_of(scaled)
    found = model.log_prob(features, labels)
    for x, c, value in zip(features, labels, found, strict=True):
        mean = torch.cat([model.semantics[c], torch.zeros(1, dtype=torch.float64)])
        normal = MultivariateNormal(mean, torch.eye(6, dtype=torch.float64))
        jacobian = torch.autograd.functional.jacobian(lambda r: model.flow(r[None])[0][0], x)
        expected = normal.log_prob(model.flow(x[None])[0][0]) + jacobian.slogdet().logabsdet
        torch.testing.assert_close(value, expected)
    likelihood = model.loss(features, labels, BatchRandom(seeded(2))).parts["likelihood"]
    torch.testing.assert_close(likelihood, -found.mean())


def test_synthesized_rows_map_back_to_their_semantics_and_noise(scaled: Scaled) -> None:
    model = make_model(scaled)
    classes = torch.tensor([8, 2, 9])
    drawn = model.sampler(classes)(torch.tensor([0, 1, 2, 2]), seeded(3))
    latents = model.flow(drawn)[0]
    torch.testing.assert_close(latents[:, :5], model.semantics[classes[[0, 1, 2, 2]]])
    noise = torch.randn(4, 1, generator=seeded(3), dtype=torch.float64)
    torch.testing.assert_close(latents[:, 5:], noise)


def test_gradients_equal_finite_differences(scaled: Scaled) -> None:
    model = make_model(scaled)
    batch = batch_of(scaled)
    assert_gradients(
        model,
        lambda: model.loss(*batch, BatchRandom(seeded(2))).total,
        step=1e-6,
        relative=1e-4,
        absolute=1e-5,
    )


def test_discrepancy_is_of_unseen_classes_and_none_of_their_rows(scaled: Scaled) -> None:
    model = make_model(scaled)
    batch = batch_of(scaled)
    parts = model.loss(*batch, BatchRandom(seeded(2))).parts
    with torch.no_grad():
        model.semantics[7:] += 1
    changed = model.loss(*batch, BatchRandom(seeded(2))).parts
    assert changed["discrepancy"] != parts["discrepancy"]
    for name in ("likelihood", "centres"):
        assert torch.equal(changed[name], parts[name])


def test_semantics_may_fill_all_dimensions_but_no_more(scaled: Scaled) -> None:
    full = scaled_with(d=5, a=5)
    model = make_model(full)
    assert model.noise_dim == 0
    assert torch.isfinite(model.loss(*batch_of(full), BatchRandom(seeded(2))).total)
    with pytest.raises(InputError, match="semantics: found 5 dimensions, expected at most the 4"):
        make_model(scaled_with(d=4, a=5))


def test_training_lowers_the_likelihood_and_the_distances(scaled: Scaled) -> None:
    model = IZF.for_problem(scaled, SMALL, generators(0))
    trainer = Trainer(model, scaled.feed, TRAINING, seeded(1))
    losses = [trainer.run_epoch() for _ in range(6)]
    for name in ("likelihood", "centres"):
        assert losses[-1][name] < losses[0][name]
