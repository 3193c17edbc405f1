"""What direct and indirect attribute prediction share: binary attributes, and scores from them.

The attributes are read from a file. Without one, an attribute of a class is present if its
semantics are above their mean over all classes. Class c has ``b_cm`` in {0, 1} of attribute m,
whose prior ``p(b_m)`` is its frequency in the seen classes. The score of a class is
``sum_m log p(b_cm | x) - sum_m log p(b_cm)``. Attributes that all seen classes have, or none of
them, are left out: nothing can be learned of them.
"""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.rng import Generators
from gsmflow.data.binary_attributes import read_binary_attributes
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.learning.feed import Scaled
from gsmflow.methods.criterion_model import CriterionModel, Solution

__all__ = [
    "AttributeConfig",
    "AttributeModel",
    "attribute_scores",
    "binary_attributes",
    "learned_attributes",
]

_Fitted = TypeVar("_Fitted", bound="AttributeModel")

# The lowest probability that counts.
_CLIP = 1e-6
# The digest of the attributes, beside the settings that were chosen with them.
_DIGEST = "attributes_blake2b"


@dataclass(frozen=True)
class AttributeConfig:
    """The settings of the binary attributes."""

    binary_attributes: str = ""
    """MATLAB file of the classes' binary attributes: attr (classes, attributes) of 0 and 1, with
    the classes in the dataset's order; empty: a class has the attributes in which its semantics
    are above their mean over all classes."""


def binary_attributes(problem: Problem, config: AttributeConfig) -> FloatArray:
    """Whether a class has an attribute, 0 or 1, ``(classes, a)``: from the file, or the semantics.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    if config.binary_attributes:
        return read_binary_attributes(Path(config.binary_attributes), problem.class_names)
    # The mean of torch, whose last digit may differ from NumPy's.
    semantics = torch.tensor(problem.semantics)
    above: FloatArray = (semantics > semantics.mean(dim=0)).to(semantics).numpy()
    return above


def learned_attributes(scaled: Scaled, config: AttributeConfig) -> Tensor:
    """The binary attributes that differ among the seen classes, ``(classes, m)``, on their device.

    Raises
    ------
    InputError
        If the file of attributes cannot be used, or there is no such attribute.
    """
    attributes = binary_attributes(scaled.problem, config)
    of_seen = attributes[scaled.problem.seen_classes]
    learned = (of_seen != of_seen[0]).any(axis=0)
    if not learned.any():
        raise InputError(
            f"{config.binary_attributes or 'binary attributes'}: found no attribute that some seen "
            "classes have and others have not, expected one at least"
        )
    return scaled.on_device(attributes[:, learned])


def attribute_scores(
    probabilities: tuple[Tensor, Tensor], attributes: Tensor, classes: Tensor, seen: Tensor
) -> Tensor:
    """Log-probability of each class's attributes, less that of the prior, ``(n, k)``.

    Parameters
    ----------
    probabilities
        Probabilities that a row has each attribute and that it does not have it, ``(n, m)`` each.
        Both, because the rounding of one near 1 is larger than the other.
    attributes
        ``b``, ``(classes, m)``; each differs among the seen classes.
    classes, seen
        The classes to score, ``(k,)``, and the seen classes.
    """
    b, prior = attributes[classes], attributes[seen].mean(dim=0)
    p, q = (of_rows.clamp(min=_CLIP) for of_rows in probabilities)
    present, absent = p.log() - prior.log(), q.log() - (1 - prior).log()
    return present @ b.T + absent @ (1 - b).T


class AttributeModel(CriterionModel):
    """A model that predicts binary attributes, and with them the classes.

    Each of its solutions has the ``attributes`` that `learned_attributes` gave, so that a saved
    model needs no file. The choice of its settings has their digest: a file that has changed since
    then is refused. It takes no further classes: they have no row in the file, and would move the
    mean at which semantics are thresholded.
    """

    config: Any

    @abstractmethod
    def probabilities(self, solution: Solution, features: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities that rows have each attribute, and that they do not have it.

        ``(n, m)`` each, of scaled features ``(n, d)``.
        """

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Log-probabilities ``(n, k)`` of the attributes of classes ``(k,)``, less the prior's."""
        probabilities = self.probabilities(solution, features)
        return attribute_scores(probabilities, solution["attributes"], classes, self.seen_classes)

    @classmethod
    def choose(
        cls, scaled: Scaled, held_out: HeldOut, config: Any, generators: Generators
    ) -> dict[str, Any]:
        """The best settings; see `CriterionModel.choose`. They have the digest of the attributes.

        Raises
        ------
        InputError
            If the file of attributes cannot be used.
        """
        choice = super().choose(scaled, held_out, config, generators)
        if not config.binary_attributes:
            return choice
        digest = _digest(binary_attributes(scaled.problem, config))
        return {criterion: {**best, _DIGEST: digest} for criterion, best in choice.items()}

    @classmethod
    def for_choice(
        cls: type[_Fitted],
        scaled: Scaled,
        config: Any,
        choice: dict[str, Any],
        generators: Generators,
    ) -> _Fitted:
        """Fit with the settings that `choose` found.

        Raises
        ------
        InputError
            If the file of attributes cannot be used, or is another than that of the choice.
        """
        if config.binary_attributes:
            found = _digest(binary_attributes(scaled.problem, config))
            if any(found != best.get(_DIGEST) for best in choice.values()):
                raise InputError(
                    f"{config.binary_attributes}: found other attributes than those that this "
                    "run's settings were chosen with, expected the same file; start a new run"
                )
        return super().for_choice(scaled, config, choice, generators)


def _digest(attributes: FloatArray) -> str:
    """A digest of binary attributes and their number."""
    packed = np.packbits(attributes.astype(bool), axis=1)
    return hashlib.blake2b(
        repr(attributes.shape).encode() + packed.tobytes(), digest_size=16
    ).hexdigest()
