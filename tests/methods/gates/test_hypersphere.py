"""von Mises-Fisher samples against scipy's, and transport costs against a linear programme."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.special import ive
from scipy.stats import ks_2samp, vonmises_fisher
from torch.nn import functional

from gsmflow.methods.gates.boundary import draw_von_mises_fisher, transport_cost
from tests.builders import seeded


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    normal = torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)
    return functional.normalize(normal, dim=-1)


@pytest.mark.parametrize(("m", "kappa"), [(3, 2.0), (5, 20.0), (64, 100.0), (64, 400.0)])
def test_samples_are_distributed_as_in_scipy(m: int, kappa: float) -> None:
    direction = unit(1, m)
    draws = draw_von_mises_fisher(direction, torch.tensor([kappa]).double(), 4000, seeded(1))[0]
    assert torch.allclose(draws.norm(dim=1), torch.ones(4000).double())
    mean = direction[0].numpy()
    theirs = vonmises_fisher(mean, kappa).rvs(4000, random_state=np.random.default_rng(2))
    for axis in (mean, unit(1, m, seed=3)[0].numpy()):
        assert ks_2samp(draws.numpy() @ axis, theirs @ axis).pvalue > 1e-3
    # The mean resultant length, by the ratio of Bessel functions.
    expected = ive(m / 2, kappa) / ive(m / 2 - 1, kappa)
    resultant = draws.mean(dim=0).numpy()
    assert resultant @ mean == pytest.approx(expected, abs=0.01)
    assert np.linalg.norm(resultant - (resultant @ mean) * mean) < 0.05


def test_cosines_have_the_density_normalised_by_a_bessel_function() -> None:
    m, kappa = 64, 100.0
    direction = unit(1, m)
    draws = draw_von_mises_fisher(direction, torch.tensor([kappa]).double(), 20_000, seeded(1))[0]
    cosines = draws.numpy() @ direction[0].numpy()
    # log C of C exp(kappa w), times the area of the sphere of directions across (scipy's logpdf
    # holds the same normaliser).
    log_c = (m / 2 - 1) * np.log(kappa) - (m / 2) * np.log(2 * np.pi)
    log_c -= np.log(ive(m / 2 - 1, kappa)) + kappa
    mean = direction[0].numpy()
    assert log_c + kappa == pytest.approx(vonmises_fisher(mean, kappa).logpdf(mean))
    w = np.linspace(-1, 1, 20_001)
    density = np.exp(log_c + kappa * w) * (1 - w**2) ** ((m - 3) / 2)
    share = np.cumsum(density) / density.sum()
    for quantile in (0.1, 0.5, 0.9):
        assert np.mean(cosines <= w[np.searchsorted(share, quantile)]) == pytest.approx(
            quantile, abs=0.015
        )


def test_rows_have_separate_directions_and_a_seed_fixes_the_samples() -> None:
    directions, kappa = unit(6, 8), torch.full((6,), 500.0).double()
    draws = draw_von_mises_fisher(directions, kappa, 3, seeded(1))
    assert draws.shape == (6, 3, 8)
    nearest = (draws.reshape(18, 8) @ directions.T).argmax(dim=1)
    assert nearest.tolist() == np.repeat(np.arange(6), 3).tolist()
    assert torch.equal(draws, draw_von_mises_fisher(directions, kappa, 3, seeded(1)))
    assert not torch.equal(draws, draw_von_mises_fisher(directions, kappa, 3, seeded(2)))


def test_gradient_follows_the_direction_and_the_concentration() -> None:
    direction = unit(1, 6).requires_grad_()
    kappa = torch.tensor([50.0], dtype=torch.float64, requires_grad=True)
    draws = draw_von_mises_fisher(direction, kappa, 500, seeded(1))
    towards = (draws @ direction[0].detach()).mean()
    towards.backward()
    assert kappa.grad is not None
    assert direction.grad is not None
    # A higher concentration brings the draws nearer: d A(kappa) / d kappa is positive.
    slope = (ive(3, 51) / ive(2, 51) - ive(3, 49) / ive(2, 49)) / 2
    assert kappa.grad.item() == pytest.approx(slope, rel=0.25)


def test_transport_cost_is_near_that_of_a_linear_programme() -> None:
    first, second = unit(3, 4, 3), unit(3, 5, 3, seed=1)
    found = transport_cost(first, second, 0.003, 5000)
    for i in range(3):
        costs = ((first[i][:, None] - second[i]) ** 2).sum(dim=2).numpy()
        rows = np.kron(np.eye(4), np.ones(5))
        columns = np.kron(np.ones(4), np.eye(5))
        marginals = np.concatenate([np.full(4, 1 / 4), np.full(5, 1 / 5)])
        solved = linprog(costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=marginals)
        assert found[i].item() == pytest.approx(solved.fun, rel=0.02)


def test_following_the_gradient_of_the_cost_brings_clouds_together() -> None:
    first, second = unit(1, 6, 4).requires_grad_(), unit(1, 6, 4, seed=1)
    before = transport_cost(first, second, 0.05, 100)
    (gradient,) = torch.autograd.grad(before.sum(), first)
    moved = (first - gradient).detach()
    assert transport_cost(moved, second, 0.05, 100) < 0.9 * before
