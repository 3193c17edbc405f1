"""What a run keeps of its test split for its page: answers row by row, and features to map.

All of it is computed after the test split was opened, and nothing is ever chosen by it. It lies in
one file of arrays beside the metrics, with some 16 bytes for each test row.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from gsmflow.core.arrays import IntArray
from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import parse_json, refuse_folder, write_tensors
from gsmflow.core.precision import Precision
from gsmflow.data.dataset import Problem
from gsmflow.data.splits import MOST_DIAGNOSED, draw_from_each_class, sample_classes
from gsmflow.evaluation.bootstrap import RightAnswers
from gsmflow.evaluation.generation_shifts import ClassMoments, Consistency, Shifts
from gsmflow.evaluation.metrics import SeenUnseenCurve, class_columns
from gsmflow.evaluation.protocol import Outcome
from gsmflow.learning.feed import Feed
from gsmflow.learning.sampling import Sampler, synthesize

__all__ = [
    "PAGE_DATA_FILE",
    "Answers",
    "ClassShifts",
    "FeatureSample",
    "PageData",
    "Probabilities",
    "draw_features",
    "pick_answers",
    "pick_pictured",
    "pick_shifts",
    "read_page_data",
    "thin_curve",
    "write_page_data",
]

PAGE_DATA_FILE = "page_data.safetensors"

_Floats: TypeAlias = NDArray[np.floating[Any]]

# Real rows, and as many synthesized ones, of all unseen classes together and of one class.
_MAPPED, _MAPPED_OF_CLASS = 2000, 60
_SAMPLE_SEED = 5
_COMPONENTS = 50
_MANY_ROWS = 1000
_CURVE_POINTS = 1000
# Pictures in all, more than a page has room for; and mistakes of an unseen class, and as many right
# answers, that come before all others.
_MOST_PICTURES, _OF_CLASS = 2000, 12
# The fields of `PageData` that hold one object of arrays.
_GROUPS = ("answers", "sample", "right", "probabilities")
# Its fields that hold something for each of several methods or classifiers.
_BY_NAME = ("curves", "shifts", "right_beside")


@dataclass(frozen=True, eq=False)
class Answers:
    """A method's best seen and best unseen class for every test row: its answer at any gamma.

    The answer is the seen one where its score less gamma is at least the unseen one's. Classes are
    positions among the score columns, of which the seen ones come first.

    Attributes
    ----------
    labels, seen, unseen
        True class, best seen and best unseen class of each row, ``(n,)``.
    seen_scores, unseen_scores
        Scores of those two, as the method gives them, ``(n,)``.
    """

    labels: NDArray[np.int32]
    seen: NDArray[np.int32]
    unseen: NDArray[np.int32]
    seen_scores: _Floats
    unseen_scores: _Floats


@dataclass(frozen=True, eq=False)
class FeatureSample:
    """Real and synthesized features of the unseen classes, in the directions they vary most in.

    Attributes
    ----------
    points
        Principal components of both together, ``(m, p)``, float32.
    labels
        Positions of their classes among the unseen ones, ``(m,)``.
    real
        Which of them are real rows, ``(m,)``.
    shares
        Share of all variance in each component, ``(p,)``.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    real: NDArray[np.bool_]
    shares: NDArray[np.float32]

    @property
    def classes(self) -> int:
        """How many classes it is of."""
        return len(np.unique(self.labels))

    @property
    def is_of_some(self) -> bool:
        """Whether it is of a sample of the classes that have test rows."""
        return self.classes == MOST_DIAGNOSED


@dataclass(frozen=True, eq=False)
class ClassShifts:
    """The generation shifts of one method, class by class; NaN where one is not known.

    Attributes
    ----------
    consistency
        Share of each unseen class's rows that are nearest to its real mean, ``(unseen,)``.
    variances
        Within each seen, then each unseen class, ``(k,)``.
    """

    consistency: _Floats
    variances: _Floats


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The probability of the calibrated answer to every test row.

    Attributes
    ----------
    answer
        ``(n,)``, in [0, 1].
    """

    answer: _Floats


@dataclass(frozen=True, eq=False)
class PageData:
    """What is kept.

    Attributes
    ----------
    answers
        The model's.
    curves
        Method to points ``(2, m)`` of its seen-unseen curve: unseen and seen accuracies.
    sample
        What a map of the features shows; None of a model that synthesizes none.
    shifts
        Method to its shifts; the first, without a name, are those of the real rows. Empty where no
        method synthesizes features.
    right
        Which test rows the model answers right; None of a run that was made before this was kept.
    right_beside
        The same of other classifiers on the model, by their names.
    pictures
        Names of pictures in the dataset by their test rows, the first of `pick_pictured`; empty
        where the dataset names none.
    probabilities
        How sure the model is of its answers; None of a run without temperatures.
    """

    answers: Answers
    curves: Mapping[str, _Floats]
    sample: FeatureSample | None
    shifts: Mapping[str, ClassShifts]
    right: RightAnswers | None = None
    right_beside: Mapping[str, RightAnswers] = field(default_factory=dict)
    pictures: Mapping[int, str] = field(default_factory=dict)
    probabilities: Probabilities | None = None


def pick_answers(outcome: Outcome, gamma: float | None) -> Answers:
    """The best seen and the best unseen class of each row; seen columns come first.

    They are by the scores for calibrated stacking; by the plain ones with a gamma of 0, which is no
    calibration.
    """
    best = outcome.best if gamma == 0 else outcome.answers_to_calibrate
    labels, seen, unseen = (
        class_columns(classes, outcome.classes).astype(np.int32)
        for classes in (outcome.labels, best.seen, best.unseen)
    )
    return Answers(labels, seen, unseen, best.seen_scores, best.unseen_scores)


def pick_pictured(answers: Answers, seen: int, gamma: float | None) -> IntArray:
    """The test rows whose pictures a page shows first, up to 2,000, ``(m,)``.

    First come the unseen classes, each with its answers of the highest scores: one mistake of each
    and one right answer, then a second of each, up to twelve. Then come all others likewise.

    Parameters
    ----------
    answers
        The answers.
    seen
        How many of the score columns are seen classes.
    gamma
        The calibration factor gamma; None without calibration.
    """
    lowered = answers.seen_scores.astype(np.float64) - (gamma or 0.0)
    is_seen = lowered >= answers.unseen_scores
    right = np.where(is_seen, answers.seen, answers.unseen) == answers.labels
    score = np.where(is_seen, lowered, answers.unseen_scores)
    order = np.lexsort((-score, right, answers.labels))
    groups = (2 * answers.labels.astype(np.int64) + right)[order]
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - first[group]
    later = (answers.labels < seen) | (ranks >= _OF_CLASS)
    return np.lexsort((right, answers.labels, ranks, later))[:_MOST_PICTURES]


def thin_curve(curve: SeenUnseenCurve) -> _Floats:
    """Points ``(2, m)`` to draw a curve by, unseen then seen accuracy; both ends are among them."""
    count = len(curve.seen)
    kept = np.unique(np.linspace(0, count - 1, _CURVE_POINTS).round().astype(int))
    return np.stack([curve.unseen[kept], curve.seen[kept]])


def pick_shifts(shifts: Mapping[str, Shifts], problem: Problem) -> dict[str, ClassShifts]:
    """Shifts of methods that were measured against the same real rows, as `PageData.shifts`."""
    if not shifts:
        return {}
    real = next(iter(shifts.values())).real
    # Nothing is measured of a class without rows.
    unseen, every = (
        np.isin(classes, real.classes) for classes in (problem.unseen_classes, problem.classes)
    )

    def pick(consistency: Consistency, moments: ClassMoments) -> ClassShifts:
        return ClassShifts(_fill(consistency.among_all, unseen), _fill(moments.variances, every))

    kept = {"": pick(real.consistency, real.moments)}
    return kept | {name: pick(one.consistency, one.moments) for name, one in shifts.items()}


def _fill(values: _Floats, known: NDArray[np.bool_]) -> _Floats:
    """Values ``(m,)`` at the ``m`` positions ``(k,)`` that are known, NaN elsewhere."""
    filled = np.full(len(known), np.nan)
    filled[known] = values
    return filled


def draw_features(
    model: Sampler,
    unseen: Feed,
    unseen_classes: IntArray,
    generator: torch.Generator,
    *,
    precision: Precision = "fp32",
) -> FeatureSample:
    """Draw real rows of each unseen class, synthesize as many, and rotate both.

    Of more than 500 classes, a sample is drawn; see `sample_classes`.

    Parameters
    ----------
    model
        A trained model.
    unseen
        The held-out rows of the unseen classes, in the model's scaling.
    unseen_classes
        All unseen classes, ascending; some may have no rows, and are not drawn.
    generator
        Of the synthesized ones, on the device to work on. Which real rows are drawn is the same
        in all runs.
    precision
        Of the matrix products.
    """
    labels = unseen.labels.cpu().numpy()
    _, mapped = sample_classes(np.empty(0, dtype=np.int64), np.unique(labels))
    classes = torch.from_numpy(mapped).to(unseen.labels.device)
    each = max(1, min(_MAPPED_OF_CLASS, _MAPPED // len(classes)))
    drawn = draw_from_each_class(labels, lambda _: each, np.random.default_rng(_SAMPLE_SEED))
    drawn &= np.isin(labels, mapped)
    rows = torch.from_numpy(np.flatnonzero(drawn)).to(unseen.labels.device)
    features, theirs = synthesize(model, classes, each, generator, precision=precision)
    together = torch.cat([unseen.take(rows), features]).cpu().double().numpy()
    points, shares = _principal_components(together)
    all_labels = torch.cat([unseen.labels[rows], theirs])
    return FeatureSample(
        points=points,
        labels=np.searchsorted(unseen_classes, all_labels.cpu().numpy()).astype(np.int32),
        real=np.arange(len(all_labels)) < len(rows),
        shares=shares,
    )


def _principal_components(
    features: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores ``(m, p)`` on the first components of features ``(m, d)``, and variance shares."""
    centred = features - features.mean(axis=0)
    m, d = centred.shape
    # From the Gram matrix of the rows, which are few, however many dimensions there are; from that
    # of the dimensions where those are far fewer, as its eigenvectors cost their number cubed.
    by_rows = m <= _MANY_ROWS or m <= 2 * d
    values, vectors = np.linalg.eigh(centred @ centred.T if by_rows else centred.T @ centred)
    first = slice(None, -1 - min(_COMPONENTS, d, len(values)), -1)
    variances = values[first].clip(min=0)
    vectors = vectors[:, first]
    if not by_rows:
        vectors = centred @ vectors / np.sqrt(variances.clip(min=np.finfo(float).tiny))
    # The sign of a direction is arbitrary: its largest score is made positive.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    shares = variances / max(float(np.square(centred).sum()), np.finfo(float).tiny)
    points = vectors * signs * np.sqrt(variances)
    return points.astype(np.float32), shares.astype(np.float32)


def write_page_data(path: Path, page_data: PageData) -> None:
    """Write page data as one safetensors file, atomically."""
    arrays: dict[str, NDArray[Any]] = {}
    for group in _GROUPS:
        values = getattr(page_data, group)
        known = {} if values is None else vars(values)
        arrays |= {f"{group}.{name}": v for name, v in known.items() if v is not None}
    # Names of methods are text of anyone's making: they stand in the metadata, numbered.
    for i, points in enumerate(page_data.curves.values()):
        arrays[f"curves.{i}"] = points
    for group in ("shifts", "right_beside"):
        for i, values in enumerate(getattr(page_data, group).values()):
            known = vars(values)
            arrays |= {f"{group}.{i}.{name}": v for name, v in known.items() if v is not None}
    names = {group: json.dumps(list(getattr(page_data, group))) for group in _BY_NAME}
    if page_data.pictures:
        names["pictures"] = json.dumps([*page_data.pictures.items()])
    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    write_tensors(path, tensors, names)


def read_page_data(path: Path, classes: int) -> PageData:
    """Read what `write_page_data` wrote.

    Parameters
    ----------
    path
        The file.
    classes
        How many score columns there are.

    Raises
    ------
    InputError
        If it is damaged, or not of a run on so many classes.
    """
    try:
        refuse_folder(path)
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            names = {group: parse_json(text) for group, text in file.metadata().items()}
        names.setdefault("right_beside", [])  # older files have none
        shifts, right_beside = (
            {name: _below(f"{group}.{i}", arrays) for i, name in enumerate(names[group])}
            for group in ("shifts", "right_beside")
        )
        sample, right, known = (
            _below(group, arrays) for group in ("sample", "right", "probabilities")
        )
        page_data = PageData(
            answers=Answers(**_below("answers", arrays)),
            curves={name: arrays[f"curves.{i}"] for i, name in enumerate(names["curves"])},
            sample=FeatureSample(**sample) if sample else None,
            shifts={name: ClassShifts(**of) for name, of in shifts.items()},
            right=RightAnswers(**right) if right else None,
            right_beside={name: RightAnswers(**of) for name, of in right_beside.items()},
            pictures=dict(names.get("pictures", ())),
            probabilities=Probabilities(**known) if known else None,
        )
        _check(page_data, classes)
    except Exception as error:
        # Any byte may be wrong: the reader and what follows raise a dozen unrelated types.
        raise InputError(
            f"{path}: not readable as what this run kept of its test split ({one_line(error)}), "
            "expected the file that it wrote; delete it to do without"
        ) from error
    return page_data


def _below(group: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    start = f"{group}."
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def _check(page_data: PageData, classes: int) -> None:
    """Raise `ValueError` unless all arrays fit each other."""
    answers, sample = page_data.answers, page_data.sample
    columns: list[IntArray | NDArray[np.int32]] = [answers.labels, answers.seen, answers.unseen]
    if any(c.ndim != 1 or c.min() < 0 or c.max() >= classes for c in columns):
        raise ValueError(f"answers are not among {classes} classes")
    if len({len(v) for v in vars(answers).values()}) > 1:
        raise ValueError("answers differ in length")
    right = page_data.right
    for one in (*filter(None, [right]), *page_data.right_beside.values()):
        if len(one.gzsl) != len(answers.labels):
            raise ValueError("answers differ in length from those that are right")
    for row, name in page_data.pictures.items():
        if not (isinstance(row, int) and 0 <= row < len(answers.labels) and isinstance(name, str)):
            raise ValueError("pictures are not names of answered rows")
    known = page_data.probabilities
    if known is not None:
        if len(known.answer) != len(answers.labels):
            raise ValueError("answers differ in length from their probabilities")
        if right is None or right.gzsl_calibrated is None:
            raise ValueError("probabilities are of answers that are not known")
        if not ((known.answer >= 0) & (known.answer <= 1)).all():
            raise ValueError("probabilities are not from 0 to 1")
    if (
        sample is not None
        and len({len(v) for v in (sample.points, sample.labels, sample.real)}) > 1
    ):
        raise ValueError("arrays of the sample differ in length")
    for shifts in page_data.shifts.values():
        if len(shifts.variances) != classes or len(shifts.consistency) > classes:
            raise ValueError(f"shifts are not of {classes} classes")
    if any(points.ndim != 2 or len(points) != 2 for points in page_data.curves.values()):
        raise ValueError("a curve is not made of points")
