"""The dataset of a benchmark."""

from dataclasses import dataclass
from pathlib import Path

from gsmflow.data.dataset import Dataset
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs.experiment import read_dataset

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
    return read_dataset(
        Recipe(
            dataset=options.dataset,
            features=options.features,
            semantics=options.semantics,
            data=options.data,
            cache=False,
        )
    )
