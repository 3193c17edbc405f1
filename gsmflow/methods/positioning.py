"""Scaling of class semantics, and relative positioning to anchor classes (GSMFlow, sec. 3.4)."""

from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray, IntArray
from gsmflow.data.dataset import Problem
from gsmflow.data.scaling import fit_feature_scaling

__all__ = [
    "RelativePositioning",
    "SemanticsScalingName",
    "anchor_classes",
    "scale_semantics",
    "scaled_semantics",
]

SemanticsScalingName: TypeAlias = Literal["none", "norm", "standardised"]


def scale_semantics(
    semantics: FloatArray, fit_classes: IntArray, name: SemanticsScalingName, norm: float
) -> FloatArray:
    """Scale semantics to a range that a network's layers can work with.

    Parameters
    ----------
    semantics
        ``(classes, a)``.
    fit_classes
        The classes that the scale is taken from (the seen ones).
    name
        ``"none"``: as they are (published). ``"norm"``: one factor for all, after which the mean
        L2 norm over ``fit_classes`` is ``norm``; directions and relative lengths stay.
        ``"standardised"``: each dimension to mean 0 and standard deviation 1 over
        ``fit_classes``; a dimension that is constant there becomes 0.
    norm
        Target of ``"norm"``, ``> 0``.
    """
    fit = semantics[fit_classes]
    if name == "standardised":
        return fit_feature_scaling(fit, "standardised")(semantics)
    if name == "norm":
        length = np.linalg.norm(fit.astype(np.float64), axis=1).mean()
        semantics = semantics * (norm / length if length > 0 else 1.0)
    return np.asarray(semantics, dtype=np.float32)


class _Scaled(Protocol):
    """Settings that name a scale."""

    @property
    def semantics_scaling(self) -> SemanticsScalingName: ...

    @property
    def semantics_norm(self) -> float: ...


def scaled_semantics(problem: Problem, config: _Scaled) -> FloatArray:
    """The semantics ``(classes, a)`` of a problem, scaled as a model's settings ask."""
    return scale_semantics(
        problem.semantics, problem.seen_classes, config.semantics_scaling, config.semantics_norm
    )


def anchor_classes(semantics: FloatArray, candidates: IntArray) -> IntArray:
    """The three anchor classes of relative positioning (paper, sec. 3.4).

    Each candidate's cosine similarities to all candidates, itself included, are summed; the
    anchors are the candidates with the smallest, the largest and the median sum (position
    ``n // 2`` of the ascending order; equal sums keep the order of ``candidates``).

    Parameters
    ----------
    semantics
        ``(classes, a)``; a vector of zeros has similarity 0 to every class.
    candidates
        Classes to choose from, ``(n,)``.

    Returns
    -------
    IntArray
        Classes ``[smallest, largest, median]``, ``(3,)``; with fewer than three candidates some
        coincide.
    """
    vectors = semantics[candidates].astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    # The sum over j of u_i . u_j, without the (n, n) matrix. Rounded, because the product of equal
    # rows may differ in the last bits.
    order = np.argsort(np.round(unit @ unit.sum(axis=0), 10), kind="stable")
    return candidates[order[[0, -1, len(order) // 2]]]


class RelativePositioning(nn.Module):
    """Semantics seen from three anchor classes: ``sum_k ReLU(W_k (a - anchor_k) + b_k)``.

    Paper, sec. 3.4. The initial weights are those of torch's linear layers, uniform within
    ``1 / sqrt(a)``.

    Parameters
    ----------
    anchors
        Semantics of the anchor classes, ``(3, a)``; kept as a buffer.
    condition_dim
        Length of the condition.
    generator
        Source of the initial weights.
    """

    anchors: Tensor

    def __init__(
        self, anchors: Tensor, condition_dim: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors.clone())
        a = anchors.shape[1]
        # Making a layer draws from torch's global generator; the fork leaves that unchanged.
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.ModuleList(nn.Linear(a, condition_dim) for _ in anchors)
            for parameter in self.layers.parameters():
                nn.init.uniform_(parameter, -(a**-0.5), a**-0.5, generator=generator)

    def forward(self, semantics: Tensor) -> Tensor:
        """Conditions ``(n, condition_dim)`` of semantics ``(n, a)``; all values ``>= 0``."""
        responses = [
            torch.relu(layer(semantics - anchor))
            for layer, anchor in zip(self.layers, self.anchors, strict=True)
        ]
        return torch.stack(responses).sum(dim=0)
