"""ESZSL, a bilinear method with a closed-form solution (Romera-Paredes and Torr, ICML 2015).

A bilinear score ``x V s`` of features and semantics, with
``V = (X'X + gamma I)^-1 X'Y S (S'S + lambda I)^-1``, where ``Y`` is +1 at a row's class and -1
elsewhere. Features are standardised per dimension on the training rows, which improves the results
considerably.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.linear_algebra import double_device, product, symmetric_eigen
from gsmflow.core.progress import counted
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import HeldOut
from gsmflow.evaluation.protocol import evaluate_candidates, scale_held_out
from gsmflow.learning.feed import Scaled, row_slabs
from gsmflow.learning.method import Method
from gsmflow.methods.criteria import CRITERIA, Criterion, criterion_values

__all__ = [
    "ESZSL",
    "METHOD",
    "ESZSLChoice",
    "ESZSLConfig",
    "ESZSLSolver",
    "choose_regularizers",
]

_GAMMAS = tuple(10.0**e for e in range(7))
_LAMBDAS = tuple(10.0**e for e in range(-5, 4))


@dataclass(frozen=True)
class ESZSLConfig:
    """The settings of an `ESZSL`.

    T1, H and calibrated H have different best regularizers. Choosing them separately for each
    makes the baseline as strong as possible.
    """

    gamma: Annotated[float | None, Range(above=0)] = None
    """Regularizer of the features; none: the power of ten from 1 to 1e6 that is best on the
    validation classes, for T1, H and calibrated H each."""
    lam: Annotated[float | None, Range(above=0)] = None
    """Regularizer of the semantics; none: the power of ten from 1e-5 to 1e3 that is best there."""


class ESZSLSolver:
    """Solves ESZSL for many pairs of regularizers at the cost of one.

    The inverses for all regularizers share the eigenvectors of ``X'X`` and of ``S'S``, which are
    computed once.

    Parameters
    ----------
    scaled
        Its training rows and the semantics of its seen classes are fitted.

    Attributes
    ----------
    device
        Where the weights are: that of the rows if it has double precision, else the CPU.
    """

    def __init__(self, scaled: Scaled) -> None:
        problem, feed = scaled.problem, scaled.feed
        self.device = double_device(feed.labels.device)
        semantics = torch.from_numpy(problem.semantics.astype(np.float64)).to(self.device)
        seen = torch.from_numpy(problem.seen_classes).to(self.device)
        columns = torch.searchsorted(seen, feed.labels.to(self.device))
        d = feed.feature_dim
        products = torch.zeros(d, d, dtype=torch.float64, device=self.device)
        class_sums = torch.zeros(len(seen), d, dtype=torch.float64, device=self.device)
        for rows, features in row_slabs(feed):
            x = features.to(self.device).double()
            products += product(x.T, x)
            # Unlike index_add_, this adds in the order of the rows on a GPU too.
            class_sums.index_put_((columns[rows],), x, accumulate=True)
        # X'Y with Y in {-1, +1}: twice the class sums, minus the sum of all rows.
        sums = class_sums.cpu().numpy()
        xy = torch.from_numpy(2 * sums.T - sums.sum(axis=0)[:, None]).to(self.device)
        s = semantics[seen]
        self._x_values, self._x_vectors = symmetric_eigen(products)
        self._s_values, s_vectors = symmetric_eigen(product(s.T, s))
        self._core = product(product(product(self._x_vectors.T, xy), s), s_vectors)
        self._class_vectors = product(s_vectors.T, semantics.T)

    def class_weights(self, gamma: float, lam: float) -> Tensor:
        """``V s`` of every class of the dataset, ``(d, classes)``, float64.

        Parameters
        ----------
        gamma, lam
            Regularizers of features and of semantics, ``> 0``.
        """
        core = self._core / (self._x_values + gamma)[:, None] / (self._s_values + lam)
        return product(self._x_vectors, product(core, self._class_vectors))


@dataclass(frozen=True)
class ESZSLChoice:
    """The regularizers with the best value of one criterion on the validation classes.

    Attributes
    ----------
    gamma, lam
        The regularizers of features and of semantics.
    calibration
        The calibration factor gamma of best H on the validation classes.
    value
        The value of the criterion.
    """

    gamma: float
    lam: float
    calibration: float
    value: float


def choose_regularizers(
    scaled: Scaled, held_out: HeldOut, config: ESZSLConfig
) -> dict[Criterion, ESZSLChoice]:
    """Choose ESZSL's regularizers on a validation problem, separately for each criterion.

    Parameters
    ----------
    scaled
        The validation problem, its features scaled.
    held_out
        The rows to evaluate on.
    config
        Settings; a regularizer that is set is not searched.

    Returns
    -------
    dict
        For each criterion the best pair of a grid of powers of ten (gamma 1 to 1e6, lambda 1e-5 to
        1e3).
    """
    problem, solver = scaled.problem, ESZSLSolver(scaled)
    rows = scale_held_out(held_out, scaled.scaling, solver.device)
    gammas = _GAMMAS if config.gamma is None else (config.gamma,)
    lambdas = _LAMBDAS if config.lam is None else (config.lam,)
    best: dict[Criterion, ESZSLChoice] = {}
    for gamma in counted(gammas, "values of gamma", len(gammas)):
        weights = [solver.class_weights(gamma, lam) for lam in lambdas]
        gzsl, zsl = (
            _scores_of_each(weights, torch.from_numpy(classes).to(solver.device))
            for classes in (problem.classes, problem.unseen_classes)
        )
        outcomes = evaluate_candidates(gzsl, zsl, problem, rows, torch.float64)
        for lam, outcome in zip(lambdas, outcomes, strict=True):
            calibration, values = criterion_values(outcome)
            for criterion, value in values.items():
                if criterion not in best or value > best[criterion].value:
                    best[criterion] = ESZSLChoice(gamma, lam, calibration, value)
    return best


def _scores_of_each(weights: list[Tensor], classes: Tensor) -> Callable[[Tensor], Tensor]:
    """From features ``(m, d)`` to the scores of classes ``(k,)`` with each of the weights."""
    of_classes = [of_all.T[classes].T for of_all in weights]
    return lambda features: torch.stack([product(features, w) for w in of_classes])


class ESZSL(nn.Module):
    """A fitted ESZSL: the weights of every class, for each of the three criteria.

    Parameters
    ----------
    config
        Settings.
    weights
        ``V s`` of every class of the dataset, for T1, for H and for calibrated H,
        ``(3, d, classes)``, float64.
    seen_classes, unseen_classes
        Disjoint class numbers, in the order of the score columns.
    """

    weights: Tensor
    seen_classes: Tensor
    unseen_classes: Tensor

    def __init__(
        self, config: ESZSLConfig, weights: Tensor, seen_classes: Tensor, unseen_classes: Tensor
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weights", weights)
        self.register_buffer("seen_classes", seen_classes)
        self.register_buffer("unseen_classes", unseen_classes)

    @classmethod
    def for_problem(cls, scaled: Scaled, config: ESZSLConfig, generators: Generators) -> "ESZSL":
        """Fit with the regularizers of the settings; arguments as in `Model.for_problem`.

        Raises
        ------
        InputError
            If a regularizer has no value.
        """
        if config.gamma is None or config.lam is None:
            raise InputError(
                "gamma, lam: found no value for one of them, expected both where there are no "
                "validation classes to choose them on"
            )
        return cls._fit(scaled, config, [(config.gamma, config.lam)] * len(CRITERIA))

    @classmethod
    def choose(
        cls, scaled: Scaled, held_out: HeldOut, config: ESZSLConfig, generators: Generators
    ) -> dict[str, Any]:
        """The best regularizers on a validation problem, by criterion; see `Choosing.choose`."""
        chosen = choose_regularizers(scaled, held_out, config)
        return {criterion: asdict(choice) for criterion, choice in chosen.items()}

    @classmethod
    def for_choice(
        cls, scaled: Scaled, config: ESZSLConfig, choice: dict[str, Any], generators: Generators
    ) -> "ESZSL":
        """Fit with the regularizers that `choose` found."""
        pairs = [(choice[name]["gamma"], choice[name]["lam"]) for name in CRITERIA]
        return cls._fit(scaled, config, pairs)

    @classmethod
    def _fit(cls, scaled: Scaled, config: ESZSLConfig, pairs: list[tuple[float, float]]) -> "ESZSL":
        """Fit with one pair of regularizers (gamma, lambda) for each criterion."""
        solver = ESZSLSolver(scaled)
        weights = torch.stack([solver.class_weights(gamma, lam) for gamma, lam in pairs])
        classes = scaled.problem.seen_classes, scaled.problem.unseen_classes
        return cls(config, weights.cpu(), *map(torch.from_numpy, classes))

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "ESZSL":
        """A model from what `describe` and ``state_dict`` gave."""
        return cls(ESZSLConfig(**description["config"]), **tensors)

    def describe(self) -> dict[str, Any]:
        """Settings, JSON-ready: with ``state_dict``, all that `from_state` needs."""
        return {"model": "ESZSL", "config": asdict(self.config)}

    def class_scores(self, features: Tensor) -> tuple[FloatArray, FloatArray]:
        """GZSL scores ``(n, classes)`` and ZSL scores ``(n, unseen)`` of scaled features."""
        gzsl = self._scores(features, "H", torch.cat([self.seen_classes, self.unseen_classes]))
        return gzsl, self._scores(features, "T1", self.unseen_classes)

    def calibrated_class_scores(self, features: Tensor) -> FloatArray:
        """GZSL scores ``(n, classes)`` with the regularizers chosen for calibrated H."""
        classes = torch.cat([self.seen_classes, self.unseen_classes])
        return self._scores(features, "calibrated_H", classes)

    def _scores(self, features: Tensor, criterion: Criterion, classes: Tensor) -> FloatArray:
        """Scores ``(n, k)`` of classes ``(k,)`` with the regularizers of one criterion."""
        weights = self.weights[CRITERIA.index(criterion)].cpu().numpy()
        scores: Any = features.cpu().numpy() @ weights[:, classes.cpu().numpy()]
        return np.asarray(scores)


METHOD = Method(
    name="eszsl",
    label="ESZSL",
    paper="Romera-Paredes and Torr, ICML 2015; after the paper",
    kind="compatibility",
    config=ESZSLConfig,
    model=ESZSL,
    depends_on_seed=False,
    published={"": {"feature_scaling": "standardised"}},
)
