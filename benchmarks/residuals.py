"""Fit densities to residuals around predicted class means, and measure their accuracy.

``python -m benchmarks.residuals --dataset FLO --features densenet169 --data ../shared/data``

The prototype discriminant assumes that whitened residuals are unit Gaussian. This benchmark fits a
Gaussian and, for more and more epochs, a flow to the residuals of seen rows, in the subspace that
the class means span. Each mean is predicted without the rows of its class. Both densities, around
the predicted means, then classify the rows of the validation classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.data import DataOptions, read_data
from gsmflow.core.arrays import IntArray
from gsmflow.core.console import make_console
from gsmflow.core.rng import make_generator
from gsmflow.data.dataset import open_held_out, training_problem
from gsmflow.evaluation.metrics import mean_class_accuracy
from gsmflow.learning.feed import class_means, feed_slabs, scale_problem
from gsmflow.methods.class_folds import START, choose_setting, fold_classes
from gsmflow.methods.coupling_flow import ConditionalFlow
from gsmflow.methods.feature_transform import EncodedFeed, FeatureTransform
from gsmflow.methods.linear_discriminant import floored
from gsmflow.methods.mean_regression import MeanRegression, shrink, within_class_covariances
from gsmflow.methods.prototype_discriminant import DiscriminantConfig

__all__ = ["Options", "Residuals", "main", "residuals_of"]

_CPU = torch.device("cpu")
_EPOCHS = (1, 2, 4, 8)
_BLOCKS, _HIDDEN, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 3, 128, 256, 1e-3, 1e-4
_LOG_2_PI = math.log(2 * math.pi)

LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """The dataset and the transform of its features."""

    transform: FeatureTransform = "sqrt"
    """Transform of the features."""
    seed: int = 0
    """Seed of the folds and of the flow."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """Whitened rows and means in the subspace of the class means.

    Attributes
    ----------
    seen
        Residuals of the training rows around means predicted without their class, ``(n, r)``.
    unseen, labels
        Rows of the validation classes, ``(m, r)``, and their classes.
    prototypes, classes
        Predicted means of the validation classes, ``(u, r)``, and their class numbers.
    """

    seen: Tensor
    unseen: Tensor
    labels: IntArray
    prototypes: Tensor
    classes: IntArray


def residuals_of(options: Options) -> Residuals:
    """Fit the Gaussian of the discriminant, and whiten and project all rows with it."""
    dataset = read_data(options)
    problem = training_problem(dataset, "validation")
    held_out = open_held_out(dataset, "validation")
    feed = scale_problem(problem, "none", _CPU, "memory").feed
    generator = make_generator(_CPU, options.seed, "folds")
    folds_of_classes = fold_classes(feed, problem.semantics, options.transform, generator)
    setting, _ = choose_setting(folds_of_classes, DiscriminantConfig().length_exponent, START)
    encoder = folds_of_classes.encoder
    encoded = EncodedFeed(feed, encoder)
    seen = torch.from_numpy(problem.seen_classes)
    known = class_means(encoded, seen)
    within = within_class_covariances(encoded, seen, known, torch.zeros_like(seen))[0] / len(seen)
    means = known.numpy().astype(np.float64)
    regression = MeanRegression(means, problem.semantics, problem.seen_classes, setting.whitening)
    error = regression.error_covariance(setting.ridge)
    covariance = shrink(within + error, setting.shrinkage)
    root = np.linalg.cholesky(floored(covariance))
    centre = means.mean(axis=0)

    def whitened(rows: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.solve(root, (rows - centre).T).T)

    prototypes = whitened(regression.predict(setting.ridge)[problem.unseen_classes])
    crossed = whitened(regression.cross_fitted(setting.ridge))
    basis = np.linalg.svd(np.concatenate([prototypes, whitened(means)]), full_matrices=False)[2]
    basis = basis[: len(means)].T
    rows = torch.cat([features for features, _ in feed_slabs(encoded)]).numpy()
    columns = np.searchsorted(problem.seen_classes, feed.labels.numpy())
    unseen = encoder(torch.from_numpy(held_out.unseen.features)).numpy()

    def projected(values: np.ndarray) -> Tensor:
        return torch.from_numpy((values @ basis).astype(np.float32))

    return Residuals(
        seen=projected(whitened(rows) - crossed[columns]),
        unseen=projected(whitened(unseen)),
        labels=held_out.unseen.labels,
        prototypes=projected(prototypes),
        classes=problem.unseen_classes,
    )


def main(options: Options, console: Console) -> None:
    """Print the fit and the accuracy of each density."""
    data = residuals_of(options)
    title = f"{options.dataset} · {options.features} · {options.semantics} · validation classes"
    table = Table(title=title)
    for name in ("density of the residuals", "nats, seen rows", "nats, unseen rows", "T1, percent"):
        table.add_column(name, justify="left" if name.startswith("density") else "right")
    true_means = data.prototypes[torch.from_numpy(np.searchsorted(data.classes, data.labels))]
    for name, log_density in _densities(data, options.seed):
        scores = torch.stack([log_density(data.unseen - one) for one in data.prototypes], dim=1)
        answers = data.classes[scores.argmax(dim=1).numpy()]
        width = data.seen.shape[1]
        table.add_row(
            name,
            f"{float(log_density(data.seen).mean()) / width:.3f}",
            f"{float(log_density(data.unseen - true_means).mean()) / width:.3f}",
            f"{100 * mean_class_accuracy(data.labels, answers):.1f}",
        )
    console.print(table)
    console.print("nats: mean log-density per dimension; higher is a better fit")


def _densities(data: Residuals, seed: int) -> Iterator[tuple[str, LogDensity]]:
    width = data.seen.shape[1]
    yield "unit Gaussian: the discriminant", _gaussian(torch.eye(width))
    covariance = np.cov(data.seen.numpy().T.astype(np.float64), bias=True)
    for shrinkage in (0.7, 0.3, 0.0):
        fitted = torch.from_numpy(shrink(covariance, shrinkage).astype(np.float32))
        yield f"Gaussian, fitted, shrunk by {shrinkage}", _gaussian(fitted)
    yield from _flows(data, seed)


def _gaussian(covariance: Tensor) -> LogDensity:
    zero = torch.zeros(len(covariance))
    density = torch.distributions.MultivariateNormal(zero, covariance)

    def log_density(residuals: Tensor) -> Tensor:
        return torch.as_tensor(density.log_prob(residuals))  # type: ignore[no-untyped-call]

    return log_density


def _flows(data: Residuals, seed: int) -> Iterator[tuple[str, LogDensity]]:
    """A flow after some epochs of maximum likelihood, on residuals of unit variance."""
    width, scale = data.seen.shape[1], data.seen.std()
    generator = make_generator(_CPU, seed, "flow")
    flow = ConditionalFlow(
        width, 1, blocks=_BLOCKS, hidden=_HIDDEN, condition_blocks="all", generator=generator
    )
    nothing = torch.zeros(1, 1)

    def log_density(residuals: Tensor) -> Tensor:
        offsets = flow.offsets(nothing)
        rows = torch.zeros(len(residuals), dtype=torch.int64)
        z, log_det = flow(residuals / scale, offsets, rows)
        log_density_of_z: Tensor = -0.5 * (z.square().sum(dim=1) + width * _LOG_2_PI) + log_det
        return log_density_of_z - width * scale.log()

    optimizer = torch.optim.Adam(flow.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for epoch in range(1, max(_EPOCHS) + 1):
        order = torch.randperm(len(data.seen), generator=generator)
        for batch in torch.split(order, _BATCH):
            loss = -log_density(data.seen[batch]).mean() / width
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if epoch in _EPOCHS:
            with torch.no_grad():
                yield f"flow, {epoch} epochs", log_density


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__), make_console())
