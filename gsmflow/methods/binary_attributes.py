"""Scores of classes from the probabilities of binary attributes, of direct and indirect prediction.

An attribute of a class is present if its semantics are above their mean over all classes. Class c
has ``b_cm`` in {0, 1} of attribute m, whose prior ``p(b_m)`` is its frequency in the seen classes.
The score of a class is ``sum_m log p(b_cm | x) - sum_m log p(b_cm)``. Attributes that all seen
classes have, or none of them, are left out: nothing can be learned of them.
"""

from torch import Tensor

__all__ = ["attribute_scores", "binary_attributes", "learned_attributes"]

# Probabilities are clipped to this distance from 0 and 1.
_CLIP = 1e-6


def binary_attributes(semantics: Tensor) -> Tensor:
    """Whether a class has an attribute, 0 or 1, of semantics; both ``(classes, a)``."""
    return (semantics > semantics.mean(dim=0)).to(semantics)


def learned_attributes(attributes: Tensor, seen: Tensor) -> Tensor:
    """Those ``(m,)`` of the attributes ``(classes, a)`` that differ among seen classes ``(k,)``."""
    of_seen = attributes[seen]
    return (of_seen != of_seen[0]).any(dim=0).nonzero()[:, 0]


def attribute_scores(
    probabilities: Tensor, attributes: Tensor, classes: Tensor, seen: Tensor
) -> Tensor:
    """Log-probability of each class's attributes, less that of the prior, ``(n, k)``.

    Parameters
    ----------
    probabilities
        Probability that a row has each attribute, ``(n, a)``.
    attributes
        ``b``, ``(classes, a)``.
    classes, seen
        The classes to score, ``(k,)``, and the seen classes.
    """
    learned = learned_attributes(attributes, seen)
    b, p = attributes[classes][:, learned], probabilities[:, learned].clamp(_CLIP, 1 - _CLIP)
    prior = attributes[seen][:, learned].mean(dim=0)
    present, absent = p.log() - prior.log(), (1 - p).log() - (1 - prior).log()
    return present @ b.T + absent @ (1 - b).T
