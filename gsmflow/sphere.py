"""Vectors on the unit sphere: the von Mises-Fisher distribution, and transport between clouds."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["draw_von_mises_fisher", "transport_cost"]


def draw_von_mises_fisher(
    direction: Tensor, kappa: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Draws from von Mises-Fisher distributions, whose density is ``C exp(kappa direction . x)``.

    Wood (1994): a cosine ``w`` to the direction is accepted or rejected, and the rest of the vector
    is uniform. A normal vector ``g`` serves for both: its cosine to the direction is distributed
    as the proposal's uniform one, and its part across the direction is uniform and independent of
    it. Gradients reach the direction, and ``kappa`` through the accepted proposal; the share that
    is accepted is taken as constant.

    Parameters
    ----------
    direction
        Unit vectors, ``(n, m)``, ``m >= 2``.
    kappa
        Concentrations, ``(n,)``, above 0.
    count
        Draws of each.
    generator
        On the device of the directions.

    Returns
    -------
    Tensor
        Unit vectors, ``(n, count, m)``.
    """
    n, m = direction.shape
    mean, k = direction[:, None], kappa[:, None].expand(n, count)
    b = (m - 1) / (2 * k + (4 * k.square() + (m - 1) ** 2).sqrt())
    with torch.no_grad():
        cosine, across = _accepted(mean, k, b, generator)
    z = (1 + cosine) / 2
    w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
    # Across the direction again, for its gradient.
    across = across - (across * mean).sum(dim=2, keepdim=True) * mean
    across = functional.normalize(across, dim=2)
    return w[..., None] * mean + (1 - w.square()).clamp(min=0).sqrt()[..., None] * across


def _accepted(
    mean: Tensor, k: Tensor, b: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Uniform cosines ``(n, count)`` that lead to accepted ones, and parts across the direction."""
    n, count = k.shape
    m = mean.shape[2]
    x = (1 - b) / (1 + b)
    constant = k * x + (m - 1) * (1 - x.square()).log()
    cosine, across = k.new_empty(n, count), k.new_empty(n, count, m)
    waiting = torch.ones_like(k, dtype=torch.bool)
    while waiting.any():
        rows, draws = waiting.nonzero(as_tuple=True)
        shape = (len(rows), m)
        g = torch.randn(shape, generator=generator, device=k.device, dtype=k.dtype)
        u = torch.rand(len(rows), generator=generator, device=k.device, dtype=k.dtype)
        own, own_b = mean[rows, 0], b[rows, draws]
        along = (g * own).sum(dim=1)
        t = along / g.norm(dim=1)
        z = (1 + t) / 2
        w = (1 - (1 + own_b) * z) / (1 - (1 - own_b) * z)
        told = k[rows, draws] * w + (m - 1) * (1 - x[rows, draws] * w).log()
        good = told - constant[rows, draws] >= u.log()
        rows, draws = rows[good], draws[good]
        cosine[rows, draws] = t[good]
        across[rows, draws] = (g - along[:, None] * own)[good]
        waiting[rows, draws] = False
    return cosine, across


def transport_cost(first: Tensor, second: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Cost ``(n,)`` of the entropic optimal transport between clouds of equally weighted points.

    The cost of a pair of points is their squared distance. Sinkhorn's iterations (Cuturi, NeurIPS
    2013) find the plan; gradients take it as constant, as is right at its optimum.

    Parameters
    ----------
    first, second
        ``(n, k, m)`` and ``(n, l, m)``.
    epsilon
        Weight of the entropy, above 0; the smaller, the nearer to the optimal transport.
    iterations
        At most so many.
    """
    # A third of a second, which only the boundary gate's training is to pay.
    from ot.batch import solve_batch

    costs = (first[:, :, None] - second[:, None]).square().sum(dim=3)
    solved = solve_batch(costs, epsilon, max_iter=iterations, method="log_sinkhorn")
    cost: Tensor = solved.value_linear
    return cost
