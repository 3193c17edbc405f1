"""SAE, the semantic autoencoder (Kodirov et al., CVPR 2017): a closed form.

A linear map ``W (a, d)`` encodes features ``x`` as semantics ``s``, and its transpose decodes them:
``W`` minimises ``|X - W'S|^2 + lambda |WX - S|^2`` over the training rows, each with the semantics
of its class. It solves the Sylvester equation ``A W + W B = C`` with ``A = SS'``,
``B = lambda XX'`` and ``C = (1 + lambda) SX'``. The class of highest cosine answers: of the decoded
semantics with the features, or of the encoded features with the semantics.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.learning.feed import Scaled, feed_slabs
from gsmflow.learning.method import Method
from gsmflow.methods.criterion_model import ExtensibleCriterionModel, Settings, Solution, Solve

__all__ = ["METHOD", "SAE", "SAEConfig", "SAESolver", "Space"]

Space: TypeAlias = Literal["features", "semantics"]

# Eigenvalues below this share of the largest are taken for rounding errors.
_RANK_TOLERANCE = 1e-12


@dataclass(frozen=True)
class SAEConfig:
    """The settings of an `SAE`."""

    lam: Annotated[float | None, Range(above=0)] = None
    """Weight of the encoder's error beside the decoder's; none: the value from 1e-3 to 1e6, two
    in a power of ten, that is best on the validation classes, for T1, H and calibrated H each."""
    space: Space = "features"
    """Where features and classes are compared: in the space of features, with the classes'
    semantics decoded, or in the space of semantics, with the features encoded."""


class SAESolver:
    """Solves the Sylvester equation for many values of lambda at the cost of one.

    With the eigenvectors ``Q`` of ``SS'`` (values alpha) and ``P`` of ``XX'`` (values beta),
    ``W = Q [(1 + lambda) (Q'SX'P)_ij / (alpha_i + lambda beta_j)] P'``. A direction without
    variance gets weight 0: the solution of least norm.

    Parameters
    ----------
    scaled
        Its training rows and the semantics of its seen classes are fitted.
    """

    def __init__(self, scaled: Scaled) -> None:
        feed, problem = scaled.feed, scaled.problem
        device, d = feed.labels.device, feed.feature_dim
        seen = torch.from_numpy(problem.seen_classes).to(device)
        products = torch.zeros(d, d, dtype=torch.float64, device=device)
        class_sums = torch.zeros(len(seen), d, dtype=torch.float64, device=device)
        for features, labels in feed_slabs(feed):
            x = features.double()
            one_hot = functional.one_hot(torch.searchsorted(seen, labels), len(seen)).to(x)
            products += x.T @ x
            class_sums += one_hot.T @ x
        counts = torch.bincount(torch.searchsorted(seen, feed.labels), minlength=len(seen))
        s = torch.from_numpy(problem.semantics).to(device, torch.float64)[seen]
        self._alpha, self._q = torch.linalg.eigh(s.T @ (s * counts[:, None]))
        self._beta, self._p = torch.linalg.eigh(products)
        kept_rows, kept_columns = (
            values > _RANK_TOLERANCE * values[-1] for values in (self._alpha, self._beta)
        )
        core = self._q.T @ s.T @ class_sums @ self._p
        self._core = core.where(kept_rows[:, None] & kept_columns, 0.0)

    def solve(self, lam: float) -> Tensor:
        """``W (a, d)`` for ``lambda > 0``, in double precision."""
        denominators = self._alpha.clamp(min=0)[:, None] + lam * self._beta.clamp(min=0)
        shares = torch.where(self._core == 0, 0.0, self._core / denominators)
        weight: Tensor = (1 + lam) * (self._q @ shares @ self._p.T)
        return weight


class SAE(ExtensibleCriterionModel):
    """A fitted SAE: a map for each of the three criteria."""

    config_class = SAEConfig
    candidates: ClassVar = {"lam": tuple(10.0 ** (e / 2) for e in range(-6, 13))}
    config: SAEConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: SAEConfig, generators: Generators) -> Solve:
        """A function from lambda to the map."""
        solver = SAESolver(scaled)

        def solve(settings: Settings) -> Solution:
            return {"weight": solver.solve(settings["lam"]).float()}

        return solve

    def scores(self, solution: Solution, features: Tensor, classes: Tensor) -> Tensor:
        """Cosines ``(n, k)`` of features ``(n, d)`` and classes ``(k,)`` in the chosen space."""
        weight, prototypes = solution["weight"], self.semantics[classes]
        if self.config.space == "features":
            prototypes = prototypes @ weight
        else:
            features = features @ weight.T
        return functional.normalize(features) @ functional.normalize(prototypes).T


METHOD = Method(
    name="sae",
    label="SAE",
    paper="Kodirov et al., CVPR 2017; after the published code",
    kind="compatibility",
    config=SAEConfig,
    model=SAE,
    depends_on_seed=False,
    published={"": {"feature_scaling": "l2"}},
    variants={"in the space of semantics": {"space": "semantics"}},
)
