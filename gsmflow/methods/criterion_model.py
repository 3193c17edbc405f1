"""Models whose settings are chosen on the validation classes for T1, H and calibrated H each.

A method gives the candidates of its settings, a solver that fits many of them at little more than
the cost of one, and scores; `CriterionModel` does the rest.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.progress import counted
from gsmflow.core.rng import Generators
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.evaluation.protocol import Outcome, evaluate_candidates, scale_held_out
from gsmflow.learning.contract import with_tensors
from gsmflow.learning.feed import Scaled
from gsmflow.methods.criteria import CRITERIA, Criterion, criterion_values

__all__ = ["CriterionModel", "ExtensibleCriterionModel", "Settings", "Solution", "Solve"]

Settings: TypeAlias = dict[str, float]
Solution: TypeAlias = dict[str, Tensor]
Solve: TypeAlias = Callable[[Settings], Solution]

_Fitted = TypeVar("_Fitted", bound="CriterionModel")
_Extensible = TypeVar("_Extensible", bound="ExtensibleCriterionModel")
# The tensors that do not depend on a solution.
_OF_CLASSES = ("semantics", "seen_classes", "unseen_classes")


class CriterionModel(nn.Module):
    """A model that scores classes with a solution for each of the three criteria.

    A subclass names its configuration and the candidates of its settings, and implements `solver`
    and `scores`. A setting whose value is none is chosen among its candidates.

    Parameters
    ----------
    config
        Settings.
    tensors
        ``semantics (classes, a)``, ``seen_classes`` and ``unseen_classes``, and the tensors of the
        solutions for T1, for H and for calibrated H, ``(3, ...)`` each, or ``(1, ...)`` where all
        three have the same.
    """

    config_class: ClassVar[type[Any]]
    candidates: ClassVar[Mapping[str, Sequence[float]]]
    semantics: Tensor
    seen_classes: Tensor
    unseen_classes: Tensor

    def __init__(self, config: Any, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    @classmethod
    @abstractmethod
    def solver(cls, scaled: Scaled, config: Any, generators: Generators) -> Solve:
        """A function from values of the settings in ``candidates`` to a solution.

        Its tensors are in single precision or integers, on any device.
        """

    @abstractmethod
    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Scores ``(n, k)`` of scaled features ``(n, d)`` and classes ``(k,)``."""

    @classmethod
    def for_problem(
        cls: type[_Fitted], scaled: Scaled, config: Any, generators: Generators
    ) -> _Fitted:
        """Fit with the values of the settings; arguments as in `Model.for_problem`.

        Raises
        ------
        InputError
            If a setting has no value.
        """
        settings = {name: getattr(config, name) for name in cls.candidates}
        missing = [name for name, value in settings.items() if value is None]
        if missing:
            raise InputError(
                f"{', '.join(missing)}: found no value, expected one where there are no validation "
                "classes to choose it on"
            )
        solution = cls.solver(scaled, config, generators)(settings)
        return cls._of(scaled, config, [solution] * len(CRITERIA))

    @classmethod
    def choose(
        cls, scaled: Scaled, held_out: HeldOut, config: Any, generators: Generators
    ) -> dict[str, Any]:
        """The best settings on a validation problem, by criterion; see `Choosing.choose`.

        Returns
        -------
        dict
            For each criterion the settings, the calibration factor gamma of best H with them, and
            the ``value`` of the criterion.
        """
        problem, device = scaled.problem, scaled.feed.labels.device
        solve = cls.solver(scaled, config, generators)
        model = cls(config, _class_tensors(problem)).to(device)
        rows = scale_held_out(held_out, scaled.scaling, device)
        classes = scaled.on_device(problem.classes)
        unseen = scaled.on_device(problem.unseen_classes)

        def evaluated(settings: Settings) -> Outcome:
            solution = {name: tensor.to(device) for name, tensor in solve(settings).items()}
            [outcome] = evaluate_candidates(
                lambda features: model.scores(solution, features, classes)[None],
                lambda features: model.scores(solution, features, unseen)[None],
                problem,
                rows,
            )
            return outcome

        given = {name: getattr(config, name) for name in cls.candidates}
        options = [cls.candidates[n] if value is None else [value] for n, value in given.items()]
        best: dict[str, Any] = {}
        grid = [*product(*options)]
        for values in counted(grid, "settings", len(grid)):
            settings = dict(zip(cls.candidates, values, strict=True))
            calibration, figures = criterion_values(evaluated(settings))
            for criterion, value in figures.items():
                if criterion not in best or value > best[criterion]["value"]:
                    best[criterion] = {**settings, "calibration": calibration, "value": value}
        return best

    @classmethod
    def for_choice(
        cls: type[_Fitted],
        scaled: Scaled,
        config: Any,
        choice: dict[str, Any],
        generators: Generators,
    ) -> _Fitted:
        """Fit with the settings that `choose` found."""
        solve = cls.solver(scaled, config, generators)
        settings = [{name: choice[c][name] for name in cls.candidates} for c in CRITERIA]
        solutions: dict[tuple[float, ...], Solution] = {}  # of equal settings, one
        for values in settings:
            key = tuple(values.values())
            if key not in solutions:
                solutions[key] = solve(values)
        return cls._of(scaled, config, [solutions[tuple(values.values())] for values in settings])

    @classmethod
    def _of(
        cls: type[_Fitted], scaled: Scaled, config: Any, solutions: Sequence[Solution]
    ) -> _Fitted:
        """A model on the CPU with a solution for each criterion."""
        stacked = {name: _stacked([s[name] for s in solutions]).cpu() for name in solutions[0]}
        return cls(config, _class_tensors(scaled.problem) | stacked)

    @classmethod
    def from_state(
        cls: type[_Fitted], description: dict[str, Any], tensors: dict[str, Tensor]
    ) -> _Fitted:
        """A model from what `describe` and ``state_dict`` gave."""
        return cls(cls.config_class(**description["config"]), tensors)

    def describe(self) -> dict[str, Any]:
        """Settings, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {"model": type(self).__name__, "config": asdict(self.config)}

    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features."""
        gzsl = self._scores_for("H", features, torch.cat([self.seen_classes, self.unseen_classes]))
        return gzsl, self._scores_for("T1", features, self.unseen_classes)

    def calibrated_class_scores(self, features: Tensor) -> FloatArray:
        """GZSL scores ``(n, classes)`` with the settings chosen for calibrated H."""
        classes = torch.cat([self.seen_classes, self.unseen_classes])
        return self._scores_for("calibrated_H", features, classes)

    def _scores_for(self, criterion: Criterion, features: Tensor, classes: Tensor) -> FloatArray:
        """Scores ``(n, k)`` of classes ``(k,)`` with the solution for one criterion."""
        number = CRITERIA.index(criterion)
        stacked = {n: t for n, t in self.state_dict().items() if n not in _OF_CLASSES}
        solution = {n: t[min(number, len(t) - 1)] for n, t in stacked.items()}
        scores = self.scores(solution, features.to(self.semantics), classes)
        return np.asarray(scores.cpu().numpy())


class ExtensibleCriterionModel(CriterionModel):
    """A model whose solutions do not depend on the unseen classes, so that some can be added.

    Classes that are added score as if they had been there from the start: `scores` reads the
    semantics of all classes, a solution only rows and semantics of the seen ones.
    """

    def with_classes(self: _Extensible, problem: Problem) -> _Extensible:
        """The same solutions, with a problem's further unseen classes; on the CPU."""
        return with_tensors(self, _class_tensors(problem))


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors ``(n, ...)`` of one solution each, or ``(1, ...)`` where they are one tensor."""
    first = tensors[0]
    is_one = all(tensor is first for tensor in tensors)
    return first[None].clone() if is_one else torch.stack(list(tensors))


def _class_tensors(problem: Problem) -> dict[str, Tensor]:
    """The tensors that do not depend on a solution, by name."""
    return {name: torch.tensor(getattr(problem, name)) for name in _OF_CLASSES}
