"""Sizes of the benchmark, and random data of these sizes; speed hardly depends on values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from gsmflow.core.rng import Generators
from gsmflow.data.dataset import Dataset, Problem, Rows
from gsmflow.data.scaling import fit_feature_scaling
from gsmflow.learning.feed import MemoryFeed, Scaled
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.f_clswgan import FCLSWGANConfig
from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig
from gsmflow.recipes.recipe import Recipe

__all__ = [
    "FULL",
    "QUICK",
    "Scale",
    "Size",
    "flow_weights",
    "for_device",
    "made_up_dataset",
    "made_up_feed",
    "made_up_model",
    "made_up_problem",
    "made_up_scaled",
    "step_operations",
]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """The size of a dataset, and the published recipe for it.

    Attributes
    ----------
    seen, unseen
        Numbers of classes.
    rows
        Training rows, at least one for each seen class.
    semantics_dim, feature_dim
        ``a`` and ``d``.
    recipe
        Name of the dataset, and settings.
    """

    seen: int
    unseen: int
    rows: int
    semantics_dim: int
    feature_dim: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.recipe.dataset

    @property
    def method(self) -> GSMFlowConfig:
        """Settings of the model."""
        config = self.recipe.method
        assert isinstance(config, GSMFlowConfig)
        return config

    def with_settings(self, **settings: Any) -> "Size":
        """The same size with some settings of its recipe replaced, by their flat names."""
        return replace(self, recipe=self.recipe.replace(**settings))


_AWA2 = Size(
    seen=40,
    unseen=10,
    rows=23527,
    semantics_dim=85,
    feature_dim=2048,
    recipe=Recipe(
        dataset="AWA2",
        method=GSMFlowConfig(blocks=3, pi=0.15, prototype_weight=10.0, samples_per_class=50000),
        classifier=SoftmaxConfig(lr=1e-3, batch_size=1200),
    ),
)
_FLO = Size(
    seen=82,
    unseen=20,
    rows=7034,
    semantics_dim=1024,
    feature_dim=2048,
    recipe=Recipe(
        dataset="FLO",
        method=GSMFlowConfig(blocks=5, pi=0.07, prototype_weight=3.0, samples_per_class=3000),
    ),
)
_CUB_GAN = Size(
    seen=150,
    unseen=50,
    rows=7057,
    semantics_dim=312,
    feature_dim=2048,
    recipe=Recipe(
        dataset="CUB",
        method=FCLSWGANConfig(),
        training=TrainingConfig(batch_size=64, learning_rate=1e-4, weight_decay=0.0, lr_decay=1.0),
    ),
)
# Small enough for up to 10^7 samples. The reservoir has fewer than 10^5 rows, so that larger
# numbers of samples are streamed.
_SMALL = Size(
    seen=10,
    unseen=10,
    rows=1000,
    semantics_dim=16,
    feature_dim=64,
    recipe=Recipe(
        dataset="small",
        method=GSMFlowConfig(blocks=2, hidden=64, condition_dim=32),
        classifier=SoftmaxConfig(batch_size=10000, epochs=1),
        reservoir_mib=16,
    ),
)
_TINY = Size(
    seen=6,
    unseen=4,
    rows=60,
    semantics_dim=5,
    feature_dim=16,
    recipe=Recipe(
        dataset="tiny",
        method=GSMFlowConfig(blocks=2, hidden=16, condition_dim=8, samples_per_class=30),
        training=TrainingConfig(batch_size=8),
        classifier=SoftmaxConfig(batch_size=20, epochs=2),
        reservoir_mib=1,
    ),
)
_TINY_GAN = replace(
    _TINY,
    recipe=Recipe(
        dataset="tiny",
        method=FCLSWGANConfig(hidden=16),
        training=TrainingConfig(batch_size=8, weight_decay=0.0, lr_decay=1.0),
    ),
)


@dataclass(frozen=True)
class Scale:
    """Everything that differs between the full and the quick benchmark.

    Attributes
    ----------
    sizes
        Sizes for training steps. Key results are for the first, whose synthesis is measured too.
    gan
        Size for training steps of f-CLSWGAN.
    steps
        Training steps in one timing: on a CPU, and on other devices, where steps are shorter.
    product
        Rows of the square matrices whose product measures the machine's peak.
    seen
        Numbers of seen classes for the growth of a step.
    prototype_classes
        The setting ``prototype_classes`` of these steps: one that no number of classes limits,
        and that of the recipe.
    stream
        Size for the growth of the synthesis.
    samples
        Numbers of samples for that growth.
    unseen, unseen_samples
        Numbers of unseen classes for that growth, and the number of samples of all together.
    features
        Dimensions and rows of the file to read, ``(d, n)``.
    epochs
        Epochs of each training of a whole run: on a CPU, and on other devices.
    run_settings
        Settings that replace those of the script in that run, by their flat names.
    copied_mib, ceiling_product
        MiB to copy, and rows of the matrices to multiply, for the device's ceilings: on a CPU, and
        on other devices.
    processes
        Whether jobs whose memory is measured run in a new process, which is more exact.
    """

    sizes: tuple[Size, ...]
    gan: Size
    steps: tuple[int, int]
    product: int
    seen: tuple[int, ...]
    prototype_classes: tuple[int, int]
    stream: Size
    samples: tuple[int, ...]
    unseen: tuple[int, ...]
    unseen_samples: int
    features: tuple[int, int]
    epochs: tuple[int, int]
    copied_mib: tuple[int, int]
    ceiling_product: tuple[int, int]
    processes: bool
    run_settings: Mapping[str, Any] = field(default_factory=dict)


def for_device(values: tuple[int, int], device: torch.device) -> int:
    """The value for a device, of one for a CPU and one for other devices."""
    return values[device.type != "cpu"]


FULL = Scale(
    sizes=(_AWA2, _FLO),
    gan=_CUB_GAN,
    steps=(4, 40),
    product=2048,
    seen=(50, 500, 5000),
    prototype_classes=(50, _AWA2.method.prototype_classes),
    stream=_SMALL,
    samples=(10**4, 10**5, 10**6, 10**7),
    unseen=(50, 500, 5000),
    unseen_samples=10**5,
    features=(2048, 37322),
    epochs=(1, 10),
    copied_mib=(256, 4096),
    ceiling_product=(2048, 8192),
    processes=True,
)
QUICK = Scale(
    sizes=(_TINY, _TINY.with_settings(dataset="tiny2", blocks=4)),
    gan=_TINY_GAN,
    steps=(2, 2),
    product=64,
    seen=(6, 12, 24),
    prototype_classes=(1, 2),
    stream=_SMALL.with_settings(hidden=8, reservoir_mib=1),
    samples=(1000, 10000, 20000),
    unseen=(4, 8, 16),
    unseen_samples=200,
    features=(8, 2000),
    epochs=(2, 3),
    copied_mib=(1, 1),
    ceiling_product=(64, 64),
    processes=False,
    run_settings={
        "blocks": 2,
        "hidden": 16,
        "condition_dim": 8,
        "batch_size": 8,
        "samples_per_class": 30,
        "classifier_batch_size": 20,
        "classifier_epochs": 2,
    },
)


def flow_weights(size: Size) -> int:
    """Number of weights that multiply a row and its condition in the flow."""
    config = size.method
    # Each of the two subnets of a block maps one half and the condition to two numbers for every
    # dimension of the other half.
    first = size.feature_dim + 2 * config.condition_dim
    last = 2 * size.feature_dim
    return config.blocks * config.hidden * (first + last)


def step_operations(size: Size) -> int:
    """Floating-point operations of the matrix products in a training step of plain code.

    Each weight and row has two operations in the forward pass and four in the backward pass. The
    rows are those of the batch and the prototypes. Products with a condition are counted for each
    row, even where the package computes them once for each class.
    """
    rows = size.recipe.training.batch_size + size.method.prototypes_of(size.seen)
    return 2 * 3 * flow_weights(size) * rows


def made_up_problem(size: Size) -> Problem:
    """A problem of this size: uniform noise, with the seen classes first."""
    rng = np.random.default_rng(size.recipe.seed)
    classes = size.seen + size.unseen
    return Problem(
        split="test",
        train=Rows(
            rng.random((size.rows, size.feature_dim), dtype=np.float32),
            np.arange(size.rows) % size.seen,
        ),
        semantics=rng.random((classes, size.semantics_dim), dtype=np.float32),
        class_names=tuple(f"class {c + 1}" for c in range(classes)),
        seen_classes=np.arange(size.seen),
        unseen_classes=np.arange(size.seen, classes),
    )


def made_up_dataset(size: Size) -> Dataset:
    """A dataset of this size, unchecked, with validation classes and test rows in AWA2's shares.

    Each class is noise around a linear map of its semantics, so that a training on it stays finite.
    """
    rng = np.random.default_rng(size.recipe.seed)
    classes, rows = size.seen + size.unseen, size.rows
    semantics = rng.random((classes, size.semantics_dim), dtype=np.float32)
    means = (semantics - 0.5) @ rng.normal(size=(size.semantics_dim, size.feature_dim))
    train, test_seen = np.arange(rows), np.arange(rows // 4)
    test_unseen = np.arange(rows // 3)
    labels = np.concatenate(
        [train % size.seen, test_seen % size.seen, size.seen + test_unseen % size.unseen]
    )
    features = rng.standard_normal((len(labels), size.feature_dim), dtype=np.float32)
    for c in range(classes):  # one after the other, which takes little memory besides the features
        features[labels == c] += means[c].astype(np.float32) / size.semantics_dim**0.5
    is_validation = labels[train] < size.seen // 3
    return Dataset(
        name=size.name,
        features=features,
        labels=labels,
        semantics=semantics,
        class_names=tuple(f"class {c + 1}" for c in range(classes)),
        trainval=train,
        train=train[~is_validation],
        val=train[is_validation],
        test_seen=rows + test_seen,
        test_unseen=rows + len(test_seen) + test_unseen,
    )


def made_up_feed(problem: Problem, device: torch.device) -> MemoryFeed:
    """The training rows of a problem, on a device."""
    rows = problem.train
    return MemoryFeed(
        torch.from_numpy(rows.features).to(device), torch.from_numpy(rows.labels).to(device)
    )


def made_up_scaled(problem: Problem, device: torch.device) -> Scaled:
    """A problem with its training rows, which are not scaled, on a device."""
    scaling = fit_feature_scaling(problem.train, "none")
    return Scaled(problem, scaling, made_up_feed(problem, device))


def made_up_model(size: Size, problem: Problem) -> GSMFlow:
    """An untrained model for a problem, on the CPU."""
    generators = Generators(size.recipe.seed, problem.split, _CPU)
    return GSMFlow.for_problem(made_up_scaled(problem, _CPU), size.method, generators)
