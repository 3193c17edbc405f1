"""What the verbs print that have made a dataset."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from gsmflow.data.dataset import Dataset

__all__ = ["print_made_dataset"]


def print_made_dataset(
    dataset: Dataset, folder: Path, warnings: Sequence[str], console: Console
) -> None:
    """Print a summary of a new dataset, and the command that trains on it.

    Parameters
    ----------
    dataset
        The dataset, checked.
    folder
        Where it was written, as the user named it.
    warnings
        Sentences that are printed first.
    console
        Where to print.
    """
    seen, val = len(dataset.seen_classes), len(np.unique(dataset.labels[dataset.val]))
    n, d = dataset.features.shape
    lines = [
        *(f"warning: {warning}" for warning in warnings),
        f"{dataset.name}: {n} rows of {d} features, {dataset.semantics.shape[1]}-d semantics, "
        f"{seen} seen classes ({val} for validation) and {len(dataset.unseen_classes)} unseen, "
        f"rows trainval/test-seen/test-unseen {len(dataset.trainval)}/{len(dataset.test_seen)}/"
        f"{len(dataset.test_unseen)}",
        f"dataset: {folder}; train on it with",
        shlex.join(("python", "-m", "gsmflow", "train", str(folder))),
    ]
    for line in lines:
        console.print(line, soft_wrap=True)
