"""Small datasets in memory and on disk, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import scipy.io
import torch

from gsmflow.core.rng import Generators
from gsmflow.data.dataset import Dataset, Problem
from gsmflow.data.scaling import FeatureScalingName
from gsmflow.evaluation.balance import GammaChoice, choose_gamma
from gsmflow.learning.feed import MemoryFeed, Scaled, scale_problem
from gsmflow.methods.gates.registry import find_gate
from gsmflow.methods.registry import find_method
from gsmflow.recipes.recipe import CLASSIFIERS, Recipe, settings_of

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Settings of a run of GSMFlow that takes a second.
SMALL: dict[str, Any] = {
    "blocks": 2,
    "hidden": 16,
    "condition_dim": 8,
    "epochs": 4,
    "batch_size": 16,
    "samples_per_class": 10,
    "classifier_epochs": 5,
    "classifier_batch_size": 50,
    "device": "cpu",
}

# The same for any method: a recipe takes those that its method uses.
SMALL_OF_ANY: dict[str, Any] = {
    **SMALL,
    "validation_draws": 1,
    "latent_dim": 8,
    "image_encoder_hidden": 16,
    "semantics_encoder_hidden": 16,
    "image_decoder_hidden": 16,
    "semantics_decoder_hidden": 16,
    "latents_seen": 10,
    "latents_unseen": 20,
    "latents_zsl": 10,
    "latents_few_shot": 10,
    "seen_lr": 0.05,
    "seen_batch_size": 8,
    "seen_epochs": 20,
    "iterations": 50,
    "weight_penalty": 1e-3,
    "svr_c": 32.0,
    "encoder_hidden": 16,
    "encoder_second_hidden": 16,
    "decoder_hidden": 16,
    "discriminator_hidden": 16,
    "regressor_hidden": 16,
    "relation_hidden": 16,
    "relation_epochs": 2,
    "relation_batch_size": 16,
    "augment_steps": 2,
    "posterior_hidden": 8,
    "semantic_dim": 8,
    "residual_dim": 8,
    "embedding_dim": 16,
    "direction_dim": 8,
    "comparator_hidden": 16,
}

# Settings with which CADA-VAE learns something from a small dataset.
CADA_SMALL: dict[str, Any] = {
    "model": "cada-vae",
    "feature_scaling": "minmax",
    "semantics_scaling": "norm",
    "amsgrad": True,
    "epochs": 12,
    "batch_size": 8,
    "learning_rate": 2e-2,
    "classifier_lr": 0.05,
    "classifier_epochs": 20,
}

SPLITS = {
    "trainval": "trainval_loc",
    "train": "train_loc",
    "val": "val_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
}


def make_dataset(
    *,
    classes: int = 10,
    unseen: int = 3,
    val: int = 2,
    per_class: int = 12,
    d: int = 6,
    a: int = 5,
    noise: float = 0.3,
    seed: int = 0,
) -> Dataset:
    """Unchecked: Gaussian classes around a linear map of their semantics.

    The last ``unseen`` classes are unseen, the ``val`` before them validation classes. A third of a
    seen class's rows are test rows.
    """
    rng = np.random.default_rng(seed)
    semantics = rng.normal(size=(classes, a)).astype(np.float32)
    means = semantics @ rng.normal(size=(a, d)) / np.sqrt(a)
    labels = np.repeat(np.arange(classes), per_class)
    features = (means[labels] + noise * rng.normal(size=(len(labels), d))).astype(np.float32)
    is_unseen = labels >= classes - unseen
    is_val = ~is_unseen & (labels >= classes - unseen - val)
    is_test = np.arange(len(labels)) % per_class >= per_class * 2 // 3
    trainval = ~is_unseen & ~is_test
    return Dataset(
        name="TINY",
        features=features,
        labels=labels,
        semantics=semantics,
        class_names=tuple(f"class_{c}" for c in range(classes)),
        trainval=np.flatnonzero(trainval),
        train=np.flatnonzero(trainval & ~is_val),
        val=np.flatnonzero(trainval & is_val),
        test_seen=np.flatnonzero(~is_unseen & is_test),
        test_unseen=np.flatnonzero(is_unseen),
    )


def make_joint_dataset(*, noise: float = 0.3, **sizes: int) -> Dataset:
    """Unchecked: `make_dataset` with features in the space of the semantics, of other lengths."""
    dataset = make_dataset(**sizes)
    semantics = dataset.semantics
    drawn = np.random.default_rng(1).normal(size=(len(dataset.labels), semantics.shape[1]))
    features = 3 * semantics[dataset.labels] + 3 * noise * drawn
    return replace(dataset, features=features.astype(np.float32))


def fitting_dataset(method: str) -> Dataset:
    """Unchecked: the dataset of `make_dataset`, or of `make_joint_dataset` if a method needs it."""
    return make_joint_dataset() if method == "clip-prompts" else make_dataset()


def gbu_fields(dataset: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the feature file and of the split file, in MATLAB's orientation."""
    names = np.array([[name] for name in dataset.class_names], dtype=object)
    features = {
        "features": dataset.features.T,
        "labels": (dataset.labels[:, None] + 1).astype(np.float64),
    }
    splits: dict[str, Any] = {"att": dataset.semantics.T.astype(np.float64)}
    splits["allclasses_names"] = names
    for split, field in SPLITS.items():
        splits[field] = (getattr(dataset, split)[:, None] + 1).astype(np.float64)
    return features, splits


@dataclass(frozen=True)
class SeededGenerators(Generators):
    """Generators that all start from one seed, for every purpose."""

    def on_cpu(self, purpose: str) -> torch.Generator:
        return seeded(self.seed)

    def on_device(self, purpose: str) -> torch.Generator:
        return seeded(self.seed)


def generators(seed: int) -> Generators:
    """A generator of this seed for every purpose, on the CPU."""
    return SeededGenerators(seed, "test", torch.device("cpu"))


def scaled_of(problem: Problem, name: FeatureScalingName = "none") -> Scaled:
    """A problem ready to learn from, in memory on the CPU."""
    return scale_problem(problem, name, torch.device("cpu"), "memory")


def seeded(seed: int) -> torch.Generator:
    """A separate generator."""
    return torch.Generator().manual_seed(seed)


def feed_of(problem: Problem) -> MemoryFeed:
    """A problem's training rows as they are, unscaled."""
    rows = problem.train
    return MemoryFeed(torch.from_numpy(rows.features), torch.from_numpy(rows.labels))


def write_gbu(folder: Path, dataset: Dataset, *, v73: bool = False, **changes: Any) -> Path:
    """Write ``res101.mat`` and ``att_splits.mat``; ``changes`` replace fields (None drops one)."""
    for file, fields in zip(("res101.mat", "att_splits.mat"), gbu_fields(dataset), strict=True):
        fields |= {name: value for name, value in changes.items() if name in fields}
        write_mat(folder / file, {k: v for k, v in fields.items() if v is not None}, v73=v73)
    return folder


def write_epgn(folder: Path, dataset: Dataset, *, v73: bool = False, **changes: Any) -> Path:
    """Write ``data.mat`` and ``label.mat``; ``changes`` replace fields (None drops one)."""
    seen, unseen = dataset.seen_classes, dataset.unseen_classes
    rows = (dataset.trainval, dataset.test_seen, dataset.test_unseen)
    train, test_seen, test_unseen = (dataset.labels[r] for r in rows)
    data = {
        "train_fea": dataset.features[rows[0]],
        "test_seen_fea": dataset.features[rows[1]],
        "test_unseen_fea": dataset.features[rows[2]],
        "attribute": dataset.semantics,
        "seen_pro": dataset.semantics[seen],
        "unseen_pro": dataset.semantics[unseen],
        "att_train": dataset.semantics[train],
    }
    label = {
        "train_idx": np.searchsorted(seen, train)[:, None] + 1.0,
        "test_seen_idex": np.searchsorted(seen, test_seen)[:, None] + 1.0,
        "test_unseen_idex": np.searchsorted(unseen, test_unseen)[:, None] + 1.0,
    }
    for file, fields in (("data.mat", data), ("label.mat", label)):
        fields |= {name: value for name, value in changes.items() if name in fields}
        write_mat(folder / file, {k: v for k, v in fields.items() if v is not None}, v73=v73)
    return folder


def write_mat(path: Path, fields: dict[str, Any], *, v73: bool = False) -> None:
    """Write a MATLAB file of version 5, or of 7.3 (HDF5 with reversed dimensions).

    An object array becomes a cell array of its texts, numbers or object arrays, an array of ``str``
    a char matrix, a dict a struct.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not v73:
        scipy.io.savemat(path, fields, do_compression=True)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in fields.items():
            _write_hdf5(file, name, value)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def _write_hdf5(file: h5py.File, name: str, field: Any) -> None:
    """One field as MATLAB writes it, down to the attributes that say what it is."""
    if isinstance(field, dict):
        file.create_group(name).attrs["MATLAB_class"] = np.bytes_("struct")
        for inner, content in field.items():
            _write_hdf5(file, f"{name}/{inner}", content)
        return
    value = np.asarray(field)
    if value.dtype == object:
        cells = file.require_group("#refs#")
        refs = np.empty(value.shape, dtype=h5py.ref_dtype)
        for i, content in np.ndenumerate(value):
            inner = f"#refs#/{name}{'-'.join(map(str, i))}"
            # A text is a matrix of one row of characters.
            _write_hdf5(file, inner, np.array([content] if isinstance(content, str) else content))
            refs[i] = cells[inner.removeprefix("#refs#/")].ref
        data, kind = file.create_dataset(name, data=refs.T), "cell"
    elif value.dtype.kind == "U":
        units = [np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16) for text in value]
        codes = np.full((len(units), max(map(len, units))), ord(" "), dtype=np.uint16)
        for row, text in zip(codes, units, strict=True):
            row[: len(text)] = text
        data, kind = file.create_dataset(name, data=codes.T), "char"
    elif value.size == 0:
        # MATLAB stores the shape instead of the missing values.
        data = file.create_dataset(name, data=np.array(value.shape, dtype=np.uint64))
        data.attrs["MATLAB_empty"] = np.uint8(1)
        kind = "double"
    else:
        data = file.create_dataset(name, data=value.T, compression="gzip")
        kind = {"float64": "double", "float32": "single"}.get(value.dtype.name, value.dtype.name)
    data.attrs["MATLAB_class"] = np.bytes_(kind)


@contextmanager
def always_calibrated() -> Iterator[None]:
    """A context whose runs take the best gamma, though the gain on so few classes is noise."""

    def choose_best(*given: Any) -> GammaChoice:
        chosen = choose_gamma(*given)
        return replace(chosen, gamma=chosen.best)

    with patch("gsmflow.evaluation.balance.choose_gamma", choose_best):
        yield


def make_recipe(**settings: Any) -> Recipe:
    """A recipe from settings by flat name; model, classifier and gate by their names."""
    config = find_method(settings.pop("model", "gsmflow")).config()
    return changed(Recipe(dataset=settings.pop("dataset"), method=config), **settings)


def changed(recipe: Recipe, **settings: Any) -> Recipe:
    """A recipe with some settings changed, by flat name; classifier and gate by their names."""
    if isinstance(settings.get("classifier"), str):
        settings["classifier"] = CLASSIFIERS[settings["classifier"]]()
    if isinstance(settings.get("gate"), str):
        name = settings["gate"]
        settings["gate"] = None if name == "none" else find_gate(name).config()
    return recipe.replace(**settings)


def tiny_recipe(folder: Path, **changes: Any) -> Recipe:
    """A recipe over a dataset that is written below a folder; its runs are in ``folder/out``.

    It has those of `SMALL_OF_ANY` that its method uses.
    """
    data = folder / "data"
    if not data.exists():
        write_gbu(data / "TINY", make_dataset())
    paths = {"dataset": "TINY", "data": data, "out": folder / "out"}
    return small_recipe(**(paths | changes))


def small_recipe(**settings: Any) -> Recipe:
    """`make_recipe` with those of `SMALL_OF_ANY` that the recipe uses."""
    plain = make_recipe(**settings)
    known = settings_of(plain).keys() - settings.keys()
    return plain.replace(**{name: v for name, v in SMALL_OF_ANY.items() if name in known})
