"""Models that know the classes by their semantics, trained on the seen classes."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.rng import Generators
from gsmflow.data.dataset import Problem
from gsmflow.learning.contract import with_tensors
from gsmflow.learning.feed import Scaled

__all__ = ["ClassModel", "SemanticModel"]

_Model = TypeVar("_Model", bound="ClassModel")
_BUFFERS = ("semantics", "seen_classes", "unseen_classes")


class ClassModel(nn.Module, ABC):
    """What is common to these models; each method has a subclass with its settings and its loss.

    Parameters
    ----------
    config
        Settings, a `config_class`.
    feature_dim
        ``d``.
    generator
        Source of the initial weights; None if they are loaded.
    buffers
        ``semantics`` of every class, ``(classes, a)``, as `semantics_of` gives them;
        ``seen_classes`` and ``unseen_classes``, each ascending; and what `fitted_tensors` gave.

    Attributes
    ----------
    config_class
        The settings' class.
    fitted_names
        The names of all tensors that `fitted_tensors` may give.
    """

    config_class: ClassVar[type[Any]]
    fitted_names: ClassVar[tuple[str, ...]] = ()
    semantics: Tensor
    seen_classes: Tensor
    unseen_classes: Tensor

    def __init__(
        self,
        config: Any,
        feature_dim: int,
        generator: torch.Generator | None,
        **buffers: Tensor,
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_dim = feature_dim
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    @classmethod
    @abstractmethod
    def semantics_of(cls, problem: Problem, config: Any) -> Tensor:
        """The semantics of every class of a problem, scaled for the model, ``(classes, a)``."""

    @classmethod
    def fitted_tensors(
        cls, scaled: Scaled, config: Any, generators: Generators
    ) -> dict[str, Tensor]:
        """What is fitted before the training and fixed in it, on the CPU, by `fitted_names`."""
        return {}

    @classmethod
    def for_problem(
        cls: type[_Model], scaled: Scaled, config: Any, generators: Generators
    ) -> _Model:
        """A model for a problem, untrained, on the CPU; arguments as `Model.for_problem` has."""
        generator = generators.on_cpu("initial weights")
        buffers = cls._class_tensors(scaled.problem, config)
        buffers |= cls.fitted_tensors(scaled, config, generators)
        return cls(config, scaled.feed.feature_dim, generator, **buffers)

    @classmethod
    def from_state(
        cls: type[_Model], description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> _Model:
        """A model from what `describe` and ``state_dict`` gave."""
        names = (*_BUFFERS, *cls.fitted_names)
        buffers = {name: tensors[name] for name in names if name in tensors}
        config = cls.config_class(**description["config"])
        model = cls(config, description["feature_dim"], None, **buffers)
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        """Settings and sizes, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {
            "model": type(self).__name__,
            "config": asdict(self.config),
            "feature_dim": self.feature_dim,
        }

    def with_classes(self: _Model, problem: Problem) -> _Model:
        """The same weights, with a problem's further unseen classes; on the CPU."""
        return with_tensors(self, self._class_tensors(problem, self.config))

    @classmethod
    def _class_tensors(cls, problem: Problem, config: Any) -> dict[str, Tensor]:
        """The tensors of a problem that are not trained, by name."""
        return {
            "semantics": cls.semantics_of(problem, config),
            "seen_classes": torch.tensor(problem.seen_classes),
            "unseen_classes": torch.tensor(problem.unseen_classes),
        }


class SemanticModel(ClassModel):
    """A model that scores classes by their semantics. Parameters as `ClassModel` has them."""

    @abstractmethod
    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """Scores ``(n, k)`` of scaled features ``(n, d)`` and classes ``(k,)``."""

    @torch.no_grad()
    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features."""
        classes = torch.cat([self.seen_classes, self.unseen_classes])
        found = self.scores(features, classes).cpu().numpy()
        return found, found[:, len(self.seen_classes) :]
