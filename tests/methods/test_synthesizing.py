"""What synthesizing models share: their noise, and classes that are drawn uniformly."""

import torch
from torch import Tensor

from gsmflow.core.rng import BatchRandom
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import training_problem
from gsmflow.methods.cvae_zsl import CVAEZSLConfig
from gsmflow.methods.synthesizing import SynthesizingModel, any_of
from tests.builders import generators, make_dataset, scaled_of, seeded


class Shown(SynthesizingModel):
    """Its features are its noise and the semantics."""

    config_class = CVAEZSLConfig

    @property
    def noise_dim(self) -> int:
        return 3

    def synthesized(self, noise: Tensor, semantics: Tensor) -> Tensor:
        return torch.cat([noise, semantics], dim=1)


def test_sampler_gives_noise_of_its_own_to_each_row_and_the_semantics_of_its_class() -> None:
    scaled = scaled_of(training_problem(check_dataset(make_dataset()), "test"))
    model = Shown.for_problem(scaled, CVAEZSLConfig(), generators(0))
    classes, positions = torch.tensor([9, 2]), torch.arange(2).repeat(4000)
    rows = model.sampler(classes)(positions, seeded(0))
    assert torch.equal(rows[:, 3:], model.semantics[classes[positions]])
    noise = rows[:, :3]
    torch.testing.assert_close(noise.mean(dim=0), torch.zeros(3), rtol=0, atol=0.05)
    torch.testing.assert_close(torch.cov(noise.T), torch.eye(3), rtol=0, atol=0.05)


def test_drawn_classes_are_uniform() -> None:
    classes = torch.tensor([4, 7, 1, 30, 8])
    found = torch.cat([any_of(classes, 40, BatchRandom(seeded(s))) for s in range(500)])
    counts = torch.bincount(found, minlength=31)
    assert counts.sum() == counts[classes].sum() == 20_000
    # Six standard deviations of a binomial with mean 4000.
    assert (counts[classes] - 4000).abs().max() < 6 * (20_000 * 0.2 * 0.8) ** 0.5


def test_largest_random_number_gives_the_last_class() -> None:
    class Largest:
        def uniform(self, count: int) -> Tensor:
            return torch.full((count,), 1 - 2**-24)

    classes = torch.arange(717)
    assert any_of(classes, 1, Largest()).item() == 716  # type: ignore[arg-type]
