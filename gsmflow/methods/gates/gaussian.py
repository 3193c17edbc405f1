"""The gate `gaussian`: a row that is unlikely under the Gaussians of all seen classes is unseen.

Socher et al., "Zero-Shot Learning Through Cross-Modal Transfer", NeurIPS 2013. A regression maps
features to semantics, where every seen class has an isometric Gaussian around its semantics.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from torch import Tensor, nn

from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Scaled
from gsmflow.methods.gates.base import GateKind
from gsmflow.methods.isometric_gaussians import IsometricGaussians, fit_isometric_gaussians
from gsmflow.methods.semantic_regression import (
    SemanticRegression,
    SemanticRegressionConfig,
    fit_semantic_regression,
    mapped_slabs,
)

__all__ = ["GATE", "GaussianConfig", "SemanticGaussians"]


@dataclass(frozen=True)
class GaussianConfig(SemanticRegressionConfig):
    """The settings of the gate `gaussian`."""

    share: Annotated[float, Range(above=0, max=1)] = 0.95
    """Share of held-out seen rows that the gate's threshold accepts."""


class SemanticGaussians(nn.Module):
    """A regression onto semantics, and a Gaussian of each seen class there.

    Parameters
    ----------
    config
        Settings.
    tensors
        Those of a `SemanticRegression` and of `IsometricGaussians`, by their names.
    """

    def __init__(self, config: GaussianConfig, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        for name in (*SemanticRegression._fields, *IsometricGaussians._fields):
            self.register_buffer(name, tensors[name])

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: GaussianConfig, generators: Generators
    ) -> "SemanticGaussians":
        """A model that is fitted to a problem's training rows, on the CPU.

        Parameters
        ----------
        scaled
            The problem, and its scaled training rows.
        config
            Settings.
        generators
            Source of the initial weights.
        """
        problem = scaled.problem
        semantics = scaled.on_device(problem.semantics)
        seen = scaled.on_device(problem.seen_classes)
        regression = fit_semantic_regression(scaled.feed, semantics, config, generators)
        slabs = mapped_slabs(regression, scaled.feed)
        gaussians = fit_isometric_gaussians(slabs, seen, semantics[seen])
        tensors = {**regression._asdict(), **gaussians._asdict()}
        return cls(config, {name: tensor.cpu() for name, tensor in tensors.items()})

    @classmethod
    def from_state(
        cls, description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> "SemanticGaussians":
        """A model from what `describe` and ``state_dict`` gave."""
        return cls(GaussianConfig(**description["config"]), tensors)

    def describe(self) -> dict[str, Any]:
        """Settings, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {"model": "SemanticGaussians", "config": asdict(self.config)}

    def novelty(self, features: Tensor) -> Tensor:
        """Minus the highest log-density under a seen class, ``(n,)``, of scaled rows ``(n, d)``."""
        regression = SemanticRegression(*map(self.get_buffer, SemanticRegression._fields))
        gaussians = IsometricGaussians(*map(self.get_buffer, IsometricGaussians._fields))
        return gaussians.novelty(regression.map(features))


GATE = GateKind("gaussian", GaussianConfig)
