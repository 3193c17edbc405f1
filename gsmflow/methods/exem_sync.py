"""EXEM with SYNC: classifiers that are combined by the distances of predicted exemplars.

Changpinyo et al., "Predicting Visual Exemplars of Unseen Classes for Zero-Shot Learning", ICCV
2017. The exemplars that `gsmflow.methods.exem` predicts are semantics that know of the features.
`gsmflow.methods.sync` takes them in place of the given semantics, for seen classes too, at length 1
as it takes those.

The regression's settings are those with which the nearest exemplar recognises most of the
validation classes (T1); then those of SYNC are chosen.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
from sklearn.preprocessing import normalize

from gsmflow.core.rng import Generators
from gsmflow.data.dataset import HeldOut
from gsmflow.learning.feed import Scaled
from gsmflow.learning.method import Method
from gsmflow.learning.search import OneOf
from gsmflow.methods.class_similarities import distances_by_median
from gsmflow.methods.criterion_model import Settings, Solution, Solve
from gsmflow.methods.exem import EXEM, EXEMConfig
from gsmflow.methods.sync import SYNC, SYNCConfig, SynthesizedClassifiers

__all__ = ["EXEMSYNC", "METHOD", "EXEMSYNCConfig"]


@dataclass(frozen=True)
class EXEMSYNCConfig(SYNCConfig, EXEMConfig):
    """The settings of an `EXEMSYNC`: those of both methods."""

    unit_exemplars: bool = True
    """Whether the exemplars have length 1, as in the published code. Predicted ones of unseen
    classes are shorter than those of seen classes."""


class EXEMSYNC(SynthesizedClassifiers):
    """A fitted SYNC on exemplars: linear classifiers of all classes for the three criteria."""

    config_class = EXEMSYNCConfig
    candidates: ClassVar = {**EXEM.candidates, **SYNC.candidates}
    config: EXEMSYNCConfig

    @classmethod
    def solver(cls, scaled: Scaled, config: EXEMSYNCConfig, generators: Generators) -> Solve:
        """A function from all numbers to the classifiers; those of seen classes are kept."""
        of_regression = EXEM.solver(scaled, config, generators)

        @cache
        def with_exemplars(values: tuple[float, ...]) -> Solve:
            found = of_regression(dict(zip(EXEM.candidates, values, strict=True)))["exemplars"]
            vectors = found.cpu().numpy().astype(np.float64)
            if config.unit_exemplars:
                vectors = normalize(vectors)
            return cls.solve_for(scaled, config, distances_by_median(vectors))

        def solve(settings: Settings) -> Solution:
            of_sync = with_exemplars(tuple(settings[name] for name in EXEM.candidates))
            return of_sync(settings)

        return solve

    @classmethod
    def choose(
        cls, scaled: Scaled, held_out: HeldOut, config: Any, generators: Generators
    ) -> dict[str, Any]:
        """The best settings on a validation problem; see `CriterionModel.choose`."""
        nearest = EXEM.choose(scaled, held_out, config, generators)["T1"]
        found = replace(config, **{name: nearest[name] for name in EXEM.candidates})
        return super().choose(scaled, held_out, found, generators)


METHOD = Method(
    name="exem-sync",
    label="EXEM, SYNC",
    paper="Changpinyo et al., ICCV 2017; after the published code",
    kind="compatibility",
    config=EXEMSYNCConfig,
    model=EXEMSYNC,
    depends_on_seed=False,
    published={"": {"feature_scaling": "l2"}},
    variants={
        "crammer-singer": {"seen_loss": "cs"},
        "structured": {"seen_loss": "struct"},
        "standardised-distance": {"exemplar_distance": "standardised"},
        "exemplars-of-any-length": {"unit_exemplars": False},
    },
    search={
        "seen_loss": OneOf(("ovo", "cs", "struct")),
        "exemplar_distance": OneOf(("euclidean", "standardised")),
    },
)
