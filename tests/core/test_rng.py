import numpy as np
import pytest
import torch

from gsmflow.core.rng import BatchRandom, make_generator

CPU = torch.device("cpu")


def numbers_of(seed: int, *purpose: str) -> list[float]:
    generator = make_generator(CPU, seed, *purpose)
    return torch.rand(8, generator=generator, dtype=torch.float64).tolist()


def test_same_seed_and_purpose_give_the_same_numbers() -> None:
    assert numbers_of(3, "test", "synthesis") == numbers_of(3, "test", "synthesis")


def test_every_seed_and_purpose_gives_different_numbers() -> None:
    purposes = [(), ("test",), ("test", "synthesis"), ("synthesis", "test"), ("testsynthesis",)]
    uses = [(seed, *purpose) for seed in (0, 1, 2**31, 2**40) for purpose in purposes]
    first = [numbers_of(*use)[0] for use in uses]
    assert len(set(first)) == len(uses)


def test_neighbouring_seeds_are_not_correlated() -> None:
    rows = np.array([numbers_of(seed, "batches") for seed in range(500)])
    correlation = np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]
    assert abs(correlation) < 0.2
    assert rows.mean() == pytest.approx(0.5, abs=0.03)


def test_make_generator_leaves_the_global_generator_unchanged() -> None:
    before = torch.get_rng_state()
    numbers_of(3, "test")
    assert torch.equal(torch.get_rng_state(), before)


def test_shares_of_a_batch_together_get_the_numbers_of_the_batch() -> None:
    rows = torch.zeros(12, 3, dtype=torch.float64)
    whole = BatchRandom(torch.Generator().manual_seed(1))
    shares = [BatchRandom(torch.Generator().manual_seed(1), share, 4) for share in range(4)]
    for _ in range(2):
        expected = whole.normal(rows)
        assert expected.dtype == rows.dtype
        assert torch.equal(torch.cat([share.normal(rows[:3]) for share in shares]), expected)
        numbers = whole.uniform_like(rows)
        assert numbers.dtype == torch.float32
        assert torch.equal(torch.cat([share.uniform_like(rows[:3]) for share in shares]), numbers)
        for draw in (lambda d: d.uniform(5), lambda d: d.subset(3, 9)):
            numbers = draw(whole)
            assert all(torch.equal(draw(share), numbers) for share in shares)


def test_subset_draws_distinct_numbers_uniformly() -> None:
    random = BatchRandom(torch.Generator().manual_seed(1))
    subsets = [random.subset(4, 10) for _ in range(3000)]
    assert all(len(subset.unique()) == 4 for subset in subsets)
    counts = torch.bincount(torch.cat(subsets), minlength=10)
    # Six standard deviations of a binomial with mean 1200.
    assert (counts - 1200).abs().max() < 6 * (3000 * 0.4 * 0.6) ** 0.5
