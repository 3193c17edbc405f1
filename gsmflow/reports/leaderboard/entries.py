"""What a leaderboard is made of: datasets, methods, and how each method did on each dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from gsmflow.core.tables import MeanStd
from gsmflow.evaluation.bootstrap import Estimate
from gsmflow.evaluation.ranks import Ranking
from gsmflow.reports.published import Published

__all__ = ["CellState", "DatasetEntry", "Leaderboard", "LeaderboardCell", "MethodEntry"]

CellState: TypeAlias = Literal["done", "failed", "missing"]


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset of a leaderboard, with its features and semantics.

    Attributes
    ----------
    dataset, features, semantics
        Names.
    seen, unseen
        Numbers of classes.
    rows
        Test rows.
    """

    dataset: str
    features: str
    semantics: str
    seen: int
    unseen: int
    rows: int

    @property
    def key(self) -> str:
        """Its name in files: ``DATASET:FEATURES:SEMANTICS``."""
        return f"{self.dataset}:{self.features}:{self.semantics}"

    @property
    def title(self) -> str:
        """Its name for readers."""
        return f"{self.dataset} · {self.features} · {self.semantics}"


@dataclass(frozen=True)
class MethodEntry:
    """A method of a leaderboard.

    Attributes
    ----------
    key, label
        Its name in files and in tables.
    kind, classifier, preset, paper
        As in its `Method` and in the recipes of its runs; the classifier is empty where the method
        classifies by itself.
    """

    key: str
    label: str
    kind: str
    classifier: str
    preset: str
    paper: str


@dataclass(frozen=True)
class LeaderboardCell:
    """A method on a dataset.

    Attributes
    ----------
    method, dataset
        Their keys.
    state
        ``done`` if it has a finished run, ``failed`` if all that is over failed, else ``missing``.
    sentence
        Why a run of it failed; empty if none did.
    seeds
        The seeds of its finished runs.
    figures
        Metrics in percent by key, with a standard deviation over several seeds.
    estimates
        Their intervals, by key.
    seconds, peak_mib
        Mean seconds of a run, and the most memory of any; None where not known.
    folder
        The folder of its runs.
    splits
        The random class splits of its finished runs; none with the dataset's own split.
    """

    method: str
    dataset: str
    state: CellState
    sentence: str
    seeds: tuple[int, ...]
    figures: Mapping[str, MeanStd]
    estimates: Mapping[str, Estimate]
    seconds: float | None
    peak_mib: int | None
    folder: Path
    splits: tuple[int, ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """All that a leaderboard shows.

    Attributes
    ----------
    datasets, methods
        What was run.
    cells
        Each method on each dataset, dataset by dataset.
    ranking
        The methods by their average rank over datasets, by H with calibration; None with less than
        two datasets or methods.
    published
        Published figures of the same datasets, on other features.
    command
        The command that makes it.
    environment
        Versions, the machine and the commit.
    class_splits
        On how many random class splits each cell runs; 0: on the dataset's own split.
    shares_models
        Whether some rows are of a further classifier on the trained models of another row.
    """

    datasets: tuple[DatasetEntry, ...]
    methods: tuple[MethodEntry, ...]
    cells: tuple[LeaderboardCell, ...]
    ranking: Ranking | None
    published: tuple[Published, ...]
    command: str
    environment: Mapping[str, str]
    class_splits: int = 0
    shares_models: bool = False

    def cells_of(self, dataset: DatasetEntry) -> list[LeaderboardCell]:
        """The cells of a dataset, in the order of the methods."""
        return [cell for cell in self.cells if cell.dataset == dataset.key]

    def label(self, method: str) -> str:
        """The label of a method by its key."""
        return next(entry.label for entry in self.methods if entry.key == method)
