"""The choice of the calibration factor gamma on validation classes, and whether it is worth having.

A gamma that is best on some held-out rows is in part their luck, the more so the fewer classes they
are of. So its gain over no calibration is cross-validated: each part of the rows in turn is
evaluated with the gamma that is best on the other parts. Where the mean gain is within twice its
standard error, there is no calibration. The parts are several draws of validation classes, or folds
of the classes of one draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsmflow.core.rounding import fixed
from gsmflow.data.dataset import Problem
from gsmflow.data.splits import SPLIT_SEED
from gsmflow.evaluation.balance_names import Balance
from gsmflow.evaluation.metrics import best_interval
from gsmflow.evaluation.protocol import Outcome

__all__ = [
    "BalanceCurve",
    "GammaChoice",
    "balance_curve",
    "choose_gamma",
    "fold_curves",
    "gamma_for",
]

# Folds of the classes of one draw, at most.
_FOLDS = 5
# A gain of so many standard errors is more than noise.
_SURE = 2.0


@dataclass(frozen=True, eq=False)
class BalanceCurve:
    """What is balanced, as a step function of gamma, on some held-out rows.

    Attributes
    ----------
    edges
        Where it changes, ascending, from minus to plus infinity, ``(m + 1,)``.
    values
        Its value in each of the intervals between them, ``(m,)``, in [0, 1].
    plain
        Its value without calibration.
    """

    edges: NDArray[np.float64]
    values: NDArray[np.float64]
    plain: float

    def at(self, gammas: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values at finite gammas ``(k,)``."""
        return np.asarray(self.values[np.searchsorted(self.edges[1:-1], gammas, side="right")])

    def as_tensors(self) -> dict[str, Tensor]:
        """The curve, to be saved; `from_tensors` reads it."""
        plain = torch.tensor(self.plain, dtype=torch.float64)
        return {
            "edges": torch.from_numpy(self.edges),
            "values": torch.from_numpy(self.values),
            "plain": plain,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "BalanceCurve":
        """The curve that `as_tensors` gave.

        Raises
        ------
        KeyError, ValueError
            If these are not the tensors of a curve.
        """
        edges, values, plain = (tensors[name].numpy() for name in ("edges", "values", "plain"))
        if not (edges.ndim == values.ndim == 1 and len(edges) == len(values) + 1 > 1):
            raise ValueError(f"{edges.shape} edges of {values.shape} values")
        ends = edges[[0, -1]].tolist() == [-np.inf, np.inf]
        if not (ends and (np.diff(edges) > 0).all()):
            raise ValueError("edges that do not ascend from minus to plus infinity")
        if not ((values >= 0) & (values <= 1)).all() or not 0 <= plain.item() <= 1:
            raise ValueError("values that are not in [0, 1]")
        return cls(edges, values, plain.item())


@dataclass(frozen=True)
class GammaChoice:
    """A calibration factor, and what it is worth on validation classes.

    Attributes
    ----------
    balance
        What it is chosen for.
    gamma
        The calibration factor; 0 for no calibration.
    best
        The factor that is best on the validation rows, whether its gain is within its noise or not.
    parts
        How many parts the gain was cross-validated over; below 2 it is not known.
    draws
        How many draws of validation classes they are of.
    gain, error
        Mean and standard error of the cross-validated gain over no calibration, in [-1, 1]; None
        where it is not known.
    """

    balance: Balance
    gamma: float
    best: float
    parts: int
    draws: int
    gain: float | None = None
    error: float | None = None

    def sentence(self) -> str:
        """What was chosen and why, in one sentence."""
        if self.balance == "none":
            return "no calibration factor (--balance none)"
        value = "H" if self.balance == "harmonic" else "the mean accuracy of all classes"
        where = f"{self.draws} draws of validation classes"
        if self.draws == 1:
            where = f"{self.parts} folds of validation classes"
        if self.gain is None or self.error is None:
            return "no calibration factor: its gain cannot be cross-validated on one class"
        gain = f"{fixed(100 * self.gain)} ± {fixed(100 * self.error)}"
        found = f"gain in {value}, cross-validated over {where}: {gain} points"
        if self.gamma == 0:
            return f"no calibration factor: its {found}, is within its noise"
        return f"calibration factor gamma {self.gamma:.4g}; {found}"


def balance_curve(outcome: Outcome, problem: Problem, balance: Balance) -> BalanceCurve:
    """What is balanced on the rows of an outcome.

    Parameters
    ----------
    outcome
        A method's answers on validation rows.
    problem
        The validation problem. The classes that it leaves out are the unseen ones of the final
        problem.
    balance
        ``"overall"``: the mean accuracy of all classes of the final problem, with the shares of
        seen and unseen ones there; else the harmonic mean H.
    """
    curve = outcome.curve()
    if balance == "overall":
        unseen_share = 1 - len(problem.classes) / len(problem.class_names)
        shares = np.array([unseen_share, 1 - unseen_share])
        values = shares @ np.stack([curve.unseen, curve.seen])
        plain = float(shares @ [outcome.unseen_accuracy, outcome.seen_accuracy])
        return BalanceCurve(curve.edges, values, plain)
    return BalanceCurve(curve.edges, curve.harmonic_means(), outcome.harmonic_mean)


def fold_curves(outcome: Outcome, problem: Problem, balance: Balance) -> list[BalanceCurve]:
    """The `balance_curve` of each fold of the classes of an outcome.

    There are five folds, or as many as there are seen or unseen classes with rows. Each class is in
    one fold, with all its rows.
    """
    seen = outcome.row_is_seen
    sides = [np.unique(outcome.labels[side]) for side in (seen, ~seen)]
    count = min(_FOLDS, *(len(classes) for classes in sides))
    rng = np.random.default_rng(SPLIT_SEED)
    folds = np.zeros(len(problem.class_names), dtype=np.int64)
    for classes in sides:
        folds[rng.permutation(classes)] = np.arange(len(classes)) % count
    of_rows = folds[outcome.labels]
    return [balance_curve(outcome.of_rows(of_rows == f), problem, balance) for f in range(count)]


def gamma_for(
    outcome: Outcome, problem: Problem, balance: Balance, further: Sequence[BalanceCurve] = ()
) -> GammaChoice:
    """Choose gamma by an outcome on validation rows, and by the curves of further draws, if any.

    ``problem`` and ``balance`` are as of `balance_curve`.
    """
    draws = [balance_curve(outcome, problem, balance), *further]
    return choose_gamma(balance, draws, [] if further else fold_curves(outcome, problem, balance))


def choose_gamma(
    balance: Balance, draws: Sequence[BalanceCurve], folds: Sequence[BalanceCurve]
) -> GammaChoice:
    """Choose the gamma of the highest mean over draws; 0 where its gain is within its noise.

    The gain is cross-validated over the draws, or over the class folds of a single one. Where there
    is but one part, it is not known, and there is no calibration.

    Parameters
    ----------
    balance
        What is balanced; ``"none"``: no calibration.
    draws
        The curve of each draw of validation classes, one at least.
    folds
        The curves of the class folds of a single draw.
    """
    best, parts = _best_gamma(draws), draws if len(draws) > 1 else folds
    count = len(parts)
    if count < 2:
        return GammaChoice(balance, 0.0, best, count, len(draws))
    others = [[*parts[:part], *parts[part + 1 :]] for part in range(count)]
    gains = np.array(
        [
            float(curve.at(np.array([_best_gamma(rest)]))[0]) - curve.plain
            for curve, rest in zip(parts, others, strict=True)
        ]
    )
    gain, error = float(gains.mean()), float(gains.std(ddof=1)) / np.sqrt(count)
    gamma = best if balance != "none" and gain > _SURE * error else 0.0
    return GammaChoice(balance, gamma, best, count, len(draws), gain, float(error))


def _best_gamma(curves: Sequence[BalanceCurve]) -> float:
    """The gamma of the highest mean of the curves: the middle of the longest best interval."""
    edges = np.unique(np.concatenate([curve.edges for curve in curves]))
    # Each interval's left end is in it; minus infinity is in the first one of every curve.
    values = np.mean([curve.at(edges[:-1]) for curve in curves], axis=0)
    return best_interval(edges, values)
