"""Losses of synthesized features that several generative methods share."""

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.precision import at_least_float32, autocast

__all__ = [
    "batch_class_means",
    "centre_loss",
    "contrastive_loss",
    "nearest_squared_distance",
    "relation_loss",
    "weighted_l1",
]


def batch_class_means(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each row's class in a batch, with gradients; shapes do not depend on the labels.

    Parameters
    ----------
    features, labels
        Rows ``(n, d)`` and their classes ``(n,)``.

    Returns
    -------
    tuple of Tensor
        For each row the mean of all rows of its class, ``(n, d)``, and one divided by the number
        of these rows, ``(n,)``: a sum over rows with these weights is a sum over classes.
    """
    same = (labels[:, None] == labels).to(features.dtype)
    weights = 1 / same.sum(dim=1)
    # A sum of bf16 products would be too coarse for distances from a mean.
    with autocast("fp32", features.device):
        return weights[:, None] * (same @ features), weights


def centre_loss(features: Tensor, labels: Tensor, centres: Tensor, classes: int) -> Tensor:
    """The distances of class means in a batch from the centres of the classes, a scalar.

    Parameters
    ----------
    features, labels
        Synthesized rows ``(n, d)`` and their classes ``(n,)``.
    centres
        The centre of each row's class, ``(n, d)``.
    classes
        What the sum over the classes of the batch is divided by: the number of all seen classes.
    """
    means, weights = batch_class_means(features, labels)
    distances: Tensor = torch.linalg.vector_norm(means - centres, dim=1)
    return (weights * distances).sum() / classes


def nearest_squared_distance(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distance ``(n,)`` of points ``(n, d)`` from the nearest of ``(n, k, d)`` centres."""
    squares = (points[:, None] - centres).square().sum(dim=2)
    nearest: Tensor = squares.amin(dim=1)
    return nearest


def relation_loss(
    means: Tensor, centres: Tensor, neighbours: Tensor, similarities: Tensor, margin: float
) -> Tensor:
    """How far the cosines of means and of centres are from those of the classes' semantics.

    Parameters
    ----------
    means
        Means of synthesized rows, ``(n, d)``.
    centres
        Centres of the seen classes, ``(seen, d)``.
    neighbours
        The seen classes that each mean is compared with, as rows of ``centres``, ``(n, k)``.
    similarities
        The cosines of the semantics of the mean's class and of theirs, ``(n, k)``.
    margin
        A cosine may differ by this much, ``>= 0``.

    Returns
    -------
    Tensor
        For each mean, the mean over its neighbours of the squared excess over the margin, ``(n,)``;
        0 without neighbours.
    """
    with autocast("fp32", means.device):
        directions = functional.normalize(at_least_float32(means))
        cosines = directions @ functional.normalize(centres).T
        difference = (cosines.gather(1, neighbours) - similarities).abs()
        excess = torch.relu(difference - margin).square().sum(dim=1)
        return excess / max(neighbours.shape[1], 1)


def weighted_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """``sum_j |e_j|^3 / ||e||`` of each row's errors ``e``, ``(n,)``: large errors weigh more.

    An absolute error ``|e_j|`` with the weight ``e_j^2 / ||e||``, through which gradients flow.

    Parameters
    ----------
    predicted, target
        ``(n, a)``.
    """
    errors = (at_least_float32(predicted) - target).abs()
    lengths = torch.linalg.vector_norm(errors, dim=1).clamp_min(1e-12)
    losses: Tensor = errors.pow(3).sum(dim=1) / lengths
    return losses


def contrastive_loss(directions: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of a batch, a mean over rows that are not alone, a scalar.

    ``-log(exp(u'v / t) / sum_w exp(u'w / t))`` of a row ``u``, as a mean over the other rows ``v``
    of its class, where ``w`` are all other rows. A row without another of its class is left out.
    Without any such rows, the loss is 0.

    Parameters
    ----------
    directions
        Rows of length 1, ``(n, k)``.
    labels
        Their classes, ``(n,)``.
    temperature
        ``t > 0``.
    """
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = ((labels[:, None] == labels) & others).to(torch.float32)
    with autocast("fp32", directions.device):
        rows = at_least_float32(directions)
        logits = (rows @ rows.T / temperature).where(others, -torch.inf)
        surprise = torch.logsumexp(logits, dim=1, keepdim=True) - logits.where(others, 0.0)
        counts = same.sum(dim=1)
        losses = (same * surprise).sum(dim=1) / counts.clamp_min(1)
        return losses.sum() / (counts > 0).sum().clamp_min(1)
