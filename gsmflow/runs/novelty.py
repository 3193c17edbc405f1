"""Which rows are unlike all classes of a run: the numbers that say so, their file, a threshold.

The threshold of ``predict --reject`` is set by the numbers of held-out rows of validation: rows of
seen classes, and of the validation classes, to which a fit without them gave the numbers. No test
row is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from gsmflow.core.arrays import FloatArray
from gsmflow.core.errors import InputError
from gsmflow.core.files import write_tensors
from gsmflow.core.json_fields import Field
from gsmflow.core.linear_algebra import double_device
from gsmflow.data.dataset import Dataset, HeldOut, open_held_out, training_problem
from gsmflow.learning.feed import Scaled, scale_problem
from gsmflow.learning.state import check_numbers
from gsmflow.methods.gates.base import accepting_threshold
from gsmflow.methods.novelty import Novelty, fit_novelty
from gsmflow.reports.section import SectionReport
from gsmflow.runs.checkpoint import TrainedRun, reading
from gsmflow.runs.stages import Run

__all__ = [
    "REPORT",
    "FoundNovelty",
    "Rejection",
    "add_to_novelty",
    "find_novelty",
    "measure_novelty",
    "read_rejection",
]

_FILE = "novelty.safetensors"
_HELD_OUT = "held_out"
_STAGE = "novelty"
# The share with which a run reports how many test rows are rejected.
_REPORTED_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class FoundNovelty:
    """What a run found before its test split was opened.

    Attributes
    ----------
    novelty
        The numbers of its final problem.
    held_out
        Those that held-out rows had in the validation problem, ascending, ``(n,)``.
    """

    novelty: Novelty
    held_out: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rejection:
    """The rule by which rows are answered with none of the classes.

    Attributes
    ----------
    novelty
        Gives a row's number.
    threshold
        Rows with a higher number are rejected.
    """

    novelty: Novelty
    threshold: float

    def __call__(self, features: FloatArray) -> NDArray[np.bool_]:
        """Which rows ``(n,)`` of unscaled features ``(n, d)`` are rejected."""
        return np.asarray(self.novelty.numbers(features)[0] > self.threshold)


def find_novelty(run: Run, dataset: Dataset, scaled: Scaled) -> FoundNovelty:
    """Fit the numbers for validation and for the final problem; writes ``novelty.safetensors``.

    Parameters
    ----------
    run, dataset
        The run and its dataset, of which no test row is read.
    scaled
        The final problem.
    """
    with run.clock.stage(_STAGE):
        problem = training_problem(dataset, "validation")
        recipe = run.recipe
        of_validation = fit_novelty(
            scale_problem(problem, recipe.feature_scaling, run.device, recipe.features_in)
        )
        held_out = open_held_out(dataset, "validation")
        numbers = np.concatenate([every for every, _ in _numbers(of_validation, held_out)])
        return _write(run.directory, FoundNovelty(fit_novelty(scaled), np.sort(numbers)))


def add_to_novelty(run: Run, trained: TrainedRun, scaled: Scaled) -> FoundNovelty | None:
    """Fit anew for a run with further classes; None where the run before has no such file.

    The numbers of held-out rows are those of the run before.

    Parameters
    ----------
    run, scaled
        The new run, and its problem.
    trained
        The run before.
    """
    file = trained.directory / _FILE
    if not file.exists():
        return None
    with reading(file, "novelty"):
        held_out = load_file(file)[_HELD_OUT].numpy()
    return _write(run.directory, FoundNovelty(fit_novelty(scaled), held_out))


def _write(directory: Path, found: FoundNovelty) -> FoundNovelty:
    tensors = found.novelty.tensors() | {_HELD_OUT: torch.from_numpy(found.held_out)}
    write_tensors(directory / _FILE, tensors, {"format": "pt"})
    return found


def _numbers(
    novelty: Novelty, held_out: HeldOut
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The numbers of held-out rows, slab by slab, the seen ones first."""
    for rows in (held_out.seen, held_out.unseen):
        for _, features in rows.slabs(rows.feature_dim):
            yield novelty.numbers(features)


def read_rejection(run: TrainedRun, share: float) -> Rejection:
    """The rule that rejects this share of held-out rows, as `find_novelty` wrote them.

    Parameters
    ----------
    run
        A finished run.
    share
        In (0, 1).

    Raises
    ------
    InputError
        If the run has no such file, or it is damaged.
    """
    file, device = run.directory / _FILE, double_device(run.device)
    if not file.exists():
        raise InputError(
            f"--reject: found {share:g} with a run without {_FILE}, expected a run with it: one "
            "that is not older than it, and has a validation (no --no-calibrate)"
        )
    with reading(file, "novelty"):
        tensors = {name: tensor.double() for name, tensor in load_file(file).items()}
        check_numbers(tensors)
        held_out = tensors.pop(_HELD_OUT).numpy()
        on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
        novelty = Novelty(run.kept.scaling, len(run.kept.seen_classes), **on_device)
        if novelty.weight.shape != (run.feature_dim, len(run.classes)):
            raise ValueError(f"numbers of other than {len(run.classes)} classes")
        novelty.numbers(np.zeros((1, run.feature_dim), dtype=np.float32))
        return Rejection(novelty, accepting_threshold(held_out, 1 - share))


def measure_novelty(found: FoundNovelty, held_out: HeldOut) -> dict[str, Any]:
    """How well the numbers separate unseen from seen classes, as if the former were unknown.

    Parameters
    ----------
    found
        The numbers.
    held_out
        Test rows of seen and of unseen classes.

    Returns
    -------
    dict
        ``AUROC``: of the numbers with the seen classes alone, the probability that an unseen row
        has a higher one than a seen row. ``rejected_seen`` and ``rejected_unseen``: the shares of
        test rows that are rejected with all classes known and a share of 0.05. All in [0, 1].
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    every, of_seen = map(np.concatenate, zip(*_numbers(found.novelty, held_out), strict=True))
    is_unseen = np.arange(len(every)) >= len(held_out.seen)
    rejected = every > accepting_threshold(found.held_out, 1 - _REPORTED_SHARE)
    return {
        "AUROC": float(roc_auc_score(is_unseen, of_seen)),
        "rejected_seen": float(rejected[~is_unseen].mean()),
        "rejected_unseen": float(rejected[is_unseen].mean()),
    }


def _lines(metrics: Field) -> list[str]:
    found = metrics["novelty"]
    auroc, seen, unseen = (
        found[name].mean_std().text(" ±") for name in ("AUROC", "rejected_seen", "rejected_unseen")
    )
    return [
        f"rows unlike all classes:  AUROC {auroc} of unseen classes as if unknown;  rejected with "
        f"--reject {_REPORTED_SHARE:g}, of test rows:  seen {seen}  unseen {unseen}"
    ]


REPORT = SectionReport(key="novelty", lines=_lines)
