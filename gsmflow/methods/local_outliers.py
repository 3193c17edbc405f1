"""LoOP, the local outlier probability: how much sparser a point lies than its neighbours.

Kriegel et al., "LoOP: Local Outlier Probabilities", CIKM 2009. The neighbours ``S(x)`` of a point
are the k nearest of the reference points, without the point itself, and
``sigma(x) = sqrt(mean over S(x) of |x - s|^2)``. The outlier factor is
``PLOF(x) = sigma(x) / (mean of sigma over S(x)) - 1``, which is 0 at the density of the neighbours.
With ``nPLOF = extent sqrt(mean of PLOF^2 over the reference points)`` the probability is
``max(0, erf(PLOF(x) / (sqrt(2) nPLOF)))``. The paper multiplies sigma with the extent too, which
cancels in PLOF.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gsmflow.core.errors import InputError

__all__ = ["LocalOutliers", "fit_local_outliers"]

_CHUNK = 1024
_FEWEST = 2
# The lowest probability of an outlier and of an inlier, so that both have finite logarithms.
_LOWEST = 1e-30


class LocalOutliers(NamedTuple):
    """Reference points, and what is computed from them.

    Attributes
    ----------
    points
        The reference points, ``(n, a)``.
    sigma
        Root mean squared distance of each reference point to its neighbours, ``(n,)``.
    deviation
        Root mean square of PLOF over the reference points, a scalar.
    neighbours
        The number k of neighbours, a scalar.
    """

    points: Tensor
    sigma: Tensor
    deviation: Tensor
    neighbours: Tensor

    def factors(self, rows: Tensor) -> Tensor:
        """PLOF ``(m,)`` of new rows ``(m, a)``."""
        sigma, nearest = _nearest(rows, self.points, int(self.neighbours))
        return _factors(sigma, self.sigma[nearest])

    def probabilities(self, rows: Tensor, extent: float | Tensor) -> Tensor:
        """LoOP of new rows ``(m, a)``, ``(m,)`` in [0, 1].

        Parameters
        ----------
        rows
            The rows.
        extent
            Multiple of the standard deviation beyond which a row is an outlier, above 0.
        """
        return torch.erf(self._deviations(rows, extent))

    def log_probabilities(self, rows: Tensor, extent: float | Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of LoOP and of 1 - LoOP, ``(m,)`` each, none below log 1e-30.

        Arguments as `probabilities` has them.
        """
        deviations = self._deviations(rows, extent)
        outlier, inlier = torch.erf(deviations), torch.erfc(deviations)
        return outlier.clamp(min=_LOWEST).log(), inlier.clamp(min=_LOWEST).log()

    def _deviations(self, rows: Tensor, extent: float | Tensor) -> Tensor:
        """``PLOF / (sqrt(2) nPLOF)``, at least 0, ``(m,)``."""
        scale = extent * 2**0.5 * self.deviation.clamp(min=_LOWEST)
        return (self.factors(rows) / scale).clamp(min=0)


def fit_local_outliers(points: Tensor, neighbours: int) -> LocalOutliers:
    """Fit LoOP to reference points.

    Parameters
    ----------
    points
        ``(n, a)``.
    neighbours
        The number k of neighbours, at least 1; with fewer other points, all of them.

    Raises
    ------
    InputError
        If there are fewer than two points.
    """
    if len(points) < _FEWEST:
        raise InputError(
            f"local outlier probabilities: found {len(points)} training rows, expected at least "
            f"{_FEWEST}"
        )
    k = min(neighbours, len(points) - 1)
    sigma, nearest = _nearest(points, points, k, themselves=True)
    deviation = _factors(sigma, sigma[nearest]).square().mean().sqrt()
    return LocalOutliers(points, sigma, deviation, torch.tensor(k))


def _nearest(
    rows: Tensor, points: Tensor, neighbours: int, *, themselves: bool = False
) -> tuple[Tensor, Tensor]:
    """Root mean squared distance to the nearest points, ``(m,)``, and their numbers ``(m, k)``.

    With ``themselves``, the rows are the points, and none is its own neighbour.
    """
    sigmas, numbers = [], []
    for start in range(0, max(1, len(rows)), _CHUNK):  # also for no rows
        distances = torch.cdist(rows[start : start + _CHUNK], points)
        if themselves:
            distances.diagonal(start).fill_(torch.inf)
        nearest, number = distances.topk(neighbours, dim=1, largest=False)
        sigmas.append(nearest.square().mean(dim=1).sqrt())
        numbers.append(number)
    return torch.cat(sigmas), torch.cat(numbers)


def _factors(sigma: Tensor, sigma_of_nearest: Tensor) -> Tensor:
    """PLOF ``(m,)``; 0 for rows whose neighbours all coincide with their own neighbours."""
    expected = sigma_of_nearest.mean(dim=1)
    return torch.where(expected > 0, sigma / expected - 1, 0.0)
