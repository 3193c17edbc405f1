"""The dataset of a benchmark."""

from dataclasses import dataclass
from pathlib import Path

from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.files import load_dataset

__all__ = ["DataOptions", "read_data"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The dataset."""

    dataset: str = "FLO"
    """Folder below --data."""
    features: str = "densenet169"
    """Stem of the feature file."""
    semantics: str = "att"
    """Stem of the split file without _splits."""
    data: Path = Path("data")
    """Folder of datasets."""


def read_data(options: DataOptions) -> Dataset:
    """Read the dataset without a cache."""
    return load_dataset(
        options.data, options.dataset, features=options.features, semantics=options.semantics
    )
