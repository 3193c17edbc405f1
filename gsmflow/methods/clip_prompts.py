"""Prompt classification with an image-text encoder, as CLIP (Radford et al., ICML 2021) does it.

The score of a class is ``temperature * cos(x, t)``, with the image's vector ``x`` and the vector
``t`` of the class's texts in one space. Nothing is learned from the training rows. The temperature
is the one of the highest likelihood on the held-out rows of the validation split, after the
calibration factor of best H there; it changes no answer, but makes the softmax of the scores a
probability.
"""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError
from gsmflow.core.rng import Generators
from gsmflow.core.settings import Range
from gsmflow.data.dataset import HeldOut, Problem
from gsmflow.evaluation.metrics import best_answers, class_columns, curve_of_answers
from gsmflow.evaluation.protocol import scale_held_out
from gsmflow.learning.feed import Scaled, row_slabs
from gsmflow.learning.method import Method
from gsmflow.methods.gates.cosmo import score_temperature
from gsmflow.methods.semantic_model import SemanticModel

__all__ = ["METHOD", "ClipPrompts", "ClipPromptsConfig", "fit_temperature"]

# At most so many scores are in memory while the temperature is fitted.
_SCORES = 2**26


@dataclass(frozen=True)
class ClipPromptsConfig:
    """The settings of a `ClipPrompts`."""

    temperature: Annotated[float | None, Range(above=0)] = None
    """Factor of the cosines; none: that of the highest likelihood on the validation split."""


def fit_temperature(
    cosines: NDArray[Any], labels: IntArray, classes: IntArray, seen_classes: IntArray
) -> float:
    """The temperature of the highest likelihood after the calibration factor of best H.

    Parameters
    ----------
    cosines
        Cosines of rows and classes, ``(n, k)``.
    labels
        The class of each row, ``(n,)``.
    classes, seen_classes
        The class of each column, ``(k,)``, and the seen ones among them.
    """
    best = best_answers(cosines, classes, seen_classes)
    gamma = curve_of_answers(best, labels, seen_classes).best_gamma()
    shifted = cosines.astype(np.float64) - gamma * np.isin(classes, seen_classes)
    return score_temperature([(shifted, class_columns(labels, classes))])


class ClipPrompts(SemanticModel):
    """Cosines with the vectors of the classes' texts. Parameters as `ClassModel` has them."""

    config_class = ClipPromptsConfig
    config: ClipPromptsConfig

    @classmethod
    def check_problem(cls, problem: Problem) -> None:
        """Raise `InputError` unless features and semantics may be of one image-text encoder.

        They are not if the dataset's record says so, or if their lengths differ.
        """
        d, a = problem.train.feature_dim, problem.semantics.shape[1]
        found = problem.separate_encoders
        if not found and a != d:
            found = f"features of {d} dimensions and semantics of {a}"
        if found:
            raise InputError(
                f"features and semantics: found {found}, expected those of one image-text encoder "
                "for clip-prompts, such as extract --backbone clip-vit-base-patch32 --text-encoder "
                "clip-vit-base-patch32 makes"
            )

    @classmethod
    def semantics_of(cls, problem: Problem, config: ClipPromptsConfig) -> Tensor:
        """The semantics of every class of a problem, each of length 1, ``(classes, a)``."""
        return functional.normalize(torch.from_numpy(problem.semantics))

    @classmethod
    def for_problem(
        cls, scaled: Scaled, config: ClipPromptsConfig, generators: Generators
    ) -> "ClipPrompts":
        """A model for a problem, on the CPU; arguments as `Model.for_problem` has.

        Raises
        ------
        InputError
            As `check_problem`, or if the temperature has no value.
        """
        cls.check_problem(scaled.problem)
        if config.temperature is None:
            raise InputError(
                "temperature: found no value, expected one where there are no validation classes "
                "to choose it on"
            )
        return cls._of(scaled, config)

    @classmethod
    def _of(cls, scaled: Scaled, config: ClipPromptsConfig) -> "ClipPrompts":
        tensors = cls._class_tensors(scaled.problem, config)
        return cls(config, scaled.feed.feature_dim, None, **tensors)

    @classmethod
    def choose(
        cls, scaled: Scaled, held_out: HeldOut, config: ClipPromptsConfig, generators: Generators
    ) -> dict[str, Any]:
        """The temperature, fitted on a validation problem; see `Choosing.choose`."""
        problem, device = scaled.problem, scaled.feed.labels.device
        cls.check_problem(problem)
        if config.temperature is not None:
            return asdict(config)
        model = cls._of(scaled, replace(config, temperature=1.0)).to(device)
        rows = scale_held_out(held_out, scaled.scaling, device)
        # Of very many scores a part: a single number is fitted.
        step = -(-len(rows.labels) * len(problem.classes) // _SCORES)
        cosines, labels = [], []
        for part in (rows.seen, rows.unseen):
            for place, features in row_slabs(part, len(problem.classes)):
                cosines.append(model.class_scores(features[::step])[0])
                labels.append(part.labels[place][::step].cpu().numpy())
        temperature = fit_temperature(
            np.concatenate(cosines),
            np.concatenate(labels),
            problem.classes,
            problem.seen_classes,
        )
        return asdict(replace(config, temperature=temperature))

    @classmethod
    def for_choice(
        cls,
        scaled: Scaled,
        config: ClipPromptsConfig,
        choice: dict[str, Any],
        generators: Generators,
    ) -> "ClipPrompts":
        """A model with the temperature that `choose` found."""
        return cls.for_problem(scaled, replace(config, **choice), generators)

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """The temperature times cosines, ``(n, k)``, of features ``(n, d)``, classes ``(k,)``."""
        assert self.config.temperature is not None
        cosines = functional.normalize(features) @ self.semantics[classes].T
        return self.config.temperature * cosines


METHOD = Method(
    name="clip-prompts",
    label="CLIP prompts",
    paper="Radford et al., ICML 2021; after the paper's description",
    kind="compatibility",
    config=ClipPromptsConfig,
    model=ClipPrompts,
    depends_on_seed=False,
)
