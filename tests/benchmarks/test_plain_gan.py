"""The plain f-CLSWGAN takes the same steps as the package's, with the same random numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.plain_gan import PlainGAN, PlainGANTrainer, plain_gan_copy
from benchmarks.speed.gan_steps import gan_ways_on, made_up_gan, measure_gan_steps
from benchmarks.speed.sizes import FULL, QUICK
from benchmarks.speed.steps import rows_for
from gsmflow.core.rng import BatchRandom
from gsmflow.learning.contract import Batch
from gsmflow.methods.f_clswgan import FCLSWGAN
from tests.builders import seeded

CPU = torch.device("cpu")
SIZE, STEPS = QUICK.gan, 6


class Replaying(PlainGANTrainer):
    """A plain trainer with given batches and random numbers."""

    def __init__(self, *arguments: Any, rows: list[Any], noise: list[Tensor], shares: list[Tensor]):
        super().__init__(*arguments)
        self._batches = iter(rows)
        self._given_noise, self._given_shares = iter(noise), iter(shares)

    def _noise(self, count: int) -> Tensor:
        return next(self._given_noise)

    def _shares(self, count: int) -> Tensor:
        return next(self._given_shares)[:, None]


def make_models() -> tuple[FCLSWGAN, PlainGAN]:
    # In fp32, Adam would divide a gradient that is zero up to rounding by its own size.
    model = made_up_gan(SIZE, STEPS).double()
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=seeded(i)).double()
    return model, plain_gan_copy(model)


def random_numbers(model: FCLSWGAN, steps: int) -> tuple[list[Tensor], list[Tensor]]:
    """What the package draws in its steps: noise and shares, batch by batch."""
    random, n, k = BatchRandom(seeded(5)), SIZE.recipe.training.batch_size, 5
    noise, shares = [], []
    for _ in range(steps):
        like = model.semantics.new_zeros(k * n, model.generator.noise_dim)
        noise += random.normal(like).chunk(k)
        shares += [random.uniform(n).double() for _ in range(k)]
        noise.append(random.normal(like[:n]))
    return noise, shares


def test_plain_steps_equal_the_packages() -> None:
    model, plain = make_models()
    problem, feed = rows_for(SIZE, STEPS, CPU)
    features, training = feed.features.double(), replace(SIZE.recipe.training, learning_rate=0.01)
    n, steps = training.batch_size, 4
    order = [torch.randperm(len(features), generator=seeded(i))[:n] for i in range(5 * steps)]
    noise, shares = random_numbers(model, steps)
    theirs = Replaying(
        plain,
        features.numpy(),
        feed.labels.numpy(),
        problem.semantics.astype(np.float64),
        problem.seen_classes,
        training,
        seeded(0),
        rows=[rows.numpy() for rows in order],
        noise=noise,
        shares=shares,
    )

    class Adam:
        def __init__(self, parameters: list[Tensor]) -> None:
            self.parameters = parameters
            self.adam = torch.optim.Adam(parameters, lr=0.01, betas=(0.5, 0.999))

        def minimize(self, loss: Tensor) -> None:
            self.adam.zero_grad()
            loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
            self.adam.step()

    groups = model.parameter_groups()
    optimizers = {name: Adam(list(group.parameters)) for name, group in groups.items()}
    random = BatchRandom(seeded(5))
    for step in range(steps):
        taken = order[5 * step : 5 * step + 5]
        batches = iter([Batch(features[rows], feed.labels[rows]) for rows in taken])
        ours = model.training_step(batches, random, optimizers)
        expected = theirs.step()
        assert ours.keys() == expected.keys()
        for name, value in ours.items():
            assert value.item() == pytest.approx(expected[name].item(), rel=1e-6), name
    for mine, other in zip(plain_gan_copy(model).parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


def test_plain_trainer_draws_its_own_batches_and_stays_finite() -> None:
    problem, feed = rows_for(SIZE, STEPS, CPU)
    trainer = PlainGANTrainer(
        plain_gan_copy(made_up_gan(SIZE, STEPS)),
        feed.features.numpy(),
        feed.labels.numpy(),
        problem.semantics,
        problem.seen_classes,
        SIZE.recipe.training,
        seeded(0),
    )
    for _ in range(3):
        assert all(torch.isfinite(part) for part in trainer.step().values())


def test_steps_are_timed_in_every_way() -> None:
    seconds = measure_gan_steps(SIZE, CPU, steps=2, repetitions=2)
    assert [*seconds] == ["plain", *(way.name for way in gan_ways_on(CPU))]
    assert all(len(values) == 2 and min(values) > 0 for values in seconds.values())


def test_full_size_is_that_of_cub() -> None:
    size, config = FULL.gan, FULL.gan.recipe.method
    assert (size.feature_dim, size.semantics_dim, config.hidden) == (2048, 312, 4096)
    assert (size.recipe.training.batch_size, config.critic_steps) == (64, 5)
