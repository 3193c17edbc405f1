"""The prototype discriminant against the Gaussian prototypes, class by class, on seen classes.

``python -m benchmarks.gains --dataset FLO --features densenet169 --data ../shared/data``

The seen classes are divided into draws, each with as many classes as the dataset has validation
classes. The classes of each draw take the role of unseen classes in turn, so that nearly every
seen class has it once: a comparison has as many classes as possible without the test split. The
settings of the Gaussians are chosen on the evaluated rows, which favours them. The discriminant
chooses its settings within its training classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.data import DataOptions, read_data
from gsmflow.core.console import make_console
from gsmflow.core.rng import Generators, make_generator
from gsmflow.data.dataset import (
    HeldOut,
    Problem,
    open_held_out,
    redraw_validation,
    training_problem,
)
from gsmflow.evaluation.metrics import per_class_accuracy
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.contract import Scorer
from gsmflow.learning.feed import scale_problem
from gsmflow.learning.scorers import ModelScorer
from gsmflow.methods.gaussian_prototypes import GaussianPrototypes, GaussianPrototypesConfig
from gsmflow.methods.prototype_discriminant import DiscriminantConfig, PrototypeDiscriminant

__all__ = ["Options", "Pair", "figures_of", "gain", "main", "pairs"]

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """The dataset and the number of draws."""

    draws: int | None = None
    """Draws of classes in the role of unseen classes; None: as many as possible without drawing a
    class twice."""
    seed: int = 0
    """Seed of the folds and of the samples."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Results of both methods on one draw of classes."""

    discriminant: Outcome
    gaussian: Outcome


@dataclass(frozen=True)
class _StageGenerators(Generators):
    """The generator of a stage for every purpose: the figures of docs/beyond.md come from these."""

    def on_cpu(self, purpose: str) -> torch.Generator:
        return make_generator(_CPU, self.seed, self.stage)

    def on_device(self, purpose: str) -> torch.Generator:
        return make_generator(self.device, self.seed, self.stage)


def pairs(options: Options) -> Iterator[Pair]:
    """Fit and evaluate both methods on each draw of classes."""
    dataset = read_data(options)
    validation = np.unique(dataset.labels[dataset.val])
    for draw in range(1, 1 + (options.draws or len(dataset.seen_classes) // len(validation))):
        drawn = redraw_validation(dataset, draw)
        problem = training_problem(drawn, "validation")
        held_out = open_held_out(drawn, "validation")
        yield Pair(
            evaluate(_discriminant(problem, options.seed), problem, held_out),
            evaluate(_gaussian(problem, held_out, options.seed), problem, held_out),
        )


def _discriminant(problem: Problem, seed: int) -> Scorer:
    scaled = scale_problem(problem, "none", _CPU, "memory")
    generators = _StageGenerators(seed, "discriminant", _CPU)
    model = PrototypeDiscriminant.for_problem(scaled, DiscriminantConfig(), generators)
    return ModelScorer(scaled.scaling, model, _CPU)


def _gaussian(problem: Problem, held_out: HeldOut, seed: int) -> Scorer:
    scaled = scale_problem(problem, "standardised", _CPU, "memory")
    config = GaussianPrototypesConfig()
    generators = _StageGenerators(seed, "choice", _CPU)
    choice = GaussianPrototypes.choose(scaled, held_out, config, generators)
    generators = _StageGenerators(seed, "gaussian", _CPU)
    model = GaussianPrototypes.for_choice(scaled, config, choice, generators)
    return ModelScorer(scaled.scaling, model, _CPU)


def figures_of(outcome: Outcome) -> dict[str, NDArray[np.float64]]:
    """T1 of each unseen class, ``(u,)``; calibrated H and AUSUC, ``(1,)`` each."""
    unseen = outcome.labels[~outcome.row_is_seen]
    curve = outcome.curve()
    return {
        "T1": per_class_accuracy(unseen, outcome.zsl_predictions())[1],
        "H cal.": np.array([outcome.calibrated(curve.best_gamma()).H]),
        "AUSUC": np.array([curve.area]),
    }


def gain(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of paired differences ``(n,)`` and its standard error, which is NaN for one pair."""
    difference = first - second
    if len(difference) < 2:
        return float(difference.mean()), float("nan")
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def main(options: Options, console: Console) -> None:
    """Print the metrics of both methods and the gain of one over the other."""
    metrics = []
    for number, pair in enumerate(pairs(options), start=1):
        metrics.append((figures_of(pair.discriminant), figures_of(pair.gaussian)))
        texts = [
            " ".join(f"{name} {100 * value.mean():.1f}" for name, value in one.items())
            for one in metrics[-1]
        ]
        console.print(f"draw {number}: discriminant {texts[0]}, Gaussian {texts[1]}")
    title = f"{options.dataset} · {options.features} · {options.semantics}"
    table = Table(
        title=f"{title} · {len(metrics)} draws of seen classes as unseen ones · percent",
        caption="gain: mean ± standard error; T1 over classes, the others over draws",
        caption_justify="left",
    )
    for column in ("", "pairs", "discriminant", "Gaussian prototypes", "gain"):
        table.add_column(column, justify="right" if column else "left")
    for name in metrics[0][0]:
        first, second = (np.concatenate([one[side][name] for one in metrics]) for side in (0, 1))
        mean, error = gain(first, second)
        table.add_row(
            name,
            str(len(first)),
            f"{100 * first.mean():.1f}",
            f"{100 * second.mean():.1f}",
            f"{100 * mean:+.1f} ± {100 * error:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), make_console())
